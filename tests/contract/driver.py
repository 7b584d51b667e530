"""A backend with a clock, and shorthands for the tests of the contract."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from jobq.backends.base import Backend
from jobq.backends.messages import ClaimRequest
from jobq.models import (
    AttemptResult,
    Claim,
    Condition,
    Inserted,
    Job,
    JobStatus,
    NewJob,
    Outcome,
    ParentRef,
    Queue,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LEASE = timedelta(seconds=30)

OUTCOMES = {
    JobStatus.COMPLETED: Outcome.COMPLETED,
    JobStatus.FAILED: Outcome.FAILED,
    JobStatus.RETRYING: Outcome.FAILED,
    JobStatus.CANCELLED: Outcome.CANCELLED,
    JobStatus.PENDING: Outcome.RELEASED,
    JobStatus.SCHEDULED: Outcome.SNOOZED,
}
"""Outcomes of an attempt, by the status that its job takes."""


def new_job(**fields: Any) -> NewJob:
    """Return a job to insert; fields that are not given do not matter."""
    plain = NewJob(
        type="shell", args={}, queue="default", priority=5, max_retries=3, retry_base=10.0
    )
    return replace(plain, **fields)


def after(*ids: int, condition: Condition = Condition.SUCCEEDED) -> tuple[ParentRef, ...]:
    """Return parents by id."""
    return tuple(ParentRef(condition=condition, id=job_id) for job_id in ids)


def beside(*places: int, condition: Condition = Condition.SUCCEEDED) -> tuple[ParentRef, ...]:
    """Return parents by their place in the same insert."""
    return tuple(ParentRef(condition=condition, index=place) for place in places)


class Jobs:
    """The jobs of a backend, at a time that only moves on request."""

    def __init__(self, open_backend: Callable[[], Backend]) -> None:
        self._open = open_backend
        self.backend = open_backend()
        self.now = NOON

    def reopen(self) -> None:
        """Go on as a process that starts after this one died."""
        self.backend = self._open()

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def settle(self) -> None:
        while self.backend.settle_dependents(self.now):
            pass

    def insert(self, *jobs: NewJob) -> list[Inserted]:
        return self.backend.insert(jobs, self.now)

    def insert_ids(self, *jobs: NewJob) -> list[int]:
        return [inserted.id for inserted in self.insert(*jobs)]

    def add(self, **fields: Any) -> int:
        return self.insert_ids(new_job(**fields))[0]

    def get(self, job_id: int) -> Job:
        return self.backend.get([job_id])[job_id]

    def status(self, job_id: int) -> JobStatus:
        return self.get(job_id).status

    def statuses(self, *ids: int) -> list[JobStatus]:
        found = self.backend.get(ids)
        return [found[job_id].status for job_id in ids]

    def claim(self, limit: int = 1, *, owner: str = "one", **narrow: Any) -> list[Claim]:
        request = ClaimRequest(owner=owner, limit=limit, lease=LEASE, **narrow)
        return self.backend.claim(request, self.now)

    def unclaim(self, *claims: Claim) -> None:
        self.backend.unclaim(claims, self.now)

    def claimed(self, limit: int = 100, **narrow: Any) -> list[int]:
        return [claim.job.id for claim in self.claim(limit, **narrow)]

    def start(self, job_id: int, owner: str = "one") -> Claim:
        (claim,) = self.claim(owner=owner, ids=[job_id])
        return claim

    def ending(self, claim: Claim, status: JobStatus, **fields: Any) -> AttemptResult:
        if status in (JobStatus.RETRYING, JobStatus.SCHEDULED):
            fields.setdefault("run_at", self.now + timedelta(seconds=60))
        if status in (JobStatus.FAILED, JobStatus.RETRYING):
            fields.setdefault("signature", "3fa9c1d2")
        plain = AttemptResult(
            key=claim.key,
            outcome=OUTCOMES[status],
            status=status,
            failures=claim.job.failures,
            crashes=claim.job.crashes,
            run_at=fields.pop("run_at", None),
        )
        return replace(plain, **fields)

    def end(self, claim: Claim, status: JobStatus = JobStatus.COMPLETED, **fields: Any) -> bool:
        return self.backend.end([self.ending(claim, status, **fields)], self.now)[0]

    def finish(self, job_id: int, status: JobStatus) -> int:
        """Bring a job that is not running to one of the finished statuses."""
        if status is JobStatus.CANCELLED:
            self.backend.cancel([job_id], None, self.now)
        else:
            assert self.end(self.start(job_id), status)
        return job_id

    def put(self, status: JobStatus, **fields: Any) -> int:
        """Add a job and bring it to a status."""
        match status:
            case JobStatus.BLOCKED:
                return self.add(parents=after(self.add(name="parent")), **fields)
            case JobStatus.SCHEDULED:
                return self.add(run_at=self.now + timedelta(seconds=60), **fields)
            case JobStatus.PENDING:
                return self.add(**fields)
            case JobStatus.RUNNING:
                return self.start(self.add(**fields)).job.id
            case JobStatus.RETRYING:
                claim = self.start(self.add(**fields))
                assert self.end(claim, status)
                return claim.job.id
            case _:
                return self.finish(self.add(**fields), status)

    def limit(self, name: str, **limits: Any) -> None:
        """Create a queue, or set its limits."""
        self.backend.put_queues([Queue(name=name, **limits)])
