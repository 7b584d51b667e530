"""The screen of ``jobq work``: a line per event, and on a terminal the running jobs below."""

from __future__ import annotations

import os
import signal
import sys
import termios
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from queue import Full, Queue
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

from jobq.cli.rendering.job_text import percent
from jobq.cli.rendering.live_table import Canvas, Row, plain_cut, table, totals
from jobq.cli.rendering.output import COLOURS, count_of, styled
from jobq.cli.rendering.watch_screen import PAUSE_FACTOR, terminate
from jobq.clock import utcnow
from jobq.describe import describe
from jobq.diagnostics.eta import PastRuns, remaining
from jobq.errors import DatabaseError
from jobq.execution.events import Event
from jobq.inert import inert
from jobq.models import AttemptResult, Job, JobStatus, Outcome
from jobq.queue import JobQueue
from jobq.redaction import ShownJob
from jobq.system.resources import start_thread
from jobq.units import format_elapsed

if TYPE_CHECKING:
    from rich.console import RenderableType


MAX_QUEUED_LINES = 10_000
"""Lines that wait to be printed at most: about those of a busy minute."""


def event_text(event: Event, now: datetime) -> str:
    """Return an event as one line, without the time."""
    if event.job is None:
        return inert(event.text)
    what = inert(event.job.name or describe(event.job))
    if event.kind == "started":
        again = f" (attempt {event.job.attempts})" if event.job.attempts > 1 else ""
        return f"job {event.job.id} started{again}: {what}"
    if event.ending is not None:
        return f"job {event.job.id} {_ending_text(event.job, event.ending, now)}: {what}"
    return f"job {event.job.id} {percent(event.progress)}: {what}"


def _ending_text(job: Job, ending: AttemptResult, now: datetime) -> str:
    took = format_elapsed(job.started_at, now) if job.started_at else ""
    text = {
        JobStatus.COMPLETED: f"completed in {took}",
        JobStatus.CANCELLED: f"cancelled after {took}",
        JobStatus.PENDING: f"returned to the queue after {took}",
        JobStatus.SCHEDULED: f"snoozed after {took}",
    }.get(ending.status, f"{ending.outcome.value.replace('_', ' ')} after {took}")
    if ending.outcome is Outcome.TIMED_OUT and ending.error:
        text = inert(ending.error)  # which says after how long
    if ending.run_at is not None:
        again = "retry" if ending.status is JobStatus.RETRYING else "again"
        text += f", {again} in {format_elapsed(now, ending.run_at)}"
    failed = ending.status in (JobStatus.FAILED, JobStatus.RETRYING)
    if ending.error and failed and ending.outcome is not Outcome.TIMED_OUT:
        text += f" ({inert(ending.error)})"
    return text


@dataclass(frozen=True, slots=True)
class Line:
    """A line about one event."""

    at: datetime
    text: str
    status: JobStatus | None
    whole: bool  # never cut to the width of the terminal


class Printer:
    """A printer of one line per event, as suits a log file.

    A thread prints them: a terminal stopped with Ctrl-S, or a pipe without a reader, blocks that
    thread and not the supervisor. Lines that find no room in the queue are dropped and counted.
    """

    def __init__(self) -> None:
        self._statuses: Counter[JobStatus] = Counter()
        self._lines: Queue[Line | None] = Queue(MAX_QUEUED_LINES)
        self._dropped = 0
        self._has_thread = True
        self._thread = threading.Thread(target=self._print, name="jobq-print", daemon=True)

    def __enter__(self) -> Self:
        self._has_thread = start_thread(self._thread)
        return self

    def __exit__(self, *_: object) -> None:
        if self._has_thread:
            self._lines.put(None)
            self._thread.join()

    def show_start(self, owner: str, slots: int) -> None:
        """Print that the supervisor has started."""
        self.line(f"{owner} runs up to {slots} jobs at a time", None, whole=True)

    def show(self, event: Event) -> None:
        """Show an event."""
        status = None
        if event.ending is not None:
            status = event.ending.status
            self._statuses[status] += 1
        if event.kind != "progress":
            self.line(event_text(event, event.at or utcnow()), status, whole=event.job is None)

    def summary(self) -> str:
        """Return the counts of attempts in one line."""
        parts = [f"{number} {status.value}" for status, number in sorted(self._statuses.items())]
        total = self._statuses.total()
        return f"{count_of(total, 'attempt')}: {', '.join(parts)}" if parts else "No jobs to run."

    def line(self, text: str, status: JobStatus | None, *, whole: bool) -> None:
        """Queue a line for printing; unless ``whole``, it may be cut to the terminal's width."""
        line = Line(datetime.now().astimezone(), text, status, whole)
        if not self._has_thread:  # the host has no room for it
            self.write(line)
            return
        try:
            self._lines.put_nowait(line)
        except Full:
            self._dropped += 1

    def write(self, line: Line) -> None:
        """Print a line."""
        print(f"{line.at:%H:%M:%S} {line.text}", flush=self._lines.empty())

    def _print(self) -> None:
        while (line := self._lines.get()) is not None:
            with suppress(OSError):  # the terminal or pipe is gone
                if self._dropped and self._lines.empty():
                    dropped, self._dropped = self._dropped, 0
                    self.write(replace(line, text=f"{dropped:,} lines were not shown", whole=True))
                self.write(line)


def printer() -> Printer:
    """Return a printer for output that is no terminal."""
    return Printer()


def _in_background() -> bool:
    """Return whether changing the terminal's settings would stop this process."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp()
    except OSError:
        return False


def _without_control_echo() -> list[Any] | None:
    """Keep the terminal from printing ``^C`` into the picture. Return its settings before."""
    if not sys.stdin.isatty() or _in_background():
        return None
    before = termios.tcgetattr(sys.stdin)
    quiet = termios.tcgetattr(sys.stdin)
    quiet[3] &= ~termios.ECHOCTL
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, quiet)
    return before


class Figures:
    """Counts and typical durations for the picture, read when something has changed."""

    def __init__(self, queue: JobQueue) -> None:
        self.counts: Mapping[JobStatus, int] = {}
        self.typical: dict[int, float | None] = {}  # seconds that such jobs take, by job id
        self._queue = queue
        self._past = PastRuns(queue)
        self._seen: int | None = None
        self._next_read = 0.0

    def refresh(self, running: Sequence[Job]) -> None:
        """Read the figures again; less often if reading takes long."""
        began = time.monotonic()
        with suppress(DatabaseError):  # the supervisor reports it
            self.typical = {job.id: self._past.typical(job) for job in running}
            version = self._queue.change_counter()
            if version != self._seen and began >= self._next_read:
                self.counts, self._seen = self._queue.counts(), version
                self._next_read = time.monotonic() + PAUSE_FACTOR * (time.monotonic() - began)


_EXIT_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Screen(Printer):
    """A screen on which events scroll by above the running jobs and their progress."""

    def __init__(self, queue: JobQueue, *, color: bool) -> None:
        super().__init__()
        from rich.console import Console
        from rich.live import Live

        self._running: dict[int, ShownJob] = {}
        self.figures = Figures(queue)
        self._color = color
        self._console = Console(no_color=not color, highlight=False)
        self._live = Live(
            console=self._console, get_renderable=self._render, transient=True, refresh_per_second=2
        )

    def __enter__(self) -> Self:
        self._terminal = _without_control_echo()
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, terminate)  # until the supervisor sets its own handlers
        signal.signal(signal.SIGTSTP, self._on_suspend)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _EXIT_SIGNALS)
        with suppress(RuntimeError):  # no room for its thread: it is drawn with each line
            self._live.start()
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        except BaseException:  # a signal arrived meanwhile
            self.__exit__()
            raise
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            super().__exit__()
        # Another Ctrl-C now would leave the terminal without a cursor.
        before = {number: signal.signal(number, signal.SIG_IGN) for number in _EXIT_SIGNALS}
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        with suppress(OSError, termios.error):  # the terminal is gone
            self._live.stop()
            if self._terminal is not None:
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._terminal)
        for number, handler in before.items():
            signal.signal(number, handler)

    def _on_suspend(self, number: int, at: FrameType | None) -> None:
        """Give the cursor back on Ctrl-Z, past the console, which may be writing."""
        del number, at
        os.write(sys.stdout.fileno(), b"\x1b[?25h")
        os.kill(os.getpid(), signal.SIGSTOP)
        os.write(sys.stdout.fileno(), b"\x1b[?25l")

    def show(self, event: Event) -> None:
        if event.job is not None:
            if event.ending is not None:
                self._running.pop(event.job.id, None)
            else:
                self._running[event.job.id] = ShownJob(replace(event.job, progress=event.progress))
        super().show(event)

    def write(self, line: Line) -> None:
        from rich.text import Text

        style = COLOURS[line.status] if line.status else ""
        self._console.print(
            Text.assemble((f"{line.at:%H:%M:%S}", "dim"), " ", (line.text, style)),
            no_wrap=not line.whole,
            overflow="fold" if line.whole else "ellipsis",
        )

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        if threading.current_thread() not in (threading.main_thread(), self._thread):
            self.figures.refresh(list(self._running.values()))  # not for each line
        size = self._console.size
        lines = self.picture(Canvas(size.width, self._color), size.height)
        return Group(*(Text.from_ansi(line, no_wrap=True, overflow="ellipsis") for line in lines))

    def picture(self, on: Canvas, height: int) -> list[str]:
        """Return the running jobs that fit, and the totals."""
        now, jobs = utcnow(), list(self._running.values())
        room = max(1, height - 5)
        typical = self.figures.typical
        rows = [
            Row(job, remaining(job.started_at, job.progress, typical.get(job.id), now))
            for job in jobs[:room]
        ]
        lines = table(rows, now, on, statuses=False)
        if len(jobs) > room:
            lines.append(f"and {len(jobs) - room} more")
        last = plain_cut(totals(self.figures.counts), on.width)
        return [*lines, styled(last, "bold", color=on.color)]
