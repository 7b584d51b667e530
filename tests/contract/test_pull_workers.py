"""The contract of a `JobQueue` with programs that run jobs themselves, on every backend."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from jobq import Claim, JobQueue, JobStatus, NotFound, UsageError
from jobq.backends.base import Backend
from jobq.config.settings import Settings
from jobq.models import Outcome
from jobq.queue import recovery_of
from tests.support.queues import add


@pytest.fixture
def queue(backend: Backend, tmp_path: Path) -> Iterator[JobQueue]:
    settings = Settings(
        path=None, database=tmp_path / "jobq.db", log_dir=tmp_path / "logs", concurrency=1
    )
    with JobQueue(settings, backend) as opened:
        yield opened


def claim(queue: JobQueue, owner: str = "me") -> Claim:
    found = queue.claim(owner=owner)
    assert found is not None
    return found


# -- by id -----------------------------------------------------------------------------------------


def test_an_attempt_is_reported_on_by_its_job_and_owner(queue: JobQueue) -> None:
    job = add(queue)
    held = claim(queue)
    assert queue.claimed(job.id, owner="me") == held
    assert queue.heartbeat(job.id, owner="me")
    assert queue.progress(job.id, 1, 2, owner="me")
    assert queue.complete(job.id, {"n": 1}, owner="me")
    done = queue.get(job.id)
    assert (done.status, done.result) == (JobStatus.COMPLETED, {"n": 1})
    assert queue.claimed(job.id, owner="me") is None


def test_it_fails_and_is_given_back_by_its_job_and_owner(queue: JobQueue) -> None:
    job = add(queue)
    claim(queue)
    assert queue.release(job.id, owner="me")
    claim(queue)
    assert queue.fail(job.id, "broke", retry=False, owner="me")
    assert [each.outcome for each in queue.attempts(job.id)] == [Outcome.RELEASED, Outcome.FAILED]
    assert queue.get(job.id).error == "broke"


def test_only_the_owner_of_the_last_attempt_is_heard(queue: JobQueue) -> None:
    job = add(queue)
    assert queue.release(claim(queue, "first"))
    claim(queue, "second")
    assert queue.claimed(job.id, owner="first") is None
    assert not queue.heartbeat(job.id, owner="first")
    assert not queue.progress(job.id, 1, owner="first")
    assert not queue.complete(job.id, owner="first")
    assert not queue.fail(job.id, "broke", owner="first")
    assert not queue.release(job.id, owner="first")
    assert queue.complete(job.id, owner="second")
    assert not queue.complete(job.id, owner="second")


def test_an_id_needs_an_owner_and_a_job(queue: JobQueue) -> None:
    job = add(queue)
    with pytest.raises(UsageError, match="give its owner"):
        queue.complete(job.id)
    with pytest.raises(NotFound, match="no job 99"):
        queue.complete(99, owner="me")
    assert not queue.complete(job.id, owner="me")  # it is pending


# -- one after the other ---------------------------------------------------------------------------


def test_jobs_are_taken_one_after_the_other(queue: JobQueue) -> None:
    made = [add(queue).id for _ in range(3)]
    taken = []
    for each in queue.claims(owner="me", wait=0.01):
        taken.append(each.job.id)
        assert queue.complete(each)
    assert taken == made
    assert queue.counts()[JobStatus.COMPLETED] == 3


def test_jobs_of_some_types_are_taken_from_one_queue(queue: JobQueue) -> None:
    queue.create_queue("other")
    add(queue)
    wanted = add(queue, queue="other")
    assert [c.job.id for c in queue.claims("other", owner="me", types=["shell"], wait=0)] == [
        wanted.id
    ]
    assert list(queue.claims(owner="me", types=["example"], wait=0)) == []


# -- time limits -----------------------------------------------------------------------------------


@pytest.fixture
def later(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let the clock of the backend be ahead by some seconds."""
    real = backend.now

    def ahead(seconds: float) -> None:
        monkeypatch.setattr(backend, "now", lambda: real() + timedelta(seconds=seconds))

    return ahead


def test_an_attempt_ends_at_its_time_limit_when_another_worker_comes(
    queue: JobQueue, backend: Backend, later: Callable[[float], None]
) -> None:
    job = add(queue, timeout=60, max_retries=0)
    held = queue.claim(owner="hangs", lease="1h")
    assert held is not None
    later(59)
    assert queue.heartbeat(held, lease="1h")
    later(61)
    assert JobQueue(queue.settings, backend).claim(owner="other") is None
    ended = queue.get(job.id)
    assert (ended.status, ended.error) == (JobStatus.FAILED, "timed out after 1m 00s")
    assert [each.outcome for each in queue.attempts(job.id)] == [Outcome.TIMED_OUT]
    assert not queue.complete(held)


def test_an_owner_learns_of_its_time_limit_where_nobody_else_comes(
    queue: JobQueue, later: Callable[[float], None]
) -> None:
    job, other = add(queue, timeout=60), add(queue, timeout=0)
    held, unlimited = claim(queue), claim(queue)
    later(61)
    assert not queue.heartbeat(held, lease="1h")
    assert queue.heartbeat(unlimited)
    assert queue.get(job.id).status is JobStatus.RETRYING
    assert queue.get(other.id).status is JobStatus.RUNNING


def test_one_that_was_to_be_cancelled_is_at_its_time_limit(
    queue: JobQueue, later: Callable[[float], None]
) -> None:
    job = add(queue, timeout=60)
    held = claim(queue)
    queue.cancel(job.id)
    later(61)
    assert not queue.heartbeat(held)
    assert queue.get(job.id).status is JobStatus.CANCELLED


def test_what_a_supervisor_runs_is_left_to_it(
    queue: JobQueue, later: Callable[[float], None]
) -> None:
    """It ends the process, too; and a job may have been claimed long before it was started."""
    job = add(queue, timeout=60)
    assert queue.claim(owner="host:1:0123abcd", lease="1h") is not None
    later(61)
    assert recovery_of(queue).end_overdue(queue.now()) == 0
    assert queue.get(job.id).status is JobStatus.RUNNING
