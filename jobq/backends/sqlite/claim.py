"""Claims in SQLite: the next jobs, within the limits of their queues."""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from jobq.backends.base import MAX_CORRECTED_WAITS, MIN_CLOCK_ERROR
from jobq.backends.messages import ClaimRequest
from jobq.backends.sqlite import rows
from jobq.backends.sqlite.connection import LOCK_TIMEOUT_S
from jobq.backends.text import encode
from jobq.models import Claim, Job, Parent, Queue


def choose(connection: sqlite3.Connection, request: ClaimRequest, now: float) -> list[int]:
    """Return the ids to claim. Queues of equal priority share one order, by priority and age."""
    choice = _Choice(request)
    for _, peers in groupby(_open_with_jobs(connection, request), key=lambda queue: queue.priority):
        candidates: list[tuple[int, int, str, Queue]] = []
        enough = choice.left()
        for queue in peers:
            if (room := min(choice.left(queue), room_of(connection, queue, now))) > 0:
                found = _candidates(connection, queue.name, request.types, room)
                candidates += [(*each, queue) for each in found]
                enough -= choice.left(queue) == choice.left()
            if enough <= 0:
                break  # all others come after the first jobs of these queues
        for _, job_id, job_type, queue in sorted(candidates, key=lambda each: each[:2]):
            if request.known is not None and job_type not in request.known:
                return choice.ids
            choice.offer(job_id, queue)
        if choice.left() <= 0:
            break
    return choice.ids


def _open_with_jobs(connection: sqlite3.Connection, request: ClaimRequest) -> Iterator[Queue]:
    """Yield open queues with pending jobs: by priority, then by their first jobs."""
    types = "" if request.types is None else f"AND type IN ({', '.join('?' * len(request.types))})"
    found = connection.execute(
        # Priority and id as one number, so that one look-up finds both: ids are far from 2 ** 48.
        "WITH open AS MATERIALIZED (SELECT *, (SELECT (9 - priority << 48) + id FROM job_queue "
        f"WHERE queue = queues.name AND status = 'pending' {types} ORDER BY priority DESC, id LIMIT 1) "
        f"AS first FROM queues WHERE NOT paused) SELECT {rows.QUEUE_COLUMNS} FROM open "
        "WHERE first IS NOT NULL ORDER BY priority DESC, first",
        tuple(request.types or ()),
    )
    for row in found:
        if request.queues is None or row[0] in request.queues:
            yield rows.to_queue(row)


def choose_among(connection: sqlite3.Connection, request: ClaimRequest, now: float) -> list[int]:
    """Return the requested ids whose queue has room, in the order of `choose`."""
    pending = connection.execute(
        "SELECT id, queue, priority, type FROM job_queue WHERE status = 'pending' "
        "AND id IN (SELECT value FROM json_each(?))",
        (encode(list(request.ids or ())),),
    ).fetchall()
    named = queues_named(connection, {queue for _, queue, *_ in pending})
    queues = {
        queue.name: queue
        for queue in named
        if not queue.paused and (request.queues is None or queue.name in request.queues)
    }
    room = {name: room_of(connection, queue, now) for name, queue in queues.items()}
    candidates = sorted(
        (-queues[queue].priority, -priority, job_id, queue)
        for job_id, queue, priority, job_type in pending
        if queue in queues
        and all(types is None or job_type in types for types in (request.types, request.known))
    )
    choice = _Choice(request)
    for *_, job_id, queue in candidates:
        if room[queue] > 0 and choice.offer(job_id, queues[queue]):
            room[queue] -= 1
    return choice.ids


class _Choice:
    """The jobs that a claim takes of those offered to it, in order."""

    def __init__(self, request: ClaimRequest) -> None:
        self.ids: list[int] = []
        self._limit = request.limit
        self._most = request.limit + request.prefetch

    def left(self, queue: Queue | None = None) -> int:
        """Return how many more jobs, or jobs of a queue, may be taken."""
        unlimited = queue is None or (queue.max_concurrent is None and queue.rate is None)
        return (self._most if unlimited else self._limit) - len(self.ids)

    def offer(self, job_id: int, queue: Queue) -> bool:
        """Take a job if there is room for it; return whether it was taken."""
        if self.left(queue) <= 0:
            return False
        self.ids.append(job_id)
        return True


PROMOTION_BATCH_SIZE = 1000

MAX_CLOCK_LEAD_S = LOCK_TIMEOUT_S
"""Recorded starts may be later than `now` by as much: the caller may have waited for the write lock
since it read the clock. Later ones come from before the clock was set back: they do not count."""


def all_queues(connection: sqlite3.Connection) -> Iterator[Queue]:
    """Yield every queue, those served first first."""
    for row in connection.execute(
        f"SELECT {rows.QUEUE_COLUMNS} FROM queues ORDER BY priority DESC, name"
    ).fetchall():
        yield rows.to_queue(row)


def queues_named(connection: sqlite3.Connection, names: Collection[str]) -> list[Queue]:
    """Return the queues of these names that exist, those served first first."""
    found = (
        connection.execute(
            f"SELECT {rows.QUEUE_COLUMNS} FROM queues WHERE name = ?", (name,)
        ).fetchone()
        for name in names
    )
    queues = [rows.to_queue(row) for row in found if row is not None]
    return sorted(queues, key=lambda queue: (-queue.priority, queue.name))


def queues_with_rate(connection: sqlite3.Connection) -> list[Queue]:
    """Return the open queues that have a rate."""
    found = connection.execute(
        f"SELECT {rows.QUEUE_COLUMNS} FROM queues WHERE rate_count IS NOT NULL AND NOT paused"
    )
    return [rows.to_queue(row) for row in found.fetchall()]


def open_queues(connection: sqlite3.Connection) -> list[Queue]:
    """Return the queues that are not paused, those served first first."""
    return [queue for queue in all_queues(connection) if not queue.paused]


def room_of(connection: sqlite3.Connection, queue: Queue, now: float) -> float:
    """Return how many more jobs the queue may start now."""
    room = float("inf")
    if queue.max_concurrent is not None:
        (running,) = connection.execute(
            "SELECT count(*) FROM job_queue WHERE queue = ? AND status = 'running'", (queue.name,)
        ).fetchone()
        room = queue.max_concurrent - running
    if queue.rate is not None:
        (started,) = connection.execute(
            "SELECT count(*) FROM recent_starts "
            "WHERE queue = ? AND started_at > ? AND started_at <= ?",
            (queue.name, now - queue.rate.seconds, now + MAX_CLOCK_LEAD_S),
        ).fetchone()
        room = min(room, queue.rate.count - started)
    return room


def _candidates(
    connection: sqlite3.Connection, queue: str, types: Collection[str] | None, room: float
) -> list[tuple[int, int, str]]:
    """Return (-priority, id, type) of the queue's first pending jobs."""
    query, values = "SELECT -priority, id, type FROM job_queue WHERE queue = ?", [queue]
    if types is not None:
        query += " AND type IN (SELECT value FROM json_each(?))"
        values.append(encode(list(types)))
    query += " AND status = 'pending' ORDER BY priority DESC, id LIMIT ?"
    return connection.execute(query, (*values, int(room))).fetchall()


def promote_due(connection: sqlite3.Connection, now: float) -> None:
    """Make scheduled and retrying jobs pending whose time has come."""
    connection.execute(
        "UPDATE job_queue SET status = 'pending' WHERE id IN ("
        "SELECT id FROM job_queue WHERE status IN ('scheduled', 'retrying') AND run_at <= ? "
        "ORDER BY run_at LIMIT ?)",
        (now, PROMOTION_BATCH_SIZE),
    )


def waits_ahead(connection: sqlite3.Connection, now: float) -> list[tuple[int, int, float]]:
    """Return the id and attempts of jobs that a wrong clock has put off, and how long each waits."""
    found = connection.execute(
        "SELECT job.id, job.attempts, run_at - ended_at, run_at - created_at "
        "FROM (SELECT * FROM job_queue WHERE status IN ('scheduled', 'retrying') "
        "AND run_at IS NOT NULL ORDER BY run_at LIMIT ?) AS job "
        "LEFT JOIN attempts ON job_id = job.id AND attempt = job.attempts "
        "WHERE coalesce(ended_at, created_at) > ?",
        (MAX_CORRECTED_WAITS, now + MIN_CLOCK_ERROR.total_seconds()),
    )
    return [
        (job_id, attempts, max(0.0, since_added if since_end is None else since_end))
        for job_id, attempts, since_end, since_added in found
        if since_end is not None or abs(since_added * 1e3 - round(since_added * 1e3)) < 1e-3
    ]


def correct_waits(connection: sqlite3.Connection, now: float) -> int:
    """Let jobs that a wrong clock has put off wait from now on; return how many."""
    waits = waits_ahead(connection, now)
    for job_id, attempts, wait in waits:
        # The time at which the wait began is wrong as well, and must not be corrected twice.
        connection.execute(
            "UPDATE job_queue SET run_at = ?, created_at = min(created_at, ?) WHERE id = ?",
            (now + wait, now, job_id),
        )
        connection.execute(
            "UPDATE attempts SET ended_at = ? WHERE job_id = ? AND attempt = ?",
            (now, job_id, attempts),
        )
    return len(waits)


def start(
    connection: sqlite3.Connection, ids: list[int], request: ClaimRequest, now: datetime
) -> list[Claim]:
    """Start a new attempt of each job: pending → running."""
    if not ids:
        return []
    at = now.timestamp()
    found = connection.execute(
        "UPDATE job_queue SET status = 'running', attempts = attempts + 1, started_at = ?, "
        "finished_at = NULL, run_at = NULL, exit_code = NULL, signal = NULL, reason = NULL, "
        "cancel_requested = 0, progress_done = NULL, progress_total = NULL, "
        "progress_message = NULL WHERE id IN (SELECT value FROM json_each(?)) "
        f"RETURNING {rows.JOB_COLUMNS}",
        (at, encode(ids)),
    ).fetchall()
    jobs = {job.id: job for job in with_parents(connection, found)}
    claims = [Claim(jobs[job_id], jobs[job_id].attempts, request.owner) for job_id in ids]
    until = (now + request.lease).timestamp()
    rows.insert(
        connection,
        "attempts",
        "job_id, attempt, supervisor, started_at, lease_until",
        [(claim.job.id, claim.attempt, request.owner, at, until) for claim in claims],
    )
    _note_starts(connection, [claim.job.queue for claim in claims], at)
    return claims


def _note_starts(connection: sqlite3.Connection, queues: list[str], now: float) -> None:
    for queue in queues_named(connection, set(queues)):
        if queue.rate is None:
            continue
        connection.execute(
            "DELETE FROM recent_starts WHERE queue = ? AND (started_at <= ? OR started_at > ?)",
            (queue.name, now - queue.rate.seconds, now + MAX_CLOCK_LEAD_S),
        )
        connection.executemany(
            "INSERT INTO recent_starts (queue, started_at) VALUES (?, ?)",
            [(queue.name, now)] * queues.count(queue.name),
        )


def select_jobs(connection: sqlite3.Connection, tail: str, values: Sequence[Any] = ()) -> list[Job]:
    """Return the jobs that a query with this tail (WHERE …) selects."""
    found = connection.execute(f"SELECT {rows.JOB_COLUMNS} FROM job_queue {tail}", values)
    return with_parents(connection, found.fetchall())


def with_parents(connection: sqlite3.Connection, found: list[rows.Row]) -> list[Job]:
    """Return the jobs of these rows, with their parents."""
    children = [row[0] for row in found if row[9]]
    parents: dict[int, tuple[Parent, ...]] = {}
    if children:
        parents = rows.to_parents(
            connection.execute(
                "SELECT child_id, parent_id, condition FROM dependencies "
                "WHERE child_id IN (SELECT value FROM json_each(?)) ORDER BY child_id, parent_id",
                (encode(children),),
            )
        )
    return [rows.to_job(row, parents.get(row[0], ())) for row in found]
