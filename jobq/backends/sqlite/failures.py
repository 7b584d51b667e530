"""Failed jobs of a SQLite database by signature. Groups are read from an index alone."""

import sqlite3
from collections.abc import Mapping
from datetime import datetime
from math import inf

from jobq.backends.failures import HOURS, SAMPLE_SIZE, FailureStore
from jobq.backends.messages import FailureFigures
from jobq.backends.sqlite.claim import select_jobs
from jobq.backends.sqlite.connection import SqliteConnection
from jobq.backends.sqlite.rows import from_seconds
from jobq.backends.text import encode
from jobq.models import Job, Outcome

_FAILED = "FROM job_queue INDEXED BY job_queue_signature WHERE status = 'failed'"
# The first and the last are looked up: to find them while counting takes twice as long.
_GROUPS = f"""
    SELECT signature, size,
        (SELECT min(finished_at) {_FAILED} AND signature = sizes.signature) AS first,
        (SELECT max(finished_at) {_FAILED} AND signature = sizes.signature) AS last
    FROM (
        SELECT signature, count(*) AS size {_FAILED} AND signature >= ? AND signature < ?
        GROUP BY signature
    ) AS sizes
    WHERE last >= ? ORDER BY size DESC, last DESC, signature LIMIT ?
"""
_LAST_CHAR = "\U0010ffff"
_HOUR_S = 3600


class SqliteFailures(FailureStore):
    """Failed jobs by signature, grouped when asked for."""

    def __init__(self, db: SqliteConnection) -> None:
        self._db = db

    def groups(
        self,
        now: datetime,
        *,
        since: datetime | None = None,
        limit: int | None = None,
        prefix: str = "",
    ) -> list[FailureFigures]:
        with self._db.read() as connection:
            found = connection.execute(
                _GROUPS,
                (
                    prefix,
                    prefix + _LAST_CHAR,
                    since.timestamp() if since else 0.0,
                    -1 if limit is None else limit,
                ),
            ).fetchall()
            return [
                FailureFigures(
                    signature,
                    size,
                    from_seconds(first),
                    from_seconds(last),
                    _sample(connection, signature),
                    _by_hour(connection, signature, first, last, now.timestamp()),
                )
                for signature, size, first, last in found
            ]

    def unsigned(self, *, after: int = 0, limit: int) -> list[tuple[Job, Outcome | None]]:
        with self._db.read() as connection:
            ids = [
                row[0]
                for row in connection.execute(
                    f"SELECT id {_FAILED} AND signature IS NULL AND id > ? ORDER BY id LIMIT ?",
                    (after, limit),
                )
            ]
            if not ids:
                return []
            among = "id IN (SELECT value FROM json_each(?))"
            outcomes = dict(
                connection.execute(
                    "SELECT id, outcome FROM job_queue JOIN attempts "
                    f"ON job_id = id AND attempts.attempt = job_queue.attempts WHERE {among}",
                    (encode(ids),),
                ).fetchall()
            )
            jobs = select_jobs(connection, f"WHERE {among} ORDER BY id", (encode(ids),))
        return [(job, Outcome(named) if (named := outcomes.get(job.id)) else None) for job in jobs]

    def sign(self, signatures: Mapping[int, str]) -> int:
        with self._db.write() as connection:
            stored = connection.executemany(
                "UPDATE job_queue SET signature = ? "
                "WHERE id = ? AND status = 'failed' AND signature IS NULL",
                [(signature, job_id) for job_id, signature in signatures.items()],
            )
        return stored.rowcount


def _by_hour(
    connection: sqlite3.Connection, signature: str, first: float, last: float, now: float
) -> tuple[int, ...]:
    """Count ranges of the index: far faster than to group by an hour that is computed."""
    counts = [0] * HOURS
    for hour in range(HOURS):
        after = now - (hour + 1) * _HOUR_S
        until = now - hour * _HOUR_S if hour else inf
        if after < last and first <= until:
            (counts[HOURS - 1 - hour],) = connection.execute(
                f"SELECT count(*) {_FAILED} AND signature = ? "
                "AND finished_at > ? AND finished_at <= ?",
                (signature, after, until),
            ).fetchone()
    return tuple(counts)


def _sample(connection: sqlite3.Connection, signature: str) -> tuple[int, ...]:
    found = connection.execute(
        f"SELECT id {_FAILED} AND signature = ? ORDER BY finished_at DESC, id DESC LIMIT ?",
        (signature, SAMPLE_SIZE),
    )
    return tuple(row[0] for row in found)
