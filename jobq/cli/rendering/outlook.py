"""A line about a batch: how many of its jobs have ended, and how long the others may take."""

from collections.abc import Sequence

from jobq.clock import utcnow
from jobq.diagnostics.batch_eta import about_left, batch_remaining
from jobq.models import FINISHED, Job


def outlook(jobs: Sequence[Job]) -> str | None:
    """Return the line; None if nothing can be said of the time left."""
    seconds = batch_remaining(jobs, utcnow())
    if seconds is None:
        return None
    ended = sum(job.status in FINISHED for job in jobs)
    return f"{ended:,} of {len(jobs):,} have ended; {about_left(seconds)}"
