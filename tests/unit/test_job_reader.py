import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from jobq import (
    Job,
    JobFilter,
    JobQueue,
    JobSpec,
    JobStatus,
    NotFound,
    UsageError,
    parse_query,
)
from jobq.backends.sqlite.backend import SqliteBackend
from jobq.models import SupervisorInfo
from jobq.queue import backend_of
from tests.support.queues import NOON, TRUE, add, finish, ids

Configure = Callable[[str], JobQueue]


# -- reading ---------------------------------------------------------------------------------------


def test_jobs_are_found_by_id_status_tag_and_time(queue: JobQueue) -> None:
    first, second = add(queue, tags={"k": "v"}), add(queue)
    finish(queue, first)
    assert queue.get_many([second.id, first.id])[0] == second
    assert ids(queue.find(status="completed")) == [first.id]
    assert ids(queue.find(status=["completed", JobStatus.PENDING])) == [first.id, second.id]
    assert ids(queue.find(tags={"k": "v"})) == [first.id]
    assert ids(queue.find(newest=True, limit=1)) == [second.id]
    assert queue.counts() == {
        **dict.fromkeys(JobStatus, 0),
        JobStatus.COMPLETED: 1,
        JobStatus.PENDING: 1,
    }


def test_what_is_not_there_is_not_found(queue: JobQueue) -> None:
    job = add(queue)
    for missing in (41, -1, 2**70):
        with pytest.raises(NotFound, match=str(missing)):
            queue.get(missing)
        with pytest.raises(NotFound):
            queue.get_many([job.id, missing])
        with pytest.raises(NotFound):
            queue.cancel(missing)
        with pytest.raises(NotFound):
            queue.retry(missing)
        with pytest.raises(NotFound):
            queue.wait(missing, timeout=0)
    with pytest.raises(UsageError, match=r"'done'.*completed"):
        queue.find(status="done")


# -- waiting ---------------------------------------------------------------------------------------


def test_waiting_ends_when_the_last_job_has_ended(queue: JobQueue) -> None:
    first, second = add(queue), add(queue)
    finish(queue, first)
    waited: list[Job] = []
    thread = threading.Thread(
        target=lambda: waited.extend(queue.wait_all([second.id, first.id], timeout=20))
    )
    thread.start()
    finish(queue, second, JobStatus.FAILED)
    thread.join(20)
    assert [(job.id, job.status) for job in waited] == [
        (second.id, JobStatus.FAILED),
        (first.id, JobStatus.COMPLETED),
    ]


def test_waiting_sees_what_another_process_does(queue: JobQueue, project: Path) -> None:
    job = add(queue)
    with JobQueue.open(project / "jobq.toml") as other:
        timer = threading.Timer(0.05, finish, (other, job))
        timer.start()
        assert queue.wait(job.id, timeout="20s").status is JobStatus.COMPLETED
        timer.join()


def test_waiting_in_vain_times_out_and_names_the_jobs(queue: JobQueue) -> None:
    done, pending = add(queue), add(queue)
    finish(queue, done)
    with pytest.raises(TimeoutError, match=f"not ended in time: {pending.id}$"):
        queue.wait_all([done.id, pending.id], timeout=0)
    assert queue.wait(done.id, timeout=0).id == done.id


def test_waiting_ends_when_another_job_has_the_number(
    queue: JobQueue, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was restored from an older copy gives numbers again."""
    job = add(queue)
    looks = 0

    def change_counter() -> int:
        nonlocal looks
        looks += 1
        if looks == 2:
            with closing(sqlite3.connect(project / ".jobq" / "jobq.db")) as other, other:
                other.execute("UPDATE job_queue SET created_at = created_at + 0.001")
        return looks

    monkeypatch.setattr(queue, "change_counter", change_counter)
    with pytest.raises(NotFound, match=f"job {job.id} is gone, and another one has its number"):
        queue.wait(job.id, timeout=20)


# -- supervisors -----------------------------------------------------------------------------------


def test_dead_supervisors_are_not_shown(queue: JobQueue) -> None:
    assert isinstance(backend_of(queue), SqliteBackend)
    listener = backend_of(queue).supervisors.listen("one")
    backend_of(queue).supervisors.register(
        SupervisorInfo(
            id="one",
            host="here",
            boot_id="b",
            pid=1,
            slots=1,
            queues=None,
            types=(),
            started_at=NOON,
            heartbeat_at=NOON,
        )
    )
    assert [info.id for info in queue.supervisors()] == ["one"]
    listener.close()
    assert queue.supervisors() == []


# -- pages -----------------------------------------------------------------------------------------


def test_pages_follow_each_other(queue: JobQueue) -> None:
    made = [add(queue).id for _ in range(5)]
    first = queue.page(limit=3)
    assert ids(first.jobs) == made[:1:-1]
    second = queue.page(limit=3, after=first.last)
    assert (ids(second.jobs), second.complete) == (made[1::-1], True)
    assert ids(queue.page(status="pending", order="id", limit=2).jobs) == made[:2]
    assert ids(queue.page(JobFilter(after_id=made[3])).jobs) == made[4:]
    finish(queue, queue.get(made[0]))
    assert ids(queue.page(order="-finished").jobs) == made[:1]


def test_wrong_orders_and_statuses_are_refused(queue: JobQueue) -> None:
    with pytest.raises(UsageError, match=r"'name'.*-finished"):
        queue.page(order="name")
    with pytest.raises(UsageError, match="done"):
        queue.page(status="done")


def test_a_page_ends_when_its_time_is_over(queue: JobQueue) -> None:
    made = queue.insert(JobSpec(args=TRUE) for _ in range(350))
    wanted = parse_query("nowhere", NOON)
    part = queue.page(wanted, within=0)
    assert (part.jobs, part.complete, part.read) == ([], False, 250)
    rest = queue.page(wanted, after=part.last, within=60)
    assert (rest.jobs, rest.complete, rest.read) == ([], True, 100)
    assert queue.page(wanted, max_rows=7).read == 7
    assert queue.page(status="failed", within=0).complete
    assert len(made) == 350


def test_texts_are_found_in_pages_and_in_finding_alike(queue: JobQueue) -> None:
    made = [add(queue, name=f"clip {number}") for number in range(7)]
    add(queue, name="other")
    wanted = parse_query("CLIP", NOON)
    first = queue.page(wanted, limit=3)
    assert (ids(first.jobs), first.complete) == (ids(made)[:3:-1], False)
    second = queue.page(wanted, limit=9, after=first.last)
    assert (ids(second.jobs), second.complete) == (ids(made)[3::-1], True)
    assert queue.find(wanted) == made
    assert queue.find(wanted, limit=2, newest=True) == made[:4:-1]
    assert list(queue.each(wanted)) == made
    assert queue.find(wanted, after_id=made[5].id) == made[6:]
    for job in made:
        finish(queue, job)
    ended = queue.page(wanted, order="-finished", limit=2)
    assert ids(queue.page(wanted, order="-finished", after=ended.last).jobs) == ids(made)[4::-1]


def test_secrets_are_not_found(queue: JobQueue) -> None:
    job = queue.add("shell", {"argv": ["login", "--token", "abcdef123"], "env": {"A": "in env"}})
    for text in ("abcdef123", "abc", "args.argv:abcdef"):
        assert queue.find(parse_query(text, NOON)) == []
    assert queue.find(parse_query("login", NOON)) == [job]


def test_secrets_of_jobs_with_large_arguments_are_not_in_their_other_texts(queue: JobQueue) -> None:
    args = {"argv": ["echo", "x" * 20_000], "env": {"API_TOKEN": "hunter2hunter2"}}
    job = queue.add("shell", args, delay="1h")
    queue.cancel(job.id, "because of hunter2hunter2")
    (light,) = queue.page().jobs
    assert light.reason == "because of [redacted-by-jobq]"
    assert queue.page(parse_query("hunter2hunter2", NOON)).jobs == []
    assert len(queue.page(parse_query("because", NOON)).jobs) == 1


def test_totals_are_exact_or_unknown(queue: JobQueue) -> None:
    queue.create_queue("gpu")
    finish(queue, add(queue))
    for _ in range(2):
        add(queue, queue="gpu")
    pending = frozenset({JobStatus.PENDING})
    assert queue.total(JobFilter()) == 3
    assert queue.total(JobFilter(queue="gpu", statuses=pending)) == 2
    assert queue.total(JobFilter(queue="default", statuses=pending)) == 0
    assert queue.total(JobFilter(type="shell")) is None
    assert queue.total(parse_query("words", NOON)) is None
