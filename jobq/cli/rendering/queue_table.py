"""A table of queues."""

from collections.abc import Mapping, Sequence

from jobq.cli.rendering.table import print_columns
from jobq.models import JobStatus, Queue

_COUNTED = {
    "waiting": (JobStatus.PENDING, JobStatus.SCHEDULED, JobStatus.BLOCKED, JobStatus.RETRYING),
    "running": (JobStatus.RUNNING,),
    "completed": (JobStatus.COMPLETED,),
    "failed": (JobStatus.FAILED,),
}


def print_queues(queues: Sequence[tuple[Queue, Mapping[JobStatus, int]]], *, color: bool) -> None:
    """Print a line for each queue: its jobs and its limits."""
    counted = {
        title: [f"{sum(counts.get(s, 0) for s in statuses):,}" for _, counts in queues]
        for title, statuses in _COUNTED.items()
    }
    print_columns(
        {
            "queue": [queue.name for queue, _ in queues],
            "prio": [str(queue.priority) for queue, _ in queues],
            "state": ["paused" if queue.paused else "open" for queue, _ in queues],
            **counted,
            "at once": [or_else("", queue.max_concurrent) for queue, _ in queues],
            "rate": [or_else("", queue.rate) for queue, _ in queues],
            "description": [queue.description or "" for queue, _ in queues],
        },
        color=color,
        styles={"state": ["yellow" if queue.paused else None for queue, _ in queues]},
        flexible=("queue", "description"),
        optional=("description", "prio", "completed", "rate", "at once", "failed"),
    )


def or_else(otherwise: str, value: object) -> str:
    """Return the value as text, or ``otherwise`` for None."""
    return otherwise if value is None else str(value)
