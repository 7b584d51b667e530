import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from freezegun import freeze_time
from freezegun.api import FrozenDateTimeFactory

from jobq import (
    Claim,
    JobQueue,
    JobStatus,
    UsageError,
)
from jobq.backends.liveness import liveness_locks
from jobq.models import Outcome, Progress
from tests.support.project import wait_until
from tests.support.queues import NOON, add

Configure = Callable[[str], JobQueue]


def test_a_pull_worker_claims_renews_and_completes(
    queue: JobQueue, clock: FrozenDateTimeFactory
) -> None:
    job = add(queue)
    claim = queue.claim("default", owner="host:1", types=["shell"], lease=60)
    assert claim is not None
    assert (claim.job.id, claim.attempt) == (job.id, 1)
    assert queue.claim(owner="host:2") is None
    clock.tick(50)
    assert queue.heartbeat(claim)
    (attempt,) = queue.attempts(job.id)
    assert attempt.lease_until == NOON + timedelta(seconds=50 + 30)
    assert queue.progress(claim, 1, 2, "half")
    assert queue.complete(claim, result={"n": 1})
    done = queue.get(job.id)
    assert (done.status, done.result) == (JobStatus.COMPLETED, {"n": 1})
    assert done.progress == Progress(1, 2, "half")
    assert not queue.complete(claim)
    assert not queue.heartbeat(claim)
    assert not queue.progress(claim, 2)


@pytest.mark.usefixtures("clock")
def test_a_job_that_fails_is_retried_and_then_dead(configured: Configure) -> None:
    queue = configured("[retry]\nmax_retries = 1\njitter = 0\n")
    job = add(queue)
    claim = queue.claim(owner="me")
    assert claim is not None
    assert queue.fail(claim, "broke")
    waits = queue.get(job.id)
    assert (waits.status, waits.run_at) == (JobStatus.RETRYING, NOON + timedelta(seconds=10))
    assert (waits.failures, waits.error) == (1, "broke")
    assert queue.claim(owner="me") is None
    with freeze_time(NOON + timedelta(seconds=10)):
        claim = queue.claim(owner="me")
        assert claim is not None
        assert queue.fail(claim, "broke again")
    dead = queue.get(job.id)
    assert (dead.status, dead.error, dead.attempts) == (JobStatus.FAILED, "broke again", 2)


def test_a_failure_can_be_final(queue: JobQueue) -> None:
    add(queue)
    claim = queue.claim(owner="me")
    assert claim is not None
    assert queue.fail(claim, "no image", retry=False)
    assert not queue.fail(claim, "late")
    assert queue.get(claim.job.id).error == "no image"


def test_a_pull_worker_learns_that_its_job_is_to_stop(queue: JobQueue) -> None:
    add(queue)
    claim = queue.claim(owner="me")
    assert claim is not None
    queue.cancel(claim.job.id)
    assert not queue.heartbeat(claim)
    assert queue.fail(claim, "stopped")
    assert queue.get(claim.job.id).status is JobStatus.CANCELLED


def test_a_result_that_is_no_json_leaves_the_attempt_open(queue: JobQueue) -> None:
    add(queue)
    claim = queue.claim(owner="me")
    assert claim is not None
    for odd in (object(), float("nan"), {"a": {1, 2}}):
        with pytest.raises(UsageError, match="result: JSON can't hold it"):
            queue.complete(claim, result=odd)
    assert queue.complete(claim)


def test_a_claim_takes_what_another_worker_let_expire(
    queue: JobQueue, clock: FrozenDateTimeFactory
) -> None:
    """There is no supervisor that could give it back."""
    job = add(queue)
    lost = queue.claim(owner="first", lease=5)
    assert lost is not None
    assert queue.claim(owner="second") is None
    clock.tick(6)
    again = queue.claim(owner="second")
    assert again is not None
    assert (again.job.id, again.attempt) == (job.id, 2)
    assert not queue.complete(lost)
    assert queue.complete(again)


def test_a_claim_leaves_a_job_whose_lease_is_renewed(
    queue: JobQueue, clock: FrozenDateTimeFactory
) -> None:
    add(queue)
    held = queue.claim(owner="first", lease=5)
    assert held is not None
    for _ in range(3):
        clock.tick(4)
        assert queue.heartbeat(held, lease=5)
        assert queue.claim(owner="second") is None
    assert queue.complete(held)


def test_a_retry_frees_what_expired(queue: JobQueue, clock: FrozenDateTimeFactory) -> None:
    job, other = add(queue), add(queue)
    assert queue.claim(owner="gone", lease=5) is not None
    queue.cancel(other.id)
    clock.tick(6)
    queue.retry(other.id)
    assert queue.get(job.id).status is JobStatus.PENDING


# -- several, waiting, giving back -----------------------------------------------------------------


def test_several_jobs_are_claimed_from_some_queues(queue: JobQueue) -> None:
    for name in ("a", "b", "c"):
        queue.create_queue(name)
    made = [add(queue, queue=name).id for name in ("a", "b", "c", "a")]
    claims = queue.claim_many(["a", "b"], owner="me", limit=2)
    assert [claim.job.id for claim in claims] == made[:2]
    assert [claim.job.id for claim in queue.claim_many(owner="me", limit=9)] == made[2:]
    assert queue.claim_many(owner="me", limit=9) == []


def test_a_job_is_given_back_as_if_it_had_not_been_tried(queue: JobQueue) -> None:
    job = add(queue, max_retries=0)
    claim = queue.claim(owner="me")
    assert claim is not None
    assert queue.release(claim)
    assert not queue.release(claim)
    back = queue.get(job.id)
    assert (back.status, back.failures, back.crashes) == (JobStatus.PENDING, 0, 0)
    (attempt,) = queue.attempts(job.id)
    assert (attempt.outcome, attempt.error) == (Outcome.RELEASED, "given back by its worker")
    again = queue.claim(owner="other")
    assert again is not None
    assert again.attempt == 2


def test_a_job_that_was_to_be_cancelled_is_when_it_is_given_back(queue: JobQueue) -> None:
    job = add(queue)
    claim = queue.claim(owner="me")
    assert claim is not None
    queue.cancel(job.id)
    assert queue.release(claim)
    assert queue.get(job.id).status is JobStatus.CANCELLED


def test_waiting_for_a_job_ends_when_one_is_added(queue: JobQueue) -> None:
    claims: list[Claim | None] = []
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(queue.claim, owner="me", wait=60)
        wait_until(lambda: bool(_listening(queue)))
        job = add(queue)
        claims.append(waiting.result(timeout=30))
    assert time.monotonic() - began < 30
    assert claims[0] is not None
    assert claims[0].job.id == job.id
    assert queue.heartbeat(claims[0])
    assert queue.claim(owner="other") is None  # the owner is not taken for dead
    assert not _listening(queue)


def test_waiting_for_a_job_ends_when_one_becomes_due(queue: JobQueue) -> None:
    job = add(queue, delay=0.05)
    claim = queue.claim(owner="me", wait=60)
    assert claim is not None
    assert claim.job.id == job.id


def test_waiting_for_a_job_ends_without_one(queue: JobQueue) -> None:
    assert queue.claim(owner="me", wait=0.05) is None
    assert queue.claim_many(owner="me", limit=3, wait="50ms") == []
    assert not _listening(queue)


def _listening(queue: JobQueue) -> set[str]:
    return liveness_locks(queue.settings.database).announced()
