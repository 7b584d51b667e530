"""Totals that a Redis server counts."""

from jobq.models import JobStatus, Outcome
from tests.contract.driver import Jobs, new_job


def test_what_was_ever_done_is_counted(jobs: Jobs) -> None:
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
