"""Events of an attempt, as ``events.jsonl`` has them."""

from datetime import datetime
from typing import Any

from jobq.logs.directory import event_line


def start_lines(added: datetime | None, at: datetime, attempt: int, **details: Any) -> bytes:
    """Return the lines of an attempt's start, in ``events.jsonl``.

    With ``added``, the time at which the job was added, the first one is about that: no directory
    is made for a job that only waits.
    """
    if added is None:
        return event_line("started", at, attempt, **details)
    queued_for = round(max(0.0, (at - added).total_seconds()), 3)
    started = event_line("started", at, attempt, queued_for=queued_for, **details)
    return event_line("enqueued", added, 0) + started
