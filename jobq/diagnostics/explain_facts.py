"""The facts that an explanation is made from, gathered from the backend and the disks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from jobq.models import (
    FINISHED,
    Attempt,
    Job,
    JobFilter,
    JobStatus,
    Queue,
    SupervisorInfo,
)
from jobq.queue import JobQueue, backend_of
from jobq.system.disk_space import Shortage, shortage


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that an explanation depends on."""

    job: Job
    now: datetime
    queue: Queue
    lease: float = 30.0  # seconds
    max_crashes: int = 3
    parents: Mapping[int, Job] = field(default_factory=dict)
    attempt: Attempt | None = None  # the last one
    owner_dead: bool = False  # of that attempt
    in_queue: Sequence[int] = ()  # running jobs of its queue, if that has a limit
    next_start: datetime | None = None  # if the rate of its queue makes it wait
    supervisors: Sequence[SupervisorInfo] = ()  # those alive
    held: Mapping[str, Sequence[int]] = field(default_factory=dict)  # running jobs by supervisor
    ahead: int = 0
    pending: int = 0  # jobs, of all queues
    key_holder: int | None = None
    shortage: Shortage | None = None  # of disk space on this host


def gather(queue: JobQueue, job: Job, now: datetime) -> Facts:
    """Look up the facts about a job."""
    backend = backend_of(queue)
    job_queue = queue.queue(job.queue)
    attempts = queue.attempts(job.id)
    running = JobFilter(queue=job.queue, statuses=frozenset({JobStatus.RUNNING}))
    held: dict[str, list[int]] = {}
    for other, attempt in backend.open_attempts():
        held.setdefault(attempt.supervisor, []).append(other.id)
    return Facts(
        job=queue.shown(job),
        now=now,
        queue=job_queue,
        lease=queue.settings.lease,
        max_crashes=queue.settings.retry.max_crashes,
        parents=backend.get([parent.id for parent in job.parents]),
        attempt=queue.settings.redactor.attempt(attempts[-1], job) if attempts else None,
        owner_dead=bool(attempts and backend.supervisors.dead([attempts[-1].supervisor])),
        in_queue=[each.id for each in backend.find(running, limit=None)]
        if job_queue.max_concurrent
        else (),
        next_start=backend.stats.next_start(job_queue, now),
        supervisors=queue.supervisors(),
        held=held,
        ahead=backend.stats.ahead(job, now) if job.status is JobStatus.PENDING else 0,
        pending=queue.counts().get(JobStatus.PENDING, 0),
        key_holder=backend.stats.key_holder(job.unique_key)
        if job.unique_key and job.status in FINISHED
        else None,
        shortage=shortage(queue.settings),
    )
