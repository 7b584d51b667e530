"""Progress of a command that takes long, where there is a terminal to draw on."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jobq.cli.context import Cli


class Bar:
    """Progress on a terminal: one bar for each step."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress

    def step(self, what: str, total: int | None) -> Callable[[int], None]:
        """Begin a step; what to call with how much of it is done."""
        task = self._progress.add_task(what, total=total)
        return lambda done: self._progress.update(task, completed=done)


@contextmanager
def bar_of(cli: Cli) -> Iterator[Bar | None]:
    """A place for the bars of this command; None where nobody looks."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # only where there is a terminal
    from rich.progress import Progress

    console = Console(stderr=True, no_color=not cli.color)
    with Progress(console=console, transient=True) as progress:
        yield Bar(progress)
