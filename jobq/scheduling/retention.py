"""Deletes jobs that ended longer ago than `[retention]` has them kept, with their logs."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from jobq.models import Finished, JobStatus
from jobq.queue import JobQueue

PORTION = 100
"""Jobs in one transaction."""

SECONDS = 0.1
"""After so long, the rest is left for the next time: who calls has jobs to look after."""


class Expiry:
    """One supervisor's share of it; any number may do it at once."""

    def __init__(self, queue: JobQueue, tell: Callable[[str], None]) -> None:
        """``tell`` is told of logs that can't be deleted."""
        self._queue = queue
        self._tell = tell
        kept = queue.settings.retention
        spans = {
            JobStatus.COMPLETED: kept.completed,
            JobStatus.FAILED: kept.failed,
            JobStatus.CANCELLED: kept.cancelled,
        }
        self._spans = {status: timedelta(seconds=span) for status, span in spans.items() if span}
        # By status: up to here there are none left. Those that are kept longer are not read again.
        self._looked_to: dict[JobStatus, Finished] = {}

    def step(self, now: datetime) -> None:
        """Delete what has expired, in portions, for a moment."""
        until = time.monotonic() + SECONDS
        for status, span in self._spans.items():
            while self._delete_some(status, now - span) and time.monotonic() < until:
                pass

    def _delete_some(self, status: JobStatus, before: datetime) -> bool:
        """Whether there may be more."""
        after = self._looked_to.get(status)
        found = self._queue.backend.finished_before(before, after=after, limit=PORTION)
        expired = [each.id for each in found if each.status is status]
        if expired and len(self._queue.delete(expired, self._tell_left)) < len(expired):
            return False  # dependents of some are still to be told: next time
        if found:
            self._looked_to[status] = found[-1]
        return len(found) == PORTION

    def _tell_left(self, job_id: int, error: OSError) -> None:
        self._tell(f"{self._queue.logs.path(job_id)}: not deleted: {error}")
