"""Slots: claimed jobs are started as slots get free, and given back if that takes too long."""

import asyncio
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import TYPE_CHECKING

from jobq.execution.active_runs import ActiveRuns
from jobq.execution.events import EventSender
from jobq.execution.finish import Finisher
from jobq.execution.hold import Hold
from jobq.execution.hooks import Hooks
from jobq.execution.options import WorkOptions
from jobq.execution.outbox import Outbox
from jobq.execution.pool import Pool
from jobq.execution.prefetch import MAX_WAIT_S, Prefetched, PrefetchSize
from jobq.execution.run import Run
from jobq.jobs.outcome import Exit, StopReason
from jobq.models import AttemptKey, Claim
from jobq.queue import JobQueue, backend_of
from jobq.system.resources import SpareFiles

if TYPE_CHECKING:
    from jobq.logs.shipper import Shipper

RECORD_DELAY_S = 0.005
"""Seconds for which a result may wait for others, while enough is prefetched to go on with."""


SPARE_FILES = 8
"""Descriptors in reserve, to end runs with where no other is left."""


class Slots:
    """The slots of a supervisor: what waits for one, and what runs in one."""

    def __init__(
        self,
        queue: JobQueue,
        owner: str,
        options: WorkOptions,
        outbox: Outbox,
        hooks: Hooks,
        events: EventSender,
        *,
        wake: Callable[[], None],
        may_start: Callable[[], bool],
        on_types: Callable[[list[str], list[str], list[str]], None],
    ) -> None:
        """``wake`` has the supervisor record and claim; ``may_start``: the claims are still held."""
        self._queue = queue
        self._logs = queue.logs
        self._max_jobs = options.max_jobs
        self._claimed = 0
        self._outbox = outbox
        self._wake = wake
        self._may_start = may_start
        self._spare = SpareFiles(SPARE_FILES)
        self._hold = Hold(options.slots, events.message)
        self._pool = Pool(
            queue.settings,
            owner,
            self,
            on_types,
            on_short=lambda reason: self._hold.refused(len(self.runs), reason),
            on_message=events.message,
            inherited=options.inherited,
        )
        self.runs = ActiveRuns(
            queue.settings,
            outbox,
            events,
            take_back=self._pool.take_back,
            withdraw=self._withdraw,
            record_soon=self._record_soon,
            shipper=_shipper_of(queue),
            spare=self._spare,
        )
        self.finisher = Finisher(queue, owner, self.runs, outbox, hooks, events)
        self._prefetched = Prefetched()
        self._prefetch_size = PrefetchSize(options.slots)
        self._is_draining = False
        self._stop_reason: StopReason | None = None  # of all runs, those included that begin later
        self._timers: set[Callable[[], None]] = set()  # what will be called in a moment

    def open(self) -> None:
        """Start the processes that runs are started from.

        Raises:
            DatabaseError: the store can't be used.
        """
        self._logs = self._queue.logs.pinned()
        self._spare.open()
        self._pool.open()

    def close(self) -> None:
        """End the processes that runs are started from."""
        self._pool.close()
        self._spare.close()

    def reap(self) -> None:
        """Collect processes that have exited. Call it at SIGCHLD."""
        self._pool.reap()

    def reap_orphans(self) -> None:
        """Collect dead processes that others have left to this one. Call it once in a while."""
        self._pool.reap_orphans()

    # -- claiming --------------------------------------------------------------------------

    @property
    def jobs_left(self) -> int | None:
        """The number of jobs that may still be claimed; None: any number."""
        return None if self._max_jobs is None else max(0, self._max_jobs - self._claimed)

    @property
    def is_held(self) -> bool:
        """True while fewer jobs can be started than there are slots."""
        return self._hold.is_on or not self._pool.is_ready

    @property
    def is_empty(self) -> bool:
        """True if nothing runs and nothing is prefetched."""
        return not (self.runs or self._prefetched)

    @property
    def keys(self) -> set[AttemptKey]:
        """The attempts that this process has, and has not given away for good."""
        return self._prefetched.keys | self.runs.by_key.keys() | self._outbox.keys

    def room(self) -> tuple[int, int]:
        """Return how many jobs may be claimed to be started now, and how many to be prefetched."""
        if self._is_draining or not self._pool.is_ready:
            return 0, 0
        target = self._prefetch_size.target
        free = max(0, self._hold.limit - len(self.runs))
        limit = max(0, free - self._prefetched.waiting)
        ahead = max(0, target - max(0, len(self._prefetched) - free))
        if ahead <= target // 2 and not limit:
            ahead = 0  # there is enough: not one transaction for each
        left = limit + ahead if self.jobs_left is None else self.jobs_left
        return min(limit, left), min(ahead, max(0, left - limit))

    def take(self, claims: Collection[Claim]) -> None:
        """Take claims, to be started as slots get free."""
        self._claimed += len(claims)
        for claim in claims:
            run = Run(claim, self._logs, self._queue.settings.redactor, spare=self._spare)
            run.held_since = asyncio.get_running_loop().time()
            self._prefetched.add(run)

    # -- starting --------------------------------------------------------------------------

    def fill(self) -> None:
        """Start runs as far as there are free slots, and tell children what comes next."""
        if not self._may_start():  # the claims may have been lost
            self._wake()
            return
        while self._prefetched.first and len(self.runs) < self._hold.limit and self._pool.is_ready:
            self._pool.start(self._prefetched.take())
        while self._prefetched.first and self._pool.follow(self._prefetched.first):
            self._prefetched.follow()
        self._pool.send()
        if self._prefetched:
            self._soon(MAX_WAIT_S, self._put_back_overdue)

    def _soon(self, delay: float, call: Callable[[], None]) -> None:
        """Have something called after a while, unless it will be before."""
        if call in self._timers:
            return
        self._timers.add(call)

        def called() -> None:
            self._timers.discard(call)
            call()

        asyncio.get_running_loop().call_later(delay, called)

    # -- what becomes of runs --------------------------------------------------------------

    def on_begin(self, run: Run) -> None:
        self._prefetched.begun(run)
        self.runs.begin(run)
        if run.pid is not None:
            self._hold.started(len(self.runs))
        if self._stop_reason is not None:
            asyncio.get_running_loop().call_soon(self.runs.stop, run, self._stop_reason)

    def on_born(self, run: Run) -> None:
        self._hold.started(len(self.runs))
        self.runs.born(run)

    def on_back(self, runs: list[Run]) -> None:
        if not runs:
            return
        for run in runs:
            self.runs.forget(run)
        self._prefetched.put_back(runs)
        if self._is_draining:
            self._put_back({run.key for run in runs})
        self._soon(0, self.fill)

    def on_shortage(self, runs: list[Run], reason: str) -> None:
        for run in runs:
            self.runs.forget(run)
            run.close()
        self._prefetched.put_back(runs)
        self._hold.refused(len(self.runs), reason)
        self._prefetch_size.reset()
        self._put_back(self._prefetched.keys)  # another host may have room

    def on_exit(self, run: Run, end: Exit) -> None:
        self.finisher.finish(run, end, self._on_finished)

    def _on_finished(self, run: Run) -> None:
        """Use the slot of a run for the next one, and have its result recorded."""
        if run.stopped is not StopReason.LOST:
            self._prefetch_size.note_run(run.took or 0.0)
            if not self._prefetched:
                self._prefetch_size.grow()
            if self._prefetched.waiting:
                self._soon(0, self.fill)
        self._record_soon()

    def _record_soon(self) -> None:
        """Wake the supervisor: now, unless enough is prefetched to go on with."""
        if len(self._prefetched) > self._prefetch_size.target // 2:
            self._soon(RECORD_DELAY_S, self._wake)
        else:
            self._wake()

    # -- giving back, and stopping ---------------------------------------------------------

    def _put_back_overdue(self) -> None:
        """Give back what has waited for long: another supervisor may have a slot for it."""
        now = asyncio.get_running_loop().time()
        if self._prefetched.overdue(now):
            self._pool.take_back()
            self._put_back(self._prefetched.overdue(now))
            self._prefetch_size.reset()
        self.fill()

    def _put_back(self, keys: Collection[AttemptKey]) -> None:
        """Give back those of these claims that wait for a slot, and are with no child."""
        if dropped := self._prefetched.drop(keys):
            self._outbox.give_back([run.claim for run in dropped])
            self._claimed -= len(dropped)
            self._wake()

    def _withdraw(self, run: Run) -> bool:
        """Give back a run that still waits for its child; return whether it did."""
        if not self._pool.withdraw(run):
            return False
        self.runs.forget(run)
        self._prefetched.put_back([run])
        self._put_back({run.key})
        return True

    def cancel(self, keys: set[AttemptKey]) -> None:
        """Stop those of these attempts that are under way, and give back those that are not."""
        self._stop_running(keys)
        if not self._prefetched.keys.isdisjoint(keys):
            self._pool.take_back()
            self._put_back(keys)
            self._stop_running(keys)  # those that have begun just now

    def _stop_running(self, keys: set[AttemptKey]) -> None:
        for key in keys & self.runs.by_key.keys():
            self.runs.stop(self.runs.by_key[key], StopReason.CANCELLED)

    def keep_only(self, held: set[AttemptKey]) -> None:
        """Drop claims that are not held any more, rather than start them."""
        if not self._prefetched.keys <= held:
            self._pool.take_back()
            self._prefetched.drop(self._prefetched.keys - held)

    def put_back(self) -> None:
        """Give back all that is prefetched."""
        self._pool.take_back()
        self._put_back(self._prefetched.keys)

    def reload(self) -> int | None:
        """Load the workers again; return how many jobs go on with the old code.

        None: nothing more is started, so that nothing was loaded.
        """
        if self._is_draining:
            return None
        busy = self._pool.reload()
        self._put_back(self._prefetched.keys)  # what it has taken back
        return busy

    def drain(self) -> None:
        """Start nothing more, and give back all that is prefetched."""
        self._is_draining = True
        self.put_back()

    def release(self, reason: StopReason) -> None:
        """Stop all runs, those included that begin later."""
        self._stop_reason = reason
        for run in list(self.runs.by_key.values()):
            self.runs.stop(run, reason)


def _shipper_of(queue: JobQueue) -> "Shipper | None":
    """Return what ships the output of jobs to other hosts, where there may be any."""
    settings = queue.settings
    if not (backend_of(queue).logs.ships and settings.ship_max_bytes):
        return None
    from jobq.logs.shipper import Shipper  # only where it has something to do

    ttl = timedelta(seconds=settings.ship_ttl)
    return Shipper(backend_of(queue), queue.logs, max_bytes=settings.ship_max_bytes, ttl=ttl)
