"""Holding: fewer jobs at a time, or none, while the host has no room to start more."""

import os
from collections.abc import Callable
from pathlib import Path

from jobq.clock import steady_time
from jobq.logs.directory import JobLogs
from jobq.system.resources import shortage_of

RETRY_INTERVAL_S = 1.0
"""Seconds after a refusal before one more job is tried."""

QUIET_S = 5.0
"""Seconds without a refusal after which a hold ends, if jobs were started meanwhile."""


def reason_to_wait(error: Exception, logs: JobLogs) -> str | None:
    """Return why no job can be started now, after one could not be; None if that job is at fault.

    The host is short of something, or no log directory can be made, whichever job it is for.
    """
    if not isinstance(error, OSError | MemoryError):
        return None
    name = getattr(error, "filename", None)
    where = "" if name is None else os.fsdecode(name)
    if reason := shortage_of(error, disk=where.startswith(f"{logs.root}{os.sep}")):
        return reason
    if isinstance(error, MemoryError) or _is_usable(logs.root / "jobs"):
        return None
    return (
        f"{where}: {error.strerror}: logs are kept in {logs.root}: make it a directory that you "
        "can write to"
    )


def _is_usable(folder: Path) -> bool:
    """Return whether log directories can be made and found in a folder, as far as permissions tell."""
    is_directory = folder.is_dir() and not folder.is_symlink()
    return is_directory and os.access(folder, os.R_OK | os.W_OK | os.X_OK)


class Hold:
    """A limit of the jobs at a time while the host is short of something.

    It is reported when it begins and when it ends. What runs goes on, and what ends makes room for
    others; once a second, one job more is tried.
    """

    def __init__(self, slots: int, on_message: Callable[[str], None]) -> None:
        self._slots = slots
        self._on_message = on_message
        self._limit: int | None = None  # None: there is no shortage
        self._ran = 0  # as many ran at the last refusal
        self._refused_at = 0.0
        self._has_started = False  # a job, since then

    @property
    def is_on(self) -> bool:
        """True while the host is short of something, as far as is known. Asked once in a while."""
        if self._has_started and steady_time() - self._refused_at > QUIET_S:
            self._end()
        return self._limit is not None

    @property
    def limit(self) -> int:
        """The number of jobs that may run at a time now."""
        if self._limit is None:
            return self._slots
        is_retry_due = steady_time() - self._refused_at >= RETRY_INTERVAL_S
        return min(self._slots, self._limit + is_retry_due)

    def refused(self, running: int, reason: str) -> None:
        """Note that one more than those that run could not be started."""
        if self._limit is None:
            self._on_message(f"jobs wait, since no more can be started now: {reason}")
        self._limit = self._ran = running
        self._refused_at, self._has_started = steady_time(), False

    def started(self, running: int) -> None:
        """Note that a job was started, so that as many run now."""
        if self._limit is None:
            return
        self._has_started = True
        if running > self._ran:
            self._limit = max(self._limit, 2 * running)
        if self._limit >= self._slots:
            self._end()

    def _end(self) -> None:
        self._limit, self._has_started = None, False
        self._on_message("there is room again: jobs are started")
