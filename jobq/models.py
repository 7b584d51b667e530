"""What jobq speaks of: jobs, attempts, queues, and the transitions between states. No I/O."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple

from jobq.errors import UsageError
from jobq.limits import LONGEST_ERROR, LONGEST_MESSAGE, bounded_result, bounded_text
from jobq.units import Rate

DEFAULT_QUEUE = "default"

JsonObject = dict[str, Any]


class JobStatus(StrEnum):
    BLOCKED = "blocked"  # waits for parents
    SCHEDULED = "scheduled"  # its time has not come
    PENDING = "pending"  # ready
    RUNNING = "running"
    RETRYING = "retrying"  # failed, waits for its next try
    COMPLETED = "completed"
    FAILED = "failed"  # the dead letter queue
    CANCELLED = "cancelled"


_S = JobStatus

FINISHED = frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED})
UNFINISHED = frozenset(JobStatus) - FINISHED

INITIAL = frozenset({_S.BLOCKED, _S.SCHEDULED, _S.PENDING, _S.CANCELLED})
"""States that a job can be added in; cancelled, if a parent has already made it impossible."""

TRANSITIONS: Mapping[JobStatus, frozenset[JobStatus]] = {
    # parents done → its time, or now; a parent that can't satisfy it → cancelled
    _S.BLOCKED: frozenset({_S.SCHEDULED, _S.PENDING, _S.CANCELLED}),
    _S.SCHEDULED: frozenset({_S.PENDING, _S.CANCELLED}),
    # running: claimed by a supervisor
    _S.PENDING: frozenset({_S.RUNNING, _S.CANCELLED}),
    # pending: given back at shutdown, or its supervisor died; scheduled: snoozed
    _S.RUNNING: frozenset(
        {_S.COMPLETED, _S.FAILED, _S.RETRYING, _S.CANCELLED, _S.PENDING, _S.SCHEDULED}
    ),
    _S.RETRYING: frozenset({_S.PENDING, _S.CANCELLED}),
    _S.COMPLETED: frozenset(),
    # pending: `jobq retry`
    _S.FAILED: frozenset({_S.PENDING}),
    # blocked: retried, or its parent was, and it waits for parents again
    _S.CANCELLED: frozenset({_S.PENDING, _S.BLOCKED}),
}


class Outcome(StrEnum):
    """How an attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"  # non-zero exit, or an exception
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"  # its process died of a signal that jobq did not send
    LOST = "lost"  # its supervisor died, or lost its lease
    CANCELLED = "cancelled"
    RELEASED = "released"  # given back at shutdown; costs no retry
    SNOOZED = "snoozed"  # asked to run later; costs no retry


class Condition(StrEnum):
    """What a job wants of a parent."""

    SUCCEEDED = "succeeded"
    ENDED = "ended"
    FAILED = "failed"

    def met_by(self, status: JobStatus) -> bool:
        """Whether a parent in this status satisfies it."""
        if self is Condition.ENDED:
            return status in FINISHED
        return status is (_S.COMPLETED if self is Condition.SUCCEEDED else _S.FAILED)

    def excluded_by(self, status: JobStatus) -> bool:
        """Whether a parent that has ended so can't satisfy it any more."""
        return status in FINISHED and not self.met_by(status)


def impossible_because(parent_id: int, status: JobStatus, condition: Condition) -> str:
    """Why a child is cancelled whose parent ended in a way that excludes it."""
    if condition is Condition.FAILED:
        return f"parent {parent_id} {status}, and this was to run if it failed"
    return f"parent {parent_id} {'was cancelled' if status is _S.CANCELLED else status}"


class Priority(IntEnum):
    """The names; any whole number from 0 to 9 is a priority, and 9 runs first."""

    LOW = 2
    NORMAL = 5
    HIGH = 7
    CRITICAL = 9


def parse_priority(value: int | str) -> int:
    """A priority from 0 to 9, from a number or one of the four names.

    Raises:
        UsageError: it is neither.
    """
    text = str(value).strip()
    if text.upper() in Priority.__members__:
        return int(Priority[text.upper()])
    if len(text) == 1 and text in "0123456789":
        return int(text)
    raise UsageError(
        f"priority {text!r}: give 0 to 9 (9 runs first), or low, normal, high or critical"
    )


def priority_band(priority: int) -> str:
    """The name of the band that a priority is in: low 0-3, normal 4-6, high 7-8, critical 9."""
    if priority <= 3:
        return "low"
    if priority <= 6:
        return "normal"
    return "high" if priority <= 8 else "critical"


class Parent(NamedTuple):
    id: int
    condition: Condition


class Progress(NamedTuple):
    done: float
    total: float | None
    message: str | None

    def bounded(self) -> "Progress":
        """Progress with a message that is not too long to be kept."""
        return self._replace(message=bounded_text(self.message, LONGEST_MESSAGE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One row of ``job_queue``, as it was when it was read."""

    id: int
    type: str  # the name it is dispatched by
    name: str | None = None  # for people
    status: JobStatus
    queue: str
    priority: int  # 0 to 9, 9 first
    args: JsonObject
    tags: Mapping[str, str]
    unique_key: str | None = None  # at most one unfinished job holds it
    parents: tuple[Parent, ...] = ()
    unmet_parents: int = 0  # how many of them have not satisfied it yet
    added_by: int | None = None  # the job whose run added it
    attempts: int = 0  # tries so far; the number of the last one
    failures: int = 0  # tries that used up a retry since the last `retry`
    crashes: int = 0  # tries that ended in a crash or were lost since the last `retry`
    max_retries: int
    retry_base: float  # seconds before the first retry
    timeout: float | None = None  # seconds an attempt may take
    created_at: datetime
    run_at: datetime | None = None  # not before
    started_at: datetime | None = None  # of the last attempt
    finished_at: datetime | None = None
    cancel_requested: bool = False  # it runs, and is to be stopped
    cancelled_by: int | None = None  # the parent that made it impossible
    progress: Progress | None = None
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None  # why the last attempt failed
    reason: str | None = None  # why it was cancelled
    result: Any = None  # what the worker returned


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentRef:
    """A parent of a job that is being added: its id, its place in the same batch, or its key."""

    condition: Condition
    id: int | None = None
    index: int | None = None
    key: str | None = None


@dataclass(slots=True, kw_only=True)  # not frozen: that takes three times as long to make
class NewJob:
    """A job to insert: validated, every default filled in."""

    type: str
    args: JsonObject
    queue: str
    priority: int
    max_retries: int
    retry_base: float
    name: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    unique_key: str | None = None
    parents: tuple[ParentRef, ...] = ()
    added_by: int | None = None
    run_at: datetime | None = None
    timeout: float | None = None
    key: str | None = None  # what it is known by to those who add it: added once, as long as kept
    digest: str = ""  # with a key: tells what is the same job from what is not


class KnownKey(NamedTuple):
    """The job that a key stands for, and the digest that it was added with."""

    job_id: int
    digest: str


class Inserted(NamedTuple):
    """What became of a new job: its id; or, if not created, that of the one with its key."""

    id: int
    created: bool
    at: datetime | None = None  # when, where another clock than the caller's counts


class LogOffsets(NamedTuple):
    """Where an attempt's output starts in the job's files, in bytes."""

    stdout: int = 0
    stderr: int = 0
    events: int = 0
    log: int = 0


class AttemptKey(NamedTuple):
    """What names an attempt.

    Ids and numbers are not enough: a server that has lost what it was told last gives them again.
    """

    job_id: int
    attempt: int
    started_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at running a job, as the history keeps it."""

    job_id: int
    attempt: int  # numbered from 1 within the job
    supervisor: str  # the owner that claimed it
    pid: int | None
    pid_started: int | None  # tells the process from a later one with its pid
    started_at: datetime
    lease_until: datetime
    ended_at: datetime | None
    outcome: Outcome | None  # None while it runs
    exit_code: int | None
    signal: int | None
    error: str | None
    max_rss_bytes: int | None
    cpu_seconds: float | None
    offsets: LogOffsets

    @property
    def key(self) -> AttemptKey:
        """What names it."""
        return AttemptKey(self.job_id, self.attempt, self.started_at)


@dataclass(frozen=True, slots=True)
class Claim:
    """An attempt that somebody holds: the job as it was claimed, and who may end it."""

    job: Job
    attempt: int
    owner: str

    @property
    def key(self) -> AttemptKey:
        """What names the attempt."""
        assert self.job.started_at is not None
        return AttemptKey(self.job.id, self.attempt, self.job.started_at)


class Started(NamedTuple):
    """What is known of an attempt once its process runs."""

    key: AttemptKey
    pid: int
    pid_started: int | None
    offsets: LogOffsets


class Usage(NamedTuple):
    """What an attempt's process and its ended children used."""

    max_rss_bytes: int | None
    cpu_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptResult:
    """How an attempt ends, and where its job goes from there."""

    key: AttemptKey
    outcome: Outcome
    status: JobStatus  # the job's next
    failures: int  # the job's count from here on
    crashes: int
    run_at: datetime | None = None  # of a retry or a snooze
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None
    reason: str | None = None
    result: Any = None
    usage: Usage | None = None

    @property
    def job_id(self) -> int:
        """Whose attempt it is."""
        return self.key.job_id

    @property
    def attempt(self) -> int:
        """Its number."""
        return self.key.attempt

    def __post_init__(self) -> None:
        if self.status not in TRANSITIONS[_S.RUNNING]:
            raise ValueError(f"an attempt can't end with its job {self.status}")
        if self.status in (_S.RETRYING, _S.SCHEDULED) and self.run_at is None:
            raise ValueError(f"a job that is {self.status} needs a run_at: it would never run")
        for name in ("error", "reason"):
            object.__setattr__(self, name, bounded_text(getattr(self, name), LONGEST_ERROR))
        if self.result is not None:
            object.__setattr__(self, "result", bounded_result(self.result))


class Held(NamedTuple):
    """An attempt that its owner still holds after a heartbeat."""

    key: AttemptKey
    cancel_requested: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A named lane with limits of its own."""

    name: str
    description: str | None = None
    max_concurrent: int | None = None  # running at once, over all supervisors
    priority: int = 5  # queues with a higher one are served first
    paused: bool = False
    rate: Rate | None = None  # starts in any such span
    timeout: float | None = None  # seconds, of its jobs; 0: none; None: not said
    max_retries: int | None = None  # of its jobs; None: not said


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorInfo:
    """A supervisor as it announced itself."""

    id: str
    host: str
    boot_id: str  # tells this run of the host from the one before
    pid: int
    slots: int
    queues: tuple[str, ...] | None  # None: all
    types: tuple[str, ...]  # what it can run
    started_at: datetime
    heartbeat_at: datetime

    @property
    def takes_jobs(self) -> bool:
        """Whether it takes any more: one that is to stop does not, nor does one of `jobq run`."""
        return self.queues != ()


class Ended(NamedTuple):
    """What the figures know of a job that completed or failed."""

    type: str
    queue: str
    completed: bool
    waited: float  # seconds from being added to the start of the last try
    ran: float  # seconds of the last try


class Finished(NamedTuple):
    """When a job ended, and how."""

    at: datetime
    id: int
    status: JobStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs are meant. Fields that are None do not narrow."""

    ids: tuple[int, ...] | None = None
    statuses: frozenset[JobStatus] | None = None
    queue: str | None = None
    type: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    since: datetime | None = None  # created at or after
    until: datetime | None = None  # created before
    finished_before: datetime | None = None
    after_id: int | None = None  # a page's start: ids greater, in ascending order
    before_id: int | None = None  # likewise: ids smaller, in descending order


class CancelEffect(StrEnum):
    CANCELLED = "cancelled"
    REQUESTED = "requested"  # it runs; its supervisor was asked to stop it
    FINISHED = "finished"  # it had finished before
    MISSING = "missing"  # there is no such job


class RetryEffect(StrEnum):
    PENDING = "pending"
    BLOCKED = "blocked"  # it waits for parents again
    IMPOSSIBLE = "impossible"  # a parent that ended can't satisfy it
    KEY_TAKEN = "key_taken"  # another unfinished job holds its unique key
    REFUSED = "refused"  # it is neither failed nor cancelled
    MISSING = "missing"


class Retried(NamedTuple):
    """What `requeue` did with one job; ``because`` names the parent or the key's holder."""

    id: int
    effect: RetryEffect
    because: int | None = None


class Missed(StrEnum):
    """What a schedule does about times that passed while nobody could add its jobs."""

    SKIP = "skip"  # leave them out
    ONCE = "once"  # add one job for all of them
    ALL = "all"  # add a job for each, up to a limit


class Overlap(StrEnum):
    """What a schedule does when its time comes and its last job has not ended."""

    SKIP = "skip"  # add nothing
    ALLOW = "allow"  # add a job all the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What to add, and when, over and over. What is None falls back to a default at that time."""

    id: int = 0  # given by the backend, and never used twice
    revision: int = 0  # counts the changes
    name: str
    cron: str
    tz: str
    type: str
    args: JsonObject
    queue: str
    priority: int
    tags: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    max_retries: int | None = None
    retry_base: float | None = None
    missed: Missed
    overlap: Overlap
    paused: bool = False
    created_at: datetime
    next_at: datetime | None = None  # None: it is over
    settled_until: datetime  # what was to fire until then has been dealt with
    last_at: datetime | None = None  # the last time that it fired for
    last_job_id: int | None = None
    last_error: str | None = None  # why the last job could not be added

    @property
    def key(self) -> str | None:
        """The unique key of its jobs, where they must not overlap."""
        return f"schedule:{self.name}" if self.overlap is Overlap.SKIP else None


class Fired(NamedTuple):
    """A time that a schedule fired for: the job added, or the one that held its unique key."""

    at: datetime
    job_id: int
    created: bool


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """What jobq.toml says of all retries."""

    jitter: float = 0.1  # a delay is stretched or shrunk by up to this share of itself
    max_crashes: int = 3  # after so many crashes a job goes to the dead letter queue


QUEUE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
