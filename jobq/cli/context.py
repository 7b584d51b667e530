"""What every verb has at hand: the options before the verb, and one way to complain."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from jobq.cli.rendering.output import inert
from jobq.config.loader import load_settings
from jobq.config.settings import Settings
from jobq.limits import bounded_text
from jobq.queue import JobQueue

INTERRUPTED = 130

_LONGEST_COMPLAINT = 4000


class ReaderLeftError(Exception):
    """Whoever read our output has left: neither an error nor worth a message."""


@dataclass(slots=True)
class Cli:
    """What the options before the verb say."""

    config: str | None = None
    color: bool = True
    draws: bool = True  # what is on the terminal can be drawn anew
    debug: bool = False

    def settings(self) -> Settings:
        """The settings that this command works with."""
        return load_settings(self.config)

    @contextmanager
    def queue(self) -> Iterator[JobQueue]:
        """The queue that this command works on."""
        with JobQueue.from_settings(self.settings()) as queue:
            yield queue


def cli_of(config_file: str | None = None, *, no_color: bool = False, debug: bool = False) -> Cli:
    """The options before the verb, and what the environment adds to them."""
    dumb = os.environ.get("TERM") == "dumb"
    color = not (no_color or os.environ.get("NO_COLOR") or dumb)
    return Cli(config_file, color, not dumb, debug)


def complain(message: str) -> None:
    """One line on stderr. Where that can't be written, the exit code says it."""
    with suppress(OSError):
        print(f"jobq: {inert(bounded_text(message, _LONGEST_COMPLAINT))}", file=sys.stderr)


def project_file(path: Path) -> str:
    """A path as people type it: relative where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
