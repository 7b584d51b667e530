"""Runs in this process: claims of real jobs, and notes of what becomes of them."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from jobq import JobQueue
from jobq.backends.messages import ClaimRequest
from jobq.clock import utcnow
from jobq.execution.run import Run
from jobq.jobs.outcome import Exit
from jobq.queue import backend_of


def claim(queue: JobQueue, count: int = 1, owner: str = "here:1:me") -> Sequence[Run]:
    """Claim jobs, and return a run of each, of which nothing is started."""
    request = ClaimRequest(owner=owner, limit=count, lease=timedelta(seconds=60))
    claims = backend_of(queue).claim(request, utcnow())
    return [Run(each, queue.logs, queue.settings.redactor) for each in claims]


def claim_shell(queue: JobQueue, *argv: str, **args: object) -> Run:
    """Add a command, and return a run of it."""
    queue.add("shell", {"argv": list(argv), **args})
    (run,) = claim(queue)
    return run


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition while the loop runs, with a deadline that a slow host can keep."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


class Noted:
    """Notes what becomes of runs."""

    def __init__(self) -> None:
        self.begun: list[Run] = []
        self.back: list[Run] = []
        self.short: list[tuple[Run, str]] = []
        self.ends: list[tuple[Run, Exit]] = []

    @property
    def ended(self) -> list[Run]:
        """The runs that have ended, in order."""
        return [run for run, _ in self.ends]

    def on_begin(self, run: Run) -> None:
        self.begun.append(run)

    def on_born(self, run: Run) -> None: ...

    def on_back(self, runs: list[Run]) -> None:
        self.back += runs

    def on_shortage(self, runs: list[Run], reason: str) -> None:
        self.short += [(run, reason) for run in runs]

    def on_exit(self, run: Run, end: Exit) -> None:
        self.ends.append((run, end))
