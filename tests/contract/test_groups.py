"""The contract: verbs in groups take effect together."""

import pytest

from jobq.errors import NotFound
from jobq.models import JobFilter, JobStatus
from tests.contract.driver import Jobs, new_job


class Oops(Exception):
    pass


def there(jobs: Jobs) -> list[int]:
    return [job.id for job in jobs.backend.find(JobFilter(), limit=None)]


def test_the_verbs_of_a_group_take_effect_together(jobs: Jobs) -> None:
    watcher = jobs.backend
    jobs.reopen()
    with jobs.backend.group():
        job_id = jobs.add()
        jobs.end(jobs.start(job_id))
        assert jobs.status(job_id) is JobStatus.COMPLETED
        assert watcher.get([job_id]) == {}
    assert watcher.get([job_id])[job_id].status is JobStatus.COMPLETED


def test_a_group_that_fails_changes_nothing(jobs: Jobs) -> None:
    claim = jobs.start(jobs.add())
    before = there(jobs), jobs.get(claim.job.id), jobs.backend.queues()

    def fail() -> None:
        with jobs.backend.group():
            jobs.end(claim)
            jobs.add()
            jobs.limit("lane")
            raise Oops

    with pytest.raises(Oops):
        fail()
    assert (there(jobs), jobs.get(claim.job.id), jobs.backend.queues()) == before
    assert jobs.end(claim)


def test_a_failure_inside_that_is_caught_leaves_the_rest_of_the_group_intact(jobs: Jobs) -> None:
    with jobs.backend.group():
        first = jobs.add()
        try:
            with jobs.backend.group():
                lost = jobs.add()
                raise Oops  # noqa: TRY301 - it stands for any failure inside
        except Oops:
            pass
        with pytest.raises(NotFound):
            jobs.insert(new_job(), new_job(queue="nowhere"))
        assert there(jobs) == [first]
        last = jobs.add()
    assert there(jobs) == [first, last]
    assert lost == last  # it was never added, so its number was free


def test_a_group_inside_one_that_fails_changes_nothing(jobs: Jobs) -> None:
    def fail() -> None:
        with jobs.backend.group():
            with jobs.backend.group():
                jobs.add()
            raise Oops

    with pytest.raises(Oops):
        fail()
    assert there(jobs) == []
