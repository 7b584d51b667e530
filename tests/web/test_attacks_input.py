"""The attacks by what callers send: ids, names, queries, numbers, variables, cells (18-26, 34)."""

import csv
import io
import os
import time
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from tests.support.web_server import WebServer
from tests.web.test_attacks import JOB, JOBS, count

IDS = [
    "../1", "..%2f1", "%252e%252e", "1%00", "-1", "0", "1e9", "1.0", "+1", "0x1", "%D9%A1", " 1",
    "9" * 30, "9" * 10_000,
]  # fmt: skip


@pytest.mark.parametrize("job_id", IDS, ids=lambda each: each[:12])
def test_18_ids(client: httpx2.Client, job_id: str) -> None:
    for rest in ("", "/logs", "/logs/stdout", "/artifacts", "/attempts"):
        answer = client.get(f"{JOBS}/{job_id}{rest}")
        assert answer.status_code in (404, 405, 422), rest
        assert answer.headers["content-type"] == "application/problem+json"
        assert len(answer.content) < 3000


def test_19_logs_that_are_no_files(server: WebServer, client: httpx2.Client) -> None:
    job = server.queue.add("shell", {"argv": ["true"]}, delay="1h")
    with server.queue.logs.create(job) as log:
        os.write(log.append("stdout.log"), b"x" * 100)
    folder = server.queue.logs.path(job.id)
    secret = server.folder / "secret"
    secret.write_text("s3cret")
    for make in (
        lambda file: file.symlink_to(secret),
        lambda file: file.symlink_to("/dev/zero"),
        os.mkfifo,
    ):
        for name in ("stdout", "stderr"):  # one that was there is swapped
            file = folder / f"{name}.log"
            file.unlink(missing_ok=True)
            make(file)
            answer = client.get(f"{JOBS}/{job.id}/logs/{name}")
            assert answer.status_code == 404
            assert "s3cret" not in answer.text
    (folder / "artifacts").mkdir(exist_ok=True)
    (folder / "artifacts" / "link").symlink_to(secret)
    assert client.get(f"{JOBS}/{job.id}/artifacts/link").status_code == 404


@pytest.mark.parametrize(
    "name", ["foo/bar.baz", "..", ".", "-", "☃", "q" * 65, "q" * 65536, "", "a\0b", "a\nb"],
    ids=lambda each: repr(each[:8]),
)  # fmt: skip
def test_20_queue_names(server: WebServer, client: httpx2.Client, name: str) -> None:
    answer = client.post("/api/v1/queues", json={"name": name})
    if answer.status_code == 201:  # odd, and allowed: it has to work everywhere
        assert name in ("-", ".", "..")
        path = "/api/v1/queues/" + name.replace(".", "%2e")
        assert client.get(path).json()["name"] == name
        assert client.delete(path).status_code == 204
    else:
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    job = client.post(JOBS, json={**JOB, "queue": name})
    assert job.status_code in (404, 422)
    assert client.get(JOBS, params={"queue": name[:2000]}).status_code in (200, 422)


@pytest.mark.parametrize(
    "query",
    ["sort=id;DROP", "order=id;DROP", "order=error", "window=1", "q=" + "a " * 5000,
     "limit=1&limit=2x", "cursor=x", "tag=nothing"],
    ids=lambda each: each[:12],
)  # fmt: skip
def test_21_queries_that_are_refused(client: httpx2.Client, query: str) -> None:
    answer = client.get(f"{JOBS}?{query}")
    assert answer.status_code in (400, 422), answer.text[:200]


@pytest.mark.parametrize("text", ['"* OR', "%_", "' OR 1=1 --", "(a+)+$", "*", "\\", "\0"])
def test_21_30_texts_are_literal(client: httpx2.Client, text: str) -> None:
    client.post(JOBS, json={**JOB, "name": "plain"})
    answer = client.get(JOBS, params={"text": text})
    assert answer.status_code == 200
    assert answer.json()["jobs"] == []


@pytest.mark.parametrize(
    "query", ["limit=-1", "limit=0", "limit=1e9", "limit=99999999999999999999", "limit=NaN",
              "since=99999999d", "since=9999-99-99", "until=-1", "ids=1-99999999999"],
)  # fmt: skip
def test_22_numbers_of_queries(client: httpx2.Client, query: str) -> None:
    answer = client.get(f"{JOBS}?{query}")
    assert answer.status_code == 422, answer.text[:200]


@pytest.mark.parametrize(
    "change",
    [{"at": "9999-12-31T23:59:59-23:59"}, {"at": "99999-01-01"}, {"delay": 1e300}, {"delay": -1},
     {"priority": 2**63}, {"max_retries": 2**63}, {"timeout": "99999999d"}, {"after": [2**63]},
     {"after": [0]}, {"max_retries": -1}, {"priority": True}],
    ids=str,
)  # fmt: skip
def test_22_numbers_of_jobs(
    server: WebServer, client: httpx2.Client, change: dict[str, Any]
) -> None:
    before = count(server)
    answer = client.post(JOBS, json={"type": "shell", "args": {"argv": ["true"]}, **change})
    assert answer.status_code in (404, 422), answer.text[:200]
    assert count(server) == before


@pytest.mark.parametrize(
    "body",
    [b'{"type": NaN}', b"[" * 10_000, b'{"type": "a", "type": "b"}', b'{"a": 1e999}', b"\xff", b""],
    ids=lambda each: repr(each[:12]),
)
def test_22_json(client: httpx2.Client, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    assert client.post(JOBS, content=body, headers=headers).status_code in (400, 422)


def test_22_cron(client: httpx2.Client) -> None:
    schedule = {"name": "s", "cron": "1--100000000 * * * *", "type": "shell"}
    started = time.monotonic()
    answer = client.post("/api/v1/schedules", json={**schedule, "args": {"argv": ["true"]}})
    assert answer.status_code == 422
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("name", ["$(id).desktop", 'a"; filename=b.html', "x" * 250, "é\u202e.txt"])
def test_24_names_of_downloads(server: WebServer, client: httpx2.Client, name: str) -> None:
    job = server.queue.add("shell", {"argv": ["true"]}, name="../../.bashrc", delay="1h")
    with server.queue.logs.create(job) as log:
        os.write(log.append("stdout.log"), b"<script>")
    artifacts = server.queue.logs.path(job.id) / "artifacts"
    artifacts.mkdir(exist_ok=True)
    if len(name.encode()) <= 255:
        (artifacts / name).write_text("<script>")
    for path in (
        "logs/stdout/download",
        f"artifacts/{quote(name)}",
    ):
        answer = client.get(f"{JOBS}/{job.id}/{path}")
        assert answer.status_code == 200, path
        disposition = answer.headers["content-disposition"]
        assert disposition.startswith("attachment; filename*=UTF-8''")
        assert not set(disposition.removeprefix("attachment; filename*=")) & set('"/;$\\ ')
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-security-policy"].startswith("sandbox")


@pytest.mark.parametrize("name", ["LD_PRELOAD", "PATH", "PYTHONSTARTUP", "greeting", "GREETING\0"])
def test_26_variables(server: WebServer, client: httpx2.Client, name: str) -> None:
    before = count(server)
    args = {"argv": ["true"], "env": {name: "/tmp/evil"}}
    answer = client.post(JOBS, json={**JOB, "args": args})
    assert (answer.status_code, answer.json()["code"]) == (422, "not_allowed")
    for more in ({"cwd": "/"}, {"cwd": "../.."}, {"stdin": "x"}):
        refused = client.post(JOBS, json={**JOB, "args": {"argv": ["true"], **more}})
        assert refused.status_code == 422, more
    assert client.post(JOBS, json={**JOB, "tags": {"jobq:by": "root"}}).status_code == 422
    assert count(server) == before
    args = {"argv": ["true"], "env": {"GREETING": "hi"}}
    assert client.post(JOBS, json={**JOB, "args": args}).status_code == 201


@pytest.mark.parametrize("start", ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "\t=1"])
def test_34_cells(client: httpx2.Client, start: str) -> None:
    job = client.post(JOBS, json={**JOB, "tags": {"k": start}, "name": start}).json()["id"]
    text = client.get(f"{JOBS}/export?format=csv&ids={job}").text
    (row,) = csv.DictReader(io.StringIO(text))
    assert all(cell[:1] not in ("=", "+", "@", "\t") for cell in row.values())
    assert row["name"].startswith("'")
