"""Retention: deletion of finished jobs, with their logs, after the times set in `[retention]`."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from jobq.logs.owner import Owner
from jobq.models import Finished, JobStatus
from jobq.queue import JobQueue, backend_of, delete_rows

BATCH_SIZE = 100
"""Jobs deleted in one transaction."""

STEP_LIMIT_S = 0.1
"""Longest duration of one step: the calling supervisor has running jobs to attend to."""


class Expiry:
    """The deletion of expired jobs, in steps. Any number of supervisors may do it together.

    Logs are deleted in steps, too: a job may have left a million files.
    """

    def __init__(self, queue: JobQueue, tell: Callable[[str], None]) -> None:
        """Take the queue, and ``tell`` to report logs that can't be deleted."""
        self._queue = queue
        self._tell = tell
        retention = queue.settings.retention
        spans = {
            JobStatus.COMPLETED: retention.completed,
            JobStatus.FAILED: retention.failed,
            JobStatus.CANCELLED: retention.cancelled,
        }
        self._spans = {status: timedelta(seconds=span) for status, span in spans.items() if span}
        # By status, the last job read: jobs before it are deleted or kept, and not read again.
        self._checked_to: dict[JobStatus, Finished] = {}
        self._deletions: deque[tuple[Owner, Iterator[None]]] = deque()

    def step(self, now: datetime) -> None:
        """Delete expired jobs in batches, for at most `STEP_LIMIT_S` or one batch per status."""
        until = time.monotonic() + STEP_LIMIT_S
        for status, span in self._spans.items():
            while (
                self._delete_logs(until)
                and self._delete_batch(status, now - span)
                and time.monotonic() < until
            ):
                pass
        self._delete_logs(until)

    def close(self) -> None:
        """Delete the logs that are left of jobs that were deleted."""
        self._delete_logs(math.inf)

    def _delete_logs(self, until: float) -> bool:
        """Delete the logs of deleted jobs until a time; return true if none are left."""
        while self._deletions:
            owner, steps = self._deletions[0]
            try:
                for _ in steps:
                    if time.monotonic() >= until:
                        return False
            except OSError as error:
                self._report_left(owner.job_id, error)
            self._deletions.popleft()
        return True

    def _delete_batch(self, status: JobStatus, before: datetime) -> bool:
        """Delete one batch; return true if there may be more."""
        after = self._checked_to.get(status)
        found = backend_of(self._queue).finished_before(before, after=after, limit=BATCH_SIZE)
        expired = [each.id for each in found if each.status is status]
        deleted = delete_rows(self._queue, expired) if expired else []
        logs = self._queue.logs
        self._deletions.extend((owner, logs.deletion(owner)) for owner in deleted)
        if len(deleted) < len(expired):
            return False  # the dependents of some are not settled yet: next time
        if found:
            self._checked_to[status] = found[-1]
        return len(found) == BATCH_SIZE

    def _report_left(self, job_id: int, error: OSError) -> None:
        self._tell(f"{self._queue.logs.path(job_id)}: not deleted: {error}")
