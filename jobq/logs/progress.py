"""Progress: a file that a running job writes, and that its supervisor reads twice a second.

Shell jobs write ``40/100 encoding`` or ``40% encoding`` or ``40 encoding``; workers, JSON.
"""

import json
import math
import os
import re
from contextlib import suppress
from pathlib import Path

from jobq.models import Progress
from jobq.system.permissions import open_file

FILE = "progress"

_FILE_BYTES = 4096
_TEXT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:(%)|/\s*(\d+(?:\.\d+)?))?\s*(.*)", re.DOTALL)


class ProgressFile:
    """A worker's own progress file: each call is one small write at its start."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor: int | None = None
        self.is_written = False

    def write(self, progress: Progress) -> None:
        """Replace the content of the file. A full disk loses progress, not the job."""
        text = json.dumps(progress.bounded())
        with suppress(OSError):
            if self._descriptor is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
                self._descriptor = open_file(self._directory / FILE, flags)
            os.pwrite(self._descriptor, text.ljust(_FILE_BYTES).encode(), 0)
            self.is_written = True

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def read(directory: int) -> Progress | None:
    """Read the progress file in an open directory; None if there is none, or no progress in it."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(FILE, flags, dir_fd=directory)
    except OSError:
        return None
    try:
        text = os.read(descriptor, 2 * _FILE_BYTES).decode("utf-8", "replace")
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return parse(text)


def parse(text: str) -> Progress | None:
    """Return progress from text; None if it is not progress."""
    if text.startswith("["):
        with suppress(ValueError, TypeError, OverflowError, RecursionError):
            done, total, message = json.loads(text)
            if message is None or isinstance(message, str):
                return _checked(float(done), None if total is None else float(total), message)
        return None
    lines = text.strip().splitlines()
    match = _TEXT.fullmatch(lines[-1]) if lines else None
    if match is None:
        return None
    total = 100.0 if match[2] else float(match[3]) if match[3] else None
    return _checked(float(match[1]), total, match[4].strip() or None)


def _checked(done: float, total: float | None, message: str | None) -> Progress | None:
    if math.isfinite(done) and (total is None or math.isfinite(total)):
        return Progress(done, total, message).bounded()
    return None
