"""Groups of failed jobs as they may be shown."""

from datetime import datetime
from typing import NamedTuple

from jobq.backends.messages import FailureFigures
from jobq.jobs.signature import shape_of
from jobq.models import JsonObject
from jobq.redaction import ShownJob
from jobq.units import format_moment


class FailureGroup(NamedTuple):
    """The failed jobs of one signature. It has no secrets."""

    signature: str
    type: str
    error: str  # the shape of the last one's: what differs between its jobs is left out
    size: int
    first_at: datetime
    last_at: datetime
    sample: tuple[int, ...]  # ids of up to three, the last one first
    by_hour: tuple[int, ...]  # failures in each of the last 24 hours, the last hour last


def shown_group(figures: FailureFigures, last: ShownJob) -> FailureGroup:
    """Return a group, from its figures and the last job that failed."""
    return FailureGroup(
        signature=figures.signature,
        type=last.type,
        error=shape_of(last.error),
        size=figures.size,
        first_at=figures.first,
        last_at=figures.last,
        sample=figures.sample,
        by_hour=figures.by_hour,
    )


def group_document(group: FailureGroup) -> JsonObject:
    """Return a group as JSON."""
    return {
        "signature": group.signature,
        "type": group.type,
        "error": group.error,
        "count": group.size,
        "first_at": format_moment(group.first_at),
        "last_at": format_moment(group.last_at),
        "sample": list(group.sample),
        "by_hour": list(group.by_hour),
    }
