import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from jobq import (
    Job,
    JobQueue,
    JobStatus,
    NotFound,
    UsageError,
)
from jobq.backends.sqlite.backend import SqliteBackend
from jobq.models import SupervisorInfo
from jobq.queue import backend_of
from tests.support.queues import NOON, add, finish, ids

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
