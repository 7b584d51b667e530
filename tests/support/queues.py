"""Jobs added, ended and named in one word each."""

from datetime import UTC, datetime
from typing import Any

from jobq import Job, JobQueue, JobStatus

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TRUE = {"argv": ["true"]}


def add(queue: JobQueue, /, **options: Any) -> Job:
    """Add a command that succeeds."""
    return queue.add("shell", TRUE, **options)


def finish(queue: JobQueue, job: Job, status: JobStatus = JobStatus.COMPLETED) -> Job:
    """End a job, which must be the next one, and return it as it ended."""
    if status is JobStatus.CANCELLED:
        return queue.cancel(job.id)
    claim = queue.claim(owner="me")
    assert claim is not None
    assert claim.job.id == job.id
    if status is JobStatus.COMPLETED:
        queue.complete(claim)
    else:
        queue.fail(claim, "broke", retry=False)
    return queue.get(job.id)


def ids(jobs: list[Job]) -> list[int]:
    """Return the ids of jobs."""
    return [job.id for job in jobs]
