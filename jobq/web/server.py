"""`jobq serve`: sockets, uvicorn, deadlines and shutdown."""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from jobq.config.settings import Serve
from jobq.errors import ConfigError, JobqError
from jobq.queue import JobQueue
from jobq.web.app import create_app
from jobq.web.gate import origins_of
from jobq.web.presence import Presence, presence_of
from jobq.web.state import Server

BACKLOG = 2048
SHUTDOWN_S = 3
"""Time for requests that run when the server is told to stop."""

KEEP_ALIVE_S = 15
HEADERS_TIMEOUT_S = 10.0
BODY_TIMEOUT_S = 30.0
WRITE_TIMEOUT_S = 20.0
"""Time in which a client takes some of what it is sent."""

MAX_CONNECTIONS = 4096

Log = Callable[[str], None]


class ApiProtocol(HttpToolsProtocol):
    """uvicorn's protocol with deadlines for a request, and a limit of connections.

    uvicorn has neither: a client that sends a byte a minute would keep its connection for ever.
    """

    _deadline: asyncio.TimerHandle | None = None
    _write_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            self.transport.close()
            return
        self._expect_within(HEADERS_TIMEOUT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._expect_no_more()
        self._expect_no_room()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Wait for the headers of a request."""
        super().on_message_begin()
        self._expect_within(HEADERS_TIMEOUT_S)

    def on_headers_complete(self) -> None:
        """Wait for the body of a request."""
        super().on_headers_complete()
        self._expect_within(BODY_TIMEOUT_S)

    def on_message_complete(self) -> None:
        """Wait for nothing: the request is whole."""
        self._expect_no_more()
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Wait for the client to take what it was sent: one that does not is dropped."""
        super().pause_writing()
        self._write_deadline = self.loop.call_later(WRITE_TIMEOUT_S, self._give_up)

    def resume_writing(self) -> None:
        """Send more."""
        self._expect_no_room()
        super().resume_writing()

    def _expect_no_room(self) -> None:
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None

    def _expect_within(self, seconds: float) -> None:
        self._expect_no_more()
        self._deadline = self.loop.call_later(seconds, self._give_up)

    def _expect_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self.transport.abort()  # even if it is closing: that waits for the client, too


class ApiServer(uvicorn.Server):
    """uvicorn with sockets and signals of our own.

    uvicorn raises a captured signal anew at its end, so that the process would exit with 143.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        state: Server,
        unix: socket.socket | None,
        on_ready: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._state = state
        self._unix = unix
        self._on_ready = on_ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle SIGTERM and SIGINT: the first ends the server, the second at once."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _on_signal(self) -> None:
        if self._state.leaving.is_set():
            self.force_exit = True
        self._state.leaving.set()  # streams and long polls end
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen; on the Unix socket without TLS."""
        await super().startup(sockets)
        if self._unix is not None:

            def protocol() -> ApiProtocol:
                return ApiProtocol(self.config, self.server_state, self.lifespan.state)

            loop = asyncio.get_running_loop()
            self.servers.append(await loop.create_server(protocol, sock=self._unix))
        self._on_ready()


def serve(
    queue: JobQueue,
    *,
    reuse_port: bool = False,
    log: Log = lambda _: None,
    on_ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve a queue until SIGTERM or SIGINT.

    Args:
        queue: the jobs to serve; its settings say where.
        reuse_port: share the port with other servers of this user.
        log: called with a line for each request.
        on_ready: called with the URL once connections are accepted.

    Raises:
        ConfigError: the address is open to others without TLS, a key is unsafe, the port is taken.
    """
    settings = queue.settings.serve
    require_safe(settings)
    raise_file_limit()
    listening = listen(settings, reuse_port=reuse_port)
    unix = None
    try:
        port = listening.getsockname()[1]
        app = create_app(queue, origins=origins_of(settings, port), log=log)
        unix = None if settings.socket is None else listen_unix(settings.socket)
        presence = presence_of(queue.settings, url_of(settings, port))
        _run(app, listening, unix, presence, on_ready)
    finally:
        listening.close()
        if unix is not None and settings.socket is not None:
            unix.close()
            settings.socket.unlink(missing_ok=True)


def _run(
    app: Any,
    listening: socket.socket,
    unix: socket.socket | None,
    presence: Presence,
    on_ready: Callable[[str], None],
) -> None:
    state: Server = app.state.server

    def say_ready() -> None:
        presence.write()
        on_ready(presence.url)

    server = ApiServer(_config(app, state.serve), state, unix, say_ready)
    try:
        asyncio.run(server.serve(sockets=[listening]))
    finally:
        presence.remove()


def _config(app: Any, settings: Serve) -> uvicorn.Config:
    try:
        config = uvicorn.Config(
            app,
            http=ApiProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies),
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=SHUTDOWN_S,
            backlog=BACKLOG,
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=settings.tls_key,
        )
        config.load()
    except (OSError, ssl.SSLError) as error:
        files = f"{settings.tls_cert}, {settings.tls_key}"
        raise ConfigError(f"{files}: not usable for TLS: {error.strerror or error}") from None
    return config


def url_of(settings: Serve, port: int) -> str:
    """Return where clients of this host reach the server."""
    if settings.public_url:
        return settings.public_url
    scheme = "https" if settings.tls_cert else "http"
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104 - not bound to
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def require_safe(settings: Serve) -> None:
    """Refuse to listen where others could read tokens on their way.

    Raises:
        ConfigError: the address is not loopback, and there is neither TLS nor a proxy with it.
    """
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise ConfigError("[serve] tls_cert and tls_key: give both, or neither")
    behind_tls = settings.public_url.startswith("https://")
    if settings.tls_cert is None and not behind_tls and not _is_loopback(settings.host):
        raise ConfigError(
            f"[serve] host {settings.host}: others could read tokens on their way: give tls_cert "
            'and tls_key, or public_url = "https://…" behind a proxy with TLS, or use 127.0.0.1'
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def raise_file_limit() -> None:
    """Allow as many open files as the host does: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def listen(settings: Serve, *, reuse_port: bool) -> socket.socket:
    """Return a socket that listens on the host and port.

    Raises:
        ConfigError: there is no such address, or the port is taken.
    """
    host = settings.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        opened.bind((host, settings.port))
        opened.setblocking(False)
    except OSError as error:
        opened.close()
        raise ConfigError(
            f"{settings.host}:{settings.port}: {error.strerror or error}: choose another one with "
            "--port, or [serve] host and port"
        ) from None
    return opened


def listen_unix(path: Path) -> socket.socket:
    """Return a Unix socket of mode 0600 in a directory of mode 0700.

    Raises:
        JobqError: the directory is open to others, or the path is taken.
    """
    from jobq.web.files import make_private

    make_private(path.parent)
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket() and not _answers(path):
            path.unlink()
        opened.bind(os.fspath(path))
        path.chmod(0o600)
        opened.setblocking(False)
    except OSError as error:
        opened.close()
        raise JobqError(f"{path}: {error.strerror or error}: choose another --socket") from None
    return opened


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        return client.connect_ex(os.fspath(path)) == 0
