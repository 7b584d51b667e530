"""Deadlines, limits, TLS and shutdown: what keeps a server alive among slow clients."""

import asyncio
import resource
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme
import uvicorn
from uvicorn.server import ServerState

from jobq.web import server as web_server
from jobq.web import work
from jobq.web.server import ApiProtocol, raise_file_limit
from tests.support.web_server import SETTINGS, WebServer
from tests.web.conftest import App


async def app(scope, receive, send) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Answer once the body is whole."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def slow_app(scope, receive, send) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Answer later than either deadline."""
    await asyncio.sleep(0.4)
    await app(scope, receive, send)


async def sent(
    *parts: bytes, pause: float = 0.0, connections: int = 1, served: Any = app
) -> list[bytes]:
    """Send the same parts over connections to a server; return what comes until each is closed."""
    config = uvicorn.Config(served, http=ApiProtocol, ws="none", lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: ApiProtocol(config, state, {}), "127.0.0.1", 0)

    async def send() -> bytes:
        reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
        with closing(writer):
            for part in parts:
                writer.write(part)
                await asyncio.sleep(pause)
            try:
                return await asyncio.wait_for(reader.read(), 5)
            except ConnectionError:
                return b""

    try:
        return await asyncio.gather(*(send() for _ in range(connections)))
    finally:
        listening.close()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_server, "HEADERS_TIMEOUT_S", 0.2)
    monkeypatch.setattr(web_server, "BODY_TIMEOUT_S", 0.3)


HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n"


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b"GET / HT"],
        [b"GET / HTTP/1.1\r\n", *(b"X-%d: y\r\n" % n for n in range(20))],
        [HEAD + b"\r\n"],
        [HEAD + b"\r\n", *[b"x"] * 8],
    ],
    ids=["nothing", "a part of a line", "a header at a time", "no body", "a byte at a time"],
)
def test_28_a_slow_client_is_dropped(parts: list[bytes]) -> None:
    started = time.monotonic()
    assert asyncio.run(sent(*parts, pause=0.06)) == [b""]
    assert time.monotonic() - started < 4


@pytest.mark.usefixtures("short")
def test_a_quick_client_is_answered_and_has_no_deadline_after_it() -> None:
    whole = HEAD + b"Connection: close\r\n\r\n0123456789"
    (answer,) = asyncio.run(sent(whole, served=slow_app))
    assert answer.startswith(b"HTTP/1.1 204")


def test_connections_beyond_the_limit_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_server, "MAX_CONNECTIONS", 3)
    request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answers = asyncio.run(sent(b"", request, pause=0.1, connections=5))
    assert sorted(map(bool, answers)) == [False, False, True, True, True]


def test_4096_connections_have_files(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"soft": 1024, "hard": 4096}
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limits["soft"], limits["hard"]))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.update(soft=pair[0]))
    raise_file_limit()
    assert limits["soft"] == 4096
    limits |= {"hard": resource.RLIM_INFINITY}
    raise_file_limit()
    assert limits["soft"] == 8192


def test_tls(tmp_path: Path) -> None:
    ca = trustme.CA()
    issued = ca.issue_cert("127.0.0.1", "localhost")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.private_key_pem.write_to_path(str(key))
    for part in issued.cert_chain_pems:
        part.write_to_path(str(cert), append=True)
    unix = tmp_path / "run" / "sock"
    server = WebServer(
        tmp_path / "own", "--tls-cert", str(cert), "--tls-key", str(key), "--socket", str(unix)
    )
    try:
        assert server.url.startswith("https://127.0.0.1:")
        context = ssl.create_default_context()
        ca.configure_trust(context)
        client = server.client(server.token("read"), verify=context)
        own = {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}
        assert client.get("/api/v1/session", headers=own).status_code == 200
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(httpx2.HTTPError):
            httpx2.get(f"http://127.0.0.1:{port}/livez", trust_env=False)
        with socket.create_connection(("127.0.0.1", port)) as connection:
            old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
            with pytest.warns(DeprecationWarning, match="TLSv1_1"):
                old.maximum_version = ssl.TLSVersion.TLSv1_1
            with pytest.raises(ssl.SSLError):
                old.wrap_socket(connection)
        with httpx2.Client(transport=httpx2.HTTPTransport(uds=str(unix))) as local:
            assert local.get("http://localhost/livez").text == "ok\n"
    finally:
        server.close()


def test_a_certificate_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "jobq.toml").write_text(SETTINGS)
    (tmp_path / "bad.pem").write_text("not a certificate")
    done = subprocess.run(
        [sys.executable, "-m", "jobq", "serve", "--tls-cert", "bad.pem", "--tls-key", "bad.pem"],
        cwd=tmp_path, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "bad.pem: not usable for TLS" in done.stderr


def test_28_it_ends_in_5_s_whatever_clients_do(tmp_path: Path) -> None:
    server = WebServer(tmp_path / "own")
    try:
        port = int(server.url.rpartition(":")[2])
        head = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % port
        body = b"POST /api/v1/jobs HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % port
        token = server.token().encode()
        body += b"Authorization: Bearer %s\r\nContent-Type: application/json\r\n" % token
        body += b"Content-Length: 100\r\n\r\n{"
        claim = b'{"worker": "w", "instance": "a1b2c3d4e5f60718", "types": ["shell"], "wait": 60}'
        poll = b"POST /api/v1/claims HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % port
        poll += b"Authorization: Bearer %s\r\nContent-Type: application/json\r\n" % token
        poll += b"Content-Length: %d\r\n\r\n" % len(claim) + claim
        opened = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]
        for connection, data in zip(opened, (b"", head, body, poll), strict=True):
            connection.sendall(data)
        assert server.client().get("/livez").status_code == 200  # the others were read before
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 5
        for connection in opened:
            connection.close()
    finally:
        server.close()


# -- in process ------------------------------------------------------------------------------


def test_head_is_get_without_a_body(server: WebServer, client: httpx2.Client) -> None:
    for path in ("/", "/livez", "/api/v1/jobs?limit=1", "/metrics", "/api/v1/jobs/export"):
        answer = client.head(path)
        assert (answer.status_code, answer.content) == (200, b""), path
    assert client.head("/api/v1/jobs/999").status_code == 404
    assert server.client().head("/api/v1/jobs").status_code == 401
    assert client.get("/livez").text == "ok\n"


def test_a_rotated_key_is_noticed(server: WebServer) -> None:
    before = server.client(server.token("read"))
    assert before.get("/api/v1/session").status_code == 200
    server.tokens.rotate_key()
    assert before.get("/api/v1/session").status_code == 401
    after = server.client(server.token("read"))
    assert after.get("/api/v1/session").status_code == 200
    key = server.tokens.folder / "key"
    good = key.read_bytes()
    key.unlink()
    key.write_bytes(b"short")
    key.chmod(0o600)
    refused = after.get("/api/v1/session")
    assert (refused.status_code, refused.json()["code"]) == (401, "token_invalid")
    key.write_bytes(good)
    assert after.get("/api/v1/session").status_code == 200


def test_the_page_can_be_left_out(make_app: Callable[..., App]) -> None:
    assert make_app().client.get("/").status_code == 200
    assert make_app(SETTINGS + "page = false\n").client.get("/").status_code == 404


def test_a_database_that_others_hold_is_503(
    make_app: Callable[..., App], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "REQUEST_WAIT_S", 0.2)
    app = make_app()
    path = app.queue.settings.database
    job = {"type": "shell", "args": {"argv": ["true"]}}
    assert app.call("POST", "/api/v1/jobs", json=job).status_code == 201
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        answer = app.call("POST", "/api/v1/jobs", json=job)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"] == "1"
        assert time.monotonic() - started < 5
        assert app.call("GET", "/api/v1/jobs/1").status_code == 200, "reads go on"
        other.execute("ROLLBACK")
    assert app.call("POST", "/api/v1/jobs", json=job).status_code == 201


def test_lines_that_the_audit_log_could_not_take_are_counted(app: App) -> None:
    log = app.server.audit.path
    log.unlink(missing_ok=True)
    log.mkdir()
    app.call("POST", "/api/v1/jobs", json={"type": "shell", "args": {"argv": ["true"]}})
    deadline = time.monotonic() + 5
    while not app.server.audit.lost_lines and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "jobq_audit_lost_lines_total 1.0" in app.call("GET", "/metrics").text
