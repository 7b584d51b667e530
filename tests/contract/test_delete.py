"""The contract: finding and deleting finished jobs, and upkeep."""

from datetime import timedelta

import pytest

from jobq.errors import NotFound
from jobq.models import FINISHED, UNFINISHED, JobStatus
from tests.contract.driver import Jobs, after, new_job


def test_finished_jobs_are_deleted_with_their_history(jobs: Jobs) -> None:
    finished = [jobs.put(status) for status in sorted(FINISHED)]
    unfinished = [jobs.put(status) for status in sorted(UNFINISHED)]
    deleted = jobs.backend.delete([*finished, *unfinished, 10**6])
    assert sorted(deleted) == finished
    assert set(jobs.backend.get([*finished, *unfinished])) == set(unfinished)
    assert [jobs.backend.attempts(job_id) for job_id in finished] == [[], [], []]
    assert jobs.backend.delete([]) == []


def test_ids_are_never_used_again(jobs: Jobs) -> None:
    last = jobs.put(JobStatus.CANCELLED)
    jobs.backend.delete([last])
    jobs.reopen()
    assert jobs.add() > last


def test_a_new_job_does_not_inherit_what_a_deleted_one_had(jobs: Jobs) -> None:
    parent = jobs.put(JobStatus.COMPLETED)
    child = jobs.finish(jobs.add(parents=after(parent)), JobStatus.CANCELLED)
    jobs.backend.delete([child, parent])
    job = jobs.get(jobs.add())
    assert (job.parents, job.attempts) == ((), 0)
    with pytest.raises(NotFound):
        jobs.add(parents=after(parent))


def test_upkeep_changes_no_job(jobs: Jobs) -> None:
    job = jobs.get(jobs.add())
    jobs.backend.maintain()
    assert jobs.get(job.id) == job
    claim = jobs.start(job.id)
    jobs.backend.maintain()
    assert jobs.end(claim, JobStatus.PENDING)
    jobs.backend.maintain()
    assert jobs.claimed() == [job.id]


def test_jobs_that_ended_come_in_the_order_in_which_they_did(jobs: Jobs) -> None:
    ids = [jobs.add() for _ in range(6)]
    order = [ids[3], ids[0], ids[5], ids[1]]
    statuses = [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.COMPLETED]
    for job_id, status in zip(order, statuses, strict=True):
        jobs.later(1)
        jobs.finish(job_id, status)
    last = jobs.now
    found = jobs.backend.finished_before(last, limit=9)
    assert [(each.id, each.status) for each in found] == list(
        zip(order[:3], statuses[:3], strict=True)
    ), "those that ended at that time did not end before it"
    assert [each.at for each in found] == [last - timedelta(seconds=n) for n in (3, 2, 1)]
    first, *_ = jobs.backend.finished_before(last, limit=1)
    jobs.backend.delete([first.id])
    jobs.later(1)
    rest = jobs.backend.finished_before(jobs.now, after=first, limit=2)
    assert [each.id for each in rest] == order[1:3]
    assert [e.id for e in jobs.backend.finished_before(jobs.now, after=rest[-1], limit=9)] == [
        ids[1]
    ]


def test_of_many_that_ended_at_once_none_is_passed_over(jobs: Jobs) -> None:
    ids = jobs.insert_ids(*[new_job()] * 2500)
    jobs.backend.cancel(ids, None, jobs.now)
    jobs.later(1)
    seen: list[int] = []
    last = None
    while page := jobs.backend.finished_before(jobs.now, after=last, limit=1200):
        seen += [each.id for each in page]
        last = page[-1]
        assert len(seen) < 2 * len(ids)
    assert set(seen) == set(ids)
