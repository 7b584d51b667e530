"""The contract between jobq and the place where jobs live.

Verbs cross this boundary: neither SQL nor bytes. Each is atomic. Those that end or renew an
attempt are fenced: they take effect only while the job is running under that attempt's number, as
it was claimed then, and say whether they did. Time is always passed in. `tests/backends/` is this
contract as tests.

Where backends differ
    Time: on SQLite, that which is passed in counts. On Redis, the server's does, so that a host whose
    clock is wrong does no harm: what is passed in as now says only what the caller worked out from it,
    a lease, or the wait before a retry. Times that a user named are what they are.
    Groups: on both, the verbs of a group take effect together, each sees what those before it did, and
    nobody else does before the end. On SQLite a group is a transaction. On Redis each verb is
    rehearsed, and all are done at the end: nothing outside of the backend may rely on a group having
    done a thing before it ends, and one that is silent for 5 s finds that others went on: it fails,
    and changes nothing.
    Durably: on SQLite, an acknowledged verb survives a power cut. On Redis that is for the server's
    settings to say (docs/redis.md).
    Death: a supervisor that dies is known of at once on its own machine, elsewhere after its lease.
    Logs: on SQLite, everybody has the files. On Redis, output is shipped for those who do not (`ships`).
    Totals: on Redis, what was ever added, completed, failed and recovered is counted; a store that was
    filled from another one counts from the jobs that came.
    Reading: on SQLite, each verb reads at one moment. On Redis, those that may look at very many jobs
    (`find`, `descendants`, `ended`, `ended_counts`, `flaws`) read in portions.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar, NamedTuple

from jobq.clock import utcnow
from jobq.models import (
    Attempt,
    AttemptKey,
    AttemptResult,
    CancelEffect,
    Claim,
    Condition,
    Ended,
    Finished,
    Fired,
    Held,
    Inserted,
    Job,
    JobFilter,
    JobStatus,
    KnownKey,
    NewJob,
    Progress,
    Queue,
    Retried,
    Schedule,
    Started,
    SupervisorInfo,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """What a supervisor has room for."""

    owner: str
    limit: int
    lease: timedelta
    queues: Collection[str] | None = None  # None: all
    types: Collection[str] | None = None  # None: all
    ids: Collection[int] | None = None  # None: any
    ahead: int = 0  # so many more beyond the limit, of queues without max_concurrent and rate


@dataclass(frozen=True, slots=True)
class Report:
    """What a supervisor has to tell since the last time."""

    starts: Sequence[Started] = ()
    progress: Mapping[AttemptKey, Progress] = field(default_factory=dict)
    endings: Sequence[AttemptResult] = ()
    unstarted: Sequence[Claim] = ()  # claimed ahead, and given back


class Exchange(NamedTuple):
    """What a supervisor is told in return."""

    ended: list[bool]  # as `end` says of the endings
    claims: list[Claim]
    next_due: datetime | None


class ParentState(NamedTuple):
    """What a job knows of one of its parents, and what is true of it."""

    id: int
    condition: Condition
    met: bool  # the job has been told that it is satisfied
    status: JobStatus | None  # None: it was deleted
    unsettled: bool  # its dependents are still to be told of its last change


class History(NamedTuple):
    """All that is kept of one job, read at one moment."""

    job: Job
    attempts: Sequence[Attempt]  # the first one first
    parents: Sequence[ParentState]
    key_holder: int | None  # the unfinished job that holds its unique key
    keys: Sequence[tuple[str, str]] = ()  # those that stand for it, each with its digest, in order
    unsettled: bool = False  # its dependents are still to be told of its last change


class ScheduleHistory(NamedTuple):
    """A schedule, and all that is remembered of what it fired for."""

    schedule: Schedule
    fired: tuple[Fired, ...]  # the latest first


class Part(NamedTuple):
    """A stretch of one of an attempt's log files."""

    job_id: int
    attempt: int
    file: str
    offset: int  # in the file of the machine that ran it
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """All that is kept besides jobs and supervisors."""

    last_job_id: int  # the highest that was ever given; 0: none was
    last_schedule_id: int
    queues: tuple[Queue, ...]  # by name
    starts: tuple[tuple[str, datetime], ...]  # queue and time: what counts against rates, in order
    schedules: tuple[ScheduleHistory, ...]  # by name


class Listener(ABC):
    """Woken when there may be work, or a request to stop some."""

    @abstractmethod
    def fileno(self) -> int:
        """A descriptor that turns readable at each wake-up."""

    @abstractmethod
    def drain(self) -> None:
        """Forget the wake-ups so far."""

    @abstractmethod
    def close(self) -> None:
        """Stop listening. From here on the owner counts as dead."""


class Backend(ABC):
    """Where jobs, attempts, dependencies, queues and supervisors live."""

    spans_hosts: ClassVar[bool] = False
    """Whether supervisors of several machines may use it at once."""

    at_once: ClassVar[int] = 1000
    """Jobs that one verb is best given to add or to change: few enough that others hardly wait."""

    ships = False
    """Whether it serves machines that do not have each other's files: only there are logs shipped.

    Elsewhere, `ship` keeps nothing and `shipped` finds nothing.
    """

    # -- life ------------------------------------------------------------------------------

    @abstractmethod
    def open(self) -> None:
        """Make or check what is there now, rather than at the first verb.

        Raises:
            DatabaseError: it can't be used.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of everything held by this process."""

    @abstractmethod
    def group(self) -> AbstractContextManager[None]:
        """Verbs inside take effect together, and durably, when the block ends without an error."""

    def now(self) -> datetime:
        """What time it is by the clock that counts: where machines share a backend, not their own.

        Raises:
            DatabaseError: there is no answer, and there has not been one before.
        """
        return utcnow()

    @abstractmethod
    def change_counter(self) -> int:
        """A number that differs from the last one if somebody else may have changed something."""

    @abstractmethod
    def listen(self, owner: str) -> Listener:
        """Announce a live owner: woken at changes, and known dead once its process is."""

    @abstractmethod
    def dead(self, owners: Collection[str]) -> set[str]:
        """Those owners that are known for certain to be dead, without waiting for a lease."""

    @abstractmethod
    def maintain(self) -> None:
        """Whatever upkeep the storage needs from time to time, such as a checkpoint."""

    # -- jobs ------------------------------------------------------------------------------

    @abstractmethod
    def insert(self, jobs: Sequence[NewJob], now: datetime) -> list[Inserted]:
        """Add jobs: blocked, scheduled or pending; cancelled if a parent makes them impossible.

        A job whose unique key an unfinished job holds is not added: the holder's id is returned.
        Nor is one whose key (`NewJob.key`) stands for a job, whatever its status; else, from here
        on, the key stands for the job whose id is returned.

        Raises:
            NotFound: a queue or a parent does not exist; nothing is added.
            UsageError: a parent is named with two conditions; nothing is added.
        """

    @abstractmethod
    def known_keys(self, keys: Collection[str]) -> dict[str, KnownKey]:
        """Those keys that stand for a job. A job's keys are forgotten when it is deleted."""

    @abstractmethod
    def get(self, ids: Collection[int]) -> dict[int, Job]:
        """Those jobs that exist, by id."""

    @abstractmethod
    def find(self, jobs: JobFilter, *, limit: int | None, newest: bool = False) -> list[Job]:
        """Matching jobs in ascending order of id; with ``newest``, the last ones, descending."""

    @abstractmethod
    def counts(self) -> dict[str, dict[JobStatus, int]]:
        """How many jobs each queue has in each status; a status without jobs is left out."""

    @abstractmethod
    def histories(self, *, after_id: int, limit: int) -> list[History]:
        """Up to ``limit`` jobs in ascending order of id, with all that is kept of them."""

    @abstractmethod
    def flaws(self, *, thorough: bool) -> list[str]:
        """What is wrong with the storage itself; ``thorough`` reads all of it, and takes longer."""

    @abstractmethod
    def attempts(self, job_id: int) -> list[Attempt]:
        """The attempts of a job, the first one first."""

    @abstractmethod
    def claim(self, request: ClaimRequest, now: datetime) -> list[Claim]:
        """pending → running, at most ``limit``: by queue priority, then priority, then age.

        Paused queues, and those at their limit or rate, give none. Due jobs are promoted first.
        Each job claimed gets a new attempt, held by the owner until now + lease.

        The next ``ahead`` in the same order are claimed as well, but for those of queues with
        max_concurrent or a rate: what waits in somebody's hand must not use up what others may
        start. They come last. The owner starts them soon, or gives them back by `unclaim`.
        """

    @abstractmethod
    def unclaim(self, claims: Sequence[Claim], now: datetime) -> None:
        """running → pending, as if these attempts, which were never started, had not been claimed.

        Their numbers are given again, and their starts do not count for a rate. A job that was
        asked to stop meanwhile is cancelled. Claims that their owner does not hold any more are
        left alone.
        """

    @abstractmethod
    def exchange(self, report: Report, request: ClaimRequest | None, now: datetime) -> Exchange:
        """`started`, `progress`, `end`, `unclaim`, `claim` and `next_due`, in this order, as one.

        All of it takes effect, durably, or none of it. Without a request, nothing is claimed.
        """

    @abstractmethod
    def next_due(self, now: datetime) -> datetime | None:
        """The next time at which waiting alone makes a job claimable; None if none will."""

    @abstractmethod
    def started(self, starts: Sequence[Started]) -> None:
        """Note the processes of running attempts. An attempt that has ended is left alone."""

    @abstractmethod
    def progress(self, key: AttemptKey, progress: Progress) -> bool:
        """Note how far a running attempt has come; False if it is not running any more."""

    @abstractmethod
    def heartbeat(self, owner: str, lease: timedelta, now: datetime) -> list[Held]:
        """Renew the lease of every attempt that the owner still holds, and name them.

        An attempt missing from the answer was lost: its process must be killed.
        """

    @abstractmethod
    def cancel_requests(self, owner: str) -> list[Held]:
        """The owner's running attempts that were asked to stop."""

    @abstractmethod
    def end(
        self,
        endings: Sequence[AttemptResult],
        now: datetime,
        *,
        lease_before: datetime | None = None,
    ) -> list[bool]:
        """running → the status that each ending names; False where the attempt was not running.

        With ``lease_before``, only attempts whose lease ran out before then are ended: this is
        how another supervisor takes over without racing the owner's next heartbeat.
        Dependents learn of jobs that finish: see `settle_dependents`.
        """

    @abstractmethod
    def open_attempts(self) -> list[tuple[Job, Attempt]]:
        """Every running job with its open attempt."""

    @abstractmethod
    def cancel(
        self, ids: Collection[int], reason: str | None, now: datetime
    ) -> dict[int, CancelEffect]:
        """blocked, scheduled, pending, retrying → cancelled; a running job is asked to stop."""

    @abstractmethod
    def requeue(self, ids: Collection[int], now: datetime) -> list[Retried]:
        """failed, cancelled → pending, or blocked if parents are unmet; retries count afresh.

        Children that were cancelled because of it are blocked again, and theirs, and so on.
        """

    @abstractmethod
    def settle_dependents(self, now: datetime, limit: int = 500) -> bool:
        """Tell up to ``limit`` dependents what became of their parents; whether more are left.

        blocked → pending, scheduled, or cancelled where a parent made it impossible;
        cancelled because of a parent that was retried → blocked. `end`, `cancel` and `requeue`
        do the first portion themselves, so that no transaction grows with the number of children.
        """

    @abstractmethod
    def descendants(self, ids: Collection[int]) -> list[int]:
        """The unfinished jobs that wait, directly or not, for any of these."""

    @abstractmethod
    def delete(self, ids: Collection[int]) -> list[int]:
        """Forget finished jobs and their history; the ids deleted. Others are left alone."""

    # -- queues ----------------------------------------------------------------------------

    @abstractmethod
    def queues(self, names: Collection[str] | None = None) -> list[Queue]:
        """Every queue, or those of these names, the ones served first first."""

    @abstractmethod
    def put_queues(self, queues: Sequence[Queue]) -> None:
        """Create queues, or replace those of the same name."""

    @abstractmethod
    def delete_queue(self, name: str) -> None:
        """Forget a queue.

        Raises:
            NotFound: there is none of that name.
            WrongState: it is the default queue, or jobs are in it.
        """

    # -- schedules -------------------------------------------------------------------------

    @abstractmethod
    def add_schedule(self, schedule: Schedule) -> None:
        """Add a schedule; it gets an id of its own.

        Raises:
            WrongState: there is one of that name.
        """

    @abstractmethod
    def schedules(self, *, due: datetime | None = None) -> list[Schedule]:
        """Every schedule, by name; with ``due``, those that are to fire by then, longest due first.

        A paused one never is.
        """

    @abstractmethod
    def next_tick(self) -> datetime | None:
        """When the first schedule is to fire; None if none will."""

    @abstractmethod
    def replace_schedule(self, before: Schedule, after: Schedule) -> bool:
        """Change a schedule; False, and no change, if it is not any more as it was read."""

    @abstractmethod
    def remove_schedule(self, name: str) -> bool:
        """Forget a schedule and what it fired for; False if there was none. Its jobs stay."""

    @abstractmethod
    def fire(
        self,
        before: Schedule,
        after: Schedule,
        job: NewJob,
        ticks: Sequence[datetime],
        now: datetime,
    ) -> list[Fired] | None:
        """Change a schedule, and `insert` the job once for each time that it has not fired for yet.

        None, and no change, if it is not any more as it was read. However often it is called, by
        however many, a schedule fires for a time at most once. The last time and job are noted.

        Raises:
            NotFound: the queue does not exist; nothing is changed.
        """

    @abstractmethod
    def firings(self, name: str, limit: int) -> list[Fired]:
        """The last times that a schedule fired for, the latest first. Old ones are forgotten."""

    # -- supervisors -----------------------------------------------------------------------

    @abstractmethod
    def register(self, supervisor: SupervisorInfo) -> None:
        """Show a supervisor in `supervisors`."""

    @abstractmethod
    def unregister(self, ids: Collection[str]) -> None:
        """Forget supervisors that have left or are dead."""

    @abstractmethod
    def supervisors(self) -> list[SupervisorInfo]:
        """Those that are registered, the oldest first."""

    # -- logs ------------------------------------------------------------------------------

    def ship(self, parts: Sequence[Part], *, most: int, kept: timedelta) -> None:
        """Keep output for other machines: the last ``most`` bytes of each job, for so long.

        It may be lost, as nothing else may: it is no part of a group, and changes no counter.
        What belongs to a job that is not there is left out; it goes with its job.
        """
        del parts, most, kept

    def shipped(self, job_id: int, after: str | None = None) -> tuple[list[Part], str | None]:
        """What is kept of a job's output, as it came; and where to go on ``after``."""
        del job_id
        return [], after

    # -- figures ---------------------------------------------------------------------------

    @abstractmethod
    def ended(self, since: datetime, *, limit: int) -> list[Ended]:
        """The last ``limit`` jobs that completed or failed since then, the latest first."""

    @abstractmethod
    def ended_counts(self, since: datetime) -> dict[tuple[str, str], tuple[int, int]]:
        """By type and queue: how many jobs completed, and how many failed, since then."""

    @abstractmethod
    def ahead(self, job: Job, now: datetime) -> int:
        """How many pending jobs a claim would choose before this one.

        Those in queues that give none now, being paused or at a limit, do not count.
        """

    @abstractmethod
    def next_start(self, queue: Queue, now: datetime) -> datetime | None:
        """When the rate of a queue lets the next job start; None: it does so now."""

    @abstractmethod
    def key_holder(self, key: str) -> int | None:
        """The unfinished job that holds a unique key; None if it is free."""

    def totals(self) -> dict[str, int]:
        """How many jobs were ever added, completed, failed for good and recovered; {}: not counted.

        Recovered are those whose supervisor died or lost its lease, as often as that happened.
        """
        return {}

    @abstractmethod
    def finished_before(
        self, before: datetime, *, after: Finished | None = None, limit: int
    ) -> list[Finished]:
        """Up to ``limit`` jobs that ended before then, the first to end first.

        With ``after``, one of an earlier answer, whether it is still there or not: only those
        behind it. Some that ended at the same moment may come again.
        """

    # -- moving: see jobq.transfer.migrate -----------------------------------------------------------

    @abstractmethod
    def place(self) -> str:
        """Where it is: the same for one store, by whatever name it was opened."""

    @abstractmethod
    def setup(self) -> Setup:
        """All that is kept besides jobs and supervisors, read at one moment."""

    @abstractmethod
    def begin_filling(self, source: str, *, restart: bool = False) -> int:
        """Shut an empty store to everybody but who fills it; up to which id it has been filled.

        From here to `end_filling`, whoever else opens the store, or has it open, meets
        `HalfFilledError`, also if the process that fills it is killed. Who begins again with the
        same source goes on; with ``restart``, from the start, whatever the source was.

        Raises:
            WrongState: it has jobs or schedules, a supervisor is alive in it, or it is half filled
                from another source; nothing is changed.
        """

    @abstractmethod
    def load(self, histories: Sequence[History]) -> None:
        """Put jobs exactly as they are, with all that is kept of them, in ascending order of id.

        Those up to the id that the store has been filled to are there already, and left alone.
        """

    @abstractmethod
    def load_setup(self, setup: Setup) -> None:
        """Put what is kept besides jobs, in the place of what is there."""

    @abstractmethod
    def end_filling(self) -> None:
        """Open the store to everybody."""


REMEMBERED = timedelta(days=8)
"""How long it is known what a schedule fired for: a clock may be set back by so much."""


SHOWN = 20
"""The last so many are kept, however old."""
