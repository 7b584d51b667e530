"""The end of a run, step by step: from the exit of its process to its hooks.

`Finisher.finish` takes a run to the outbox. The supervisor records the outbox with its next
transaction (`supervisor._step`). `Finisher.recorded` does what follows once that has succeeded.
"""

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any

from jobq.backends.messages import end_of
from jobq.clock import utcnow
from jobq.execution.active_runs import ActiveRuns
from jobq.execution.events import Event, EventSender
from jobq.execution.hooks import Hooks
from jobq.execution.outbox import Outbox
from jobq.execution.run import Run
from jobq.jobs.outcome import Exit, StopReason, attempt_result
from jobq.jobs.signature import signed
from jobq.models import AttemptResult, JobStatus, Outcome
from jobq.queue import JobQueue, backend_of
from jobq.system.resources import in_thread
from jobq.units import format_size

LEFTOVER_POLL_INTERVAL_S = 0.05
"""Seconds between two looks at processes that outlive their job."""

_Wait = Callable[[], Awaitable[None]]


class Finisher:
    """Takes runs to their ends."""

    def __init__(
        self,
        queue: JobQueue,
        owner: str,
        runs: ActiveRuns,
        outbox: Outbox,
        hooks: Hooks,
        events: EventSender,
    ) -> None:
        self._settings = queue.settings
        self._backend = backend_of(queue)
        self._owner = owner
        self._runs = runs
        self._outbox = outbox
        self._hooks = hooks
        self._events = events
        self._tasks: set[asyncio.Task[None]] = set()

    # -- until it is recorded --------------------------------------------------------------

    def finish(self, run: Run, end: Exit, on_finished: Callable[[Run], None]) -> None:
        """Take a run whose process has exited to the outbox, and call back.

        Most runs have nothing to wait for, and are done here; others go on in the background.
        """
        steps = self._steps(run, end)
        if (wait := next(steps, None)) is None:
            on_finished(run)
            return
        task = asyncio.create_task(self._go_on(wait, steps, run, on_finished))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _go_on(
        self, wait: _Wait, steps: Iterator[_Wait], run: Run, on_finished: Callable[[Run], None]
    ) -> None:
        await wait()
        for each in steps:
            await each()
        on_finished(run)

    def _steps(self, run: Run, end: Exit) -> Iterator[_Wait]:
        """Do the steps between the exit of a process and the outbox; yield what has to be awaited."""
        self._note_exit(run, end)
        if run.has_processes():  # a job is over when all of its processes are
            yield partial(self._end_leftovers, run)
        run.ended, run.ended_at = True, utcnow()
        if run.took is None and run.begun:
            run.took = asyncio.get_running_loop().time() - run.begun
        self._runs.release_log(run)
        if run.stopped is StopReason.LOST:  # another supervisor has the job: nothing is recorded
            self._runs.remove(run)
            self._runs.close_files(run)
            return
        if run.trimmed:  # before it is recorded: after that, another attempt may write there
            yield partial(in_thread, run.tidy)
        if run.unread_progress:
            self._runs.note_progress(run)
        self._note_start(run)
        result = self._result(run, end)
        self._runs.remove(run)
        self._outbox.add_result(run, result)

    def _note_exit(self, run: Run, end: Exit) -> None:
        for timer in run.timers if run.stopped is None else ():
            timer.cancel()  # it was in time, however long its leftovers take
        run.crashed = end.outcome is Outcome.CRASHED

    async def _end_leftovers(self, run: Run) -> None:
        """End the processes that outlive their job: SIGTERM, and SIGKILL after the grace period."""
        loop = asyncio.get_running_loop()
        if run.stopped is None:
            run.kill_at = loop.time() + self._settings.grace
            run.signal(signal.SIGTERM)
        while run.has_processes():
            if loop.time() >= run.kill_at:
                run.kill()
            await asyncio.sleep(LEFTOVER_POLL_INTERVAL_S)

    def _note_start(self, run: Run) -> None:
        """Record the process of a run that ended before it was watched, where it is not the child's."""
        if not run.watched and run.pid is not None and (run.is_command or run.claim.attempt > 1):
            self._outbox.add_start(run)

    def _result(self, run: Run, end: Exit) -> AttemptResult:
        result = attempt_result(
            run.claim,
            end,
            run.stopped,
            now=self._backend.now(),
            policy=self._settings.retry,
            chance=random.random(),  # noqa: S311 - jitter, not a secret
        )
        return signed(result, run.claim.job, run.hide, end.frame)

    # -- once it is recorded ---------------------------------------------------------------

    def recorded(self, took_effect: list[bool], *, after_outage: bool) -> None:
        """Do what follows from results that were just reported: events, files, hooks.

        ``took_effect`` is the backend's answer, one entry a result. After an outage, the answer
        to an earlier report of the same results may have been lost.

        Raises:
            DatabaseError: nothing was done; the results are still in the outbox.
        """
        if after_outage and not all(took_effect):
            took_effect = self._check_history(took_effect)
        now = self._backend.now()
        ended = list(zip(self._outbox.take(), took_effect, strict=True))
        for (run, result), counts in ended:
            run.recorded = True
            if run.lost or run.c_lost:
                self._note_lost_output(run)
            if counts:
                self._write_end(run, result)
                self._show_end(run, result, now)
            else:
                self._events.message(
                    f"job {run.key.job_id}: attempt {run.key.attempt} was taken over; "
                    "its result was discarded"
                )
            self._runs.close_files(run)
        self._hooks.attempts_ended([run.claim.job for (run, _), counts in ended if counts])

    def _check_history(self, took_effect: list[bool]) -> list[bool]:
        results = zip(self._outbox.results, took_effect, strict=True)
        return [at_last or self._is_on_record(result) for result, at_last in results]

    def _is_on_record(self, result: AttemptResult) -> bool:
        return any(
            (each.key, each.supervisor, each.outcome) == (result.key, self._owner, result.outcome)
            for each in self._backend.attempts(result.job_id)
        )

    def _write_end(self, run: Run, result: AttemptResult) -> None:
        """Append the end to the events of a job, unless its child has."""
        details: dict[str, Any] = {"outcome": result.outcome.value, "status": result.status.value}
        if run.took is not None:
            details["duration"] = round(run.took, 3)
        for name in ("exit_code", "signal", "error"):
            if (value := getattr(result, name)) is not None:
                details[name] = value
        if not (run.end_noted and result.outcome is Outcome.COMPLETED):
            run.event("finished", run.ended_at or utcnow(), **details)
        if result.status is JobStatus.RETRYING and result.run_at is not None:
            run.event("retry", run.ended_at or utcnow(), run_at=result.run_at.isoformat())

    def _note_lost_output(self, run: Run) -> None:
        """Say how much a full disk has cost, and in the events, too, if these can be kept."""
        lost = [format_size(run.lost)] if run.lost else []
        lost += ["what C code printed"] if run.c_lost else []
        run.event("output_lost", utcnow(), bytes=run.lost, c=run.c_lost)
        self._events.message(
            f"job {run.key.job_id}: not all of its output could be kept, since the disk is full: "
            f"{' and '.join(lost)}"
        )

    def _show_end(self, run: Run, result: AttemptResult, now: datetime) -> None:
        job = run.hide.job(run.claim.job)
        at = end_of(result, now)
        self._events.send(Event("finished", job, ending=run.hide.ending(result), at=at))
