"""Where a jobq on Redis is: an address that says which server, which database and which name."""

import re
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from jobq.errors import UsageError

SCHEMES = ("redis", "rediss", "unix")
DEFAULT_NAME = "jobq"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_EXPECTED = 'expected "redis://HOST:PORT/DB", or with rediss:// or unix://'


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """An address, taken apart."""

    server: str  # as redis-py takes it: with the password, without the name
    shown: str  # for people: without the password
    name: str  # tells several jobqs in one database apart
    replicas: int = 0  # how many must have a change before it counts as done

    @property
    def prefix(self) -> str:
        """What all keys start with: the braces keep them in one slot of a cluster."""
        return f"{{{self.name}}}:"

    @property
    def digest(self) -> str:
        """A short name for files of this jobq on this machine."""
        return sha256(self.shown.encode()).hexdigest()[:12]


def is_redis(value: object) -> bool:
    """Whether a setting names a server of this kind."""
    return isinstance(value, str) and value.partition("://")[0] in SCHEMES and "://" in value


def parse_url(url: str) -> RedisUrl:
    """Take an address apart.

    Raises:
        UsageError: it is none.
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
    options = dict(parse_qsl(parts.query))
    name = options.pop("name", DEFAULT_NAME)
    if not _NAME.fullmatch(name):
        raise UsageError("expected a name of letters, digits, '.', '_' and '-' in name=")
    replicas = options.pop("wait", "0")
    if not re.fullmatch(r"[0-9]{1,2}", replicas):
        raise UsageError("expected a number of replicas in wait=")
    query = f"?{urlencode(options)}" if options else ""
    server = f"{parts.scheme}://{parts.netloc}{parts.path}{query}"
    place = _place(parts.hostname or "", port)
    user = f"{quote(unquote(parts.username))}@" if parts.username else ""
    own = {"name": name} if name != DEFAULT_NAME else {}
    if int(replicas):
        own["wait"] = replicas
    told = urlencode({**options, **own})
    shown = f"{parts.scheme}://{user}{place}{parts.path}" + (f"?{told}" if told else "")
    return RedisUrl(server, _without_password(shown), name, int(replicas))


def _place(host: str, port: int | None) -> str:
    host = f"[{host}]" if ":" in host else host
    return host if port is None else f"{host}:{port}"


def _without_password(shown: str) -> str:
    """Some options of redis-py have secrets in them, too."""
    return re.sub(r"([?&][a-z_]*password=)[^&]*", r"\1***", shown)
