import os
import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from jobq.backends.messages import LogChunk
from jobq.clock import utcnow
from jobq.logs.directory import STDERR, STDOUT, JobLog
from jobq.logs.truncation import compact, trim
from jobq.models import LogOffsets, Started
from jobq.queue import backend_of
from jobq.web import log_reader
from jobq.web.log_reader import LineIndex, search
from tests.support.web_server import WebServer
from tests.web.conftest import App


class Logged:
    """A job with a log, and calls for it by one who may read."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.queue = app.queue
        app.client.headers.update({"Authorization": f"Bearer {app.token('read')}"})
        self.id = app.queue.add("shell", {"argv": ["true"]}).id

    def write(self, data: bytes, name: str = STDOUT) -> None:
        with self.queue.logs.create(self.queue.get(self.id)) as log:
            descriptor = log.append(name)
            os.write(descriptor, data)
            os.close(descriptor)

    def attempt(self) -> None:
        """Begin another attempt."""
        claim = self.queue.claim(owner="w")
        assert claim is not None
        with self.queue.logs.create(self.queue.get(self.id)) as log:
            backend_of(self.queue).started([Started(claim.key, None, None, log.offsets())])
        self.queue.release(claim)

    def get(self, rest: str = "", **params: Any) -> httpx2.Response:
        return self.app.client.get(f"/api/v1/jobs/{self.id}/logs{rest}", params=params)

    def artifacts(self) -> Path:
        with self.queue.logs.create(self.queue.get(self.id)) as log:
            folder = log.path / "artifacts"
        folder.mkdir(exist_ok=True)
        return folder


@pytest.fixture
def logged(app: App) -> Logged:
    return Logged(app)


def headers_of(answer: httpx2.Response) -> dict[str, int]:
    names = ("From", "Next", "End", "Line")
    found = {name: answer.headers.get(f"Jobq-{name}") for name in names}
    return {name.lower(): int(value) for name, value in found.items() if value is not None}


def test_a_job_without_output_has_an_empty_log(logged: Logged) -> None:
    assert logged.get().json() == {"files": []}
    answer = logged.get("/stdout")
    assert (answer.status_code, answer.content) == (200, b"")
    assert headers_of(answer) == {"from": 0, "next": 0, "end": 0, "line": 1}
    assert logged.get("/stdout/search", text="x").json() == {"hits": [], "next": None}
    assert logged.get("/stdout/download").content == b""
    logged.id = 999
    assert logged.get().status_code == logged.get("/stdout").status_code == 404


def test_files_are_listed_with_their_attempts(logged: Logged) -> None:
    logged.attempt()
    logged.write(b"first\n")
    logged.attempt()
    logged.write(b"second\n")
    logged.write(b"oops\n", STDERR)
    files = logged.get().json()["files"]
    assert files[0] == {
        "name": "stdout", "begin": 0, "end": 13, "dropped": 0, "growing": False, "here": True,
        "attempts": [{"attempt": 1, "from": 0, "to": 6}, {"attempt": 2, "from": 6, "to": 13}],
    }  # fmt: skip
    assert files[1]["attempts"][1] == {"attempt": 2, "from": 0, "to": 5}
    assert logged.get("/stdout", attempt=1).content == b"first\n"
    second = logged.get("/stdout", attempt=2)
    assert second.content == b"second\n"
    assert headers_of(second) == {"from": 6, "next": 13, "end": 13, "line": 2}
    assert logged.get("/stdout", attempt=1, tail=1).content == b"first\n"
    assert logged.get("/stdout", attempt=3).status_code == 404


def test_pieces_from_offsets_lines_and_the_end(logged: Logged) -> None:
    text = b"".join(b"line %d\n" % number for number in range(1, 101))
    logged.write(text)
    begin = logged.get("/stdout", limit=10)
    assert begin.content == text[:10]
    assert headers_of(begin) == {"from": 0, "next": 10, "end": len(text), "line": 1}
    rest = logged.get("/stdout", **{"from": 10})
    assert rest.content == text[10:]
    assert headers_of(rest)["line"] == 2
    line = logged.get("/stdout", line=50, limit=8)
    assert line.content == b"line 50\n"
    assert headers_of(line)["line"] == 50
    tail = logged.get("/stdout", tail=2)
    assert tail.content == b"line 99\nline 100\n"
    assert headers_of(tail)["line"] == 99
    assert logged.get("/stdout", tail=0).content == b""
    end = logged.get("/stdout", **{"from": len(text)})
    assert (end.status_code, end.content) == (200, b"")
    past = logged.get("/stdout", **{"from": len(text) + 1})
    assert (past.status_code, past.json()["code"]) == (416, "past_end")
    assert past.headers["jobq-end"] == str(len(text)) == str(past.json()["end"])
    behind = logged.get("/stdout", line=1000)
    assert (behind.content, headers_of(behind)["line"]) == (b"", 101)


@pytest.mark.parametrize(
    "params",
    [{"from": 0, "tail": 1}, {"from": -1}, {"limit": 0}, {"limit": 1 << 20}, {"line": 0}, {"x": 1}],
)
def test_what_is_asked_for_is_checked(logged: Logged, params: dict[str, int]) -> None:
    refused = logged.get("/stdout", **params)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid")
    assert refused.json()["errors"][0]["pointer"].startswith("query:")


def test_what_was_dropped_is_a_marker(logged: Logged) -> None:
    logged.write(b"".join(b"line %06d\n" % number for number in range(20_000)))
    log = logged.queue.logs.open(logged.queue.get(logged.id))
    assert log is not None
    with log:
        trim(log, 60_000, utcnow())
        gap = log.gap(STDOUT)
        assert gap is not None
        for _ in ("with a hole", "rewritten"):
            (file,) = logged.get().json()["files"]
            assert (file["end"], file["dropped"]) == (240_000, gap.dropped)
            assert _in_pieces(logged) == _whole(log)
            inside = logged.get("/stdout", **{"from": gap.start + 5})
            assert inside.content.startswith(gap.marker)
            hit = logged.get("/stdout/search", text="line 019999").json()["hits"][0]
            assert (hit["offset"], hit["text"]) == (240_000 - 12, "line 019999")
            # The marker is a line, too.
            shown = _whole(log).splitlines()
            assert hit["line"] == len(shown)
            assert logged.get("/stdout", line=len(shown)).content == b"line 019999\n"
            compact(log)


def _whole(log: JobLog) -> bytes:
    with log.read(STDOUT) as file:
        assert file is not None
        return file.read_all()


def _in_pieces(logged: Logged) -> bytes:
    found, at = b"", 0
    while True:
        answer = logged.get("/stdout", **{"from": at, "limit": 7000})
        if not answer.content:
            return found
        assert headers_of(answer)["from"] == at
        assert headers_of(answer)["line"] == found.count(b"\n") + 1
        found, at = found + answer.content, headers_of(answer)["next"]


def test_lines_are_counted_by_blocks(monkeypatch: pytest.MonkeyPatch, logged: Logged) -> None:
    monkeypatch.setattr(log_reader, "BLOCK_BYTES", 64)
    lines = [b"x" * random.Random(number).randrange(50) + b"\n" for number in range(200)]
    logged.write(b"".join(lines))
    log = logged.queue.logs.open(logged.queue.get(logged.id))
    assert log is not None
    starts = [sum(map(len, lines[:number])) for number in range(201)]
    with log, log.read(STDOUT) as file:
        assert file is not None
        index = LineIndex()
        for number in random.Random(1).sample(range(200), 200):
            assert index.offset_of(file, number + 1) == starts[number]
            assert index.line_at(file, starts[number], 1.0) == number + 1
        logged.write(b"more\nand more\n")
        assert index.offset_of(file, 202) == starts[200] + 5
        assert index.line_at(file, starts[200] + 7, 1.0) == 202
        assert LineIndex().line_at(file, starts[200], 0.0) is None, "no time to count"


@pytest.mark.parametrize("block", [7, 64, 1 << 20])
def test_a_search_finds_each_line_once(
    monkeypatch: pytest.MonkeyPatch, logged: Logged, block: int
) -> None:
    monkeypatch.setattr(log_reader, "BLOCK_BYTES", block)
    rng = random.Random(block)
    text = "".join(rng.choice(["ab", "a", "b", "\n", "(a+)+$", "é"]) for _ in range(600))
    logged.write(text.encode())
    log = logged.queue.logs.open(logged.queue.get(logged.id))
    assert log is not None
    with log, log.read(STDOUT) as file:
        assert file is not None
        found = search(file, b"(a+)+$", 0, 1)
        assert found.next is None
    lines = [n for n, line in enumerate(text.split("\n"), 1) if "(a+)+$" in line]
    assert [hit.line for hit in found.hits] == lines
    data = text.encode()
    assert all(data[hit.offset :].startswith(b"(a+)+$") for hit in found.hits)


def test_a_search_goes_on_where_it_ended(logged: Logged) -> None:
    logged.write(b"".join(b"Hit %d\n" % number for number in range(250)))
    found: list[dict[str, Any]] = []
    at: int | None = 0
    while at is not None:
        answer = logged.get("/stdout/search", **{"text": "hit", "from": at, "ignore_case": True})
        found, at = found + answer.json()["hits"], answer.json()["next"]
    assert [hit["line"] for hit in found] == list(range(1, 251))
    assert logged.get("/stdout/search", text="hit").json() == {"hits": [], "next": None}
    assert logged.get("/stdout/search", text="").status_code == 422


def test_a_search_ends_in_time(monkeypatch: pytest.MonkeyPatch, logged: Logged) -> None:
    monkeypatch.setattr(log_reader, "SEARCH_LIMIT_S", 0.0)
    monkeypatch.setattr(log_reader, "BLOCK_BYTES", 100)
    logged.write(b"-" * 950 + b"needle\n")
    hits: list[dict[str, Any]] = []
    steps = 0
    at: int | None = 0
    while at is not None:
        answer = logged.get("/stdout/search", **{"text": "needle", "from": at}).json()
        steps, hits, at = steps + 1, hits + answer["hits"], answer["next"]
    assert steps > 5
    assert [(hit["offset"], hit["line"]) for hit in hits] == [(950, 1)]


def test_what_a_job_wrote_is_sent_as_text(logged: Logged) -> None:
    logged.write(b"</pre><script>alert(1)</script>\xff\x00\x1b[2J\r\n")
    (logged.artifacts() / "page.html").write_bytes(b"<script>")
    for path in ("/stdout", "/stdout/download"):
        answer = logged.get(path)
        assert answer.content == b"</pre><script>alert(1)</script>\xff\x00\x1b[2J\r\n"
        _is_inert(answer)
    assert logged.get("/stdout").headers["content-type"] == "text/plain; charset=utf-8"
    page = logged.app.client.get(f"/api/v1/jobs/{logged.id}/artifacts/page.html")
    assert page.content == b"<script>"
    _is_inert(page)


def _is_inert(answer: httpx2.Response) -> None:
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
    kind = answer.headers["content-type"]
    assert kind in ("text/plain; charset=utf-8", "application/octet-stream")
    if kind == "application/octet-stream":
        assert answer.headers["content-disposition"].startswith("attachment; ")


def test_a_download_is_the_whole_file(logged: Logged) -> None:
    data = bytes(range(256)) * 4000
    logged.write(data)
    answer = logged.get("/stdout/download")
    assert answer.content == data
    assert (
        answer.headers["content-disposition"]
        == f"attachment; filename*=UTF-8''job-{logged.id}-stdout.log"
    )
    ranges = logged.app.client.get(
        f"/api/v1/jobs/{logged.id}/logs/stdout/download", headers={"Range": "bytes=0-1,5-9"}
    )
    assert (ranges.status_code, ranges.content) == (200, data), "ranges are not served"


def test_a_log_that_is_no_file_is_not_read(logged: Logged) -> None:
    logged.write(b"x")
    folder = logged.queue.logs.path(logged.id)
    secret = folder.parent.parent.parent / "secret"
    secret.write_text("s3cret")
    for make in (
        lambda file: file.symlink_to(secret),
        lambda file: file.symlink_to("/dev/zero"),
        os.mkfifo,
    ):
        file = folder / "stderr.log"
        file.unlink(missing_ok=True)
        make(file)
        assert [each["name"] for each in logged.get().json()["files"]] == ["stdout"]
        for rest, params in (("", {}), ("/download", {}), ("/search", {"text": "s"})):
            answer = logged.get(f"/stderr{rest}", **params)
            assert (answer.status_code, answer.json()["code"]) == (404, "no_file"), rest
            assert "s3cret" not in answer.text


def test_artifacts_are_listed_and_fetched_by_name(logged: Logged) -> None:
    base = f"/api/v1/jobs/{logged.id}/artifacts"
    assert logged.app.client.get(base).json() == {"artifacts": [], "here": False}
    folder = logged.artifacts()
    (folder / "b.bin").write_bytes(b"\0" * 300_000)
    (folder / 'naïve "q".txt').write_text("text")
    (folder / "below").mkdir()
    (folder / "link").symlink_to("/etc/passwd")
    os.mkfifo(folder / "fifo")
    Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff")).write_text("x")
    listed = logged.app.client.get(base).json()
    assert listed["here"] is True
    assert [(each["name"], each["size"]) for each in listed["artifacts"]] == [
        ("b.bin", 300_000),
        ('naïve "q".txt', 4),
    ]
    whole = logged.app.client.get(f"{base}/b.bin")
    assert (whole.content, whole.headers["content-length"]) == (b"\0" * 300_000, "300000")
    named = logged.app.client.get(f'{base}/naïve "q".txt')
    assert named.text == "text"
    assert "filename*=UTF-8''na%C3%AFve%20%22q%22.txt" in named.headers["content-disposition"]
    for name in ("link", "fifo", "below", "..%2fstdout.log", "%2e%2e", "none", "a%00b"):
        refused = logged.app.client.get(f"{base}/{name}")
        assert refused.status_code in (404, 400), name


@pytest.mark.parametrize("role", ["worker", "submit"])
def test_only_readers_read_logs(app: App, role: str) -> None:
    job_id = app.queue.add("shell", {"argv": ["true"]}).id
    for path in ("logs", "logs/stdout", "logs/stdout/search?text=x", "logs/stdout/download",
                 "artifacts", "artifacts/x"):  # fmt: skip
        assert app.call("GET", f"/api/v1/jobs/{job_id}/{path}", role).status_code == 403


def test_what_another_host_shipped_is_read(server: WebServer, client: httpx2.Client) -> None:
    queue = server.queue
    if not queue.ships_logs:
        pytest.skip("files are seen by all")
    job_id = queue.add("shell", {"argv": ["true"]}).id
    claim = queue.claim(owner="elsewhere")
    assert claim is not None
    backend_of(queue).started([Started(claim.key, 1, 1, LogOffsets())])
    chunk = LogChunk(job_id, 1, STDOUT, 0, b"one\ntwo\n")
    backend_of(queue).logs.ship([chunk], max_bytes=1 << 16, ttl=timedelta(hours=1))
    base = f"/api/v1/jobs/{job_id}"
    (file,) = client.get(f"{base}/logs").json()["files"]
    assert (file["here"], file["growing"], file["end"]) == (False, True, 8)
    line = client.get(f"{base}/logs/stdout", params={"line": 2})
    assert (line.content, line.headers["jobq-from"]) == (b"two\n", "4")
    assert client.get(f"{base}/logs/stdout", params={"from": 4, "attempt": 1}).content == b"two\n"
    found = client.get(f"{base}/logs/stdout/search", params={"text": "two"}).json()
    assert found["hits"] == [{"offset": 4, "line": 2, "text": "two"}]
    assert client.get(f"{base}/logs/stdout/download").content == b"one\ntwo\n"
    assert client.get(f"{base}/artifacts").json() == {"artifacts": [], "here": False}


def test_a_large_log_is_read_in_pieces_quickly(
    make_app: Callable[..., App], monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = Logged(make_app())
    logged.write(b"begin\n")
    path = logged.queue.logs.path(logged.id) / STDOUT
    os.truncate(path, 1 << 30)  # sparse
    logged.write(b"\nend\n")
    assert logged.get("/stdout", tail=1).content == b"end\n"
    middle = logged.get("/stdout", **{"from": 1 << 29, "limit": 100})
    assert headers_of(middle)["next"] == (1 << 29) + 100
