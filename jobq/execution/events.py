"""Events: what a supervisor shows of its jobs, and what the pool reports of a run."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from jobq.execution.run import Run
from jobq.jobs.outcome import Exit
from jobq.models import AttemptResult, Progress
from jobq.redaction import ShownJob


@dataclass(frozen=True, slots=True)
class Event:
    """Something to show to a person at the terminal, without secrets."""

    kind: str  # started, progress, finished, message
    job: ShownJob | None = None
    ending: AttemptResult | None = None
    progress: Progress | None = None
    text: str = ""
    at: datetime | None = None  # by the backend's clock, as the times of the job are


class EventSender:
    """Sends events to the terminal. That they can't be shown any more never ends a job."""

    def __init__(self, show: Callable[[Event], None]) -> None:
        self._show = show

    def send(self, event: Event) -> None:
        """Show an event."""
        with suppress(OSError):
            self._show(event)

    def message(self, text: str) -> None:
        """Show a line of text."""
        self.send(Event("message", text=text))


class RunEvents(Protocol):
    """Receives what becomes of the runs that a pool was given."""

    def on_begin(self, run: Run) -> None:
        """Note that a run takes up a slot from here on; its process may be known only later."""

    def on_born(self, run: Run) -> None:
        """Note that the process of a run that has begun is known now."""

    def on_exit(self, run: Run, end: Exit) -> None:
        """Note that the process of a run has exited, or is done with the run."""

    def on_back(self, runs: list[Run]) -> None:
        """Take back runs that were not begun, and will not be unless they are started again."""

    def on_shortage(self, runs: list[Run], reason: str) -> None:
        """Take back runs that the host has no room to start now; ``reason`` names what is short."""
