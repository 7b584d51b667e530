"""The attacks on the API, by number, on a real server.

18-22, 24, 26 and 34: test_attacks_input.py. 13-15: what jobs say on a terminal is in tests/cli/test_hostile_text.py. 23 and 25: what downloads
fetch and write is in tests/unit/workers/downloads. 16, 17 and 28 with streams: test_events.py.
"""

import base64
import json
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest

from jobq.cli.main import run
from jobq.queue import backend_of
from jobq.web.tokens import Role
from tests.support.web_server import WebServer
from tests.web.test_roles import SAMPLES, expected

JOB = {"type": "shell", "args": {"argv": ["true"]}, "delay": "1h"}
JOBS = "/api/v1/jobs"


@pytest.fixture(scope="module")
def anyone(server: WebServer) -> httpx2.Client:
    """A client without a token."""
    return server.client()


@pytest.fixture(scope="module")
def port(server: WebServer) -> int:
    return int(server.url.rpartition(":")[2])


def raw(port: int, request: bytes) -> bytes:
    """Send bytes; return all that is answered until the connection closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def count(server: WebServer) -> int:
    return sum(sum(of.values()) for of in server.queue.counts_by_queue().values())


def claim(client: httpx2.Client, **options: Any) -> httpx2.Response:
    ids = {"worker": "w", "instance": "a1b2c3d4e5f60718"}
    return client.post("/api/v1/claims", json={**ids, "types": ["shell"], **options})


def test_01_foreign_hosts(server: WebServer, port: int) -> None:
    token = server.token().encode()
    hosts = [b"evil.com", b"localhost.evil.com", b"0.0.0.0:%d" % port, b"a/?x=", b"127.0.0.1"]
    lines = [b"Host: %s\r\n" % host for host in hosts]
    own = b"Host: 127.0.0.1:%d\r\n" % port
    for line in [*lines, b"", own + own, own + lines[0], lines[0] + own]:
        for auth in (b"", b"Authorization: Bearer %s\r\n" % token):
            answer = raw(port, b"GET /api/v1/session HTTP/1.1\r\n" + line + auth + b"\r\n")
            assert status_of(answer) == 400, line
    good = b"GET http://evil.com/api/v1/session HTTP/1.1\r\n" + own + b"Connection: close\r\n\r\n"
    assert b"evil" not in raw(port, good), "a URL in the request line counts for nothing"


def test_02_rebinding(server: WebServer, anyone: httpx2.Client) -> None:
    headers = {"Origin": "http://evil.com", "Sec-Fetch-Site": "same-origin", "Host": "evil.com"}
    headers["Authorization"] = f"Bearer {server.token()}"
    before = count(server)
    for answer in (
        anyone.get(JOBS, headers=headers),
        anyone.post(JOBS, json=JOB, headers=headers),
        anyone.get("/", headers=headers),
    ):
        assert (answer.status_code, answer.json()["code"]) == (400, "host")
    assert count(server) == before


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_03_cross_site_forms(server: WebServer, client: httpx2.Client, kind: str) -> None:
    """Even with a token, which no form can send."""
    before = count(server)
    for more in ({}, {"Origin": "http://evil.com", "Sec-Fetch-Site": "cross-site"}):
        headers = {"Content-Type": kind, **more}
        answer = client.post(JOBS, content=json.dumps(JOB), headers=headers)
        assert answer.status_code in (403, 415)
    assert count(server) == before


def test_04_other_ports_of_localhost(server: WebServer, client: httpx2.Client, port: int) -> None:
    other = {"Origin": "http://localhost:8888", "Sec-Fetch-Site": "same-site"}
    fetch = {**other, "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
    img = {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    frame = {
        "Sec-Fetch-Site": "same-site",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "iframe",
    }
    for headers in (fetch, img, frame):
        for path in ("/", JOBS, "/metrics", "/livez"):
            assert client.get(path, headers=headers).status_code == 403
    assert client.post(JOBS, json=JOB, headers=other).status_code == 403
    shown = client.get("/")
    assert shown.headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in shown.headers["content-security-policy"]
    assert not [name for name in shown.headers if name.startswith("access-control")]
    preflight = client.options(JOBS, headers={**other, "Access-Control-Request-Method": "POST"})
    assert preflight.status_code == 403
    upgrade = (
        b"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n\r\n"
    )
    assert status_of(raw(port, upgrade % port)) in (400, 401, 403, 404)


def test_05_no_token(anyone: httpx2.Client) -> None:
    for call, roles in expected().items():
        method, _, path = call.partition(" ")
        if roles != "-":
            answer = anyone.request(method, path.format_map(SAMPLES))
            assert (answer.status_code, answer.json()["code"]) == (401, "token_missing"), call
            assert answer.headers["www-authenticate"].startswith("Bearer")
    for path in ("/static/none", "/docs", "/openapi.json", "/api/v1/none", "/api/v1/../../key"):
        assert anyone.get(path).status_code in (401, 404), path
    assert anyone.get("/api/v1/events?watch=counts").status_code in (401, 404)


def test_06_read_only_tokens(server: WebServer) -> None:
    reader = server.client(server.token("read"))
    for call in expected():
        method, _, path = call.partition(" ")
        if method != "GET" and not path.endswith("/session"):
            answer = reader.request(method, path.format_map(SAMPLES), json={})
            assert (answer.status_code, answer.json()["code"]) == (403, "role"), call


def test_07_worker_tokens(server: WebServer) -> None:
    server.queue.create_queue("seven")
    worker = server.client(server.token("worker", queues=["seven"]))
    assert worker.post(JOBS, json=JOB).status_code == 403
    assert claim(worker, queues=["default"]).json()["code"] == "queues_not_allowed"
    added = server.queue.add("shell", {"argv": ["true"]}, queue="seven")
    held = claim(worker).json()["claims"][0]["claim"]
    (attempt,) = server.queue.attempts(added.id)
    backend = backend_of(server.queue)
    backend.heartbeat(
        attempt.supervisor, timedelta(seconds=-60), backend.now()
    )  # its lease is over
    server.queue.claim("seven", owner="another", types=["none"])  # which recovers first
    refused = worker.post(f"/api/v1/claims/{held}/complete", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "claim_lost")


def forged(server: WebServer) -> Iterator[tuple[str, str]]:
    """Yield tokens that differ from a good one, and what is wrong with each."""
    text = server.token("read")
    head, body, signature = text.split(".")
    claims = jwt.decode(text, options={"verify_signature": False})
    key = (server.tokens.folder / "key").read_bytes()

    def sign(headers: dict[str, Any] | None = None, **changes: Any) -> str:
        changed = {
            name: value for name, value in {**claims, **changes}.items() if value is not None
        }
        return jwt.encode(changed, key, "HS256", {"kid": server.tokens.kid, **(headers or {})})

    def part(document: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")

    now = int(time.time())
    yield "none", f"{part({'alg': 'none', 'kid': server.tokens.kid})}.{body}."
    yield "no signature", f"{head}.{body}."
    yield "swapped body", f"{head}.{part({**claims, 'roles': ['operate']})}.{signature}"
    yield "another alg", f"{part({'alg': 'RS256', 'kid': server.tokens.kid})}.{body}.{signature}"
    yield "more roles", sign(roles=["operate", "submit"])
    yield "aud", sign(aud="another")
    yield "aud list", sign(aud=[claims["aud"]])
    yield "iss", sign(iss="evil")
    yield "expired", sign(iat=now - 7200, exp=now - 3600)
    yield "no exp", sign(exp=None)
    yield "huge iat", sign(iat=10**15, exp=10**15 + 60)
    yield "long life", sign(exp=now + 10 * 366 * 86400)
    yield "unknown crit", sign({"crit": ["x"], "x": 1})
    yield "kid", sign({"kid": "../../key"})
    yield "jti", sign(jti="../key")
    yield "long", text + "A" * 5000
    yield "two", f"{text} {text}"


def test_08_forged_tokens(server: WebServer, anyone: httpx2.Client, port: int) -> None:
    for why, token in forged(server):
        answer = anyone.get("/api/v1/session", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code in (401, 429), why  # so many failed logins are too many
    leaving = server.token("read")
    client = server.client(leaving)
    assert client.delete("/api/v1/session").status_code == 204
    assert client.get("/api/v1/session").status_code in (401, 429)
    good = server.token("read")
    twice = [("Authorization", f"Bearer {good}")] * 2
    assert anyone.get("/api/v1/session", headers=twice).status_code == 401
    assert server.client(good).get("/api/v1/session").status_code == 200, (
        "others are not locked out"
    )
    line = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer " % port
    with pytest.raises((ConnectionError, IndexError, AssertionError)):  # 1 MB of it
        assert status_of(raw(port, line + b"A" * (1 << 20) + b"\r\n\r\n")) == 200


def test_09_10_keys_and_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "jobq.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    assert run(["token", "create", "me", "--role", "read", "-q"]) == 0
    key = tmp_path / ".jobq" / "serve" / "key"
    good = key.read_bytes()
    key.write_bytes(b"12345")
    assert run(["serve", "--port", "0"]) == 2
    assert "a key of 5 bytes is too short" in capsys.readouterr().err
    key.write_bytes(good)
    key.chmod(0o644)
    assert run(["serve", "--port", "0"]) == 2
    key.chmod(0o600)
    for host in ("0.0.0.0", "::"):
        assert run(["serve", "--port", "0", "--host", host]) == 2
        assert "tls_cert" in capsys.readouterr().err


def test_11_forwarded_headers(server: WebServer, anyone: httpx2.Client) -> None:
    forwarded = {
        "X-Forwarded-For": "6.6.6.6",
        "X-Forwarded-Host": "evil.com",
        "X-Forwarded-Proto": "https",
        "Forwarded": "for=6.6.6.6;host=evil.com",
    }
    client = server.client(server.token("submit"), headers=forwarded)
    added = client.post(JOBS, json=JOB)
    assert added.status_code == 201
    assert "evil" not in str(added.headers)
    lines = server.client(server.token("operate")).get("/api/v1/audit").json()["lines"]
    line = next(line for line in lines if line["ids"] == [added.json()["id"]])
    assert line["address"] == "127.0.0.1"
    tries = [
        anyone.get(JOBS, headers={"Authorization": "Bearer x", "X-Forwarded-For": f"6.6.6.{n}"})
        for n in range(8)
    ]
    assert tries[-1].status_code == 429


def test_12_a_login_code_raced(server: WebServer) -> None:
    code = server.tokens.create_code([Role.READ])
    clients = [server.client() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda each: each.post("/api/v1/session", json={"code": code}), clients)
        )
    assert [answer.status_code for answer in answers].count(200) == 1
    assert clients[0].post("/api/v1/session", json={"code": code}).status_code in (401, 429)


def test_27_secrets(server: WebServer, client: httpx2.Client) -> None:
    """What streams send is in test_events.py."""
    secret = "s3cret-of-27"
    args = {"argv": ["curl", "-H", f"Authorization: Bearer {secret}"], "env": {"API_TOKEN": secret}}
    job = server.queue.add("shell", args, delay="1h", name=f"token={secret}")
    for path in (
        f"{JOBS}/{job.id}", f"{JOBS}/{job.id}?include=history,explain,text", JOBS,
        f"{JOBS}/export?format=csv", f"{JOBS}/export?format=jsonl", "/api/v1/audit", "/metrics",
        "/api/v1/stats", "/api/v1/dead", "/api/v1/suggest?q=name:s3&at=7",
    ):  # fmt: skip
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert secret not in answer.text, path
    assert client.get(JOBS, params={"text": secret}).json()["jobs"] == []
    assert client.post(JOBS, json={**JOB, "password": secret}).text.find(secret) == -1


def test_28_large_bodies(server: WebServer, port: int) -> None:
    head = (
        b"POST /api/v1/jobs HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer %s\r\n"
        b"Content-Type: application/json\r\n"
    ) % (port, server.token("submit").encode())
    assert status_of(raw(port, head + b"Content-Length: 100000000\r\n\r\n")) == 413
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        sent = 0
        try:
            while sent < 100 << 20:
                connection.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                sent += 65536
        except OSError:
            pass  # it has hung up
    assert sent < 20 << 20


def test_31_files_of_others(tmp_path: Path) -> None:
    """Nothing that it makes can be read by others, whatever the umask."""
    (tmp_path / "jobq.toml").write_text("[serve]\nport = 0\n")
    script = (
        "import os, sys; os.umask(0); from jobq.cli.main import run; "
        "run(['token', 'create', 'me', '--role', 'operate', '-q']); "
        "run(['add', '--', 'true']); run(['serve', '--socket', sys.argv[1]])"
    )
    path = tmp_path / "run" / "sock"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip
    try:
        assert process.stderr is not None
        assert any(line.startswith("Serving on ") for line in process.stderr)
        found = [tmp_path / "run", path, *(tmp_path / ".jobq").rglob("*")]
        assert {"key", "jobq.db"} <= {each.name for each in found}
        for each in found:
            assert stat.S_IMODE(each.lstat().st_mode) & 0o077 == 0, each
    finally:
        process.terminate()
        process.communicate(timeout=10)


def test_32_one_key_many_times(server: WebServer) -> None:
    client = server.client(server.token("submit"))
    name = f"once-{time.monotonic_ns()}"
    headers = {"Idempotency-Key": name}
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda _: client.post(JOBS, json={**JOB, "name": name}, headers=headers), range(100)
            )
        )
    assert sorted(answer.status_code for answer in answers) == [200] * 99 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    other = client.post(JOBS, json={**JOB, "name": "other"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")


def test_33_bulk(server: WebServer, client: httpx2.Client) -> None:
    path = f"{JOBS}/bulk"
    nothing: list[dict[str, Any]] = [{}, {"filter": ""}, {"filter": " "}, {"ids": []}]
    for selection in nothing:
        answer = client.post(path, json={"action": "cancel", "dry_run": True, **selection})
        assert answer.status_code == 422, selection
    client.post(JOBS, json={**JOB, "name": "bulk-of-33"})
    wanted = {"action": "cancel", "filter": "bulk-of-33"}
    preview = client.post(path, json={**wanted, "dry_run": True}).json()["preview"]
    assert client.post(path, json=wanted).status_code == 422, "without a preview"
    done = client.post(path, json={"action": "delete", "filter": "bulk-of-33", "preview": preview})
    assert done.status_code >= 400
    added = client.post(JOBS, json={**JOB, "name": "bulk-of-33"}).json()["id"]
    client.post(path, json={**wanted, "preview": preview})
    assert client.get(f"{JOBS}/{added}").json()["status"] == "scheduled", (
        "it came after the preview"
    )
