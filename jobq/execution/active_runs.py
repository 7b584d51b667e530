"""The runs of a supervisor that are under way: looked after, ended when asked, seen to their end."""

import asyncio
import random
import signal
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import TYPE_CHECKING, Any

from jobq.clock import utcnow
from jobq.config.settings import Settings
from jobq.execution.options import Event
from jobq.execution.outbox import Outbox
from jobq.execution.pool import Pool
from jobq.execution.run import Run
from jobq.jobs.outcome import Exit, StopReason, ending_of
from jobq.logs.size_limiter import LogSizeLimiter
from jobq.models import AttemptKey, Outcome, Progress
from jobq.system.processes import parents, start_time

if TYPE_CHECKING:
    from jobq.logs.shipper import Shipper

NOTICE = 0.05
"""Seconds after which a run is looked after: most have ended by then."""

LEFTOVER_BEAT = 0.05


class ActiveRuns:
    """The runs under way. What comes of them is put down in ``unrecorded``."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        unrecorded: Callable[[], Outbox],
        *,
        now: Callable[[], datetime],
        on_change: Callable[[Run | None], None],
        show: Callable[[Event], None],
        shipper: "Shipper | None",
    ) -> None:
        """``now`` is the backend's clock; files of a run have this machine's.

        ``on_change``: there is something to record, the end of a run if one is given.
        """
        self._settings = settings
        self._pool = pool
        self._unrecorded = unrecorded
        self._now = now
        self._on_change = on_change
        self._show = show
        self._keeper = LogSizeLimiter(settings.log_max_bytes)
        self._shipper = shipper
        self._tasks: set[asyncio.Task[None]] = set()
        self._notices: asyncio.TimerHandle | None = None
        self.runs: dict[AttemptKey, Run] = {}
        self.grace = settings.grace

    def __len__(self) -> int:
        return len(self.runs)

    def close(self) -> None:
        """End what is under way, and look at nothing any more."""
        for run in list(self.runs.values()):  # only after a failure: nothing is left otherwise
            if not run.ended:
                self.end_at_once(run, StopReason.LOST)
        self._keeper.close()
        if self._shipper is not None:
            self._shipper.close()

    # -- beginning -------------------------------------------------------------------------

    def begin(self, run: Run) -> None:
        """A run is under way from here on."""
        loop = asyncio.get_running_loop()
        run.begun = loop.time()
        self.runs[run.key] = run
        # At once, though it looks later: this loop may have to wait for the database meanwhile.
        self._keeper.watch(run.key, lambda: run.log, run.note_trimmed)
        if run.is_command or run.pid is not None:
            self.born(run)
        if self._notices is None:
            self._notices = loop.call_later(NOTICE, self._notice)

    def born(self, run: Run) -> None:
        """There is a process: the time of a run is limited from here on."""
        timeout = run.claim.job.timeout
        if run.stopped is not None:
            run.signal(signal.SIGTERM)
        elif timeout is not None:
            loop = asyncio.get_running_loop()
            run.timers.append(loop.call_later(timeout, self.stop, run, StopReason.TIMEOUT))

    def forget(self, run: Run) -> None:
        """A run was not under way after all."""
        if self.runs.pop(run.key, None) is None:
            return
        self._keeper.release(run.key, look=False)
        if run.noticed:
            self._unrecorded().starts.pop(run.key, None)
            run.noticed = False
        run.close()

    def _notice(self) -> None:
        """Begin to look after those that have lasted for a while."""
        loop = asyncio.get_running_loop()
        new = [run for run in self.runs.values() if not run.noticed]
        for run in new:
            if run.pid is not None and loop.time() - run.begun >= NOTICE * 0.9:
                self._look_after(run)
        again = any(not run.noticed for run in new)
        self._notices = loop.call_later(NOTICE, self._notice) if again else None

    def _look_after(self, run: Run) -> None:
        assert run.pid is not None
        run.noticed = True
        if run.pid_started is None:
            run.pid_started = start_time(run.pid)
        self._unrecorded().starts[run.key] = run.started()
        if self._shipper is not None:
            self._shipper.watch(run.key, run.offsets)
        self._show(self._event("started", run))
        self._on_change(None)

    # -- looking ---------------------------------------------------------------------------

    def look(self) -> None:
        """See what the runs have started, and how far they have come."""
        noticed = [run for run in self.runs.values() if run.noticed]
        if not noticed:  # to look at all processes takes a while
            return
        living = parents()
        for run in noticed:
            run.look(living)
            self._note_progress(run)

    def _note_progress(self, run: Run) -> None:
        if (latest := run.read_progress()) is None:
            return
        self._unrecorded().progress[run.key] = latest
        run.event(
            "progress", utcnow(), done=latest.done, total=latest.total, message=latest.message
        )
        self._show(self._event("progress", run, progress=run.hide.progress(latest)))

    def _event(self, kind: str, run: Run, progress: Progress | None = None) -> Event:
        return Event(kind, run.hide.job(run.claim.job), progress=progress)

    # -- ending ----------------------------------------------------------------------------

    def stop(self, run: Run, reason: StopReason) -> None:
        """SIGTERM to its processes, and SIGKILL after the grace period."""
        if not self._is_at_work(run):
            return
        if run.stopped is None:
            run.stopped = reason
            run.kill_at = asyncio.get_running_loop().time() + self.grace
            run.event("stopping", utcnow(), reason=reason.value)
            run.signal(signal.SIGTERM)
        elif self.grace:
            return
        run.timers.append(asyncio.get_running_loop().call_later(self.grace, run.kill))

    def end_at_once(self, run: Run, reason: StopReason) -> None:
        """SIGKILL to its processes."""
        if self._is_at_work(run):
            run.stopped = reason
            run.event("stopping", utcnow(), reason=reason.value)
            run.kill()

    def _is_at_work(self, run: Run) -> bool:
        """Whether its processes are there, and at nothing else: no other run is to be hit."""
        if not run.is_command and run.stopped is None:
            self._pool.take_back()
        return self.runs.get(run.key) is run and not run.ended

    def exited(self, run: Run, end: Exit) -> None:
        """Its process has ended, or has done with it."""
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
        loop = asyncio.get_running_loop()
        if run.stopped is None:
            run.kill_at = loop.time() + self._settings.grace
            run.signal(signal.SIGTERM)
        while run.tree().exists():
            if loop.time() >= run.kill_at:
                run.kill()
            await asyncio.sleep(LEFTOVER_BEAT)
        self._ended(run, end)

    def _ended(self, run: Run, end: Exit) -> None:
        run.ended = True
        self._trim(run)
        if run.stopped is StopReason.LOST:
            self.runs.pop(run.key, None)
            self.close_files(run)
            self._on_change(None)
        elif run.trimmed:
            self._in_background(self._tidy(run, end))
        else:
            self._note_end(run, end)

    def close_files(self, run: Run) -> None:
        """Nothing more is written about a run."""
        run.close()
        if self._shipper is not None:
            if not run.noticed:
                self._shipper.watch(run.key, run.offsets)
            self._shipper.ended(run.key)

    def _trim(self, run: Run) -> None:
        loud = run.written is None or run.written > self._settings.log_max_bytes
        self._keeper.release(run.key, look=run.noticed or loud)

    async def _tidy(self, run: Run, end: Exit) -> None:
        """Before the end is recorded: afterwards, another attempt may write to the logs."""
        await asyncio.to_thread(run.tidy)
        self._note_end(run, end)

    def _note_end(self, run: Run, end: Exit) -> None:
        if run.unread_progress:
            self._note_progress(run)
        if not run.noticed and run.pid is not None and (run.is_command or run.claim.attempt > 1):
            self._unrecorded().starts[run.key] = run.started()
        ending = ending_of(
            run.claim,
            end,
            run.stopped,
            now=self._now(),
            policy=self._settings.retry,
            chance=random.random(),  # noqa: S311 - jitter, not a secret
        )
        self.runs.pop(run.key, None)
        self._unrecorded().endings.append((run, ending))
        self._on_change(run)
