"""Adding jobs to SQLite: which state each starts in, what it waits for, who holds its key."""

import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from jobq.backends import sqlite_dependents as dependents
from jobq.backends import sqlite_rows as rows
from jobq.backends.sqlite_rows import encode
from jobq.errors import NotFound, UsageError
from jobq.models import (
    FINISHED,
    Condition,
    Inserted,
    JobStatus,
    NewJob,
    ParentRef,
    impossible_because,
)


@dataclass(slots=True)
class Batch:
    """What an insert has found and made so far."""

    inserted: list[Inserted] = field(default_factory=list)
    jobs: list[rows.Row] = field(default_factory=list)
    dependencies: list[tuple[int, int, str, int]] = field(default_factory=list)
    keys: dict[str, int] = field(default_factory=dict)
    statuses: dict[int, JobStatus] = field(default_factory=dict)


def require_queues(connection: sqlite3.Connection, names: Iterable[str]) -> None:
    known = {row[0] for row in connection.execute("SELECT name FROM queues")}
    for name in names:
        if name not in known:
            raise NotFound(
                f"no queue {name!r}: known are {', '.join(sorted(known))} "
                f"(create it with `jobq queue create {name}`)"
            )


def statuses_of(connection: sqlite3.Connection, ids: Collection[int]) -> dict[int, JobStatus]:
    found = connection.execute(
        "SELECT id, status FROM job_queue WHERE id IN (SELECT value FROM json_each(?))",
        (encode(list(ids)),),
    )
    return {job_id: JobStatus(status) for job_id, status in found}


def _parents_of(connection: sqlite3.Connection, batch: Batch, job: NewJob) -> dict[int, Condition]:
    """Each parent once: two places in a batch are one job if one holds the other's unique key."""
    parents: dict[int, Condition] = {}
    for ref in job.parents:
        parent_id = _parent_of(connection, batch, ref)
        if parents.setdefault(parent_id, ref.condition) is not ref.condition:
            raise UsageError(f"parent {parent_id} is named with two conditions: choose one")
    return parents


def _parent_of(connection: sqlite3.Connection, batch: Batch, ref: ParentRef) -> int:
    parent_id = ref.id if ref.index is None else batch.inserted[ref.index].id
    if parent_id is not None and parent_id not in batch.statuses:
        batch.statuses.update(statuses_of(connection, (parent_id,)))
    if parent_id is None or parent_id not in batch.statuses:
        raise NotFound(f"no job {parent_id} to wait for: see `jobq list`")
    return parent_id


def _first_status(job: NewJob, now: datetime, *, unmet: int, excluded: bool) -> JobStatus:
    if excluded:
        return JobStatus.CANCELLED
    if unmet:
        return JobStatus.BLOCKED
    if job.run_at is not None and job.run_at > now:
        return JobStatus.SCHEDULED
    return JobStatus.PENDING


def prepare(
    connection: sqlite3.Connection,
    batch: Batch,
    job: NewJob,
    job_id: int,
    now: datetime,
) -> int:
    """Make a job's rows, and note what became of it; how many ids it takes: 1 or 0."""
    if job.unique_key is not None:
        holder = batch.keys.get(job.unique_key)
        if holder is None:
            holder = dependents.key_holder(connection, job.unique_key)
        if holder is not None:
            batch.inserted.append(Inserted(holder, created=False))
            return 0
    unmet, excluded = 0, None
    for parent_id, condition in _parents_of(connection, batch, job).items():
        ended = batch.statuses[parent_id]
        met = condition.met_by(ended)
        unmet += not met
        if condition.excluded_by(ended) and excluded is None:
            excluded = (parent_id, impossible_because(parent_id, ended, condition))
        batch.dependencies.append((job_id, parent_id, condition.value, int(met)))
    status = _first_status(job, now, unmet=unmet, excluded=excluded is not None)
    cancelled_by, reason = excluded or (None, None)
    batch.jobs.append(
        rows.job_row(
            job,
            job_id,
            status,
            now.timestamp(),
            unmet=unmet,
            cancelled_by=cancelled_by,
            reason=reason,
        )
    )
    if job.unique_key is not None and status not in FINISHED:
        batch.keys[job.unique_key] = job_id
    batch.statuses[job_id] = status
    batch.inserted.append(Inserted(job_id, created=True))
    return 1
