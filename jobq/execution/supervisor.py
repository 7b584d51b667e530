"""The supervisor: the loop behind ``jobq work``, which claims, starts and records.

One asyncio loop in one thread. Signal handlers, timers and processes only note what happened and
wake the loop; `_step` decides. What has ended is recorded, and new work claimed, in one
transaction: under load, many attempts share one commit.
"""

import asyncio
import signal
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from jobq.backends.messages import ClaimRequest
from jobq.errors import DatabaseAwayError, DatabaseError, DatabaseUnavailableError
from jobq.execution.code_watch import CodeWatch
from jobq.execution.events import Event, EventSender
from jobq.execution.hooks import HOOK_TIMEOUT_S, Hooks
from jobq.execution.idle import IdleTimer
from jobq.execution.late_imports import import_late_modules, replacement_reported
from jobq.execution.leases import Leases
from jobq.execution.options import WorkOptions
from jobq.execution.outbox import Outbox
from jobq.execution.shutdown import Shutdown, Stop
from jobq.execution.slots import Slots
from jobq.job_types.shell import JOB_TYPE as SHELL
from jobq.models import UNFINISHED, AttemptKey, Claim, Job, JobFilter, JobStatus, SupervisorInfo
from jobq.queue import JobQueue, backend_of
from jobq.recovery import owner_id
from jobq.scheduling.maintenance import Scheduler
from jobq.system.disk_space import Disks
from jobq.system.processes import boot_id, host_name

POLL_INTERVAL_S = 1.0
"""Seconds between two looks for changes that send no wake-up, dead supervisors and late jobs."""

PROGRESS_INTERVAL_S = 0.5
"""Seconds between two looks at the progress and the descendants of jobs."""

DATABASE_WAIT_S = 1.0
"""Longest time (s) that the loop waits for the database: signals and time limits wait with it. What
could not be recorded is recorded later."""

HOOK_POLL_INTERVAL_S = 0.05
"""Seconds between two looks at hooks that have not ended, at the end."""

_MIN_WAIT_S = 0.005


class Supervisor:
    """Runs the jobs of a queue until it is told to stop."""

    def __init__(
        self,
        queue: JobQueue,
        options: WorkOptions,
        on_event: Callable[[Event], None] = lambda _: None,
    ) -> None:
        self._host, self._boot = host_name(), boot_id()
        self.id = owner_id(self._host)
        self._queue = queue
        self._backend = backend_of(queue)
        self._options = options
        self._wake = asyncio.Event()
        self._failure: DatabaseError | None = None
        self._types: set[str] = {SHELL}
        self._types_known = False
        self._waited_for: set[AttemptKey] = set()  # leases that are about to run out
        self._is_leaving = False
        self._idle = IdleTimer(options.idle_timeout)
        self._may_claim = True  # there may be something to claim
        self._seen_changes = 0
        self._claimable_at: datetime | None = None  # by waiting alone
        self._fires_at: datetime | None = None  # the next schedule
        self._events = events = EventSender(on_event)
        self._outbox = Outbox()
        self._disks = Disks(queue.settings, events.message)
        self._hooks = Hooks(
            queue.settings,
            queue.logs,
            self._backend.get,
            self._message_from_a_thread,
            is_new=queue.is_new_failure,
            owner=self.id,
        )
        self._scheduler = Scheduler(
            queue,
            self.id,
            lambda job: self._hooks.attempts_ended([job]),
            fires=options.ids is None,
            tell=events.message,
        )
        self._slots = Slots(
            queue,
            self.id,
            options,
            self._outbox,
            self._hooks,
            events,
            wake=self._wake.set,
            may_start=lambda: not self._leases.is_renewal_due,
            on_types=self._on_types,
        )
        self._runs = self._slots.runs
        folders = queue.settings.worker_paths if options.reload else ()
        self._code = CodeWatch(folders, self._slots, events, self._on_code_changed)
        self._leases = Leases(
            queue, self.id, self._slots, events, announce=self._announce, wake=self._wake.set
        )
        self._shutdown = Shutdown(
            self._slots, events, cancel=options.cancel_at_stop, on_request=self._on_stop_request
        )

    # -- life ------------------------------------------------------------------------------

    async def run(self, claim_first: Callable[[str], Collection[Claim]] | None = None) -> None:
        """Work until done or stopped, beginning with what ``claim_first`` claims for this owner.

        Raises:
            DatabaseError: the database became unusable; everything that ran was ended.
            ReplacedError: so did jobq itself.
        """
        self._loop = asyncio.get_running_loop()
        self._listener = self._backend.supervisors.listen(self.id)
        self._loop.add_reader(self._listener.fileno(), self._on_wake_up)
        self._loop.add_signal_handler(signal.SIGCHLD, self._slots.reap)
        self._shutdown.listen()
        try:
            self._started_at = self._backend.now()
            self._backend.supervisors.register(self._info())
            self._leases.begin()
            self._code.begin()
            self._slots.open()
            self._slots.take(claim_first(self.id) if claim_first else ())
            self._backend.limit_waits(DATABASE_WAIT_S)
            self._slots.fill()
            self._polling = asyncio.create_task(self._poll_regularly())
            self._polling.add_done_callback(lambda _: self._wake.set())
            try:
                with replacement_reported():
                    await self._work()
                await self._wait_for_hooks()
            finally:
                self._polling.cancel()
        finally:
            self._leave()
        if self._failure is not None:
            raise self._failure

    def restrict_to(self, ids: Collection[int]) -> None:
        """Take only these jobs from here on."""
        self._options = replace(self._options, ids=ids)

    @property
    def stopping(self) -> bool:
        """True once it was asked to stop."""
        return self._shutdown.step > Stop.NO

    @property
    def interrupted(self) -> bool:
        """True once it was stopped by Ctrl-C."""
        return self._shutdown.interrupted

    def request_stop(self) -> Stop:
        """Ask to stop, one step further at each call: drain, release, kill."""
        return self._shutdown.request()

    def _on_stop_request(self, is_first: bool) -> None:
        if is_first:
            self._announce()
        self._wake.set()

    async def _wait_for_hooks(self) -> None:
        """Wait for the hooks of ended jobs, unless asked to stop once more."""
        step, deadline = self._shutdown.step, self._loop.time() + HOOK_TIMEOUT_S
        self._is_leaving = True
        if self._hooks.left:
            self._announce()
            left = self._hooks.left
            hooks, them = ("hook", "it") if left == 1 else ("hooks", "them")
            self._events.message(f"waiting for {left} {hooks}; Ctrl-C ends {them}")
        while self._hooks.left and self._shutdown.step is step and self._loop.time() < deadline:
            self._hooks.start_waiting()
            await asyncio.sleep(HOOK_POLL_INTERVAL_S)

    def _leave(self) -> None:
        if left := self._hooks.close():
            hooks = "hook was" if left == 1 else "hooks were"
            self._events.message(f"{left} {hooks} not run to the end")
        self._runs.close()
        self._slots.close()
        with suppress(DatabaseError):
            self._backend.limit_waits(None)
        if self._shutdown.step is not Stop.KILL:
            self._scheduler.close()
        if self._slots.is_empty:  # otherwise other supervisors find it dead, and recover its jobs
            with suppress(DatabaseError):
                self._backend.supervisors.unregister([self.id])
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        # Last of all: one more Ctrl-C or SIGTERM is not to interrupt this.
        self._loop.remove_signal_handler(signal.SIGCHLD)
        self._shutdown.close()

    def _announce(self) -> None:
        """Register what it takes by now, so that no one counts on it in vain."""
        with suppress(DatabaseError):
            self._backend.supervisors.register(self._info())

    def _info(self) -> SupervisorInfo:
        queues = () if self._takes_no_more() else self._options.queues
        return SupervisorInfo(
            id=self.id,
            host=self._host,
            boot_id=self._boot,
            pid=int(self.id.split(":")[1]),
            slots=self._options.slots,
            queues=None if queues is None else tuple(sorted(queues)),
            types=tuple(sorted(self._runnable_types())),
            started_at=self._started_at,
            heartbeat_at=self._backend.now(),
        )

    # -- the loop --------------------------------------------------------------------------

    async def _work(self) -> None:
        with suppress(DatabaseError):  # the first step meets it, and shows it
            self._poll()
        while True:
            self._wake.clear()
            if self._polling.done():
                self._polling.result()  # raises what ended it: without it, nothing would be noticed
            try:
                if not self._leases.is_reconnecting:
                    self._step()
                    self._leases.on_answer()
                    if self._is_done():
                        return
            except DatabaseUnavailableError as error:
                self._on_outage(error)
            except DatabaseError as error:
                self._failure = error
                return
            if self._leases.error is not None and self._must_exit():
                self._failure = self._leases.error if self._outbox.results else None
                return
            await self._wake.wait()

    def _step(self) -> None:
        """Record what happened, claim what there is room for, and start it."""
        now = self._backend.now()
        after_outage = self._leases.error is not None
        if (self._leases.is_renewal_due or after_outage) and self._leases.renew(now):
            self._may_claim = True
        self._hooks.run_noted()
        self._hooks.start_waiting()
        self._code.look()
        limit, ahead = self._slots.room()
        if self._outbox or (limit + ahead and self._may_claim):
            short = self._disks.are_short()
            request = self._request(limit, ahead) if limit + ahead and not short else None
            answer = self._backend.exchange(self._outbox.report(), request, now)
            self._slots.take(answer.claims)  # before anything can fail: no one else starts them
            self._slots.finisher.recorded(answer.ended, after_outage=after_outage)
            self._claimable_at = answer.next_due
            self._may_claim = len(answer.claims) == limit + ahead and not short
            if answer.claims and self._takes_no_more():
                self._announce()
        self._slots.fill()

    def _request(self, limit: int, ahead: int = 0) -> ClaimRequest:
        wanted = self._options.types
        runnable = self._runnable_types()
        if not self._types_known:
            runnable = runnable & {SHELL}
        # Jobs that it was told to run are not left to others: a child says why it can't run one.
        takes_all = self._options.ids is not None
        return ClaimRequest(
            owner=self.id,
            limit=limit,
            prefetch=ahead if self._types_known else 0,
            lease=self._leases.duration,
            queues=self._options.queues,
            types=runnable if self._types_known and not takes_all else wanted,
            ids=self._options.ids,
            # What comes behind a job whose type will be known in a moment waits with it.
            known=None if self._types_known else runnable,
        )

    def _runnable_types(self) -> set[str]:
        types = self._options.types
        return self._types if types is None else self._types & set(types)

    def _takes_no_more(self) -> bool:
        return (
            self._is_leaving
            or self.stopping
            or self._options.ids is not None
            or self._slots.jobs_left == 0
        )

    def _is_done(self) -> bool:
        if not self._slots.is_empty or self._outbox.keys or self._hooks.has_noted:
            self._idle.restart()
            return False
        if self.stopping or self._slots.jobs_left == 0:
            return True
        if self._idle.is_over(self._loop.time()):
            return self._leaves_idle()
        if not self._options.drain or self._may_claim:
            return False
        if self._options.ids is not None:
            wanted = JobFilter(ids=tuple(self._options.ids), statuses=UNFINISHED)
            return not self._backend.find(wanted, limit=1)
        return not self._is_anything_left()

    def _leaves_idle(self) -> bool:
        """Return whether to exit for want of jobs.

        First it is announced that none are taken: an `add` that comes after that starts another
        supervisor, and the job of one that came before is seen here.
        """
        self._is_leaving = True
        self._announce()
        if self._fires_at is None and not self._is_anything_to_come():
            return True
        self._is_leaving = False
        self._announce()
        self._may_claim = True
        self._idle.restart()
        return False

    def _is_anything_to_come(self) -> bool:
        open_queues = {queue.name for queue in self._backend.queues() if not queue.paused}
        types = self._runnable_types()
        return any(
            job.queue in open_queues and job.type in types
            for job in self._queue.each(JobFilter(statuses=UNFINISHED))
        )

    def _is_anything_left(self) -> bool:
        now = self._backend.now()
        if self._backend.settle_dependents(now) or self._scheduler.rescue_unrenewed(now):
            self._may_claim = True
            return True
        statuses = {JobStatus.PENDING}
        if self._options.wait_retries:
            statuses |= {JobStatus.RETRYING, JobStatus.SCHEDULED}
        open_queues = {queue.name for queue in self._backend.queues() if not queue.paused}
        request = self._request(1)

        def takes(job: Job) -> bool:
            return (
                job.queue in open_queues
                and (request.queues is None or job.queue in request.queues)
                and (not self._types_known or job.type in (request.types or ()))
            )

        for job in self._queue.each(JobFilter(statuses=frozenset(statuses))):
            if takes(job) and (job.status is not JobStatus.SCHEDULED or job.attempts):  # snoozed
                return True
        own = {key.job_id for key in self._slots.keys}
        unrenewed = self._scheduler.unrenewed(now, own)
        left = {attempt.key for job, attempt in unrenewed if takes(job)}
        for key in left - self._waited_for:
            self._events.message(
                f"waiting for job {key.job_id}: the lease of its owner runs out, unless it is renewed"
            )
        self._waited_for = left
        return bool(left)

    def _must_exit(self) -> bool:
        """Return whether to exit although the database is unavailable, and results are lost."""
        if not self.stopping or self._runs.unended:
            return False
        return self._shutdown.step is Stop.KILL or not self._outbox.results

    # -- what wakes it ---------------------------------------------------------------------

    def _on_wake_up(self) -> None:
        """Look for work and for cancelled jobs: another process has changed something."""
        self._listener.drain()
        self._may_claim = True
        with suppress(DatabaseError):
            self._leases.stop_cancelled()
        with suppress(DatabaseError):
            self._fires_at = self._scheduler.next_tick()
        self._wake.set()

    async def _poll_regularly(self) -> None:
        """Poll every second, and whenever a job falls due."""
        next_progress = 0.0
        await asyncio.sleep(self._until_next_poll())  # short runs do without
        import_late_modules(self._queue.settings)
        while True:
            await asyncio.sleep(self._until_next_poll())
            try:
                if not self._leases.is_reconnecting:
                    self._poll()
            except DatabaseAwayError as error:
                self._on_outage(error)
            except DatabaseError:  # the next step meets it, and shows it
                pass
            self._leases.end_unrenewed()
            self._slots.reap_orphans()
            if self._runs and self._loop.time() >= next_progress:
                self._runs.poll()
                next_progress = self._loop.time() + PROGRESS_INTERVAL_S
            self._wake.set()

    def _until_next_poll(self) -> float:
        wait = PROGRESS_INTERVAL_S if self._runs else POLL_INTERVAL_S
        due = self._due()
        if due is not None and not self.stopping:
            ahead = (due - self._backend.now()).total_seconds()
            # What is overdue waits for a slot, or for room on the disk, and not for the next poll.
            if ahead > 0 or (self._slots.room()[0] and self._disks.shortage is None):
                wait = min(wait, ahead)
        return max(wait, _MIN_WAIT_S)

    def _poll(self) -> None:
        """Look for changes that send no wake-up, and do what is due by the clock."""
        now = self._backend.now()
        due = self._due()
        is_short = self._disks.shortage is not None or self._slots.is_held
        if (due is not None and due <= now) or is_short:
            self._may_claim = True
        changes = self._backend.change_counter()
        if changes != self._seen_changes:
            self._seen_changes = changes
            self._may_claim = True
            with suppress(DatabaseError):
                self._leases.stop_cancelled()
        if self._scheduler.tick(now, own={key.job_id for key in self._slots.keys}):
            self._may_claim = True
        self._fires_at = self._scheduler.next_tick()

    def _due(self) -> datetime | None:
        """Return when there will be something to do without a wake-up."""
        dues = (self._claimable_at, self._fires_at)
        return min((due for due in dues if due is not None), default=None)

    def _on_types(self, types: list[str], errors: list[str], files: list[str]) -> None:
        """Take jobs of the types that children can run."""
        for error in errors:
            self._events.message(error)
        self._code.note_loaded(files)
        self._types = {SHELL, *types}
        self._types_known = True
        self._may_claim = True
        self._announce()
        self._wake.set()

    def _on_code_changed(self) -> None:
        """Take no jobs of workers until they are loaded again."""
        self._types_known = False

    def _on_outage(self, error: DatabaseUnavailableError) -> None:
        """Note that the database can't be used: results are kept, and recorded later."""
        self._leases.on_outage(error)
        self._may_claim = True
        self._scheduler.doubt_leases()

    def _message_from_a_thread(self, text: str) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._events.message, text)
