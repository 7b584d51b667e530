"""The loop behind ``jobq work``: claims, starts, watches, records.

One asyncio loop in one thread. Signal handlers, timers and processes only note what happened and
wake the loop; `_step` decides. What ended meanwhile is recorded, and new work claimed, in one
transaction: under load, many attempts share one commit.
"""

import asyncio
import random
import signal
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from jobq.backends.base import ClaimRequest, Listener, Report
from jobq.clock import steady_time, utcnow
from jobq.endings import Exit, StopReason, ending_of
from jobq.errors import (
    DatabaseAwayError,
    DatabaseError,
    DatabaseUnavailableError,
    DatabaseUnreachableError,
)
from jobq.hooks import SECONDS as HOOK_SECONDS
from jobq.hooks import Hooks
from jobq.logkeeper import LogKeeper
from jobq.models import (
    UNFINISHED,
    Claim,
    Ending,
    Job,
    JobFilter,
    JobStatus,
    Outcome,
    Progress,
    Started,
    SupervisorInfo,
)
from jobq.outages import Outage
from jobq.pool import Pool
from jobq.processes import boot_id, host_name, parents
from jobq.queue import JobQueue, owner_id
from jobq.redaction import ShownJob
from jobq.runs import Run
from jobq.scheduler import Scheduler
from jobq.shell import JOB_TYPE as SHELL
from jobq.space import Shortage, shortage

if TYPE_CHECKING:
    from jobq.shipping import Shipper

BEAT = 1.0
"""Seconds between two looks at what nobody told of: other writers, dead supervisors, late jobs."""

PROGRESS_BEAT = 0.5
LEFTOVER_BEAT = 0.05
KEPT = 0.8
"""Of a lease that can't be renewed, the share after which the attempts are ended here: what the
last call to a silent server takes, and the end of the processes, must fit into the rest."""

STARTS_DELAY = 0.05
"""Seconds for which a started process may wait for a transaction to be noted in."""


class Stop(IntEnum):
    """How far the supervisor has been asked to stop; each request goes one further."""

    NO = 0
    DRAIN = 1  # start nothing more, let what runs end
    RELEASE = 2  # end what runs, and give it back
    KILL = 3  # without grace


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a person at the terminal may like to see, without secrets."""

    kind: str  # started, progress, finished, message
    job: ShownJob | None = None
    ending: Ending | None = None
    progress: Progress | None = None
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkOptions:
    slots: int
    queues: Collection[str] | None = None  # None: all
    types: Collection[str] | None = None  # None: all that are registered
    ids: Collection[int] | None = None  # only these jobs
    drain: bool = False  # leave once nothing is left to do
    wait_retries: bool = False  # and nothing waits for its next try
    max_jobs: int | None = None  # leave after having started so many
    cancel_at_stop: bool = False  # rather than wait for what runs, and give it back


@dataclass(slots=True)
class _Unrecorded:
    """What has happened and is not in the database yet."""

    starts: dict[tuple[int, int], Started] = field(default_factory=dict)
    endings: list[tuple[Run, Ending]] = field(default_factory=list)
    progress: dict[tuple[int, int], Progress] = field(default_factory=dict)

    def report(self) -> Report:
        """All of it, as the backend is told."""
        endings = [ending for _, ending in self.endings]
        return Report(list(self.starts.values()), self.progress, endings)

    def __bool__(self) -> bool:
        return bool(self.starts or self.endings or self.progress)


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
        self._backend = queue.backend
        self._settings = queue.settings
        self._options = options
        self._show = on_event
        self._lease = timedelta(seconds=self._settings.lease)
        self._pool = Pool(self._settings, self.id, self._on_started, self._on_exit, self._on_types)
        self._scheduler = Scheduler(
            queue,
            self.id,
            lambda job: self._done([job]),
            fires=options.ids is None,
            tell=self._message,
        )
        self._keeper = LogKeeper(self._settings.log_max_bytes)
        self._shipper = _shipper_of(queue)
        self._hooks = Hooks(self._settings, self._message_from_a_thread)
        self._listener: Listener | None = None
        self._runs: dict[tuple[int, int], Run] = {}
        self._unrecorded = _Unrecorded()
        self._tasks: set[asyncio.Task[None]] = set()
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
        self._shortage: Shortage | None = None
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
        self._listener = self._backend.listen(self.id)
        self._loop.add_reader(self._listener.fileno(), self._on_poke)
        self._loop.add_signal_handler(signal.SIGCHLD, self._pool.reap)
        self._loop.add_signal_handler(signal.SIGINT, self._on_stop_signal, "Ctrl-C")
        self._loop.add_signal_handler(signal.SIGTERM, self._on_stop_signal, "SIGTERM")
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
            self._loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        try:
            self._started_at = utcnow()
            self._backend.register(self._info())
            self._renewed_at = steady_time()
            self._pool.open()
            for claim in claim_first(self.id) if claim_first else ():
                self._start(claim)
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
        if self._stop >= Stop.RELEASE:
            for run in list(self._runs.values()):
                self._stop_run(run, self._shutdown_reason())
        if first:
            self._announce()
        self._wake.set()
        return self._stop

    def _on_stop_signal(self, name: str) -> None:
        running = len(self._runs)
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
        for run in self._runs.values():  # only after a failure: nothing is left otherwise
            if not run.ended:
                run.stopped = StopReason.LOST
                run.event("stopping", utcnow(), reason=StopReason.LOST.value)
            run.kill()
        self._pool.close()
        self._keeper.close()
        if self._shipper is not None:
            self._shipper.close()
        if not self._runs:  # otherwise the next supervisor finds this one dead, and rescues
            with suppress(DatabaseError):
                self._backend.unregister([self.id])
        if self._listener is not None:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
        # Last of all: one more Ctrl-C or SIGTERM is not to interrupt this.
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._loop.remove_signal_handler(number)

    def _announce(self) -> None:
        """Tell what it takes by now, so that nobody counts on it in vain."""
        with suppress(DatabaseError):
            self._backend.register(self._info())

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
            heartbeat_at=utcnow(),
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
                    if self._is_done():
                        return
                    self._outage.over()
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
        now = utcnow()
        overdue = steady_time() - self._renewed_at > self._settings.lease / 3
        if overdue or self._outage.error is not None:
            self._renew(now)
        claims: list[Claim] = []
        room = self._room(freed=len(self._unrecorded.endings))
        if self._unrecorded or (room and self._look):
            short = self._is_disk_short()
            request = self._request(room) if room and not short else None
            told = self._backend.exchange(self._unrecorded.report(), request, now)
            self._forget_recorded(self._recorded(told.ended))
            claims, self._claimable_at = told.claims, told.next_due
            self._look = len(claims) == room and not short
        for claim in claims:  # before anything else can fail: nobody else would start them
            self._start(claim)
        if claims and self._takes_no_more():
            self._announce()

    def _recorded(self, ended: list[bool]) -> list[bool]:
        """Which endings count: after an outage, also those of a report whose answer was lost."""
        if self._outage.error is None or all(ended):
            return ended
        return [
            took_effect or self._is_on_record(ending)
            for (_, ending), took_effect in zip(self._unrecorded.endings, ended, strict=True)
        ]

    def _is_on_record(self, ending: Ending) -> bool:
        return any(
            (each.attempt, each.supervisor, each.outcome)
            == (ending.attempt, self.id, ending.outcome)
            for each in self._backend.attempts(ending.job_id)
        )

    def _forget_recorded(self, recorded: list[bool]) -> None:
        done, self._unrecorded = self._unrecorded, _Unrecorded()
        now = utcnow()
        for (run, ending), took_effect in zip(done.endings, recorded, strict=True):
            self._runs.pop(run.key, None)
            if took_effect:
                self._tell_end(run, ending, now)
            self._close(run)
        if done.endings:
            self._look = True
            pairs = zip(done.endings, recorded, strict=True)
            self._done([run.claim.job for (run, _), took_effect in pairs if took_effect])

    def _close(self, run: Run) -> None:
        run.close()
        if self._shipper is not None:
            self._shipper.ended(*run.key)

    def _done(self, jobs: Collection[Job]) -> None:
        """Attempts at these jobs have ended: see to their hooks, where that was for good."""
        wanted = [job.id for job in jobs if self._hooks.wants(job)]
        if wanted:
            with suppress(DatabaseError):
                self._hooks.ended(self._backend.get(wanted).values())

    def _tell_end(self, run: Run, ending: Ending, now: datetime) -> None:
        details: dict[str, Any] = {"outcome": ending.outcome.value, "status": ending.status.value}
        for name in ("exit_code", "signal", "error"):
            if (value := getattr(ending, name)) is not None:
                details[name] = value
        run.event("finished", now, **details)
        if ending.status is JobStatus.RETRYING and ending.run_at is not None:
            run.event("retry", now, run_at=ending.run_at.isoformat())
        self._on_event(self._event("finished", run, ending=run.hide.ending(ending)))

    def _room(self, freed: int = 0) -> int:
        """How many jobs may be claimed, if ``freed`` of those that run have just ended."""
        if self._stop:
            return 0
        room = self._options.slots - len(self._runs) + freed
        if self._options.max_jobs is not None:
            room = min(room, self._options.max_jobs - self._claimed)
        return max(room, 0)

    def _takes_no_more(self) -> bool:
        most = self._options.max_jobs
        return (
            self._leaving
            or self._stop > Stop.NO
            or self._options.ids is not None
            or (most is not None and self._claimed >= most)
        )

    def _request(self, room: int) -> ClaimRequest:
        types = self._options.types
        return ClaimRequest(
            owner=self.id,
            limit=room,
            lease=self._lease,
            queues=self._options.queues,
            types=self._types if types is None else self._types & set(types),
            ids=self._options.ids,
        )

    def _is_done(self) -> bool:
        if self._runs or self._unrecorded.endings:
            return False
        if self._stop or self._room() == 0:
            return True
        if not self._options.drain or self._look:
            return False
        if self._options.ids is not None:
            wanted = JobFilter(ids=tuple(self._options.ids), statuses=UNFINISHED)
            return not self._backend.find(wanted, limit=1)
        return self._types_known and not self._is_anything_left()

    def _is_anything_left(self) -> bool:
        if self._backend.settle_dependents(utcnow()):
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
                and (request.types is None or job.type in request.types)
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
            if self._runs and self._loop.time() >= next_progress:
                self._look_at_runs()
                next_progress = self._loop.time() + PROGRESS_BEAT
            self._wake.set()

    def _until_next_beat(self) -> float:
        wait = PROGRESS_BEAT if self._runs else BEAT
        due = self._due()
        if due is not None and not self._stop:
            ahead = (due - utcnow()).total_seconds()
            # What is overdue waits for a slot, or for room on the disk, and not for a beat.
            if ahead > 0 or (self._room() and self._shortage is None):
                wait = min(wait, ahead)
        return max(wait, 0.005)

    def _look_around(self) -> None:
        now = utcnow()
        due = self._due()
        if (due is not None and due <= now) or self._shortage is not None:
            self._look = True
        changes = self._backend.change_counter()
        if changes != self._seen_changes:
            self._seen_changes = changes
            self._look = True
            self._stop_cancelled()
        if self._scheduler.tick(now, own={key[0] for key in self._runs}):
            self._look = True
        self._fires_at = self._scheduler.next_tick()

    def _due(self) -> datetime | None:
        """When there will be something to do although nobody tells of it."""
        dues = (self._claimable_at, self._fires_at)
        return min((due for due in dues if due is not None), default=None)

    def _stop_cancelled(self) -> None:
        with suppress(DatabaseError):
            for held in self._backend.cancel_requests(self.id):
                if run := self._runs.get((held.job_id, held.attempt)):
                    self._stop_run(run, StopReason.CANCELLED)

    def _renew(self, now: datetime) -> None:
        """Renew leases; what was lost meanwhile is ended before its result could count."""
        asked_at = steady_time()
        held = {(item.job_id, item.attempt) for item in self._heartbeat(now)}
        ended = {run.key for run, _ in self._unrecorded.endings}
        for key, run in list(self._runs.items()):
            if key not in held and key not in ended:
                self._message(f"job {key[0]}: attempt {key[1]} was taken over: ending it here")
                run.stopped = StopReason.LOST
                run.kill()
        self._give_back(held - self._runs.keys(), now)
        self._renewed_at = asked_at

    def _give_back(self, keys: Collection[tuple[int, int]], now: datetime) -> None:
        """Attempts that are held, and nobody knows of here: the answer to a claim was lost."""
        if keys:
            jobs = self._backend.get([job_id for job_id, _ in keys])
            claims = [Claim(jobs[job_id], attempt, self.id) for job_id, attempt in keys]
            self._backend.unclaim(claims, now)
            self._look = True

    def _heartbeat(self, now: datetime) -> Any:
        held = self._backend.heartbeat(self.id, self._lease, now)
        for item in held:
            run = self._runs.get((item.job_id, item.attempt))
            if item.cancel_requested and run is not None:
                self._stop_run(run, StopReason.CANCELLED)
        return held

    def _look_at_runs(self) -> None:
        now, living = utcnow(), parents()
        for key, run in self._runs.items():
            run.look(living)
            if (latest := run.read_progress()) is not None:
                self._note_progress(key, run, latest, now)

    def _note_progress(
        self, key: tuple[int, int], run: Run, latest: Progress, now: datetime
    ) -> None:
        self._unrecorded.progress[key] = latest
        run.event("progress", now, done=latest.done, total=latest.total, message=latest.message)
        self._on_event(self._event("progress", run, progress=run.hide.progress(latest)))

    # -- runs ------------------------------------------------------------------------------

    def _start(self, claim: Claim) -> None:
        self._claimed += 1
        run = self._pool.start(claim)
        self._runs[run.key] = run

    def _on_started(self, run: Run) -> None:
        self._unrecorded.starts[run.key] = run.started()
        self._loop.call_later(STARTS_DELAY, self._wake.set)
        run.event("started", utcnow(), pid=run.pid, supervisor=self.id)
        self._keeper.watch(run.log, run.note_trimmed)
        if self._shipper is not None:
            self._shipper.watch(*run.key, run.offsets)
        timeout = run.claim.job.timeout
        if timeout is not None:
            run.timers.append(
                self._loop.call_later(timeout, self._stop_run, run, StopReason.TIMEOUT)
            )
        self._on_event(self._event("started", run))
        if run.stopped is not None:
            run.signal(signal.SIGTERM)
        elif self._stop >= Stop.RELEASE:
            self._stop_run(run, self._shutdown_reason())

    def _stop_run(self, run: Run, reason: StopReason) -> None:
        """SIGTERM to its processes, and SIGKILL after the grace period."""
        if run.ended:
            return
        grace = 0.0 if self._stop is Stop.KILL else self._settings.grace
        if run.stopped is None:
            run.stopped = reason
            run.kill_at = self._loop.time() + grace
            run.event("stopping", utcnow(), reason=reason.value)
            run.signal(signal.SIGTERM)
        elif self._stop is not Stop.KILL:
            return
        run.timers.append(self._loop.call_later(grace, run.kill))

    def _event(self, kind: str, run: Run, **told: Any) -> Event:
        return Event(kind, self._settings.redactor.job(run.claim.job), **told)

    def _on_event(self, event: Event) -> None:
        """Show something. That nobody can be shown anything any more must not end the jobs."""
        with suppress(OSError):
            self._show(event)

    def _on_exit(self, run: Run, end: Exit) -> None:
        for timer in run.timers if run.stopped is None else ():
            timer.cancel()  # it was in time, whatever its leftovers do
        run.crashed = end.outcome is Outcome.CRASHED
        if run.tree().exists():
            self._in_background(self._end_leftovers(run, end))
        else:
            self._ended(run, end)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end_leftovers(self, run: Run, end: Exit) -> None:
        """A job is over when all of its processes are."""
        if run.stopped is None:
            run.kill_at = self._loop.time() + self._settings.grace
            run.signal(signal.SIGTERM)
        while run.tree().exists():
            if self._loop.time() >= run.kill_at:
                run.kill()
            await asyncio.sleep(LEFTOVER_BEAT)
        self._ended(run, end)

    def _ended(self, run: Run, end: Exit) -> None:
        run.ended = True
        self._keeper.release(run.log)
        if run.stopped is StopReason.LOST:
            self._runs.pop(run.key, None)
            self._close(run)
            self._wake.set()
        elif run.trimmed:
            self._in_background(self._tidy(run, end))
        else:
            self._note_end(run, end)

    async def _tidy(self, run: Run, end: Exit) -> None:
        """Before the end is recorded: afterwards, another attempt may write to the logs."""
        await asyncio.to_thread(run.tidy)
        self._note_end(run, end)

    def _note_end(self, run: Run, end: Exit) -> None:
        now = utcnow()
        if (latest := run.read_progress()) is not None:
            self._note_progress(run.key, run, latest, now)
        ending = ending_of(
            run.claim,
            end,
            run.stopped,
            now=now,
            policy=self._settings.retry,
            chance=random.random(),  # noqa: S311 - jitter, not a secret
        )
        self._unrecorded.endings.append((run, ending))
        self._wake.set()

    def _on_types(self, types: list[str], errors: list[str]) -> None:
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
        for key, run in list(self._runs.items()):
            if not run.ended and run.stopped is not StopReason.CUT_OFF:
                self._message(f"job {key[0]}: its lease can't be renewed: ending it here")
                run.stopped = StopReason.CUT_OFF
                run.event("stopping", utcnow(), reason=run.stopped.value)
                run.kill()

    def _is_told_to_leave(self) -> bool:
        """Whether to leave although the database is unavailable, and what ended not recorded."""
        if not self._stop or any(not run.ended for run in self._runs.values()):
            return False
        return self._stop is Stop.KILL or not self._unrecorded.endings

    def _is_disk_short(self) -> bool:
        """Whether a disk is too full to start anything; said once, and once when it is over."""
        before, self._shortage = self._shortage, shortage(self._settings)
        if self._shortage is not None and before is None:
            self._message(f"{self._shortage}: nothing is started until there is more")
        elif self._shortage is None and before is not None:
            self._message("there is room on the disk again: going on")
        return self._shortage is not None

    def _message_from_a_thread(self, text: str) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(self._message, text)

    def _message(self, text: str) -> None:
        self._on_event(Event("message", text=text))


def _shipper_of(queue: JobQueue) -> "Shipper | None":
    """What shows other machines the output of jobs, where there are any."""
    settings = queue.settings
    if not (queue.backend.ships and settings.ship_max_bytes):
        return None
    from jobq.shipping import Shipper  # only where it has something to do

    kept = timedelta(seconds=settings.ship_ttl)
    return Shipper(queue.backend, queue.logs, most=settings.ship_max_bytes, kept=kept)
