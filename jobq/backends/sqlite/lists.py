"""Lists of jobs in SQLite, read by the indexes that are there, so that a page reads few rows.

A list is read in batches: first the ids that come next, from an index, then the rows of those that
match. `failed`, `blocked` and `cancelled` jobs have an index by id. The `pending` ones are merged
from the lines of the claim index, one for each queue and priority. `running`, `scheduled`, `retrying`
and `completed` ones are sorted, as long as there are few. All others are read backwards by id.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from datetime import datetime
from heapq import merge
from itertools import islice
from typing import NamedTuple

from jobq.backends.lists import (
    BATCH_GROWTH,
    DROPPED_ARGS,
    MAX_BATCH_ROWS,
    MAX_LIGHT_ARGS_BYTES,
    MAX_ROWS_READ,
    Batch,
    EndedJob,
    JobLists,
    Order,
    Page,
    Position,
    is_empty,
    read_page,
    require_no_text,
)
from jobq.backends.sqlite import rows
from jobq.backends.sqlite.claim import select_jobs, with_parents
from jobq.backends.sqlite.connection import SqliteConnection
from jobq.backends.text import encode
from jobq.models import FINISHED, Job, JobFilter, JobStatus

_BY_ID = frozenset({JobStatus.FAILED, JobStatus.BLOCKED, JobStatus.CANCELLED})
"""Statuses whose partial index has the order of ids."""

_DUE = {JobStatus.SCHEDULED, JobStatus.RETRYING}
_ENDED = "status IN ('completed', 'failed', 'cancelled')"

_SORTED = {
    JobStatus.RUNNING: ("job_queue_running", "status = 'running'", {JobStatus.RUNNING}),
    JobStatus.SCHEDULED: ("job_queue_due", "status IN ('scheduled', 'retrying')", _DUE),
    JobStatus.RETRYING: ("job_queue_due", "status IN ('scheduled', 'retrying')", _DUE),
    JobStatus.COMPLETED: ("job_queue_finished", _ENDED, FINISHED),
}
"""By status: a partial index in another order, its condition, and the statuses of its rows."""

_DENSE_SHARE = 4
"""Of jobs, one in as many has a status: then reading backwards finds a page soon."""

_BYTES_OF_ARGS = (
    "octet_length(args)"  # does not read them
    if sqlite3.sqlite_version_info >= (3, 43)
    else "length(CAST(args AS BLOB))"
)
_LIGHT_COLUMNS = rows.JOB_COLUMNS.replace(
    " args,", f" iif({_BYTES_OF_ARGS} > {MAX_LIGHT_ARGS_BYTES}, '{encode(DROPPED_ARGS)}', args),"
).replace(", result", ", NULL")


_Counts = dict[str, dict[JobStatus, int]]


class _Source(NamedTuple):
    """A part of the table that an index finds: how, the condition on it, and its parameters."""

    how: str
    condition: str
    values: tuple[str | int, ...] = ()


_WHOLE_TABLE = _Source("NOT INDEXED", "1")


class SqliteLists(JobLists):
    """Pages of jobs, read at one moment."""

    def __init__(self, db: SqliteConnection) -> None:
        self._db = db

    def page(
        self,
        jobs: JobFilter,
        *,
        order: Order = Order.NEWEST,
        after: Position | None = None,
        limit: int,
        max_rows: int = MAX_ROWS_READ,
    ) -> Page:
        require_no_text(jobs)
        if is_empty(jobs, order):
            return Page([], after, complete=True, read=0)
        with self._db.snapshot() as connection:
            return read_page(_List(connection, jobs, order).batch, after, limit, max_rows)

    def ended_after(self, after: Position, before: datetime, limit: int) -> list[EndedJob]:
        since = -1.0 if after.at is None else after.at.timestamp()
        with self._db.read() as connection:
            found = connection.execute(
                "SELECT id, finished_at, status, type, queue, started_at - created_at, "
                "finished_at - started_at FROM job_queue INDEXED BY job_queue_finished "
                f"WHERE {_ENDED} AND finished_at < ? AND (finished_at, id) > (?, ?) "
                "ORDER BY finished_at, id LIMIT ?",
                (before.timestamp(), since, after.id, limit),
            )
            return [
                EndedJob(row[0], rows.from_seconds(row[1]), JobStatus(row[2]), *row[3:])
                for row in found
            ]


def find(
    connection: sqlite3.Connection, jobs: JobFilter, limit: int | None, *, newest: bool
) -> list[Job]:
    """Return matching jobs by id, with all columns: see `Backend.find`."""
    listing = _List(connection, jobs, Order.NEWEST if newest else Order.OLDEST)
    if listing.sources == [_WHOLE_TABLE] or jobs.ids is not None:
        clause, values = rows.where(jobs)
        order = "DESC" if newest else "ASC"
        every = -1 if limit is None else limit
        return select_jobs(
            connection, f"WHERE {clause} ORDER BY id {order} LIMIT ?", (*values, every)
        )
    found: list[Job] = []
    after, size = None, MAX_BATCH_ROWS if limit is None else min(limit, MAX_BATCH_ROWS)
    while size:
        places = listing.next(after, size)
        found += listing.rows(places, rows.JOB_COLUMNS)
        if len(places) < size or (limit is not None and len(found) >= limit):
            break
        after, size = places[-1], min(size * BATCH_GROWTH, MAX_BATCH_ROWS)
    return found[:limit]


class _List:
    """The jobs of a filter in an order: which rows come next, and which of them match."""

    def __init__(self, connection: sqlite3.Connection, jobs: JobFilter, order: Order) -> None:
        self._connection = connection
        self._jobs = jobs
        self._order = order
        self._where = rows.where(jobs)
        self.sources = [] if order is Order.ENDED else _sources(connection, jobs)

    def next(self, after: Position | None, number: int) -> list[Position]:
        """Return the next rows in order; those of other jobs than the filter's may be among them."""
        if self._order is Order.ENDED:
            return self._next_ended(after, number)
        first, last = self._jobs.after_id, self._jobs.before_id
        newest = self._order is Order.NEWEST
        if after is not None and newest:
            last = after.id if last is None else min(last, after.id)
        elif after is not None:
            first = after.id if first is None else max(first, after.id)
        parts = [self._ids(source, first, last, number) for source in self.sources]
        ids = parts[0] if len(parts) == 1 else merge(*parts, reverse=newest)
        return [Position(job_id) for job_id in islice(ids, number)]

    def _ids(self, source: _Source, first: int | None, last: int | None, number: int) -> list[int]:
        """Return ids of a source between two, in order."""
        query = f"SELECT id FROM job_queue {source.how} WHERE {source.condition}"
        values: list[str | int] = [*source.values]
        for bound, comparison in ((first, "id > ?"), (last, "id < ?")):
            if bound is not None:
                query += f" AND {comparison}"
                values.append(bound)
        order = "DESC" if self._order is Order.NEWEST else "ASC"
        found = self._connection.execute(f"{query} ORDER BY id {order} LIMIT ?", (*values, number))
        return [row[0] for row in found]

    def _next_ended(self, after: Position | None, number: int) -> list[Position]:
        query = (
            f"SELECT id, finished_at FROM job_queue INDEXED BY job_queue_finished WHERE {_ENDED}"
        )
        values: list[float] = []
        before = self._jobs.finished_before
        if after is not None and after.at is not None:
            query += " AND (finished_at, id) < (?, ?)"
            values += [after.at.timestamp(), after.id]
        if before is not None:
            query += " AND finished_at < ?"
            values.append(before.timestamp())
        if self._jobs.ended_since is not None:
            query += " AND finished_at >= ?"
            values.append(self._jobs.ended_since.timestamp())
        query += " ORDER BY finished_at DESC, id DESC LIMIT ?"
        found = self._connection.execute(query, (*values, number))
        return [Position(job_id, rows.from_seconds(at)) for job_id, at in found]

    def batch(self, after: Position | None, number: int) -> Batch:
        """Return the next rows in order, and the light ones of those that match."""
        places = self.next(after, number)
        return Batch(places, {job.id: job for job in self.rows(places, _LIGHT_COLUMNS)})

    def rows(self, places: Sequence[Position], columns: str) -> list[Job]:
        """Return the matching jobs of these places, in their order."""
        clause, values = self._where
        ids = [place.id for place in places]
        found = self._connection.execute(
            f"SELECT {columns} FROM job_queue NOT INDEXED "
            f"WHERE id IN (SELECT value FROM json_each(?)) AND {clause}",
            (encode(ids), *values),
        )
        jobs = {job.id: job for job in with_parents(self._connection, found.fetchall())}
        return [jobs[job_id] for job_id in ids if job_id in jobs]


def _sources(connection: sqlite3.Connection, jobs: JobFilter) -> list[_Source]:
    """Return the parts of the table in which all jobs of a filter are, each in the order of ids."""
    if jobs.ids is not None:
        return [
            _Source("NOT INDEXED", "id IN (SELECT value FROM json_each(?))", (encode(jobs.ids),))
        ]
    if jobs.parent is not None:
        children = "id IN (SELECT child_id FROM dependencies WHERE parent_id = ?)"
        return [_Source("NOT INDEXED", children, (jobs.parent,))]
    statuses = jobs.statuses
    if jobs.finished_before is not None or jobs.ended_since is not None:
        statuses = FINISHED if statuses is None else FINISHED & statuses
    if statuses is None:
        return [_WHOLE_TABLE]
    counts = _counts(connection)
    sources: list[_Source] = []
    for status in sorted(statuses & _present(counts, jobs.queue)):
        if status in _BY_ID:
            sources.append(_Source(f"INDEXED BY job_queue_{status}", f"status = '{status}'"))
        elif status is JobStatus.PENDING:
            sources += _lines(counts, jobs.queue)
        elif _is_sorted_soon(counts, status):
            index, condition, _ = _SORTED[status]
            by_index = f"{condition} AND status = '{status}'"
            sources.append(_Source(f"INDEXED BY {index}", by_index))
        else:
            return [_WHOLE_TABLE]
    return sources


def _present(counts: _Counts, queue: str | None) -> set[JobStatus]:
    """Return the statuses that any job has, or any of a queue."""
    names = counts if queue is None else counts.keys() & {queue}
    return {status for name in names for status in counts[name]}


def _is_sorted_soon(counts: _Counts, status: JobStatus) -> bool:
    """Return whether sorting the rows of a status is quicker than reading backwards."""
    *_, of_index = _SORTED[status]
    rows_of_index = sum(each.get(name, 0) for each in counts.values() for name in of_index)
    number = sum(each.get(status, 0) for each in counts.values())
    total = sum(sum(each.values()) for each in counts.values())
    return rows_of_index <= MAX_ROWS_READ and number * _DENSE_SHARE < total


def _lines(counts: _Counts, queue: str | None) -> Iterator[_Source]:
    """Yield the lines of pending jobs: those of a queue and a priority are in the order of ids."""
    for name, by_status in counts.items():
        if by_status.get(JobStatus.PENDING) and queue in (None, name):
            for priority in range(10):
                condition = "status = 'pending' AND queue = ? AND priority = ?"
                yield _Source("INDEXED BY job_queue_claim", condition, (name, priority))


def _counts(connection: sqlite3.Connection) -> _Counts:
    counts: _Counts = {}
    for queue, status, number in connection.execute(
        "SELECT queue, status, jobs FROM job_counts WHERE jobs > 0"
    ):
        counts.setdefault(queue, {})[JobStatus(status)] = number
    return counts
