"""Locks: one job per file, since two jobs writing into one partial file would break it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from jobq import JobQueue, Snooze

from .names import digest

SNOOZE_S = 5.0
"""Time until a job checks again whether the other one is done."""


def lock_file(queue: JobQueue) -> Path:
    """Return the file beside the database that holds all locks, each on a byte of its own."""
    database = queue.settings.database
    return database.with_name(f"{database.stem}.downloads.lock")


def locked(lock_file: Path, name: str) -> int:
    """Lock a name until the returned descriptor is closed or this process ends.

    Raises:
        Snooze: another job holds the lock.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    lock_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(lock_file, flags, 0o600)
    try:
        place = int(digest(name)[:15], 16)
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
    except (BlockingIOError, PermissionError):
        os.close(descriptor)
        raise Snooze(SNOOZE_S, "another job is downloading this file") from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
