"""The contract: jobs that wait for one of several parents."""

import pytest

from jobq.models import Condition, JobStatus, Retried, RetryEffect, impossible_because
from tests.contract.driver import Jobs, after


def requeue(jobs: Jobs, *ids: int) -> list[Retried]:
    return jobs.backend.requeue(ids, jobs.now)


ONE = Condition.ONE_SUCCEEDED


def test_the_first_of_several_alternatives_releases(jobs: Jobs) -> None:
    first, second, third = jobs.add(), jobs.add(), jobs.add()
    child = jobs.add(parents=after(first, second, third, condition=ONE))
    assert jobs.get(child).unmet_parents == 3
    jobs.finish(first, JobStatus.FAILED)
    assert jobs.status(child) is JobStatus.BLOCKED
    jobs.finish(second, JobStatus.COMPLETED)
    assert (jobs.status(child), jobs.get(child).unmet_parents) == (JobStatus.PENDING, 0)
    jobs.finish(third, JobStatus.FAILED)
    assert jobs.status(child) is JobStatus.PENDING


def test_alternatives_that_all_end_otherwise_cancel(jobs: Jobs) -> None:
    first, second = jobs.add(), jobs.add()
    child = jobs.add(parents=after(first, second, condition=ONE))
    jobs.finish(second, JobStatus.FAILED)
    jobs.backend.cancel([first], None, jobs.now)
    job = jobs.get(child)
    assert (job.status, job.cancelled_by) == (JobStatus.CANCELLED, first)
    assert job.reason == impossible_because(first, JobStatus.CANCELLED, ONE)
    assert requeue(jobs, child) == [Retried(child, RetryEffect.IMPOSSIBLE, first)]


@pytest.mark.parametrize("revived", [0, 1])
def test_the_retry_of_any_alternative_revives(jobs: Jobs, revived: int) -> None:
    parents = jobs.add(), jobs.add()
    child = jobs.add(parents=after(*parents, condition=ONE))
    for parent in parents:
        jobs.finish(parent, JobStatus.FAILED)
    requeue(jobs, parents[revived])
    assert jobs.status(child) is JobStatus.BLOCKED
    jobs.finish(parents[revived], JobStatus.COMPLETED)
    assert jobs.status(child) is JobStatus.PENDING


def test_alternatives_go_with_other_parents(jobs: Jobs) -> None:
    first, second, needed = jobs.add(), jobs.add(), jobs.add()
    child = jobs.add(parents=after(first, second, condition=ONE) + after(needed))
    jobs.finish(first, JobStatus.COMPLETED)
    assert (jobs.status(child), jobs.get(child).unmet_parents) == (JobStatus.BLOCKED, 1)
    jobs.finish(second, JobStatus.FAILED)
    assert jobs.status(child) is JobStatus.BLOCKED
    jobs.finish(needed, JobStatus.COMPLETED)
    assert jobs.status(child) is JobStatus.PENDING


def test_alternatives_that_have_ended_before(jobs: Jobs) -> None:
    failed, done, open_ = jobs.put(JobStatus.FAILED), jobs.put(JobStatus.COMPLETED), jobs.add()
    children = [
        jobs.add(parents=after(*parents, condition=ONE))
        for parents in ((failed, done), (failed, open_), (failed,))
    ]
    assert jobs.statuses(*children) == [
        JobStatus.PENDING, JobStatus.BLOCKED, JobStatus.CANCELLED,
    ]  # fmt: skip
    assert jobs.get(children[0]).unmet_parents == 0


def test_a_deleted_alternative_does_not_count(jobs: Jobs) -> None:
    gone, other = jobs.add(), jobs.add()
    child = jobs.add(parents=after(gone, other, condition=ONE))
    jobs.finish(gone, JobStatus.FAILED)
    assert jobs.backend.delete([gone]) == [gone]
    assert jobs.status(child) is JobStatus.BLOCKED
    jobs.finish(other, JobStatus.FAILED)
    assert jobs.status(child) is JobStatus.CANCELLED
    requeue(jobs, other)
    assert jobs.status(child) is JobStatus.BLOCKED
