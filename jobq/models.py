"""The model: jobs, attempts, queues, schedules, and the transitions between states. No I/O."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from jobq.limits import MAX_ERROR_CHARS, MAX_MESSAGE_CHARS, bounded_result, bounded_text
from jobq.units import Rate

DEFAULT_QUEUE = "default"
QUEUE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

JsonObject = dict[str, Any]


class JobStatus(StrEnum):
    BLOCKED = "blocked"  # waits for parents
    SCHEDULED = "scheduled"  # its time has not come
    PENDING = "pending"  # ready
    RUNNING = "running"
    RETRYING = "retrying"  # failed, waits for its next attempt
    COMPLETED = "completed"
    FAILED = "failed"  # the dead letter queue
    CANCELLED = "cancelled"


_S = JobStatus

FINISHED = frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED})
UNFINISHED = frozenset(JobStatus) - FINISHED

INITIAL = frozenset({_S.BLOCKED, _S.SCHEDULED, _S.PENDING, _S.CANCELLED})
"""States that a job can be added in; cancelled, if a parent already rules it out."""

TRANSITIONS: Mapping[JobStatus, frozenset[JobStatus]] = {
    # its parents have ended: scheduled or pending; one of them rules it out: cancelled
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
    """The way in which an attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"  # non-zero exit, or an exception
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"  # its process died of a signal that jobq did not send
    LOST = "lost"  # its supervisor died, or lost its lease
    CANCELLED = "cancelled"
    RELEASED = "released"  # given back at shutdown; costs no retry
    SNOOZED = "snoozed"  # asked to run later; costs no retry


class Condition(StrEnum):
    """The way in which a parent has to end for a job to run."""

    SUCCEEDED = "succeeded"
    ENDED = "ended"
    FAILED = "failed"
    ONE_SUCCEEDED = "one_succeeded"  # of all parents with this condition

    def met_by(self, status: JobStatus) -> bool:
        """Return whether a parent in this status satisfies it."""
        if self is Condition.ENDED:
            return status in FINISHED
        return status is (_S.FAILED if self is Condition.FAILED else _S.COMPLETED)

    def excluded_by(self, status: JobStatus) -> bool:
        """Return whether a parent in this status has ended without satisfying it.

        Of `ONE_SUCCEEDED`, another parent still may.
        """
        return status in FINISHED and not self.met_by(status)


def impossible_because(parent_id: int, status: JobStatus, condition: Condition) -> str:
    """Return the reason of a job that is cancelled because its parent ended otherwise."""
    if condition is Condition.FAILED:
        return f"parent {parent_id} {status}, and this was to run if it failed"
    text = f"parent {parent_id} {'was cancelled' if status is _S.CANCELLED else status}"
    if condition is Condition.ONE_SUCCEEDED:
        text += ", and no other one of which one was to succeed did"
    return text


class Parent(NamedTuple):
    id: int
    condition: Condition


class Progress(NamedTuple):
    done: float
    total: float | None
    message: str | None

    def bounded(self) -> "Progress":
        """Return it with its message cut to the characters that are kept."""
        return self._replace(message=bounded_text(self.message, MAX_MESSAGE_CHARS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A row of ``job_queue``, as it was when it was read."""

    id: int
    type: str  # the name it is dispatched by
    name: str | None = None  # shown to people
    status: JobStatus
    queue: str
    priority: int  # 0 to 9, 9 first
    args: JsonObject
    tags: Mapping[str, str]
    unique_key: str | None = None  # at most one unfinished job holds it
    existing: bool = field(default=False, compare=False)  # returned by `add` as the key's holder
    parents: tuple[Parent, ...] = ()
    unmet_parents: int = 0  # number of parents that have not satisfied it yet
    added_by: int | None = None  # the job whose run added it
    attempts: int = 0  # number of the last one
    failures: int = 0  # attempts that used up a retry since the last `jobq retry`
    crashes: int = 0  # attempts that crashed or were lost since the last `jobq retry`
    max_retries: int
    retry_base: float  # seconds before the first retry
    timeout: float | None = None  # seconds an attempt may take
    created_at: datetime
    run_at: datetime | None = None  # not earlier
    started_at: datetime | None = None  # of the last attempt
    finished_at: datetime | None = None
    cancel_requested: bool = False  # it is running, and has been asked to stop
    cancelled_by: int | None = None  # the parent that ruled it out
    progress: Progress | None = None
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None  # why the last attempt failed
    signature: str | None = None  # of that failure: the same for failures of one kind
    reason: str | None = None  # why it was cancelled
    result: Any = None  # what the worker returned


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentRef:
    """A parent of a job that is being added: its id, its place in the same batch, or its key."""

    condition: Condition
    id: int | None = None
    index: int | None = None
    key: str | None = None


@dataclass(slots=True, kw_only=True)  # not frozen: that is three times slower to create
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
    key: str | None = (
        None  # the adder's own: a second add with it adds nothing while the job is kept
    )
    digest: str = ""  # with a key: equal for equal jobs


class KnownKey(NamedTuple):
    """The job that was added with a key, and its digest then."""

    job_id: int
    digest: str


class Inserted(NamedTuple):
    """The result of adding a job: its id, or the id of the job that already holds its key."""

    id: int
    created: bool
    at: datetime | None = None  # of creation, if by another clock than the caller's


class LogOffsets(NamedTuple):
    """The bytes in the job's files at which an attempt's output starts."""

    stdout: int = 0
    stderr: int = 0
    events: int = 0
    log: int = 0


class AttemptKey(NamedTuple):
    """The identity of an attempt.

    Id and number are not enough: a server that lost its latest writes gives them out again.
    """

    job_id: int
    attempt: int
    started_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt at running a job, as its history keeps it."""

    job_id: int
    attempt: int  # numbered from 1 within the job
    supervisor: str  # id of the one that claimed it
    pid: int | None
    pid_started: int | None  # its start time: tells it from a later process with the same pid
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
        """The attempt's identity."""
        return AttemptKey(self.job_id, self.attempt, self.started_at)

    @property
    def has_offsets(self) -> bool:
        """True if it is recorded where its output starts: with its process, or without one."""
        return self.pid is not None or any(self.offsets)


@dataclass(frozen=True, slots=True)
class Claim:
    """A claimed attempt: the job as it was claimed, and the owner that may end it."""

    job: Job
    attempt: int
    owner: str

    @property
    def key(self) -> AttemptKey:
        """The attempt's identity."""
        assert self.job.started_at is not None
        return AttemptKey(self.job.id, self.attempt, self.job.started_at)


class Started(NamedTuple):
    """The process of an attempt, once it runs, and where its output starts."""

    key: AttemptKey
    pid: int | None  # None: it runs elsewhere, for a pull worker
    pid_started: int | None
    offsets: LogOffsets


class Usage(NamedTuple):
    """The resources that an attempt's process and its ended children used."""

    max_rss_bytes: int | None
    cpu_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptResult:
    """The end of an attempt, and the next status of its job."""

    key: AttemptKey
    outcome: Outcome
    status: JobStatus  # of the job, from here on
    failures: int  # of the job, from here on
    crashes: int
    run_at: datetime | None = None  # of a retry or a snooze
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None
    signature: str | None = None  # of a failure
    reason: str | None = None
    result: Any = None
    usage: Usage | None = None
    ended_at: datetime | None = None  # None: when it is recorded

    @property
    def job_id(self) -> int:
        """The id of the attempt's job."""
        return self.key.job_id

    @property
    def attempt(self) -> int:
        """The attempt's number."""
        return self.key.attempt

    def __post_init__(self) -> None:
        if self.status not in TRANSITIONS[_S.RUNNING]:
            raise ValueError(f"an attempt can't end with its job {self.status}")
        if self.status in (_S.RETRYING, _S.SCHEDULED) and self.run_at is None:
            raise ValueError(
                f"a job that is {self.status} needs a run_at: without it, it never runs"
            )
        for name in ("error", "reason"):
            object.__setattr__(self, name, bounded_text(getattr(self, name), MAX_ERROR_CHARS))
        if self.result is not None:
            object.__setattr__(self, "result", bounded_result(self.result))


class Held(NamedTuple):
    """An attempt that its owner still holds after a heartbeat."""

    key: AttemptKey
    cancel_requested: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A named queue with limits of its own."""

    name: str
    description: str | None = None
    max_concurrent: int | None = None  # running jobs, over all supervisors
    priority: int = 5  # jobs of a queue with a higher one start first
    paused: bool = False
    rate: Rate | None = None  # of starts
    timeout: float | None = None  # seconds, of its jobs; 0: no limit; None: the default
    max_retries: int | None = None  # of its jobs; None: the default


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorInfo:
    """A supervisor as it registered itself."""

    id: str
    host: str
    boot_id: str  # changes when the host restarts
    pid: int
    slots: int
    queues: tuple[str, ...] | None  # None: all
    types: tuple[str, ...]  # that it can run
    started_at: datetime
    heartbeat_at: datetime

    @property
    def takes_jobs(self) -> bool:
        """True if it claims jobs: one that is stopping does not, nor does one of `jobq run`."""
        return self.queues != ()


class Ended(NamedTuple):
    """A job that completed or failed, as statistics count it."""

    type: str
    queue: str
    completed: bool
    waited: float  # seconds from being added to the start of the last attempt
    ran: float  # seconds of the last attempt


class Finished(NamedTuple):
    """The end of a job."""

    at: datetime
    id: int
    status: JobStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """A selection of jobs. Fields that are None do not narrow it."""

    ids: tuple[int, ...] | None = None
    statuses: frozenset[JobStatus] | None = None
    queue: str | None = None
    type: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    signature: str | None = None  # of the last failure
    since: datetime | None = None  # created at or after
    until: datetime | None = None  # created before
    finished_before: datetime | None = None
    ended_since: datetime | None = None  # ended at or after
    parent: int | None = None  # waits, or has waited, for this job
    added_by: int | None = None
    after_id: int | None = None  # greater ids only, in ascending order
    before_id: int | None = None  # smaller ids only, in descending order
    text: "TextSearch | None" = None


class TextSearch(NamedTuple):
    """Literal texts, whatever their case, that a job has to have as it is shown: see `jobs.search`."""

    words: tuple[str, ...] = ()  # anywhere in it
    name: tuple[str, ...] = ()
    error: tuple[str, ...] = ()
    args: tuple[tuple[str, str], ...] = ()  # path of an argument, and text in it
    name_patterns: tuple[str, ...] = ()  # with * and ?, of the whole name


class CancelEffect(StrEnum):
    CANCELLED = "cancelled"
    REQUESTED = "requested"  # it is running; its supervisor was asked to stop it
    FINISHED = "finished"  # it had already ended
    MISSING = "missing"  # no such job


class RetryEffect(StrEnum):
    PENDING = "pending"
    BLOCKED = "blocked"  # it waits for its parents again
    IMPOSSIBLE = "impossible"  # a parent that has ended rules it out
    KEY_TAKEN = "key_taken"  # another unfinished job holds its unique key
    REFUSED = "refused"  # it is neither failed nor cancelled
    MISSING = "missing"


class Retried(NamedTuple):
    """The effect of `requeue` on one job; ``because`` is the parent or the holder of its key."""

    id: int
    effect: RetryEffect
    because: int | None = None


class Missed(StrEnum):
    """The rule for times that passed while no supervisor ran."""

    SKIP = "skip"  # add nothing
    ONCE = "once"  # add one job for all of them
    ALL = "all"  # add a job for each, up to a limit


class Overlap(StrEnum):
    """The rule for a time that comes while the last job has not ended."""

    SKIP = "skip"  # add nothing
    ALLOW = "allow"  # add a job


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A job to add again and again. Fields that are None take the default at each time."""

    id: int = 0  # given by the backend, never reused
    revision: int = 0  # number of changes
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
    next_at: datetime | None = None  # None: it has no more times
    settled_until: datetime  # times until then have been handled
    last_at: datetime | None = None  # the last time it fired for
    last_job_id: int | None = None
    last_error: str | None = None  # why the last job could not be added

    @property
    def key(self) -> str | None:
        """The unique key of its jobs, if they must not overlap."""
        return f"schedule:{self.name}" if self.overlap is Overlap.SKIP else None


class Fired(NamedTuple):
    """A time that a schedule fired for, and the job added, or the one that held its unique key."""

    at: datetime
    job_id: int
    created: bool
