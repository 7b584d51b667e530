"""What ``jobq work`` shows: a line an event, and on a terminal the running jobs below them."""

from __future__ import annotations

import sys
import termios
from collections import Counter
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from jobq.cli.describe import describe
from jobq.cli.output import COLOURS, inert
from jobq.clock import utcnow
from jobq.models import Ending, Job, JobStatus, Progress
from jobq.supervisor import Event
from jobq.timespec import format_duration

if TYPE_CHECKING:
    from rich.console import RenderableType

_BAR_WIDTH = 20


def percent(progress: Progress | None) -> str:
    """Progress in a few characters: ``40%``, ``12/?``."""
    if progress is None:
        return ""
    if not progress.total:
        return f"{progress.done:g}"
    return f"{min(100.0, 100 * progress.done / progress.total):.0f}%"


def event_text(event: Event, now: datetime) -> str:
    """An event as one line, without the time."""
    if event.job is None:
        return inert(event.text)
    what = inert(event.job.name or describe(event.job))
    if event.kind == "started":
        again = f" (attempt {event.job.attempts})" if event.job.attempts > 1 else ""
        return f"job {event.job.id} started{again}: {what}"
    if event.ending is not None:
        return f"job {event.job.id} {_ending_text(event.job, event.ending, now)}: {what}"
    return f"job {event.job.id} {percent(event.progress)}: {what}"


def _ending_text(job: Job, ending: Ending, now: datetime) -> str:
    took = format_duration((now - job.started_at).total_seconds()) if job.started_at else ""
    text = {
        JobStatus.COMPLETED: f"completed in {took}",
        JobStatus.CANCELLED: f"cancelled after {took}",
        JobStatus.PENDING: f"given back after {took}",
        JobStatus.SCHEDULED: f"snoozed after {took}",
    }.get(ending.status, f"{ending.outcome.value.replace('_', ' ')} after {took}")
    if ending.run_at is not None:
        again = "retry" if ending.status is JobStatus.RETRYING else "again"
        text += f", {again} in {format_duration((ending.run_at - now).total_seconds())}"
    if ending.error and ending.status in (JobStatus.FAILED, JobStatus.RETRYING):
        text += f" ({inert(ending.error)})"
    return text


class Printer:
    """A line an event, as it suits a log file."""

    def __init__(self) -> None:
        self._statuses: Counter[JobStatus] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show_start(self, owner: str, slots: int) -> None:
        """Say that the supervisor works."""
        self.line(f"{owner} takes up to {slots} jobs at once", None)

    def show(self, event: Event) -> None:
        """Show an event."""
        status = None
        if event.ending is not None:
            status = event.ending.status
            self._statuses[status] += 1
        if event.kind != "progress":
            self.line(event_text(event, utcnow()), status)

    def summary(self) -> str:
        """What was done, in one line."""
        parts = [f"{number} {status.value}" for status, number in sorted(self._statuses.items())]
        return f"{self._statuses.total()} tries: {', '.join(parts)}" if parts else "Nothing to do."

    def line(self, text: str, status: JobStatus | None) -> None:
        """Print a line."""
        del status
        with suppress(BrokenPipeError):
            print(f"{datetime.now().astimezone():%H:%M:%S} {text}", flush=True)


def printer() -> Printer:
    """Shows events where there is no terminal."""
    return Printer()


def _without_control_echo() -> list[Any] | None:
    """Keep the terminal from printing ``^C`` into the picture; how it was set before."""
    if not sys.stdin.isatty():
        return None
    before = termios.tcgetattr(sys.stdin)
    quiet = termios.tcgetattr(sys.stdin)
    quiet[3] &= ~termios.ECHOCTL
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, quiet)
    return before


class Screen(Printer):
    """Events scroll by, and the running jobs stay below them, with their progress."""

    def __init__(self, *, color: bool) -> None:
        super().__init__()
        from rich.console import Console
        from rich.live import Live

        self._running: dict[int, tuple[Job, Progress | None]] = {}
        self._console = Console(no_color=not color, highlight=False)
        self._live = Live(
            console=self._console, get_renderable=self._render, transient=True, refresh_per_second=2
        )

    def __enter__(self) -> Self:
        self._terminal = _without_control_echo()
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        if self._terminal is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._terminal)

    def show(self, event: Event) -> None:
        if event.job is not None:
            if event.ending is not None:
                self._running.pop(event.job.id, None)
            else:
                self._running[event.job.id] = (event.job, event.progress)
        super().show(event)

    def line(self, text: str, status: JobStatus | None) -> None:
        from rich.text import Text

        now = f"{datetime.now().astimezone():%H:%M:%S}"
        style = COLOURS[status] if status else ""
        self._console.print(Text.assemble((now, "dim"), " ", (text, style)))

    def _render(self) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        table.add_column(width=_BAR_WIDTH)
        table.add_column(no_wrap=True, justify="right")
        now = utcnow()
        for job, progress in list(self._running.values())[: max(1, self._console.height - 4)]:
            ran = format_duration((now - job.started_at).total_seconds()) if job.started_at else ""
            message = f" {inert(progress.message)}" if progress and progress.message else ""
            bar: RenderableType = Text("")
            if progress is not None and progress.total:
                bar = ProgressBar(total=progress.total, completed=progress.done, width=_BAR_WIDTH)
            what = Text(inert(job.name or describe(job)) + message)
            table.add_row(Text(str(job.id)), what, bar, Text(f"{percent(progress)} {ran}".strip()))
        return table
