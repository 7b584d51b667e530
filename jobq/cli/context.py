"""The options before the verb, and errors as one line on stderr."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from jobq.config.loader import load_settings
from jobq.config.settings import SQLITE, Settings
from jobq.inert import inert
from jobq.limits import bounded_text
from jobq.queue import JobQueue

INTERRUPTED = 130

_MAX_MESSAGE_CHARS = 4000


class ReaderLeftError(Exception):
    """The reader of our output is gone, which is neither an error nor worth a message."""


@dataclass(slots=True)
class Cli:
    """The options before the verb."""

    config: str | None = None
    color: bool = True
    draws: bool = True  # the terminal can redraw
    debug: bool = False

    def settings(self) -> Settings:
        """Return the settings of this command."""
        return load_settings(self.config)

    @contextmanager
    def queue(self, *, adds: bool = False, runs: bool = False) -> Iterator[JobQueue]:
        """Yield the queue of this command; ``adds`` if jobs are sent to it, which it ``runs`` itself.

        Where [work] autostart is on, a command that adds jobs for others starts a supervisor.
        """
        settings = self.settings()
        if (adds or runs) and settings.backend != SQLITE:
            from jobq.cli.known_servers import tell_once  # SQLite is spared it

            tell_once(settings, self.config)
        with JobQueue.from_settings(settings) as queue:
            yield queue
            if adds and settings.autostart:
                from jobq.cli.autostart import autostart  # only where it is wanted

                autostart(queue)


def cli_of(config_file: str | None = None, *, no_color: bool = False, debug: bool = False) -> Cli:
    """Return the options before the verb, combined with the environment."""
    dumb = os.environ.get("TERM") == "dumb"
    color = not (no_color or os.environ.get("NO_COLOR") or dumb)
    return Cli(config_file, color, not dumb, debug)


def complain(message: str) -> None:
    """Print one line on stderr; if that fails, the exit code still tells."""
    with suppress(OSError):
        print(f"jobq: {inert(bounded_text(message, _MAX_MESSAGE_CHARS))}", file=sys.stderr)


def project_file(path: Path) -> str:
    """Return a path as people type it: relative if it is below the working directory."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
