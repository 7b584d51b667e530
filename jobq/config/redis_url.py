"""The URL of a jobq on Redis: its server, its database and its name."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from jobq.errors import UsageError

SCHEMES = ("redis", "rediss", "unix")
DEFAULT_NAME = "jobq"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_EXPECTED = 'expected "redis://HOST:PORT/DB", or with rediss:// or unix://'

_TEXT = (r".+", "a value")
_OPTIONS: Mapping[str, tuple[str, str]] = {
    "client_name": (r"[!-~]+", "letters and digits without spaces"),
    "db": (r"[0-9]{1,9}", "a number"),
    "health_check_interval": (r"[0-9]{1,9}", "whole seconds"),
    "name": (_NAME.pattern, "a name of letters, digits, '.', '_' and '-'"),
    "password": _TEXT,
    "socket_timeout": (r"(?=.*[1-9])([0-9]{1,9}(\.[0-9]{1,9})?)", "a number of seconds above 0"),
    "ssl_ca_certs": _TEXT,
    "ssl_ca_path": _TEXT,
    "ssl_cert_reqs": ("none|optional|required", "none, optional or required"),
    "ssl_certfile": _TEXT,
    "ssl_check_hostname": ("yes|no|true|false|1|0", "yes or no"),
    "ssl_keyfile": _TEXT,
    "ssl_password": _TEXT,
    "username": _TEXT,
    "wait": (r"[0-9]{1,2}", "a number of replicas"),
}
"""The query parameters that a URL may have: a pattern, and a description of it. The others that
redis-py takes are useless here, or change its replies and retries."""


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A parsed URL."""

    server: str  # the URL for redis-py: with the password, without the name
    shown: str  # the URL for people: without the password
    name: str  # tells apart several jobqs in one database
    replicas: int = 0  # number of replicas that must have a change before it counts as done
    timeout: float | None = None  # seconds that a connection, or a reply, may take
    secret: bool = False  # whether a password was left out of `shown`

    @property
    def prefix(self) -> str:
        """The prefix of all keys; its braces keep them in one slot of a cluster."""
        return f"{{{self.name}}}:"

    @property
    def digest(self) -> str:
        """A short name for this jobq's files on this host."""
        return sha256(self.shown.encode()).hexdigest()[:12]


def is_redis(value: object) -> bool:
    """Return whether a setting is the URL of a Redis server."""
    return isinstance(value, str) and value.partition("://")[0] in SCHEMES and "://" in value


def parse_url(url: str) -> RedisUrl:
    """Parse the URL of a Redis server.

    Raises:
        UsageError: it is not valid; the message says what was expected.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError(_EXPECTED) from None
    wrong = parts.path == "" if parts.scheme == "unix" else not parts.hostname
    if parts.scheme not in SCHEMES or wrong or parts.fragment:
        raise UsageError(_EXPECTED)
    if parts.scheme != "unix" and not re.fullmatch(r"/?\d*", parts.path):
        raise UsageError(f"{_EXPECTED}: DB is a number")
    options = _options(parts)
    secret = parts.password is not None or any(each.endswith("password") for each in options)
    name = options.pop("name", DEFAULT_NAME)
    replicas = int(options.pop("wait", "0"))
    timeout = options.pop("socket_timeout", None)
    query = f"?{urlencode(options)}" if options else ""
    server = f"{parts.scheme}://{parts.netloc}{parts.path}{query}"
    place = _place(parts.hostname or "", port)
    user = f"{quote(unquote(parts.username))}@" if parts.username else ""
    own = {"socket_timeout": timeout, "name": name if name != DEFAULT_NAME else None}
    own["wait"] = str(replicas) if replicas else None
    query_shown = urlencode(
        options | {key: value for key, value in own.items() if value is not None}
    )
    shown = f"{parts.scheme}://{user}{place}{parts.path}" + (
        f"?{query_shown}" if query_shown else ""
    )
    return RedisUrl(
        server=server,
        shown=without_password(shown),
        name=name,
        replicas=replicas,
        timeout=None if timeout is None else float(timeout),
        secret=secret,
    )


def _options(parts: SplitResult) -> dict[str, str]:
    """Return the query parameters, all of them checked."""
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for option, value in options.items():
        if option not in _OPTIONS:
            # After a sign in a password that should have been escaped, it is part of that.
            has_password = "@" in parts.netloc + parts.query or "password=" in parts.query
            which = "" if has_password else f", not {option!r}"
            raise UsageError(f"expected a known option{which}: one of {', '.join(_OPTIONS)}")
        if option.startswith("ssl_") and parts.scheme != "rediss":
            raise UsageError(f"expected rediss:// with {option}=")
        pattern, what = _OPTIONS[option]
        if not re.fullmatch(pattern, value):
            raise UsageError(f"expected {what} in {option}=")
    for option in ("ssl_keyfile", "ssl_password"):
        if option in options and "ssl_certfile" not in options:
            raise UsageError(f"expected ssl_certfile= with {option}=")
    return options


def _place(host: str, port: int | None) -> str:
    host = f"[{host}]" if ":" in host else host
    return host if port is None else f"{host}:{port}"


def without_password(url: str) -> str:
    """Return a URL with the passwords in its query parameters hidden."""
    return re.sub(r"([?&][a-z_]*password=)[^&]*", r"\1***", url)


def mistyped_address(text: str) -> str | None:
    """Return what may be shown of a text that looks like an address, but can't be read as one.

    None: it does not look like one. Where a password in it begins and ends can't be told.
    """
    scheme, colon, rest = text.partition(":")
    if not colon or not (scheme.lower() in SCHEMES or "@" in rest or rest.startswith("//")):
        return None
    host = re.match(r"//[\w.-]+(:\d+(?=/|$))?", rest) if "@" not in rest else None
    return f"{scheme if scheme.isalnum() else ''}:{host[0] if host else ''}…"
