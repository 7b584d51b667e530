"""Estimated time until all jobs of a batch have ended, from those of it that have."""

from collections.abc import Sequence
from datetime import datetime
from statistics import mean

from jobq.diagnostics.eta import remaining
from jobq.models import FINISHED, Job, JobStatus

_UNITS = ((86_400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
_MIN_NUMBER = 1.5
"""From so many of a unit on, a time is given in it."""


def batch_remaining(jobs: Sequence[Job], now: datetime) -> float | None:
    """Return the estimated seconds until all have ended; None if there is nothing to estimate from.

    Jobs that wait are taken to last as long as the completed ones of their type, or of all types,
    and to run as many at a time as now. None while none of them runs.
    """
    left = [job for job in jobs if job.status not in FINISHED]
    running = [job for job in left if job.status is JobStatus.RUNNING]
    spans = _spans(jobs)
    if not running or not spans:
        return None
    total = sum(_expected(job, spans, now) for job in left)
    starts = [(job.run_at - now).total_seconds() for job in left if job.run_at is not None]
    return max([total / len(running), *starts])


def _spans(jobs: Sequence[Job]) -> dict[str, list[float]]:
    """Return the seconds that completed jobs took, by type."""
    spans: dict[str, list[float]] = {}
    for job in jobs:
        if job.status is JobStatus.COMPLETED and job.started_at and job.finished_at:
            took = max(0.0, (job.finished_at - job.started_at).total_seconds())
            spans.setdefault(job.type, []).append(took)
    return spans


def _expected(job: Job, spans: dict[str, list[float]], now: datetime) -> float:
    same = spans.get(job.type) or [span for of_type in spans.values() for span in of_type]
    typical = mean(same)
    if job.status is not JobStatus.RUNNING:
        return typical
    return remaining(job.started_at, job.progress, typical, now) or 0.0


def about_left(seconds: float) -> str:
    """Return an estimate as people say it: ``about 12 min left``."""
    for size, name in _UNITS:
        if seconds >= _MIN_NUMBER * size:
            return f"about {seconds / size:.0f} {name} left"
    return "about 1 s left"
