"""Estimated time left of a running job, from its progress and from past runs of similar jobs."""

import time
from datetime import datetime
from statistics import median

from jobq.job_types import shell
from jobq.models import Job, JobFilter, JobStatus, Progress
from jobq.queue import JobQueue, backend_of

MIN_PROGRESS_SHARE = 0.05
"""From this share on, a job's own progress predicts better than past runs."""

_SAMPLE_SIZE = 20
"""Most past runs that a median is taken of."""

_MAX_JOBS_READ = 200
_MAX_ID_DISTANCE = 20_000
"""Limits of the search for past runs: jobs read, and how far their ids are from the job's."""

_CACHE_TTL_S = 30.0


def remaining(
    started_at: datetime | None, progress: Progress | None, typical: float | None, now: datetime
) -> float | None:
    """Return the estimated seconds left; None if there is nothing to estimate from.

    ``typical`` is the duration of similar jobs in seconds. A job that has already run for longer
    gets no estimate from it.
    """
    if started_at is None:
        return None
    ran = max(0.0, (now - started_at).total_seconds())
    share = 0.0
    if progress is not None and progress.total:
        share = min(1.0, max(0.0, progress.done / progress.total))
    if share >= MIN_PROGRESS_SHARE or (share > 0 and typical is None):
        return ran * (1 - share) / share
    return typical - ran if typical is not None and typical > ran else None


def kind_of(job: Job) -> tuple[str, str]:
    """Return what similar jobs share: the type, and for commands all their words.

    `sleep 1` says nothing about `sleep 50`.
    """
    if job.type != shell.JOB_TYPE:
        return job.type, ""
    return job.type, "\0".join(map(str, job.args.get("argv") or [job.args.get("shell") or ""]))


class PastRuns:
    """Median durations of recently completed jobs, by kind."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue
        self._known: dict[tuple[str, str], tuple[float, float | None]] = {}

    def typical(self, job: Job) -> float | None:
        """Return the seconds that similar jobs take; None if none has completed recently."""
        kind = kind_of(job)
        until, seconds = self._known.get(kind, (0.0, None))
        if time.monotonic() >= until:
            seconds = self._median(job.type, kind, job.id)
            self._known[kind] = (time.monotonic() + _CACHE_TTL_S, seconds)
        return seconds

    def _median(self, job_type: str, kind: tuple[str, str], near: int) -> float | None:
        recent = JobFilter(
            type=job_type,
            statuses=frozenset({JobStatus.COMPLETED}),
            after_id=max(0, near - _MAX_ID_DISTANCE),
            before_id=near + _MAX_ID_DISTANCE,
        )
        spans = [
            max(0.0, (job.finished_at - job.started_at).total_seconds())  # a clock may be set back
            for job in backend_of(self._queue).find(recent, limit=_MAX_JOBS_READ, newest=True)
            if job.started_at and job.finished_at and kind_of(job) == kind
        ]
        return median(spans[:_SAMPLE_SIZE]) if spans else None
