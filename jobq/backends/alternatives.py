"""Alternatives: parents of which one has to succeed."""

from collections.abc import Iterable

from jobq.models import Condition, JobStatus


def one_of_several(statuses: Iterable[JobStatus | None]) -> tuple[bool, bool]:
    """Return whether one of several parents has succeeded, and whether one has or still may.

    None is the status of one that was deleted.
    """
    known = [status for status in statuses if status is not None]
    return JobStatus.COMPLETED in known, any(
        not Condition.ONE_SUCCEEDED.excluded_by(status) for status in known
    )
