"""One job at a time for each file: two that write into one partial file make a broken whole of it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from jobq import JobQueue, Snooze

from .names import digest

PAUSE = 5.0
"""Seconds until a job looks again whether the other one is done."""


def lock_file(queue: JobQueue) -> Path:
    """The file in the state directory that all locks are on: each on a byte of its own."""
    database = queue.settings.database
    return database.with_name(f"{database.stem}.downloads.lock")


def locked(lock_file: Path, name: str) -> int:
    """Lock a name until the descriptor is closed, or this process ends.

    Raises:
        Snooze: another job has it.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(lock_file, flags, 0o600)
    try:
        place = int(digest(name)[:15], 16)
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
    except (BlockingIOError, PermissionError):
        os.close(descriptor)
        raise Snooze(PAUSE, "another job is downloading this file") from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
