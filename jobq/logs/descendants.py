"""The descendants of a running attempt, on disk: for its end, should its supervisor be gone."""

import os
from collections.abc import Mapping
from contextlib import suppress

from jobq.logs.directory import JobLog, write_all
from jobq.system.permissions import OTHERS_WRITE

_MAX_FILE_BYTES = 1 << 20


def write(log: JobLog, attempt: int, descendants: Mapping[int, int]) -> None:
    """Store pids and start times. A full disk loses them, not the job."""
    text = "".join(f"{pid} {started}\n" for pid, started in descendants.items())
    with suppress(OSError):
        log.replace(_name(attempt), lambda descriptor: write_all(descriptor, text.encode()))


def read(log: JobLog, attempt: int) -> dict[int, int]:
    """Return what was stored; nothing where the file makes no sense.

    These processes get signals, so a file counts only if no other user can have written to it.
    """
    with suppress(OSError, ValueError):
        descriptor = log.open(_name(attempt), os.O_RDONLY)
        try:
            found = os.fstat(descriptor)
            if found.st_uid != os.geteuid() or found.st_mode & OTHERS_WRITE:
                return {}
            lines = os.read(descriptor, _MAX_FILE_BYTES).splitlines()
        finally:
            os.close(descriptor)
        return {int(pid): int(started) for pid, started in map(bytes.split, lines)}
    return {}


def remove(log: JobLog, attempt: int) -> None:
    """Forget what was stored: no process of the attempt is left."""
    with suppress(OSError):
        log.remove(_name(attempt))


def _name(attempt: int) -> str:
    # Each has its own: a supervisor that wakes up late must not replace what another one wrote.
    return f".descendants-{attempt}"
