"""The contract of a `JobQueue` with programs that run jobs themselves, on every backend."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobq import Claim, JobQueue, JobStatus, NotFound, UsageError
from jobq.backends.base import Backend
from jobq.config.settings import Settings
from jobq.models import Outcome
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
