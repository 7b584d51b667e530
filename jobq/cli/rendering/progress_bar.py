"""Progress bars of commands that take long, on a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Bar:
    """A set of progress bars, one for each step."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress

    def step(self, what: str, total: int | None) -> Callable[[int], None]:
        """Begin a step. Return a function to call with the amount that is done."""
        task = self._progress.add_task(what, total=total)
        return lambda done: self._progress.update(task, completed=done)


@contextmanager
def bar_of(*, color: bool) -> Iterator[Bar | None]:
    """Yield progress bars to draw on stderr, or None if that is no terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # only where there is a terminal
    from rich.progress import Progress

    console = Console(stderr=True, no_color=not color)
    with Progress(console=console, transient=True) as progress:
        yield Bar(progress)
