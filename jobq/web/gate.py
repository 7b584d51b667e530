"""`Gate`: the first to see a request. It checks what needs no token, on the raw headers.

It answers before anything of the framework reads the request: hosts and origins that are not ours,
bodies that are too large or of a type that a form of another site could send. It never builds a
URL, whose parts a client chooses. On the way back it adds the headers that keep an answer from
being framed, sniffed or stored, writes the access line, and answers errors that no one else did.
"""

import json
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobq.config.settings import Serve
from jobq.web.problems import MEDIA_TYPE, Problem, print_bug, problem_of
from jobq.web.requests import JSON_TYPE, MAX_BODY_BYTES

Count = Callable[[str, str, int, float], None]
"""Called with the route, method, status and seconds of a request."""

Headers = list[tuple[bytes, bytes]]

SAFE_METHODS = frozenset({"GET", "HEAD"})
BINARY_TYPE = "application/octet-stream"
MAX_DRAINED_BYTES = 64 << 10
_BODY_TYPES = frozenset({JSON_TYPE, BINARY_TYPE})
_API_PREFIXES = ("/api/", "/metrics", "/livez", "/readyz")

_ANSWER_HEADERS: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
_DEFAULT_HEADERS: Headers = [
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
]
"""Those that an answer may set itself."""


@dataclass(frozen=True, slots=True)
class Origins:
    """The names by which clients reach the server: each `Host`, with the schemes of its origins."""

    schemes: dict[str, frozenset[str]] = field(default_factory=dict)

    def knows_host(self, host: str) -> bool:
        """Return whether a `Host` header is one of ours."""
        return host in self.schemes

    def knows(self, origin: str, host: str) -> bool:
        """Return whether an `Origin` is that of the host it is sent to."""
        scheme, _, name = origin.partition("://")
        return name == host and scheme in self.schemes.get(host, ())


def origins_of(serve: Serve, port: int) -> Origins:
    """Return the origins of a server that listens on a port.

    The address that it is bound to is among them where it is a certain one: it is no name, so that
    no one else's DNS can lead to it.
    """
    own = "https" if serve.tls_cert else "http"
    schemes: dict[str, set[str]] = {}

    def add(name: str, *kinds: str) -> None:
        schemes.setdefault(name.lower(), set()).update(kinds)

    bound = [] if serve.host in ("", "0.0.0.0", "::") else [_bracketed(serve.host)]  # noqa: S104 - not bound to
    for name in ("127.0.0.1", "localhost", "[::1]", *bound):
        add(f"{name}:{port}", own)
        if port == _default_port(own):
            add(name, own)
    if serve.socket is not None:
        add("localhost", own)
    for name in serve.hosts:
        add(name, "http", "https")
        add(f"{name}:{port}", "http", "https")
    if serve.public_url:
        url = urlsplit(serve.public_url)
        add(url.netloc, url.scheme)
        if url.port is None:
            add(f"{url.netloc}:{_default_port(url.scheme)}", url.scheme)
    return Origins({name: frozenset(kinds) for name, kinds in schemes.items()})


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _default_port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


class Gate:
    """The outermost layer of the application, as plain ASGI."""

    def __init__(
        self,
        app: ASGIApp,
        origins: Origins,
        log: Callable[[str], None] = lambda _: None,
        count: Count = lambda *_: None,
    ) -> None:
        """Take the application, the origins that are ours, and where requests are noted."""
        self._app = app
        self._origins = origins
        self._log = log
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            exchange = _Exchange(self._app, self._origins, scope, receive, send)
            try:
                await exchange.run()
            finally:
                self._note(exchange)
        else:  # no WebSockets
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    def _note(self, exchange: "_Exchange") -> None:
        scope, status, seconds = exchange.scope, exchange.status, exchange.seconds
        caller = scope["state"].get("caller")
        self._log(
            f"{scope['method']} {_route_of(scope)} {status or '-'} {seconds * 1000:.1f} ms "
            f"{caller.sub if caller else '-'}"
        )
        self._count(_route_of(scope), scope["method"], status, seconds)


class _HeadersSentError(Exception):
    """The end of an answer to HEAD: a stream would go on for ever."""


class _Exchange:
    """One request and its answer."""

    def __init__(
        self, app: ASGIApp, origins: Origins, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._app = app
        self._origins = origins
        self.scope = scope
        self._receive = receive
        self._send = send
        self._received_bytes = 0
        self._is_whole = not has_body(scope["headers"])
        self._started = time.perf_counter()
        self._is_head = scope["method"] == "HEAD"
        self._is_done = False  # nothing more is sent
        self.status = 0  # of the answer, once it has begun
        self._request_id = secrets.token_hex(8)

    @property
    def seconds(self) -> float:
        """The time since the request came."""
        return time.perf_counter() - self._started

    async def run(self) -> None:
        self.scope.setdefault("state", {})["request_id"] = self._request_id
        try:
            check(self.scope, self._origins)
            # HEAD is GET whose answer ends with its headers
            scope = {**self.scope, "method": "GET"} if self._is_head else self.scope
            try:
                await self._app(scope, self.receive, self.send)
            finally:
                self.scope["route"] = scope.get("route")
        except Exception as error:  # noqa: BLE001 - the edge of the application
            if not self._is_done:
                await self._answer(error)

    async def receive(self) -> Message:
        message = await self._receive()
        self._received_bytes += len(message.get("body", b""))
        self._is_whole = self._is_whole or not message.get("more_body", False)
        if self._received_bytes > MAX_BODY_BYTES:
            raise too_large()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._drain()
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._added(message)]
        await self._send(message)
        if self._is_head and self.status:
            self._is_done = True
            await self._send({"type": "http.response.body"})
            raise _HeadersSentError

    async def _drain(self) -> None:
        """Read what is left of a small body: closing on unread bytes could lose the answer."""
        length = _only(self.scope["headers"], b"content-length", absent="") or ""
        if not length.isdigit() or int(length) > MAX_DRAINED_BYTES:
            return
        while not self._is_whole:
            message = await self._receive()
            self._is_whole = not message.get("more_body", False)

    def _added(self, message: Message) -> Headers:
        given = {name.lower() for name, _ in message.get("headers", ())}
        return [
            *_ANSWER_HEADERS,
            *(each for each in _DEFAULT_HEADERS if each[0] not in given),
            *(() if self._is_whole else [(b"connection", b"close")]),  # the rest is not read
            (b"jobq-request-id", self._request_id.encode()),
        ]

    async def _answer(self, error: Exception) -> None:
        """Answer with an error, unless the answer has begun already."""
        problem = problem_of(error)
        if problem.status_code == 500 and not isinstance(error, Problem):
            print_bug(error, f"request {self._request_id}")
        if self.status:
            raise error  # the connection is closed: a part of an answer must not look whole
        body = json.dumps(problem.document(self._request_id)).encode()
        headers = [(k.lower().encode(), v.encode()) for k, v in (problem.headers or {}).items()]
        headers += [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
        ]
        start = {"type": "http.response.start", "status": problem.status_code, "headers": headers}
        await self.send(start)
        await self.send({"type": "http.response.body", "body": body})


def check(scope: Scope, origins: Origins) -> None:
    """Refuse a request whose host, origin, size or type is not right.

    Raises:
        Problem: it is not.
    """
    headers: Headers = scope["headers"]
    host = _only(headers, b"host")
    if host is None or not origins.knows_host(host):
        raise Problem(
            400,
            "host",
            "this server is not reached by that name: use the URL that `jobq serve` prints, or add "
            "the name to [serve] hosts",
        )
    safe = scope["method"] in SAFE_METHODS
    _check_site(scope, headers, safe=safe)
    if safe:
        return
    origin = _only(headers, b"origin", absent="")
    if origin is None or (origin and not origins.knows(origin, host)):
        raise Problem(403, "origin", "pages of another origin may not change anything here")
    _check_body(headers)


def _check_site(scope: Scope, headers: Headers, *, safe: bool) -> None:
    site = _only(headers, b"sec-fetch-site", absent="same-origin")
    if site == "same-origin" or (safe and site == "none"):
        return
    navigates = _only(headers, b"sec-fetch-mode", absent="") == "navigate"
    as_document = _only(headers, b"sec-fetch-dest", absent="") == "document"
    path = scope["path"]
    if safe and navigates and as_document and not path.startswith(_API_PREFIXES):
        return
    raise Problem(403, "cross_site", "pages of other sites may not use this server")


def _check_body(headers: Headers) -> None:
    length = _only(headers, b"content-length", absent="0")
    if length is None or not length.isascii() or not length.isdigit():
        raise Problem(400, "malformed", "Content-Length is not one number")
    if int(length) > MAX_BODY_BYTES:
        raise too_large()
    kind = (_only(headers, b"content-type", absent="") or "").partition(";")[0].strip()
    if has_body(headers) and kind not in _BODY_TYPES:
        raise Problem(415, "media_type", f"send the body as Content-Type: {JSON_TYPE}")


def has_body(headers: Headers) -> bool:
    """Return whether a request has a body."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in headers
    )


def too_large() -> Problem:
    """Return the problem of a body that is too large."""
    return Problem(413, "too_large", f"a body has at most {MAX_BODY_BYTES:,} bytes")


def _only(
    headers: Iterable[tuple[bytes, bytes]], name: bytes, absent: str | None = None
) -> str | None:
    """Return the one value of a header, in lower case; None if there are several."""
    found = [value for key, value in headers if key == name]
    if not found:
        return absent
    return found[0].decode("latin-1").lower() if len(found) == 1 else None


def _route_of(scope: Scope) -> str:
    """Return the route of a request, never its path: that is the client's to choose."""
    return str(getattr(scope.get("route"), "path", "-"))
