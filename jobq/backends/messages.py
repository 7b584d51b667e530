"""Values that cross the contract of the backends: requests, reports, and all that is kept of a job.

Named tuples: as dataclasses, they would cost every `jobq add` more than a millisecond.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from jobq.models import (
    Attempt,
    AttemptKey,
    AttemptResult,
    Claim,
    Condition,
    Fired,
    Job,
    JobStatus,
    Progress,
    Queue,
    Schedule,
    Started,
)


class ClaimRequest(NamedTuple):
    """The room that a supervisor has for jobs."""

    owner: str
    limit: int
    lease: timedelta
    queues: Collection[str] | None = None  # None: all
    types: Collection[str] | None = None  # None: all
    ids: Collection[int] | None = None  # None: any
    prefetch: int = 0  # jobs beyond the limit, from queues without max_concurrent and rate
    known: Collection[str] | None = None  # stop before the first job of another type; None: at none


class Report(NamedTuple):
    """All that happened in a supervisor since its last report."""

    starts: Sequence[Started] = ()
    progress: Mapping[AttemptKey, Progress] = MappingProxyType({})
    endings: Sequence[AttemptResult] = ()
    unstarted: Sequence[Claim] = ()  # prefetched, and given back


class Exchange(NamedTuple):
    """The answer to a report."""

    ended: list[bool]  # as `end` returns it for the endings
    claims: list[Claim]
    next_due: datetime | None


class ParentState(NamedTuple):
    """A parent as its child has it recorded, and as it is."""

    id: int
    condition: Condition
    met: bool  # recorded with the child
    status: JobStatus | None  # None: the parent was deleted
    unsettled: bool  # its dependents have not been told of its last change yet


class History(NamedTuple):
    """All that is kept of one job, read at one moment."""

    job: Job
    attempts: Sequence[Attempt]  # the first one first
    parents: Sequence[ParentState]
    key_holder: int | None  # the unfinished job that holds its unique key
    keys: Sequence[tuple[str, str]] = ()  # its import keys, each with its digest, in order
    unsettled: bool = False  # its dependents have not been told of its last change yet


class FailureFigures(NamedTuple):
    """The failed jobs of one signature."""

    signature: str
    size: int
    first: datetime  # end of the one that failed first
    last: datetime
    sample: tuple[int, ...]  # up to `SAMPLE_SIZE`, the last one first
    by_hour: tuple[int, ...]  # those that failed in each of the last `HOURS`, the last hour last


class ScheduleHistory(NamedTuple):
    """A schedule and its recorded firings."""

    schedule: Schedule
    fired: tuple[Fired, ...]  # the latest first


class LogChunk(NamedTuple):
    """A stretch of one of an attempt's log files."""

    job_id: int
    attempt: int
    file: str
    offset: int  # in the file on the host that ran the attempt
    data: bytes


class StoreIdentity(NamedTuple):
    """What tells a store from every other one. A copy has it too, and so has a migrated store."""

    id: str
    marked_after: int  # log directories of jobs up to this id may have no mark: see `logs.owner`


class Setup(NamedTuple):
    """All that is kept besides jobs and supervisors."""

    store: StoreIdentity

    last_job_id: int  # the highest id ever given; 0: none was
    last_schedule_id: int
    queues: tuple[Queue, ...]  # by name
    starts: tuple[tuple[str, datetime], ...]  # queue and time, in order: they count against rates
    schedules: tuple[ScheduleHistory, ...]  # by name


def end_of(result: AttemptResult, now: datetime) -> datetime:
    """Return when an attempt ended that is recorded now: clocks may have been set meanwhile."""
    ended = result.ended_at
    return now if ended is None or not result.key.started_at <= ended <= now else ended
