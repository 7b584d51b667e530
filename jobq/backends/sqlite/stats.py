"""Figures of a SQLite database: how jobs ended, and who stands before whom in line."""

import sqlite3
from datetime import UTC, datetime

from jobq.backends.sqlite.claim import open_queues, room_of
from jobq.models import Ended, Finished, Job, JobStatus, Queue

# The second condition on the status is the one that the index of finished jobs has.
_ENDED = (
    "FROM job_queue WHERE status IN ('completed', 'failed') AND started_at IS NOT NULL "
    "AND finished_at >= ? AND status IN ('completed', 'failed', 'cancelled')"
)


def ended(connection: sqlite3.Connection, since: float, limit: int) -> list[Ended]:
    found = connection.execute(
        "SELECT type, queue, status = 'completed', started_at - created_at, "
        f"finished_at - started_at {_ENDED} ORDER BY finished_at DESC LIMIT ?",
        (since, limit),
    )
    return [Ended(row[0], row[1], bool(row[2]), row[3], row[4]) for row in found]


def finished_before(
    connection: sqlite3.Connection, before: float, after: Finished | None, limit: int
) -> list[Finished]:
    since, last = (after.at.timestamp(), after.id) if after else (0.0, 0)
    found = connection.execute(
        "SELECT finished_at, id, status FROM job_queue "
        "WHERE status IN ('completed', 'failed', 'cancelled') AND finished_at < ? "
        "AND (finished_at, id) > (?, ?) ORDER BY finished_at, id LIMIT ?",
        (before, since, last, limit),
    )
    return [
        Finished(datetime.fromtimestamp(at, UTC), job_id, JobStatus(status))
        for at, job_id, status in found
    ]


def ended_counts(
    connection: sqlite3.Connection, since: float
) -> dict[tuple[str, str], tuple[int, int]]:
    found = connection.execute(
        "SELECT type, queue, sum(status = 'completed'), sum(status = 'failed') "
        f"{_ENDED} GROUP BY type, queue",
        (since,),
    )
    return {(row[0], row[1]): (row[2], row[3]) for row in found}


def ahead(connection: sqlite3.Connection, job: Job, now: float) -> int:
    """By queue priority, then priority, then age: as `sqlite_claims.choose` has it."""
    queues = [q for q in open_queues(connection, None) if room_of(connection, q, now) > 0]
    own = next((q.priority for q in queues if q.name == job.queue), None)
    if own is None:
        return 0
    number = 0
    for queue in queues:
        if queue.priority >= own:
            number += _ahead_in(connection, queue, job, same_line=queue.priority == own)
    return number


def _ahead_in(connection: sqlite3.Connection, queue: Queue, job: Job, *, same_line: bool) -> int:
    query = "SELECT count(*) FROM job_queue WHERE queue = ? AND status = 'pending'"
    values: list[str | int] = [queue.name]
    if same_line:
        query += " AND (priority > ? OR (priority = ? AND id < ?))"
        values += [job.priority, job.priority, job.id]
    number: int = connection.execute(query, values).fetchone()[0]
    return number


def next_start(connection: sqlite3.Connection, queue: Queue, now: float) -> float | None:
    """Seconds since 1970 at which enough of its last starts are over to start one more."""
    if queue.rate is None:
        return None
    starts = connection.execute(
        "SELECT started_at FROM recent_starts WHERE queue = ? AND started_at > ? "
        "AND started_at <= ? ORDER BY started_at DESC LIMIT ?",
        (queue.name, now - queue.rate.seconds, now, queue.rate.count),
    ).fetchall()
    if len(starts) < queue.rate.count:
        return None
    oldest: float = starts[-1][0]
    return oldest + queue.rate.seconds
