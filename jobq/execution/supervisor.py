"""The loop behind ``jobq work``: claims, starts, watches, records.

One asyncio loop in one thread. Signal handlers, timers and processes only note what happened and
wake the loop; `_step` decides. What ended meanwhile is recorded, and new work claimed, in one
transaction: under load, many attempts share one commit.
"""

import asyncio
import signal
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from jobq.backends.base import Listener
from jobq.backends.messages import ClaimRequest
from jobq.backends.outage import Outage
from jobq.clock import steady_time, utcnow
from jobq.errors import (
    DatabaseAwayError,
    DatabaseError,
    DatabaseUnavailableError,
    DatabaseUnreachableError,
)
from jobq.execution.active_runs import LEFTOVER_BEAT, ActiveRuns
from jobq.execution.hooks import SECONDS as HOOK_SECONDS
from jobq.execution.hooks import Hooks
from jobq.execution.options import Event, Stop, WorkOptions
from jobq.execution.outbox import Outbox
from jobq.execution.pool import Pool
from jobq.execution.prefetch import PATIENCE, Prefetched, PrefetchSize
from jobq.execution.run import Run
from jobq.job_types.shell import JOB_TYPE as SHELL
from jobq.jobs.outcome import Exit, StopReason
from jobq.models import (
    UNFINISHED,
    AttemptKey,
    AttemptResult,
    Claim,
    Held,
    Job,
    JobFilter,
    JobStatus,
    Outcome,
    SupervisorInfo,
)
from jobq.queue import JobQueue, backend_of
from jobq.recovery import owner_id
from jobq.scheduling.maintenance import Scheduler
from jobq.system.disk_space import Disks
from jobq.system.processes import boot_id, host_name

if TYPE_CHECKING:
    from jobq.logs.shipper import Shipper

BEAT = 1.0
"""Seconds between two looks at what nobody told of: other writers, dead supervisors, late jobs."""

PROGRESS_BEAT = 0.5
KEPT = 0.8
"""Of a lease that can't be renewed, the share after which the attempts are ended here: what the
last call to a silent server takes, and the end of the processes, must fit into the rest."""

RECORD_DELAY = 0.005
"""Seconds for which the end of a run may wait for others, where there is enough to go on with."""


class Supervisor:
    """Runs the jobs of a queue until it is told to stop."""

    def __init__(
        self,
        queue: JobQueue,
        options: WorkOptions,
        on_event: Callable[[Event], None] = lambda _: None,
    ) -> None:
        self.id = owner_id(host_name())
        self._queue = queue
        self._backend = backend_of(queue)
        self._settings = queue.settings
        self._options = options
        self._show = on_event
        self._lease = timedelta(seconds=self._settings.lease)
        self._pool = Pool(self._settings, self.id, self)
        self._scheduler = Scheduler(
            queue,
            self.id,
            lambda job: self._done([job]),
            fires=options.ids is None,
            tell=self._message,
        )
        self._hooks = Hooks(self._settings, self._message_from_a_thread)
        self._listener: Listener | None = None
        self._hand = Prefetched()
        self._pace = PrefetchSize(options.slots)
        self._running = ActiveRuns(
            self._settings,
            self._pool,
            lambda: self._unrecorded,
            now=self._backend.now,
            on_change=self._on_change,
            show=self._on_event,
            shipper=_shipper_of(queue),
        )
        self._unrecorded = Outbox()
        self._timers: set[Callable[[], None]] = set()  # what will be called in a moment
        self._types: set[str] = {SHELL}
        self._types_known = False
        self._stop = Stop.NO
        self._interrupted = False
        self._leaving = False
        self._claimed = 0
        self._look = True  # there may be work to claim
        self._seen_changes = 0
        self._claimable_at: datetime | None = None  # by waiting alone
        self._fires_at: datetime | None = None  # the next schedule
        self._renewed_at = 0.0
        self._disks = Disks(self._settings, self._message)
        self._outage = Outage(self._message)
        self._reconnecting: asyncio.Task[None] | None = None
        self._failure: DatabaseError | None = None

    # -- life ------------------------------------------------------------------------------

    async def run(self, claim_first: Callable[[str], Collection[Claim]] | None = None) -> None:
        """Work until done or stopped, beginning with what ``claim_first`` claims for this owner.

        Raises:
            DatabaseError: the database became unusable; whatever ran was ended.
        """
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._listener = self._backend.supervisors.listen(self.id)
        self._loop.add_reader(self._listener.fileno(), self._on_poke)
        self._loop.add_signal_handler(signal.SIGCHLD, self._pool.reap)
        self._loop.add_signal_handler(signal.SIGINT, self._on_stop_signal, "Ctrl-C")
        self._loop.add_signal_handler(signal.SIGTERM, self._on_stop_signal, "SIGTERM")
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
            self._loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        try:
            self._started_at = self._backend.now()
            self._backend.supervisors.register(self._info())
            self._renewed_at = steady_time()
            self._pool.open()
            self._take(claim_first(self.id) if claim_first else ())
            self._fill()
            beats = asyncio.create_task(self._beat())
            beats.add_done_callback(lambda _: self._wake.set())
            self._beats = beats
            try:
                await self._work()
                await self._finish_hooks()
            finally:
                beats.cancel()
        finally:
            self._leave()
        if self._failure is not None:
            raise self._failure

    def restrict_to(self, ids: Collection[int]) -> None:
        """Take only these jobs from here on."""
        self._options = replace(self._options, ids=ids)

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stop > Stop.NO

    @property
    def interrupted(self) -> bool:
        """Whether it was stopped by Ctrl-C."""
        return self._interrupted

    def request_stop(self) -> Stop:
        """Ask to stop, one step further at each call: drain, release, kill."""
        first = not self._stop
        self._stop = Stop(min(self._stop + 1, Stop.KILL))
        if self._options.cancel_at_stop:
            self._stop = max(self._stop, Stop.RELEASE)
        self._put_hand_back()
        if self._stop is Stop.KILL:
            self._running.grace = 0.0
        if self._stop >= Stop.RELEASE:
            for run in list(self._running.runs.values()):
                self._running.stop(run, self._shutdown_reason())
        if first:
            self._announce()
        self._wake.set()
        return self._stop

    def _on_stop_signal(self, name: str) -> None:
        running = len(self._running)
        self._interrupted = self._interrupted or name == "Ctrl-C"
        match self.request_stop():
            case Stop.DRAIN if running:
                jobs = "job" if running == 1 else "jobs"
                self._message(f"waiting for {running} running {jobs}; {name} again gives them back")
            case Stop.RELEASE if running:
                self._message(f"stopping {running} running jobs; {name} again kills them")

    def _shutdown_reason(self) -> StopReason:
        cancel = self._options.cancel_at_stop
        return StopReason.CANCELLED if cancel else StopReason.SHUTDOWN

    def _on_hangup(self) -> None:
        """The terminal is gone: nobody could ask a second time."""
        self._stop = max(self._stop, Stop.DRAIN)
        self.request_stop()

    async def _finish_hooks(self) -> None:
        """Wait for what is done at the end of jobs, unless asked to stop once more."""
        stop, deadline = self._stop, self._loop.time() + HOOK_SECONDS
        self._leaving = True
        if self._hooks.left:
            self._announce()
            self._message(f"waiting for {self._hooks.left} hooks; Ctrl-C ends them")
        while (  # noqa: ASYNC110 - threads set no event
            self._hooks.left and self._stop is stop and self._loop.time() < deadline
        ):
            await asyncio.sleep(LEFTOVER_BEAT)

    def _leave(self) -> None:
        if left := self._hooks.close():
            self._message(f"{left} hooks were not run to their end")
        self._running.close()
        self._pool.close()
        if not self._running and not self._hand:  # otherwise others find it dead, and rescue
            with suppress(DatabaseError):
                self._backend.supervisors.unregister([self.id])
        if self._listener is not None:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
        # Last of all: one more Ctrl-C or SIGTERM is not to interrupt this.
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._loop.remove_signal_handler(number)

    def _announce(self) -> None:
        """Tell what it takes by now, so that nobody counts on it in vain."""
        with suppress(DatabaseError):
            self._backend.supervisors.register(self._info())

    def _info(self) -> SupervisorInfo:
        queues = () if self._takes_no_more() else self._options.queues
        return SupervisorInfo(
            id=self.id,
            host=host_name(),
            boot_id=boot_id(),
            pid=int(self.id.split(":")[1]),
            slots=self._options.slots,
            queues=None if queues is None else tuple(sorted(queues)),
            types=tuple(sorted(self._request(1).types or ())),
            started_at=self._started_at,
            heartbeat_at=self._backend.now(),
        )

    # -- the loop --------------------------------------------------------------------------

    async def _work(self) -> None:
        with suppress(DatabaseError):  # the first step meets it, and says so
            self._look_around()
        while True:
            self._wake.clear()
            if self._beats.done():
                self._beats.result()  # raises what ended it: without it, nothing would be noticed
            try:
                if self._reconnecting is None:
                    self._step()
                    self._outage.over()
                    if self._is_done():
                        return
            except DatabaseUnavailableError as error:
                self._in_trouble(error)
            except DatabaseError as error:
                self._failure = error
                return
            if self._outage.error is not None and self._is_told_to_leave():
                self._failure = self._outage.error if self._unrecorded.endings else None
                return
            await self._wake.wait()

    def _step(self) -> None:
        """Record what happened, claim what there is room for, and start it."""
        now = self._backend.now()
        if self._is_renewal_due() or self._outage.error is not None:
            self._renew(now)
        self._hooks.run_noted(self._backend.get)
        limit, ahead = self._room()
        if self._unrecorded or (limit + ahead and self._look):
            short = self._disks.are_short()
            request = self._request(limit, ahead) if limit + ahead and not short else None
            told = self._backend.exchange(self._unrecorded.report(), request, now)
            self._take(told.claims)  # before anything else can fail: nobody else would start them
            self._forget_recorded(self._recorded(told.ended))
            self._claimable_at = told.next_due
            self._look = len(told.claims) == limit + ahead and not short
            if told.claims and self._takes_no_more():
                self._announce()
        self._fill()

    def _is_renewal_due(self) -> bool:
        return steady_time() - self._renewed_at > self._settings.lease / 3

    def _recorded(self, ended: list[bool]) -> list[bool]:
        """Which endings count: after an outage, also those of a report whose answer was lost."""
        if self._outage.error is None or all(ended):
            return ended
        return [
            took_effect or self._is_on_record(ending)
            for (_, ending), took_effect in zip(self._unrecorded.endings, ended, strict=True)
        ]

    def _is_on_record(self, ending: AttemptResult) -> bool:
        return any(
            (each.key, each.supervisor, each.outcome) == (ending.key, self.id, ending.outcome)
            for each in self._backend.attempts(ending.job_id)
        )

    def _forget_recorded(self, recorded: list[bool]) -> None:
        done, self._unrecorded = self._unrecorded, Outbox()
        now = self._backend.now()
        for (run, ending), took_effect in zip(done.endings, recorded, strict=True):
            if took_effect:
                self._tell_end(run, ending, now)
            else:
                what = f"job {run.key.job_id}: attempt {run.key.attempt} was taken over"
                self._message(f"{what}: what it came to does not count")
            self._running.close_files(run)
        if done.endings:
            self._look = True
            pairs = zip(done.endings, recorded, strict=True)
            self._done([run.claim.job for (run, _), took_effect in pairs if took_effect])

    def _done(self, jobs: Collection[Job]) -> None:
        """Attempts at these jobs have ended: see to their hooks, where that was for good."""
        self._hooks.note(jobs)
        with suppress(DatabaseError):  # at the next step
            self._hooks.run_noted(self._backend.get)

    def _tell_end(self, run: Run, ending: AttemptResult, now: datetime) -> None:
        details: dict[str, Any] = {"outcome": ending.outcome.value, "status": ending.status.value}
        for name in ("exit_code", "signal", "error"):
            if (value := getattr(ending, name)) is not None:
                details[name] = value
        if not (run.told and ending.outcome is Outcome.COMPLETED):
            run.event("finished", utcnow(), **details)
        if ending.status is JobStatus.RETRYING and ending.run_at is not None:
            run.event("retry", utcnow(), run_at=ending.run_at.isoformat())
        job = run.hide.job(run.claim.job)
        self._on_event(Event("finished", job, ending=run.hide.ending(ending), at=now))

    def _room(self) -> tuple[int, int]:
        """How many jobs may be claimed to be started now, and how many ahead."""
        if self._stop:
            return 0, 0
        free = max(0, self._options.slots - len(self._running))
        limit = max(0, free - self._hand.waiting)
        ahead = max(0, self._pace.ahead - max(0, len(self._hand) - free))
        if ahead <= self._pace.ahead // 2 and not limit:
            ahead = 0  # there is enough: not one transaction for each
        left = limit + ahead if self._left() is None else self._left() or 0
        return min(limit, left), min(ahead, max(0, left - limit))

    def _left(self) -> int | None:
        """How many more jobs it may claim at all; None: any number."""
        most = self._options.max_jobs
        return None if most is None else max(0, most - self._claimed)

    def _takes_no_more(self) -> bool:
        return (
            self._leaving
            or self._stop > Stop.NO
            or self._options.ids is not None
            or self._left() == 0
        )

    def _request(self, limit: int, ahead: int = 0) -> ClaimRequest:
        types = self._options.types
        return ClaimRequest(
            owner=self.id,
            limit=limit,
            prefetch=ahead,
            lease=self._lease,
            queues=self._options.queues,
            types=self._types if types is None else self._types & set(types),
            ids=self._options.ids,
        )

    def _is_done(self) -> bool:
        unrecorded = self._unrecorded.endings or self._unrecorded.unstarted
        if self._running or self._hand or unrecorded or self._hooks.has_noted:
            return False
        if self._stop or self._left() == 0:
            return True
        if not self._options.drain or self._look:
            return False
        if self._options.ids is not None:
            wanted = JobFilter(ids=tuple(self._options.ids), statuses=UNFINISHED)
            return not self._backend.find(wanted, limit=1)
        return not self._is_anything_left()

    def _is_anything_left(self) -> bool:
        if self._backend.settle_dependents(self._backend.now()):
            self._look = True
            return True
        statuses = {JobStatus.PENDING}
        if self._options.wait_retries:
            statuses |= {JobStatus.RETRYING, JobStatus.SCHEDULED}
        open_queues = {queue.name for queue in self._backend.queues() if not queue.paused}
        request = self._request(1)
        for job in self._queue.each(JobFilter(statuses=frozenset(statuses))):
            if (
                (job.status is not JobStatus.SCHEDULED or job.attempts)  # snoozed
                and job.queue in open_queues
                and (request.queues is None or job.queue in request.queues)
                and (not self._types_known or job.type in (request.types or ()))
            ):
                return True
        return False

    # -- what happens ----------------------------------------------------------------------

    def _on_poke(self) -> None:
        assert self._listener is not None
        self._listener.drain()
        self._look = True
        self._stop_cancelled()
        with suppress(DatabaseError):
            self._fires_at = self._scheduler.next_tick()
        self._wake.set()

    async def _beat(self) -> None:
        """Every second, and whenever a job falls due: look at what nobody told of."""
        next_progress = 0.0
        while True:
            await asyncio.sleep(self._until_next_beat())
            try:
                if self._reconnecting is None:
                    self._look_around()
            except DatabaseAwayError as error:
                self._in_trouble(error)
            except DatabaseError:  # the next step meets it, and says so
                pass
            self._end_what_may_be_taken()
            if self._running and self._loop.time() >= next_progress:
                self._running.look()
                next_progress = self._loop.time() + PROGRESS_BEAT
            self._wake.set()

    def _until_next_beat(self) -> float:
        wait = PROGRESS_BEAT if self._running else BEAT
        due = self._due()
        if due is not None and not self._stop:
            ahead = (due - self._backend.now()).total_seconds()
            # What is overdue waits for a slot, or for room on the disk, and not for a beat.
            if ahead > 0 or (self._room()[0] and self._disks.shortage is None):
                wait = min(wait, ahead)
        return max(wait, 0.005)

    def _look_around(self) -> None:
        now = self._backend.now()
        due = self._due()
        if (due is not None and due <= now) or self._disks.shortage is not None:
            self._look = True
        changes = self._backend.change_counter()
        if changes != self._seen_changes:
            self._seen_changes = changes
            self._look = True
            self._stop_cancelled()
        if self._scheduler.tick(now, own={key.job_id for key in self._known()}):
            self._look = True
        self._fires_at = self._scheduler.next_tick()

    def _due(self) -> datetime | None:
        """When there will be something to do although nobody tells of it."""
        dues = (self._claimable_at, self._fires_at)
        return min((due for due in dues if due is not None), default=None)

    def _known(self) -> set[AttemptKey]:
        """The attempts that this process has, and has not given away for good."""
        in_hand = {run.key for run in self._hand}
        return in_hand | self._running.runs.keys() | self._unrecorded.keys()

    def _stop_cancelled(self) -> None:
        with suppress(DatabaseError):
            self._cancel(self._backend.cancel_requests(self.id))

    def _cancel(self, held: Collection[Held]) -> None:
        keys = {item.key for item in held if item.cancel_requested}
        for key in keys & self._running.runs.keys():
            self._running.stop(self._running.runs[key], StopReason.CANCELLED)
        if keys & {run.key for run in self._hand}:
            self._pool.take_back()
            self._put_back(keys)
            for key in keys & self._running.runs.keys():  # begun just now
                self._running.stop(self._running.runs[key], StopReason.CANCELLED)

    def _renew(self, now: datetime) -> None:
        """Renew leases; what was lost meanwhile is ended before its result could count."""
        asked_at = steady_time()
        held = self._backend.heartbeat(self.id, self._lease, now)
        self._cancel(held)
        keys = {item.key for item in held}
        if not {run.key for run in self._hand} <= keys:
            self._pool.take_back()
            self._hand.drop({run.key for run in self._hand} - keys)
        for key, run in list(self._running.runs.items()):
            if key not in keys and not run.ended:
                self._message(
                    f"job {key.job_id}: attempt {key.attempt} was taken over: ending it here"
                )
                self._running.end_at_once(run, StopReason.LOST)
        self._give_back(keys - self._known(), now)
        if all(each.id != self.id for each in self._backend.supervisors.all()):
            self._announce()  # a server may have lost what it was told last
        self._renewed_at = asked_at

    def _give_back(self, keys: Collection[AttemptKey], now: datetime) -> None:
        """Attempts that are held, and nobody knows of here: the answer to a claim was lost."""
        if keys:
            jobs = self._backend.get([key.job_id for key in keys])
            claims = [Claim(jobs[key.job_id], key.attempt, self.id) for key in keys]
            self._backend.unclaim(claims, now)
            self._look = True

    # -- runs ------------------------------------------------------------------------------

    def _take(self, claims: Collection[Claim]) -> None:
        """What was claimed is in hand."""
        self._claimed += len(claims)
        for claim in claims:
            run = Run(claim, self._queue.logs, self._settings.redactor)
            run.held_since = self._loop.time()
            self._hand.add(run)

    def _fill(self) -> None:
        """Start what is in hand, as far as there are slots; let children know what comes next."""
        if self._is_renewal_due():  # what is in hand may have been lost
            self._wake.set()
            return
        while self._hand.first and len(self._running) < self._options.slots:
            self._pool.start(self._hand.take())
        while self._hand.first and self._pool.follow(self._hand.first):
            self._hand.follow()
        self._pool.send()
        if self._hand:
            self._soon(PATIENCE, self._put_overdue_back)

    def _soon(self, delay: float, call: Callable[[], None]) -> None:
        """Have something called after a while, unless it will be before."""
        if call in self._timers:
            return
        self._timers.add(call)

        def called() -> None:
            self._timers.discard(call)
            call()

        self._loop.call_later(delay, called)

    def _put_overdue_back(self) -> None:
        """What has been in hand for long is for somebody else, who may have a slot for it."""
        if self._hand.overdue(self._loop.time()):
            self._pool.take_back()
            self._put_back(self._hand.overdue(self._loop.time()))
            self._pace.stumble()
        self._fill()

    def _put_hand_back(self) -> None:
        self._pool.take_back()
        self._put_back({run.key for run in self._hand})

    def _put_back(self, keys: Collection[AttemptKey]) -> None:
        """Give claims back that are in hand, and with no child."""
        if dropped := self._hand.drop(keys):
            self._unrecorded.unstarted += [run.claim for run in dropped]
            self._claimed -= len(dropped)
            self._wake.set()

    def on_begin(self, run: Run) -> None:
        self._hand.begun(run)
        self._running.begin(run)
        if self._stop >= Stop.RELEASE:
            self._loop.call_soon(self._running.stop, run, self._shutdown_reason())

    def on_born(self, run: Run) -> None:
        self._running.born(run)

    def on_back(self, runs: list[Run]) -> None:
        for run in runs:
            self._running.forget(run)
        self._hand.put_back(runs)
        if self._stop:
            self._put_back({run.key for run in runs})
        self._soon(0, self._fill)

    def on_exit(self, run: Run, end: Exit) -> None:
        self._running.exited(run, end)

    def _on_change(self, ended: Run | None) -> None:
        """There is something to record: at once, unless there is enough to go on with."""
        if ended is not None:
            took = self._loop.time() - ended.begun if ended.took is None else ended.took
            self._pace.ended(took)
            if not self._hand:
                self._pace.grow()
            if self._hand.waiting:
                self._soon(0, self._fill)
        if len(self._hand) > self._pace.ahead // 2:
            self._soon(RECORD_DELAY, self._wake.set)
        else:
            self._wake.set()

    def _on_event(self, event: Event) -> None:
        """Show something. That nobody can be shown anything any more must not end the jobs."""
        with suppress(OSError):
            self._show(event)

    def on_types(self, types: list[str], errors: list[str]) -> None:
        for error in errors:
            self._message(error)
        self._types = {SHELL, *types}
        self._types_known = True
        self._look = True
        self._announce()
        self._wake.set()

    # -- trouble ---------------------------------------------------------------------------

    def _in_trouble(self, error: DatabaseUnavailableError) -> None:
        """The database can't be used just now: what ended is kept, and recorded later."""
        self._outage.met(error)
        self._look = True
        self._scheduler.doubt_leases()
        if isinstance(error, DatabaseAwayError) and self._reconnecting is None:
            self._reconnecting = asyncio.create_task(self._reconnect())
            self._loop.call_later(self._kept_for(), self._end_what_may_be_taken)

    async def _reconnect(self) -> None:
        await self._outage.answered(self._backend.change_counter)
        self._reconnecting = None
        self._wake.set()

    def _kept_for(self) -> float:
        """Seconds for which the attempts may go on if their leases are not renewed."""
        return max(0.0, self._renewed_at + KEPT * self._settings.lease - steady_time())

    def _end_what_may_be_taken(self) -> None:
        """Others may soon take over what could not be renewed; by then its processes are gone.

        A server that does not run lets nobody take over. What was held is renewed soon after it is
        back, and others only take what has not been renewed for the whole length of a lease then.
        """
        cut_off = isinstance(self._outage.error, DatabaseUnreachableError)
        if not cut_off or self._kept_for():
            return
        for key, run in list(self._running.runs.items()):
            if not run.ended and run.stopped is not StopReason.CUT_OFF:
                self._message(f"job {key[0]}: its lease can't be renewed: ending it here")
                self._running.end_at_once(run, StopReason.CUT_OFF)

    def _is_told_to_leave(self) -> bool:
        """Whether to leave although the database is unavailable, and what ended not recorded."""
        if not self._stop or any(not run.ended for run in self._running.runs.values()):
            return False
        return self._stop is Stop.KILL or not self._unrecorded.endings

    def _message_from_a_thread(self, text: str) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(self._message, text)

    def _message(self, text: str) -> None:
        self._on_event(Event("message", text=text))


def _shipper_of(queue: JobQueue) -> "Shipper | None":
    """What shows other machines the output of jobs, where there are any."""
    settings = queue.settings
    if not (backend_of(queue).logs.ships and settings.ship_max_bytes):
        return None
    from jobq.logs.shipper import Shipper  # only where it has something to do

    kept = timedelta(seconds=settings.ship_ttl)
    return Shipper(backend_of(queue), queue.logs, most=settings.ship_max_bytes, kept=kept)
