"""The contract: how jobs ended, and which pending jobs come before which."""

from datetime import timedelta

import pytest

from jobq.models import JobStatus, Outcome, Queue
from jobq.units import Rate
from tests.contract.driver import Jobs, new_job


def test_jobs_that_ended_are_told_with_what_they_took(jobs: Jobs) -> None:
    for status in (JobStatus.COMPLETED, JobStatus.FAILED):
        job_id = jobs.add()
        jobs.later(2)
        claim = jobs.start(job_id)
        jobs.later(5)
        assert jobs.end(claim, status)
    since = jobs.now - timedelta(minutes=1)
    failed, completed = jobs.backend.stats.ended(since, limit=9)
    assert (completed.type, completed.queue, completed.completed) == ("shell", "default", True)
    assert (completed.waited, completed.ran) == pytest.approx((2.0, 5.0))
    assert not failed.completed
    assert jobs.backend.stats.ended(since, limit=1) == [failed]


def test_how_many_ended_is_told_by_type_and_queue(jobs: Jobs) -> None:
    jobs.limit("fast")
    for status, fields in (
        (JobStatus.COMPLETED, {"type": "tile"}),
        (JobStatus.COMPLETED, {"type": "tile"}),
        (JobStatus.FAILED, {"type": "tile"}),
        (JobStatus.FAILED, {"queue": "fast"}),
        (JobStatus.CANCELLED, {}),
    ):
        jobs.finish(jobs.add(**fields), status)
    assert jobs.end(jobs.start(jobs.add()), JobStatus.CANCELLED)
    since = jobs.now - timedelta(seconds=1)
    expected = {("tile", "default"): (2, 1), ("shell", "fast"): (0, 1)}
    assert jobs.backend.stats.ended_counts(since) == expected
    assert jobs.backend.stats.ended_counts(jobs.now + timedelta(seconds=1)) == {}


def test_what_ended_before_or_has_not_is_not_told(jobs: Jobs) -> None:
    jobs.finish(jobs.add(), JobStatus.COMPLETED)
    jobs.later(60)
    jobs.start(jobs.add())
    jobs.backend.cancel([jobs.add()], None, jobs.now)
    assert jobs.backend.stats.ended(jobs.now - timedelta(seconds=30), limit=9) == []


def ahead(jobs: Jobs, job_id: int) -> int:
    return jobs.backend.stats.ahead(jobs.get(job_id), jobs.now)


def test_who_is_ahead_is_as_a_claim_chooses(jobs: Jobs) -> None:
    names = {"first": 9, "beside": 5, "behind": 0}
    jobs.backend.put_queues([Queue(name=n, priority=priority) for n, priority in names.items()])
    behind = [jobs.add(queue="behind", priority=priority) for priority in (9, 5)]
    low, normal = jobs.add(priority=1), jobs.add()
    beside, high = jobs.add(queue="beside"), jobs.add(priority=9)
    first = jobs.add(queue="first", priority=0)
    order = [first, high, normal, beside, low, *behind]
    assert [ahead(jobs, job_id) for job_id in order] == list(range(7))
    assert jobs.claimed() == order


@pytest.mark.parametrize(
    "limits", [{"paused": True}, {"max_concurrent": 1}, {"rate": Rate(1, 60.0)}], ids=str
)
def test_jobs_of_queues_that_give_none_are_not_ahead(jobs: Jobs, limits: dict[str, object]) -> None:
    jobs.backend.put_queues([Queue(name="lane", priority=9)])
    jobs.start(jobs.add(queue="lane"))
    jobs.limit("lane", priority=9, **limits)
    if "rate" in limits:
        jobs.start(jobs.add(queue="lane"))
    other = jobs.add(queue="lane")
    assert ahead(jobs, jobs.add()) == 0
    assert ahead(jobs, other) == 0


def test_when_a_rate_lets_the_next_job_start(jobs: Jobs) -> None:
    lane = Queue(name="lane", rate=Rate(2, 60.0))
    jobs.backend.put_queues([lane])
    began = jobs.now
    for _ in range(2):
        assert jobs.backend.stats.next_start(lane, jobs.now) is None
        jobs.start(jobs.add(queue="lane"))
        jobs.later(10)
    assert jobs.backend.stats.next_start(lane, jobs.now) == began + timedelta(seconds=60)
    assert jobs.backend.stats.next_start(lane, began - timedelta(seconds=1)) is None
    jobs.later(40)
    assert jobs.backend.stats.next_start(lane, jobs.now) is None
    assert jobs.backend.stats.next_start(Queue(name="default"), jobs.now) is None


def test_who_holds_a_unique_key(jobs: Jobs) -> None:
    assert jobs.backend.stats.key_holder("k") is None
    holder = jobs.add(unique_key="k")
    assert jobs.backend.stats.key_holder("k") == holder
    jobs.finish(holder, JobStatus.COMPLETED)
    assert jobs.backend.stats.key_holder("k") is None


def test_all_that_was_ever_done_is_counted(jobs: Jobs) -> None:
    done = [
        jobs.put(status) for status in (JobStatus.COMPLETED, JobStatus.COMPLETED, JobStatus.FAILED)
    ]
    jobs.insert(*[new_job(unique_key="k")] * 2)
    job_id = jobs.add()
    for outcome in (Outcome.RELEASED, Outcome.LOST):
        assert jobs.end(jobs.start(job_id), JobStatus.PENDING, outcome=outcome)
    jobs.finish(job_id, JobStatus.CANCELLED)
    jobs.backend.delete(done)
    assert jobs.backend.stats.totals() == {"added": 5, "completed": 2, "failed": 1, "recovered": 1}


def test_what_took_no_effect_is_not_counted(jobs: Jobs) -> None:
    claim = jobs.start(jobs.add())
    assert jobs.end(claim)
    assert not jobs.end(claim)
    assert not jobs.end(claim, JobStatus.FAILED)
    assert jobs.backend.stats.totals() == {"added": 1, "completed": 1, "failed": 0, "recovered": 0}


def test_a_job_that_was_retried_is_counted_at_each_end(jobs: Jobs) -> None:
    job_id = jobs.put(JobStatus.FAILED)
    jobs.backend.requeue([job_id], jobs.now)
    jobs.finish(job_id, JobStatus.COMPLETED)
    assert jobs.backend.stats.totals() == {"added": 1, "completed": 1, "failed": 1, "recovered": 0}
