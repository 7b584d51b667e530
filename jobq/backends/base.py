"""The contract between jobq and the store that keeps its jobs.

Verbs cross this boundary, neither SQL nor bytes. Each verb is atomic. Those that end or renew an
attempt are fenced: they take effect only while the job is running under that attempt's number and
start time, and return whether they did. Time is always passed in. `Backend` has the verbs of a
job's life; its attributes have the rest, as small interfaces. `tests/contract/` is this contract
as tests.

Where backends differ
    Time: on SQLite, the time passed in counts. On Redis, the server's clock counts, so that a host
    with a wrong clock does no harm: the `now` passed in only serves to turn what the caller derived
    from it (a lease, the wait before a retry) into server time. Times that a user named are absolute.
    Groups: on both, the verbs of a group take effect together, each sees the effects of those
    before it, and no other client does before the end. On SQLite a group is a transaction. On
    Redis each verb is rehearsed, and all are executed at the end: nothing outside of the backend
    may rely on an effect before the group ends. A group that is silent for 5 s loses its lock to
    other callers; it then fails and changes nothing.
    Durability: on SQLite, an acknowledged verb survives a power cut. On Redis that depends on the
    server's settings (docs/redis.md).
    Death: a dead supervisor is detected immediately on its own host, elsewhere when its lease ends.
    Logs: on SQLite, every process can read the files. On Redis, output is shipped to other hosts
    (`LogRelay.ships`).
    Reading: on SQLite, each verb reads at one moment. On Redis, verbs that may read very many jobs
    (`find`, `page`, `descendants`, `ended`, `ended_counts`, `flaws`) read in batches.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import ClassVar

from jobq.backends.failures import FailureStore
from jobq.backends.lists import JobLists
from jobq.backends.log_relay import LogRelay
from jobq.backends.messages import (
    ClaimRequest,
    Exchange,
    Report,
    StoreIdentity,
)
from jobq.backends.transfer_store import TransferStore
from jobq.clock import utcnow
from jobq.models import (
    Attempt,
    AttemptKey,
    AttemptResult,
    CancelEffect,
    Claim,
    Ended,
    Finished,
    Fired,
    Held,
    Inserted,
    Job,
    JobFilter,
    JobStatus,
    NewJob,
    Progress,
    Queue,
    Retried,
    Schedule,
    Started,
    SupervisorInfo,
)

MIN_CLOCK_ERROR = timedelta(minutes=1)
"""Times that are less than this ahead of the clock are those of processes that had to wait."""

MAX_CORRECTED_WAITS = 5000
"""Jobs, those due first, that are looked at after the clock may have been set back."""

FIRING_RETENTION = timedelta(days=8)
"""Retention of the firings of a schedule: a clock may be set back by as much."""

MIN_FIRINGS_KEPT = 20
"""The latest firings of a schedule that are kept, however old."""

SETTLE_BATCH_SIZE = 500
"""Dependents that are told of their parents in one transaction."""


class Listener(ABC):
    """Wake-ups for a supervisor: sent when there may be work, or a request to stop some."""

    @abstractmethod
    def fileno(self) -> int:
        """Return a descriptor that becomes readable at each wake-up."""

    @abstractmethod
    def drain(self) -> None:
        """Forget the wake-ups so far."""

    @abstractmethod
    def close(self) -> None:
        """Stop listening. From here on the owner counts as dead."""


class SupervisorRegistry(ABC):
    """Supervisors: those that are registered, and those that are known to be dead."""

    @abstractmethod
    def all(self) -> list[SupervisorInfo]:
        """Return the registered supervisors, the oldest first."""

    @abstractmethod
    def register(self, supervisor: SupervisorInfo) -> None:
        """List a supervisor in `all`."""

    @abstractmethod
    def unregister(self, ids: Collection[str]) -> None:
        """Forget supervisors that have exited or are dead."""

    @abstractmethod
    def listen(self, owner: str) -> Listener:
        """Announce a live owner: woken at changes, and known dead once its process is."""

    @abstractmethod
    def dead(self, owners: Collection[str]) -> set[str]:
        """Return those owners that are certainly dead, without waiting for a lease."""


class ScheduleStore(ABC):
    """Schedules and their firings."""

    @abstractmethod
    def all(self, *, due: datetime | None = None) -> list[Schedule]:
        """Return every schedule, by name; with ``due``, those to fire by then, longest due first.

        Paused schedules are never due.
        """

    @abstractmethod
    def add(self, schedule: Schedule) -> None:
        """Add a schedule; it gets an id of its own.

        Raises:
            WrongState: there is one of that name.
        """

    @abstractmethod
    def replace(self, before: Schedule, after: Schedule) -> bool:
        """Change a schedule; False, and no change, if it was changed since ``before`` was read."""

    @abstractmethod
    def remove(self, name: str) -> bool:
        """Delete a schedule and its firings; False if there was none. Its jobs stay."""

    @abstractmethod
    def next_tick(self) -> datetime | None:
        """Return when the first schedule is to fire; None if none will."""

    @abstractmethod
    def fire(
        self,
        before: Schedule,
        after: Schedule,
        job: NewJob,
        ticks: Sequence[datetime],
        now: datetime,
    ) -> list[Fired] | None:
        """Change a schedule, and `insert` the job once for each tick that it has not fired for yet.

        None, and no change, if the schedule was changed since ``before`` was read. A schedule fires
        for a tick at most once, however many callers try. The last tick and job are recorded.

        Raises:
            NotFound: the queue does not exist; nothing is changed.
        """

    @abstractmethod
    def firings(self, name: str, limit: int) -> list[Fired]:
        """Return the last firings of a schedule, the latest first. Old ones are forgotten."""


class StatsReader(ABC):
    """Statistics: how jobs ended, and what a pending one waits for."""

    @abstractmethod
    def ended(self, since: datetime, *, limit: int) -> list[Ended]:
        """Return the last ``limit`` jobs that completed or failed since then, the latest first."""

    @abstractmethod
    def ended_counts(self, since: datetime) -> dict[tuple[str, str], tuple[int, int]]:
        """Return by (type, queue) how many jobs completed, and how many failed, since then."""

    @abstractmethod
    def totals(self) -> dict[str, int]:
        """Return how many jobs were ever added, completed, failed for good and recovered.

        Recovered: their supervisor died or lost its lease; counted each time. A store that was
        filled from another one starts with the jobs that came, all of them added.
        """

    @abstractmethod
    def ahead(self, job: Job, now: datetime) -> int:
        """Return how many pending jobs a claim would choose before this one.

        Jobs in queues that are paused or at a limit do not count.
        """

    @abstractmethod
    def next_start(self, queue: Queue, now: datetime) -> datetime | None:
        """Return when the rate of a queue lets the next job start; None: now."""

    @abstractmethod
    def key_holder(self, key: str) -> int | None:
        """Return the unfinished job that holds a unique key; None if the key is free."""


class Backend(ABC):
    """The store of jobs, attempts, dependencies and queues."""

    spans_hosts: ClassVar[bool] = False
    """True if supervisors on several hosts may share it."""

    batch_size: ClassVar[int] = 1000
    """Jobs to add or change in one verb: few enough that other callers hardly wait."""

    supervisors: SupervisorRegistry
    schedules: ScheduleStore
    stats: StatsReader
    failures: FailureStore
    transfer: TransferStore
    logs: LogRelay
    lists: JobLists

    # -- life ------------------------------------------------------------------------------

    @abstractmethod
    def open(self) -> None:
        """Check the store now, if there is one, rather than at the first verb.

        Raises:
            DatabaseError: it can't be used.
        """

    @abstractmethod
    def close(self) -> None:
        """Release everything that this process holds."""

    @abstractmethod
    def group(self) -> AbstractContextManager[None]:
        """Make verbs inside take effect together, durably, when the block ends without an error."""

    def now(self) -> datetime:
        """Return the time by the clock that counts: where hosts share a backend, the server's.

        Raises:
            DatabaseError: there is no answer, and there has not been one before.
        """
        return utcnow()

    @abstractmethod
    def change_counter(self) -> int:
        """Return a number that differs from the last one if another process may have made changes."""

    @abstractmethod
    def identity(self) -> StoreIdentity:
        """Return the identity of the store, which marks its log directories."""

    def hold_store(self) -> None:  # noqa: B027 - a database that is replaced is refused anyway
        """Raise a DatabaseError, from here on, once the store was emptied or replaced."""

    @abstractmethod
    def maintain(self) -> None:
        """Do the upkeep that the storage needs from time to time, such as a checkpoint."""

    @abstractmethod
    def correct_waits(self, now: datetime) -> int:
        """Work out anew what a clock that was ahead has put off: scheduled and retrying jobs.

        A job whose wait began more than `MIN_CLOCK_ERROR` after now waits as long as it was to,
        from now on. That is a retry, a snooze, or a job that was added with a delay: one that runs
        whole milliseconds after it was added. A time of day stays. Return how many were changed.
        """

    # -- jobs ------------------------------------------------------------------------------

    @abstractmethod
    def insert(self, jobs: Sequence[NewJob], now: datetime) -> list[Inserted]:
        """Add jobs: blocked, scheduled or pending; cancelled if a parent makes them impossible.

        A job whose unique key is held by an unfinished job is not added: the holder's id is
        returned. Nor is one whose import key (`NewJob.key`) has a job, whatever its status;
        otherwise the key belongs to the returned id from here on.

        Raises:
            NotFound: a queue or a parent does not exist; nothing is added.
            UsageError: a parent is named with two conditions; nothing is added.
        """

    @abstractmethod
    def get(self, ids: Collection[int]) -> dict[int, Job]:
        """Return those jobs that exist, by id."""

    @abstractmethod
    def find(self, jobs: JobFilter, *, limit: int | None, newest: bool = False) -> list[Job]:
        """Return matching jobs in ascending order of id; with ``newest``, the last, descending."""

    @abstractmethod
    def counts(self) -> dict[str, dict[JobStatus, int]]:
        """Return the number of jobs by queue and status; statuses without jobs are left out."""

    @abstractmethod
    def attempts(self, job_id: int) -> list[Attempt]:
        """Return the attempts of a job, the first one first."""

    @abstractmethod
    def open_attempts(self) -> list[tuple[Job, Attempt]]:
        """Return every running job with its open attempt."""

    @abstractmethod
    def finished_before(
        self, before: datetime, *, after: Finished | None = None, limit: int
    ) -> list[Finished]:
        """Return up to ``limit`` jobs that ended before then, the first to end first.

        With ``after``, one of an earlier answer, whether it still exists or not: only those that
        follow it. Some that ended at the same moment may be returned again.
        """

    @abstractmethod
    def flaws(self, *, thorough: bool) -> list[str]:
        """Return what is wrong with the storage itself; ``thorough`` reads all of it: slower."""

    # -- running ---------------------------------------------------------------------------

    @abstractmethod
    def claim(self, request: ClaimRequest, now: datetime) -> list[Claim]:
        """Claim up to ``limit`` jobs, pending → running: by queue priority, then priority, then age.

        Paused queues, and those at their limit or rate, give none. Due jobs are promoted first.
        Each job claimed gets a new attempt, held by the owner until now + lease.

        The next ``prefetch`` jobs in the same order are claimed too, except from queues with
        max_concurrent or a rate: a prefetched job must not use up what other supervisors may
        start. They come last. The owner starts them soon, or gives them back by `unclaim`.
        """

    @abstractmethod
    def unclaim(self, claims: Sequence[Claim], now: datetime) -> None:
        """Give back attempts that were never started, running → pending, as if never claimed.

        Their numbers are given again, and their starts do not count against a rate. A job that was
        asked to stop meanwhile is cancelled. Claims that their owner no longer holds are left alone.
        """

    @abstractmethod
    def limit_waits(self, seconds: float | None) -> None:
        """Wait no longer than this for locks and answers in this thread; None: as at first."""

    @abstractmethod
    def exchange(self, report: Report, request: ClaimRequest | None, now: datetime) -> Exchange:
        """Run `started`, `progress`, `end`, `unclaim`, `claim` and `next_due`, in this order, as one.

        All of it takes effect, durably, or none of it. Without a request, nothing is claimed.
        """

    @abstractmethod
    def next_due(self, now: datetime) -> datetime | None:
        """Return the next time at which waiting alone makes a job claimable; None if none will."""

    @abstractmethod
    def started(self, starts: Sequence[Started]) -> None:
        """Record the processes of running attempts. An attempt that has ended is left alone."""

    @abstractmethod
    def progress(self, key: AttemptKey, progress: Progress) -> bool:
        """Record the progress of a running attempt; False if it is no longer running."""

    @abstractmethod
    def heartbeat(self, owner: str, lease: timedelta, now: datetime) -> list[Held]:
        """Renew the lease of every attempt that the owner still holds, and return them.

        An attempt missing from the answer was lost: its process must be killed.
        """

    @abstractmethod
    def cancel_requests(self, owner: str) -> list[Held]:
        """Return the owner's running attempts that were asked to stop."""

    @abstractmethod
    def end(
        self,
        endings: Sequence[AttemptResult],
        now: datetime,
        *,
        lease_before: datetime | None = None,
    ) -> list[bool]:
        """End attempts, running → the status in each result; False where an attempt was not running.

        With ``lease_before``, only attempts whose lease ran out before then are ended: this is
        how another supervisor takes over without racing the owner's next heartbeat.
        Dependents learn of jobs that finish: see `settle_dependents`.
        """

    # -- changing --------------------------------------------------------------------------

    @abstractmethod
    def cancel(
        self, ids: Collection[int], reason: str | None, now: datetime
    ) -> dict[int, CancelEffect]:
        """Cancel jobs: blocked, scheduled, pending, retrying → cancelled; ask running ones to stop."""

    @abstractmethod
    def requeue(self, ids: Collection[int], now: datetime) -> list[Retried]:
        """Retry jobs: failed, cancelled → pending, or blocked if parents are unmet; retries restart.

        Children that were cancelled because of it are blocked again, and theirs, and so on.
        """

    @abstractmethod
    def settle_dependents(self, now: datetime, limit: int = SETTLE_BATCH_SIZE) -> bool:
        """Tell up to ``limit`` dependents how their parents ended; return whether more are left.

        blocked → pending, scheduled, or cancelled where a parent made it impossible;
        cancelled because of a parent that was retried → blocked. `end`, `cancel` and `requeue`
        do the first batch themselves, so that no transaction grows with the number of children.
        """

    @abstractmethod
    def descendants(self, ids: Collection[int]) -> list[int]:
        """Return the unfinished jobs that wait, directly or not, for any of these."""

    @abstractmethod
    def delete(self, ids: Collection[int]) -> list[int]:
        """Delete finished jobs and their history; return the deleted ids. Others are left alone."""

    # -- queues ----------------------------------------------------------------------------

    @abstractmethod
    def queues(self, names: Collection[str] | None = None) -> list[Queue]:
        """Return every queue, or those of these names, the ones served first first."""

    @abstractmethod
    def put_queues(self, queues: Sequence[Queue]) -> None:
        """Create queues, or replace those of the same name."""

    @abstractmethod
    def delete_queue(self, name: str) -> None:
        """Delete a queue.

        Raises:
            NotFound: there is none of that name.
            WrongState: it is the default queue, or has jobs.
        """
