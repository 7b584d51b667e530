"""Active runs: watched while they are under way, and stopped on request."""

import asyncio
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from jobq.clock import utcnow
from jobq.config.settings import Settings
from jobq.execution.events import Event, EventSender
from jobq.execution.outbox import Outbox
from jobq.execution.run import Run
from jobq.jobs.outcome import StopReason
from jobq.logs.size_limiter import LogSizeLimiter
from jobq.models import AttemptKey, Progress
from jobq.system.processes import parents, start_time
from jobq.system.resources import SpareFiles

if TYPE_CHECKING:
    from jobq.logs.shipper import Shipper

WATCH_AFTER_S = 0.05
"""Seconds after which a run is watched: most have ended by then."""


class ActiveRuns:
    """The runs that are under way, by their keys. What is to be recorded goes into the outbox."""

    def __init__(
        self,
        settings: Settings,
        outbox: Outbox,
        events: EventSender,
        *,
        take_back: Callable[[], None],
        withdraw: Callable[[Run], bool],
        record_soon: Callable[[], None],
        shipper: "Shipper | None",
        spare: SpareFiles,
    ) -> None:
        """``take_back`` makes children give back all that they have not begun.

        ``withdraw`` gives back a run that still waits for its child, and returns whether it did.
        ``record_soon`` is called when something was put into the outbox that is not to wait.
        """
        self._outbox = outbox
        self._events = events
        self._take_back = take_back
        self._withdraw = withdraw
        self._record_soon = record_soon
        self._shipper = shipper
        self._spare = spare
        self._limiter = LogSizeLimiter(settings.log_max_bytes)
        self._max_log_bytes = settings.log_max_bytes
        self._watch_timer: asyncio.TimerHandle | None = None
        self.by_key: dict[AttemptKey, Run] = {}
        self.grace = settings.grace

    def __len__(self) -> int:
        return len(self.by_key)

    @property
    def unended(self) -> list[Run]:
        """The runs whose processes are not known to be gone."""
        return [run for run in self.by_key.values() if not run.ended]

    def close(self) -> None:
        """End what is under way, and watch nothing any more."""
        for run in self.unended:  # only after a failure: nothing is left otherwise
            self.end_at_once(run, StopReason.LOST)
        self._limiter.close()
        if self._shipper is not None:
            self._shipper.close()

    # -- beginning -------------------------------------------------------------------------

    def begin(self, run: Run) -> None:
        """Add a run that is under way from here on. Its time is limited, even without a process."""
        loop = asyncio.get_running_loop()
        run.begun = loop.time()
        self.by_key[run.key] = run
        if self._shipper is not None:
            self._shipper.bound(run.key, run.offsets)
        # From here on, not from the first look on: this loop may have to wait for the database.
        self._limiter.watch(run.key, lambda: run.log, run.note_trimmed)
        if (timeout := run.claim.job.timeout) is not None:
            run.timers.append(loop.call_later(timeout, self.stop, run, StopReason.TIMEOUT))
        if self._watch_timer is None:
            self._watch_timer = loop.call_later(WATCH_AFTER_S, self._watch_new)

    def born(self, run: Run) -> None:
        """Stop a run that was to be stopped before it had a process."""
        if run.stopped is not None:
            run.signal(signal.SIGTERM)
            loop = asyncio.get_running_loop()
            run.timers.append(loop.call_at(max(run.kill_at, loop.time()), run.kill))

    def forget(self, run: Run) -> None:
        """Remove a run that was not under way after all."""
        if self.by_key.pop(run.key, None) is None:
            return
        self._limiter.release(run.key, look=False)
        if run.watched:
            self._outbox.drop_start(run)
            run.watched = False
        run.close()

    # -- watching --------------------------------------------------------------------------

    def _watch_new(self) -> None:
        """Begin to watch the runs that have lasted for a while."""
        loop = asyncio.get_running_loop()
        new = [run for run in self.by_key.values() if not run.watched]
        for run in new:
            if run.pid is not None and loop.time() - run.begun >= WATCH_AFTER_S * 0.9:
                self._watch(run)
        again = any(not run.watched for run in new)
        self._watch_timer = loop.call_later(WATCH_AFTER_S, self._watch_new) if again else None

    def _watch(self, run: Run) -> None:
        assert run.pid is not None
        run.watched = True
        if run.pid_started is None:
            run.pid_started = start_time(run.pid)
        self._outbox.add_start(run)
        if self._shipper is not None:
            self._shipper.watch(run.key, run.owner, run.offsets)
        self._events.send(self._event("started", run))
        self._record_soon()

    def poll(self) -> None:
        """Note what the watched runs have started, and how far they have come."""
        self._limiter.stand_in()
        if self._shipper is not None:
            self._shipper.start()
        watched = [run for run in self.by_key.values() if run.watched]
        if not watched:  # listing all processes takes a while
            return
        living = self._spare.call(parents, otherwise=None)
        for run in watched if living is not None else ():
            run.note_descendants(living)
            self.note_progress(run)

    def note_progress(self, run: Run) -> None:
        """Read the progress of a run, and record what is new."""
        if (latest := run.read_progress()) is None:
            return
        self._outbox.add_progress(run, latest)
        run.event(
            "progress", utcnow(), done=latest.done, total=latest.total, message=latest.message
        )
        self._events.send(self._event("progress", run, progress=run.hide.progress(latest)))

    def _event(self, kind: str, run: Run, progress: Progress | None = None) -> Event:
        return Event(kind, run.hide.job(run.claim.job), progress=progress)

    # -- stopping --------------------------------------------------------------------------

    def stop(self, run: Run, reason: StopReason) -> None:
        """Send SIGTERM to the processes of a run, and SIGKILL after the grace period."""
        if not self._is_at_work(run) or self._is_withdrawn(run):
            return
        if run.stopped is None:
            run.stopped = reason
            run.kill_at = asyncio.get_running_loop().time() + self.grace
            run.event("stopping", utcnow(), reason=reason.value)
            if reason is StopReason.TIMEOUT:
                run.note_stack()
            run.signal(run.stop_signal())
        elif self.grace:
            return
        run.timers.append(asyncio.get_running_loop().call_later(self.grace, run.kill))

    def end_at_once(self, run: Run, reason: StopReason) -> None:
        """Send SIGKILL to the processes of a run."""
        if self._is_at_work(run) and not self._is_withdrawn(run):
            run.stopped = reason
            run.event("stopping", utcnow(), reason=reason.value)
            run.kill()

    def _is_at_work(self, run: Run) -> bool:
        """Return whether its processes exist and run nothing else: no other run may be hit."""
        if not run.is_command and run.stopped is None:
            self._take_back()
        return self.by_key.get(run.key) is run and not run.ended

    def _is_withdrawn(self, run: Run) -> bool:
        """Give back a run that has no process yet: nothing is lost. Return whether that worked."""
        return run.pid is None and not run.is_command and self._withdraw(run)

    # -- ending: called by `finish`, in this order -------------------------------------------

    def release_log(self, run: Run) -> None:
        """Stop limiting the log of a run, after a last look where it may be too large."""
        too_large = run.written is None or run.written > self._max_log_bytes
        self._limiter.release(run.key, look=run.watched or too_large)

    def remove(self, run: Run) -> None:
        """Remove a run that is not under way any more: its slot is free."""
        self.by_key.pop(run.key, None)

    def close_files(self, run: Run) -> None:
        """Close the files of a run, of which nothing more is written."""
        run.close()
        if self._shipper is not None:
            if not run.watched:
                self._shipper.watch(run.key, run.owner, run.offsets)
            self._shipper.ended(run.key)
