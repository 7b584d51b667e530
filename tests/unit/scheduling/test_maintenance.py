"""A supervisor's maintenance; schedules, retention and recovery have tests of their own."""

from datetime import timedelta

import pytest

from jobq import JobQueue, JobStatus, triage
from jobq.backends.messages import ClaimRequest
from jobq.clock import utcnow
from jobq.models import AttemptResult, Outcome
from jobq.queue import backend_of
from jobq.scheduling import maintenance
from jobq.scheduling.maintenance import UPKEEP_INTERVAL, Scheduler
from jobq.scheduling.schedules import Schedules

JOB = {"args": {"argv": ["true"]}}


def test_dependents_are_settled_in_steps(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "SETTLE_LIMIT_S", 0.0)
    parent = queue.add("shell", JOB["args"])
    queue.add_many([{**JOB, "after": [parent.id]} for _ in range(1200)])
    claim = queue.claim(owner="test")
    assert claim is not None
    ended = AttemptResult(
        key=claim.key,
        outcome=Outcome.COMPLETED,
        status=JobStatus.COMPLETED,
        failures=0,
        crashes=0,
    )
    assert backend_of(queue).end([ended], utcnow()) == [True]
    scheduler = Scheduler(queue, "here:1:abc")
    assert scheduler.settle(utcnow())
    assert 0 < queue.counts()[JobStatus.BLOCKED] < 1200
    while scheduler.settle(utcnow()):
        pass
    assert queue.counts()[JobStatus.BLOCKED] == 0


def test_failures_of_older_versions_are_signed_batch_by_batch(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triage, "SIGN_BATCH_SIZE", 2)
    for number in range(5):
        queue.add("shell", JOB["args"], max_retries=0)
        claim = queue.claim(owner="test")
        assert claim is not None
        failed = AttemptResult(
            key=claim.key, outcome=Outcome.FAILED, status=JobStatus.FAILED, failures=1, crashes=0,
            error=f"boom {number}",
        )  # fmt: skip
        backend_of(queue).end([failed], utcnow())
    scheduler = Scheduler(queue, "here:1:abc")
    left = []
    for _ in range(3):
        scheduler.tick(utcnow(), ())
        left.append(len(backend_of(queue).failures.unsigned(limit=9)))
    assert left == [3, 1, 0]
    (group,) = queue.failures()
    assert (group.size, group.error) == (5, "boom #")


def test_one_that_does_not_fire_waits_for_no_schedule(queue: JobQueue) -> None:
    Schedules(queue).add("s", "@hourly", JOB, tz="UTC")
    now = utcnow()
    assert Scheduler(queue, "here:1:abc").next_tick() is not None
    silent = Scheduler(queue, "here:1:abc", fires=False)
    assert silent.next_tick() is None
    assert not silent.fire_schedules(now + timedelta(hours=2))
    assert queue.find() == []


def test_upkeep_is_done_once_an_interval_and_when_the_clock_is_set_back(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []
    monkeypatch.setattr(backend_of(queue), "maintain", lambda: done.append(1))
    scheduler, now = Scheduler(queue, "here:1:abc"), utcnow()
    for moment, times in (
        (now, 1),
        (now + UPKEEP_INTERVAL / 2, 1),
        (now + UPKEEP_INTERVAL, 2),
        (now - UPKEEP_INTERVAL, 3),
    ):
        scheduler.tick(moment, own=())
        assert len(done) == times


@pytest.mark.parametrize("restarted", [False, True])
def test_a_retry_does_not_wait_for_a_clock_that_was_ahead(queue: JobQueue, restarted: bool) -> None:
    backend, now = backend_of(queue), utcnow()
    ahead = now + timedelta(hours=1)
    job = queue.add("shell", {"argv": ["true"]})
    scheduler = Scheduler(queue, "test")
    scheduler.tick(ahead, ())
    request = ClaimRequest(owner="test", limit=1, lease=timedelta(minutes=1))
    (claim,) = backend.claim(request, ahead)
    ending = AttemptResult(
        key=claim.key, outcome=Outcome.FAILED, status=JobStatus.RETRYING, failures=1, crashes=0,
        run_at=ahead + timedelta(seconds=10),
    )  # fmt: skip
    assert backend.end([ending], ahead) == [True]
    (Scheduler(queue, "test") if restarted else scheduler).tick(now, ())
    run_at = queue.get(job.id).run_at
    assert run_at is not None
    assert abs(run_at - now - timedelta(seconds=10)) < timedelta(milliseconds=1)
