"""Statistics of a SQLite database: how jobs ended, and which pending jobs come before which."""

import sqlite3
from datetime import datetime

from jobq.backends.base import StatsReader
from jobq.backends.sqlite import dependents, totals
from jobq.backends.sqlite.claim import open_queues, room_of
from jobq.backends.sqlite.connection import SqliteConnection
from jobq.backends.sqlite.rows import to_moment
from jobq.models import Ended, Job, Queue

# The second condition on the status is the one that the index of finished jobs has.
_ENDED = (
    "FROM job_queue WHERE status IN ('completed', 'failed') AND started_at IS NOT NULL "
    "AND finished_at >= ? AND status IN ('completed', 'failed', 'cancelled')"
)


class SqliteStats(StatsReader):
    """Statistics, counted from the rows when asked for."""

    def __init__(self, db: SqliteConnection) -> None:
        self._db = db

    def ended(self, since: datetime, *, limit: int) -> list[Ended]:
        with self._db.read() as connection:
            found = connection.execute(
                "SELECT type, queue, status = 'completed', started_at - created_at, "
                f"finished_at - started_at {_ENDED} ORDER BY finished_at DESC LIMIT ?",
                (since.timestamp(), limit),
            )
            return [Ended(row[0], row[1], bool(row[2]), row[3], row[4]) for row in found]

    def ended_counts(self, since: datetime) -> dict[tuple[str, str], tuple[int, int]]:
        with self._db.read() as connection:
            found = connection.execute(
                "SELECT type, queue, sum(status = 'completed'), sum(status = 'failed') "
                f"{_ENDED} GROUP BY type, queue",
                (since.timestamp(),),
            )
            return {(row[0], row[1]): (row[2], row[3]) for row in found}

    def totals(self) -> dict[str, int]:
        with self._db.read() as connection:
            return totals.read(connection)

    def ahead(self, job: Job, now: datetime) -> int:
        with self._db.read() as connection:
            return _ahead(connection, job, now.timestamp())

    def next_start(self, queue: Queue, now: datetime) -> datetime | None:
        if queue.rate is None:
            return None
        at = now.timestamp()
        with self._db.read() as connection:
            starts = connection.execute(
                "SELECT started_at FROM recent_starts WHERE queue = ? AND started_at > ? "
                "AND started_at <= ? ORDER BY started_at DESC LIMIT ?",
                (queue.name, at - queue.rate.seconds, at, queue.rate.count),
            ).fetchall()
        if len(starts) < queue.rate.count:
            return None
        return to_moment(starts[-1][0] + queue.rate.seconds)

    def key_holder(self, key: str) -> int | None:
        with self._db.read() as connection:
            return dependents.key_holder(connection, key)


def _ahead(connection: sqlite3.Connection, job: Job, now: float) -> int:
    """Count the pending jobs before a job in the order of `claim.choose`."""
    queues = [q for q in open_queues(connection) if room_of(connection, q, now) > 0]
    own = next((q.priority for q in queues if q.name == job.queue), None)
    if own is None:
        return 0
    number = 0
    for queue in queues:
        if queue.priority >= own:
            number += _ahead_in(connection, queue, job, same_priority=queue.priority == own)
    return number


def _ahead_in(
    connection: sqlite3.Connection, queue: Queue, job: Job, *, same_priority: bool
) -> int:
    query = "SELECT count(*) FROM job_queue WHERE queue = ? AND status = 'pending'"
    values: list[str | int] = [queue.name]
    if same_priority:
        query += " AND (priority > ? OR (priority = ? AND id < ?))"
        values += [job.priority, job.priority, job.id]
    number: int = connection.execute(query, values).fetchone()[0]
    return number
