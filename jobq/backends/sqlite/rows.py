"""Rows of the SQLite tables as models, and back."""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import chain
from typing import Any

from jobq.backends.text import encode, storable
from jobq.models import (
    Attempt,
    AttemptKey,
    Condition,
    Job,
    JobFilter,
    JobStatus,
    LogOffsets,
    NewJob,
    Outcome,
    Parent,
    Progress,
    Queue,
    SupervisorInfo,
)
from jobq.units import Rate

Row = tuple[Any, ...]

JOB_COLUMNS = (
    "id, type, name, status, queue, priority, args, tags, unique_key, parents, unmet_parents, "
    "added_by, attempts, failures, crashes, max_retries, retry_base, timeout, created_at, run_at, "
    "started_at, finished_at, cancel_requested, cancelled_by, progress_done, progress_total, "
    "progress_message, exit_code, signal, error, reason, result, signature"
)
ATTEMPT_COLUMNS = (
    "job_id, attempt, supervisor, pid, pid_started, started_at, lease_until, ended_at, outcome, "
    "exit_code, signal, error, max_rss_bytes, cpu_seconds, "
    "stdout_offset, stderr_offset, events_offset, log_offset"
)
QUEUE_COLUMNS = (
    "name, description, max_concurrent, priority, paused, rate_count, rate_seconds, "
    "timeout, max_retries"
)
SUPERVISOR_COLUMNS = "id, host, boot_id, pid, slots, queues, types, started_at, heartbeat_at"

DEPENDENCY_COLUMNS = "child_id, parent_id, condition, met"
KEY_COLUMNS = "key, job_id, digest"

INSERTED_COLUMNS = (
    "id, type, name, status, queue, priority, args, tags, unique_key, parents, unmet_parents, "
    "added_by, max_retries, retry_base, timeout, created_at, run_at, finished_at, cancelled_by, "
    "reason"
)


def to_seconds(moment: datetime | None) -> float | None:
    """Return seconds since 1970, as the tables store times."""
    return None if moment is None else moment.timestamp()


def to_moment(seconds: float | None) -> datetime | None:
    """Return the UTC time of a column that may be NULL."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def from_seconds(seconds: float) -> datetime:
    """Return the UTC time of a column that is never NULL."""
    return datetime.fromtimestamp(seconds, UTC)


def job_row(
    job: NewJob,
    job_id: int,
    status: JobStatus,
    now: float,
    *,
    unmet: int = 0,
    cancelled_by: int | None = None,
    reason: str | None = None,
) -> Row:
    """Return the values of INSERTED_COLUMNS."""
    return (
        job_id, job.type, job.name, status.value, job.queue, job.priority, encode(job.args),
        encode(dict(job.tags)) if job.tags else None, job.unique_key, len(job.parents), unmet,
        job.added_by, job.max_retries, job.retry_base, job.timeout, now, to_seconds(job.run_at),
        now if status is JobStatus.CANCELLED else None, cancelled_by, reason,
    )  # fmt: skip


def full_job_row(job: Job) -> Row:
    """Return the values of JOB_COLUMNS."""
    done, total, message = job.progress or (None, None, None)
    return (
        job.id, job.type, job.name, job.status.value, job.queue, job.priority, encode(job.args),
        encode(dict(job.tags)) if job.tags else None, job.unique_key, len(job.parents),
        job.unmet_parents, job.added_by, job.attempts, job.failures, job.crashes, job.max_retries,
        job.retry_base, job.timeout, to_seconds(job.created_at), to_seconds(job.run_at),
        to_seconds(job.started_at), to_seconds(job.finished_at), int(job.cancel_requested),
        job.cancelled_by, done, total, message and storable(message), job.exit_code, job.signal,
        job.error and storable(job.error), job.reason and storable(job.reason),
        None if job.result is None else encode(job.result), job.signature,
    )  # fmt: skip


def to_job(row: Row, parents: tuple[Parent, ...]) -> Job:
    """Return a job from its JOB_COLUMNS."""
    return Job(
        id=row[0],
        type=row[1],
        name=row[2],
        status=JobStatus(row[3]),
        queue=row[4],
        priority=row[5],
        args=json.loads(row[6]),
        tags=json.loads(row[7]) if row[7] else {},
        unique_key=row[8],
        parents=parents,
        unmet_parents=row[10],
        added_by=row[11],
        attempts=row[12],
        failures=row[13],
        crashes=row[14],
        max_retries=row[15],
        retry_base=row[16],
        timeout=row[17],
        created_at=from_seconds(row[18]),
        run_at=to_moment(row[19]),
        started_at=to_moment(row[20]),
        finished_at=to_moment(row[21]),
        cancel_requested=bool(row[22]),
        cancelled_by=row[23],
        progress=None if row[24] is None else Progress(row[24], row[25], row[26]),
        exit_code=row[27],
        signal=row[28],
        error=row[29],
        reason=row[30],
        result=None if row[31] is None else json.loads(row[31]),
        signature=row[32],
    )


def to_parents(rows: Iterable[Row]) -> dict[int, tuple[Parent, ...]]:
    """Return the parents by child, from (child_id, parent_id, condition) rows."""
    parents: dict[int, list[Parent]] = {}
    for child, parent, condition in rows:
        parents.setdefault(child, []).append(Parent(parent, Condition(condition)))
    return {child: tuple(of_child) for child, of_child in parents.items()}


def from_key(key: AttemptKey) -> tuple[int, int, float]:
    """Return the values that identify an attempt in the tables."""
    return key.job_id, key.attempt, key.started_at.timestamp()


def to_key(job_id: int, attempt: int, started_at: float) -> AttemptKey:
    """Return the key of an open attempt."""
    return AttemptKey(job_id, attempt, from_seconds(started_at))


def to_attempt(row: Sequence[Any]) -> Attempt:
    """Return an attempt from its ATTEMPT_COLUMNS."""
    return Attempt(
        job_id=row[0],
        attempt=row[1],
        supervisor=row[2],
        pid=row[3],
        pid_started=row[4],
        started_at=from_seconds(row[5]),
        lease_until=from_seconds(row[6]),
        ended_at=to_moment(row[7]),
        outcome=None if row[8] is None else Outcome(row[8]),
        exit_code=row[9],
        signal=row[10],
        error=row[11],
        max_rss_bytes=row[12],
        cpu_seconds=row[13],
        offsets=LogOffsets(*row[14:18]),
    )


def attempt_row(attempt: Attempt) -> Row:
    """Return the values of ATTEMPT_COLUMNS."""
    return (
        attempt.job_id, attempt.attempt, attempt.supervisor, attempt.pid, attempt.pid_started,
        to_seconds(attempt.started_at), to_seconds(attempt.lease_until),
        to_seconds(attempt.ended_at), attempt.outcome and attempt.outcome.value,
        attempt.exit_code, attempt.signal, attempt.error and storable(attempt.error),
        attempt.max_rss_bytes, attempt.cpu_seconds, *attempt.offsets,
    )  # fmt: skip


def to_queue(row: Row) -> Queue:
    """Return a queue from its QUEUE_COLUMNS."""
    return Queue(
        name=row[0],
        description=row[1],
        max_concurrent=row[2],
        priority=row[3],
        paused=bool(row[4]),
        rate=None if row[5] is None else Rate(row[5], row[6]),
        timeout=row[7],
        max_retries=row[8],
    )


def queue_row(queue: Queue) -> Row:
    """Return the values of QUEUE_COLUMNS."""
    return (
        queue.name, queue.description, queue.max_concurrent, queue.priority, int(queue.paused),
        queue.rate and queue.rate.count, queue.rate and queue.rate.seconds,
        queue.timeout, queue.max_retries,
    )  # fmt: skip


def to_supervisor(row: Row) -> SupervisorInfo:
    """Return a supervisor from its SUPERVISOR_COLUMNS."""
    return SupervisorInfo(
        id=row[0],
        host=row[1],
        boot_id=row[2],
        pid=row[3],
        slots=row[4],
        queues=None if row[5] is None else tuple(json.loads(row[5])),
        types=tuple(json.loads(row[6])),
        started_at=from_seconds(row[7]),
        heartbeat_at=from_seconds(row[8]),
    )


def supervisor_row(supervisor: SupervisorInfo) -> Row:
    """Return the values of SUPERVISOR_COLUMNS."""
    return (
        supervisor.id, supervisor.host, supervisor.boot_id, supervisor.pid, supervisor.slots,
        None if supervisor.queues is None else encode(supervisor.queues),
        encode(supervisor.types), to_seconds(supervisor.started_at),
        to_seconds(supervisor.heartbeat_at),
    )  # fmt: skip


ROWS_PER_STATEMENT = 32
"""Rows inserted by one statement: they take half as long as with a statement for each."""


def insert(connection: sqlite3.Connection, table: str, columns: str, values: Sequence[Row]) -> None:
    """Insert rows with these columns."""
    whole = len(values) - len(values) % ROWS_PER_STATEMENT
    if whole:
        connection.executemany(
            insert_statement(table, columns, ROWS_PER_STATEMENT),
            (
                tuple(chain.from_iterable(values[at : at + ROWS_PER_STATEMENT]))
                for at in range(0, whole, ROWS_PER_STATEMENT)
            ),
        )
    if whole < len(values):
        connection.executemany(insert_statement(table, columns), values[whole:])


def replace(
    connection: sqlite3.Connection, table: str, columns: str, values: Sequence[Row]
) -> None:
    """Insert rows with these columns in place of those with the same primary keys."""
    connection.executemany(insert_statement(table, columns, how="INSERT OR REPLACE"), values)


@cache
def insert_statement(table: str, columns: str, number: int = 1, *, how: str = "INSERT") -> str:
    """Return the statement that inserts a number of rows."""
    marks = f"({', '.join('?' * len(columns.split(',')))})"
    return f"{how} INTO {table} ({columns}) VALUES {', '.join([marks] * number)}"


def where(jobs: JobFilter) -> tuple[str, list[Any]]:
    """Return a filter as a WHERE clause and its parameters.

    Statuses are spelled out: SQLite uses a partial index only for literals.
    """
    clauses: list[str] = []
    values: list[Any] = []

    def add(clause: str, *parameters: Any) -> None:
        clauses.append(clause)
        values.extend(parameters)

    if jobs.ids is not None:
        add("id IN (SELECT value FROM json_each(?))", encode(jobs.ids))
    if jobs.statuses is not None:
        names = ", ".join(f"'{status.value}'" for status in sorted(jobs.statuses))
        add(f"status IN ({names})" if len(jobs.statuses) != 1 else f"status = {names}")
    _equal(jobs, add)
    for tag, value in jobs.tags.items():
        # Not by a JSON path: a key with a quote in it would be malformed.
        add(
            "EXISTS (SELECT 1 FROM json_each(tags) AS t WHERE t.key = ? AND t.value = ?)",
            tag,
            value,
        )
    if jobs.parent is not None:
        add("id IN (SELECT child_id FROM dependencies WHERE parent_id = ?)", jobs.parent)
    for clause, moment in (
        ("created_at >= ?", jobs.since),
        ("created_at < ?", jobs.until),
        ("finished_at < ?", jobs.finished_before),
        ("finished_at >= ?", jobs.ended_since),
    ):
        if moment is not None:
            add(clause, to_seconds(moment))
    return " AND ".join(clauses) or "1", values


def _equal(jobs: JobFilter, add: Any) -> None:
    pairs: Mapping[str, Any] = {
        "queue = ?": jobs.queue,
        "type = ?": jobs.type,
        "added_by = ?": jobs.added_by,
        "signature = ?": jobs.signature,
        "id > ?": jobs.after_id,
        "id < ?": jobs.before_id,
    }
    for clause, value in pairs.items():
        if value is not None:
            add(clause, value)
