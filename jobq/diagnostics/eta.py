"""How long a running job is likely to take yet: from its progress, and from past runs like it."""

import time
from datetime import datetime
from statistics import median

from jobq.job_types import shell
from jobq.models import Job, JobFilter, JobStatus, Progress
from jobq.queue import JobQueue, backend_of

_TELLING = 0.05
"""The share of a job from which on its own progress says more than past runs do."""

_RUNS = 20
_READ = 200
_IDS = 20_000
"""How many past runs count; how many jobs are read, and how many ids looked back, to find them."""

_FRESH = 30.0
"""Seconds for which what was found is used again."""


def remaining(
    started_at: datetime | None, progress: Progress | None, typical: float | None, now: datetime
) -> float | None:
    """Seconds; None where nothing tells.

    ``typical`` is how long such jobs take. A job that has taken longer than that is not guessed at.
    """
    if started_at is None:
        return None
    ran = max(0.0, (now - started_at).total_seconds())
    share = 0.0
    if progress is not None and progress.total:
        share = min(1.0, max(0.0, progress.done / progress.total))
    if share >= _TELLING or (share > 0 and typical is None):
        return ran * (1 - share) / share
    return typical - ran if typical is not None and typical > ran else None


def kind_of(job: Job) -> tuple[str, str]:
    """What jobs have in common that take about as long: type, and the program of a command."""
    if job.type != shell.JOB_TYPE:
        return job.type, ""
    words = job.args.get("argv") or str(job.args.get("shell") or "").split()
    return job.type, str(words[0]) if words else ""


class PastRuns:
    """How long jobs of each kind took: the median of the last ones that completed."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue
        self._known: dict[tuple[str, str], tuple[float, float | None]] = {}

    def typical(self, job: Job) -> float | None:
        """Seconds that jobs like this one take; None if none has completed lately."""
        kind = kind_of(job)
        until, seconds = self._known.get(kind, (0.0, None))
        if time.monotonic() >= until:
            seconds = self._median(job.type, kind, job.id)
            self._known[kind] = (time.monotonic() + _FRESH, seconds)
        return seconds

    def _median(self, job_type: str, kind: tuple[str, str], near: int) -> float | None:
        lately = JobFilter(
            type=job_type,
            statuses=frozenset({JobStatus.COMPLETED}),
            after_id=max(0, near - _IDS),
            before_id=near + _IDS,
        )
        spans = [
            (job.finished_at - job.started_at).total_seconds()
            for job in backend_of(self._queue).find(lately, limit=_READ, newest=True)
            if job.started_at and job.finished_at and kind_of(job) == kind
        ]
        return median(spans[:_RUNS]) if spans else None
