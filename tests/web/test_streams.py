"""Event streams in this process: what is refused, what is read, and what is kept."""

import asyncio
import os
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest

from jobq import JobQueue
from jobq.backends.lists import EndedJob, Position
from jobq.clock import utcnow
from jobq.logs.directory import STDOUT
from jobq.models import JobStatus
from jobq.queue import backend_of
from jobq.scheduling.schedules import Schedules
from jobq.web import app as application
from jobq.web import changes, ended, maintenance, streams
from jobq.web.feeds import SharedReads
from jobq.web.follow import whole_characters
from jobq.web.frames import format_id
from jobq.web.states import Whole
from tests.support.event_stream import PATH, LocalStream
from tests.support.web_server import SETTINGS
from tests.web.conftest import App

TRUE = {"argv": ["true"]}


@pytest.mark.parametrize(
    ("topic", "message"),
    [
        ("", "no such topic: known are counts"),
        ("count", "no such topic"),
        ("ids:1-201", "more than 200 ids"),
        ("ids:1 queue:x", "give ids and ranges"),
        ("job/0", "is not a job id"),
        ("job/9007199254740992", "is not a job id"),
        ("job/../1", "is not a number"),
        ("head:state:failed", "give the id above which to count"),
        ("head:state:nope@1", "nope"),
        ("ended:nope:1", "no such condition"),
        ("log/1/etc", "give log/ID/stdout"),
        ("log/1/stdout@-1", "is not a number"),
        ("log/1/stdout@99999999999999999", "is not a number"),
    ],
)
def test_a_wrong_topic_is_named(app: App, topic: str, message: str) -> None:
    answer = app.call("GET", PATH, "read", params=[("watch", "counts"), ("watch", topic)])
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["pointer"] == "query:watch.1"
    assert message in error["message"]


def test_requests_that_are_refused_open_nothing(app: App) -> None:
    for query in ("", "watch=counts&other=1", "&".join(["watch=counts"] * 17)):
        assert app.call("GET", f"{PATH}?{query}", "read").status_code == 422
    for wrong in ("%", "e30x", "A" * 5000, "W10", format_id({}).decode() + "é"):
        headers = {"Last-Event-ID": wrong.encode()}
        answer = app.call("GET", f"{PATH}?watch=ended:", "read", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "event_id_invalid")
    feed = sha256(b"ended:").hexdigest()[:8]
    positions: tuple[Any, ...] = (1, [1], ["a", 1], [1 << 60, 1], [1, -1], {}, [1, 1, 1])
    for position in positions:
        headers = {"Last-Event-ID": format_id({feed: position})}
        answer = app.call("GET", f"{PATH}?watch=ended:", "read", headers=headers)
        assert answer.status_code == 400
    assert app.call("POST", f"{PATH}?watch=counts", "read", json={}).status_code == 405
    assert app.server.streams.count == 0


def test_head_has_the_headers_of_a_stream(app: App) -> None:
    answer = app.call("HEAD", f"{PATH}?watch=counts", "read")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert app.call("HEAD", f"{PATH}?watch=nope", "read").status_code == 422
    assert app.server.streams.count == 0


def test_there_is_a_limit_of_streams(make_app: Callable[..., App]) -> None:
    app = make_app(f"{SETTINGS}max_streams = 1\n")
    with LocalStream(app, app.token("read"), "counts") as stream:
        stream.until("counts")
        answer = app.call("GET", f"{PATH}?watch=counts", "read")
        assert (answer.status_code, answer.json()["code"]) == (503, "no_room")
    with LocalStream(app, app.token("read"), "counts") as stream:
        stream.until("counts")


@pytest.mark.parametrize("name", ["queues", "workers", "schedules", "dead"])
def test_a_document_is_what_its_route_answers(app: App, name: str) -> None:
    app.queue.add("shell", TRUE)
    Schedules(app.queue).add("nightly", "0 3 * * *", {"type": "shell", "args": TRUE})
    with LocalStream(app, app.token("read"), name) as stream:
        assert stream.until(name).data == app.call("GET", f"/api/v1/{name}", "read").json()


def test_a_new_job_is_noticed_without_a_look_at_the_clock(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "POLL_INTERVAL_S", 60.0)
    with LocalStream(app, app.token("read"), "counts") as stream:
        stream.until("counts")
        app.queue.add("shell", TRUE)
        stream.until("counts", lambda data: data["counts"]["pending"] == 1)


def test_statistics_are_sent_again_once_an_end_was_counted(
    make_app: Callable[..., App], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (application, maintenance):
        monkeypatch.setattr(module, "COUNT_INTERVAL_S", 0.3)
    app = make_app()
    with LocalStream(app, app.token("read"), "stats") as stream:
        stream.until("stats")
        app.queue.add("shell", TRUE)
        claim = app.queue.claim(owner="w")
        assert claim is not None
        app.queue.complete(claim)
        stream.until("stats", lambda data: data["ended"]["completed"] == 1)


def test_a_part_of_the_server_may_add_a_topic(app: App) -> None:
    numbers = iter(range(100))
    app.server.streams.changes.add(Whole("news", lambda _: {"number": next(numbers)}))
    with LocalStream(app, app.token("read"), "news") as stream:
        assert stream.until("news").data == {"number": 0}
        app.queue.add("shell", TRUE)
        assert stream.until("news").data == {"number": 1}


def test_an_expired_token_ends_its_stream(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalStream(app, app.token("read"), "counts") as stream:
        stream.until("counts")
        app.ping()
        monkeypatch.setattr(streams, "utcnow", lambda: utcnow() + timedelta(hours=1))
        app.ping()
        assert stream.until("bye").data["reason"] == "token"
        assert stream.parser.comments == ["ping"]


def noting(calls: list[str], call: Callable[[], Any]) -> Callable[[], Any]:
    def noted() -> Any:
        calls.append("x")
        return call()

    return noted


def test_nothing_is_read_while_nobody_watches_or_nothing_changes(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    read: list[str] = []
    counter, counts = app.queue.change_counter, app.queue.counts_by_queue
    monkeypatch.setattr(app.queue, "change_counter", noting(asked, counter))
    monkeypatch.setattr(app.queue, "counts_by_queue", noting(read, counts))
    with LocalStream(app, app.token("read"), "counts") as first:
        first.until("counts")
        with LocalStream(app, app.token("read"), "counts") as second:
            second.until("counts")  # as it was read for the first one
            before = len(asked)
            assert len(read) == 1
            portal = app.client.portal
            assert portal is not None
            portal.call(asyncio.sleep, 0.6)
            assert 1 <= len(asked) - before <= 4
            assert len(read) == 1
    portal.call(asyncio.sleep, 0.3)
    before = len(asked)
    portal.call(asyncio.sleep, 0.4)
    assert len(asked) == before
    assert app.server.streams.changes._watchers == {}


def test_more_ids_than_a_look_reads_are_read_by_the_next(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobq.web.changes.MAX_ITEMS_READ", 2)
    with LocalStream(app, app.token("read"), "ids:1-5") as stream:
        assert {stream.until("gone").data["id"] for _ in range(5)} == {1, 2, 3, 4, 5}


# -- ended jobs ------------------------------------------------------------------------------


def test_a_job_recorded_late_is_sent_though_others_ended_after_it(app: App) -> None:
    first, second = (app.queue.add("shell", TRUE, delay="1h").id for _ in range(2))
    with LocalStream(app, app.token("read"), "ended:") as stream:
        stream.until("hello")
        app.queue.cancel(first)
        assert stream.until("ended").data["id"] == first
        backend = backend_of(app.queue)
        backend.cancel([second], None, utcnow() - timedelta(seconds=20))
        assert stream.until("ended").data["id"] == second


def test_a_stream_that_resumes_joins_those_that_are_there(app: App) -> None:
    def end_one() -> int:
        job = app.queue.add("shell", TRUE, delay="1h")
        app.queue.cancel(job.id)
        return job.id

    with LocalStream(app, app.token("read"), "ended:") as first:
        last_id = first.until("hello").id
        missed = end_one()
        first.until("ended")
        with LocalStream(app, app.token("read"), "ended:", last_id=last_id) as second:
            assert second.until("ended").data["id"] == missed
            for _ in range(3):
                job_id = end_one()
                assert [each.until("ended").data["id"] for each in (first, second)] == [job_id] * 2


def test_a_place_keeps_what_ended_at_the_same_moment_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ended, "MAX_OVERLAP_JOBS", 2)
    now = utcnow()

    def end(job_id: int, seconds: float) -> EndedJob:
        at = now + timedelta(seconds=seconds)
        return EndedJob(job_id, at, JobStatus.FAILED, "shell", "default", None, None)

    place = ended.Place(Position(0, now), ())
    place = place.after([end(1, 0), end(2, 1), end(3, 1), end(4, 1)])
    assert [each.id for each in place.ends] == [2, 3, 4]
    assert place.start == Position(0, now + timedelta(seconds=1))
    place = place.after([end(5, 100)])
    assert [each.id for each in place.ends] == [5]


# -- logs ------------------------------------------------------------------------------------


@pytest.fixture
def running(app: App) -> int:
    job = app.queue.add("shell", TRUE)
    assert app.queue.claim(owner="writer")
    return job.id


def write(queue: JobQueue, job_id: int, data: bytes) -> None:
    with queue.logs.create(queue.get(job_id)) as log:
        descriptor = log.append(STDOUT)
        os.write(descriptor, data)
        os.close(descriptor)


def test_a_character_waits_until_it_is_whole(app: App, running: int) -> None:
    with LocalStream(app, app.token("read"), f"log/{running}/stdout") as stream:
        stream.until("hello")
        write(app.queue, running, b"a\xe2\x82")
        assert stream.until("log").data["text"] == "a"
        write(app.queue, running, b"\xac!")
        assert stream.until("log").data == {
            "topic": f"log/{running}/stdout", "from": 1, "to": 5, "text": "€!",
        }  # fmt: skip


def test_a_log_that_was_truncated_begins_anew(app: App, running: int) -> None:
    topic = f"log/{running}/stdout"
    with LocalStream(app, app.token("read"), topic) as stream:
        write(app.queue, running, b"before\n")
        stream.until("log")
        os.truncate(app.queue.logs.path(running) / STDOUT, 0)
        write(app.queue, running, b"new\n")
        assert stream.until("reset").data == {"topic": topic, "from": 0, "reason": "trimmed"}
        assert stream.until("log").data["text"] == "new\n"


def test_what_was_dropped_from_a_log_is_told(app: App, running: int) -> None:
    from jobq.logs.truncation import trim

    write(app.queue, running, b"".join(b"line %06d\n" % number for number in range(20_000)))
    with app.queue.logs.create(app.queue.get(running)) as log:
        trim(log, 100_000, utcnow())
        gap = log.gap(STDOUT)
    assert gap is not None
    topic = f"log/{running}/stdout"
    with LocalStream(app, app.token("read"), topic) as stream:
        parts = [stream.until("log").data]
        while parts[-1]["to"] < 12 * 20_000:
            parts.append(stream.until("log").data)
    marker = next(part for part in parts if part["from"] == gap.start)
    assert (marker["to"], "bytes were dropped here" in marker["text"]) == (gap.end, True)
    with LocalStream(app, app.token("read"), f"{topic}@{gap.start + 5}") as stream:
        assert stream.until("reset").data["from"] == gap.end
        assert stream.until("log").data["from"] == gap.end


def test_the_log_of_a_deleted_job_ends(app: App, running: int) -> None:
    topic = f"log/{running + 1}/stdout@5"
    with LocalStream(app, app.token("read"), topic) as stream:
        assert stream.until("reset").data["reason"] == "pruned"
        assert stream.until("end").data["reason"] == "deleted"


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (b"abc", 3), (b"", 0), (b"\xc3", 0), (b"a\xc3", 1), (b"a\xc3\xa9", 3), (b"\xe2\x82", 0),
        (b"a\xf0\x9f\xa6", 1), (b"\xf0\x9f\xa6\x86", 4), (b"\x80\x80\x80\x80", 4), (b"\xff", 0),
    ],
)  # fmt: skip
def test_whole_characters(data: bytes, whole: int) -> None:
    assert len(whole_characters(data)) == whole


def test_reads_are_shared_by_those_who_have_come_as_far() -> None:
    calls: list[int] = []

    async def read(place: int) -> int:
        calls.append(place)
        await asyncio.sleep(0)
        if place < 0:
            raise ValueError("no place")
        return place + 1

    async def run() -> list[Any]:
        reads = SharedReads(read)
        found: list[Any] = await asyncio.gather(*(reads.get(7) for _ in range(5)))
        reads.forget()
        found.append(await reads.get(7))
        for _ in range(2):
            with pytest.raises(ValueError, match="no place"):
                await reads.get(-1)
        return found

    assert asyncio.run(run()) == [8] * 6
    assert calls == [7, 7, -1, -1]
