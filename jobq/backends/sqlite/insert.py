"""New jobs in SQLite: their first status, their parents, and the holders of their keys."""

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from jobq.backends.alternatives import one_of_several
from jobq.backends.sqlite import dependents, rows
from jobq.backends.sqlite.totals import count
from jobq.backends.text import encode
from jobq.errors import NotFound, UsageError
from jobq.models import (
    FINISHED,
    Condition,
    Inserted,
    JobStatus,
    KnownKey,
    NewJob,
    ParentRef,
    impossible_because,
)


@dataclass(slots=True)
class _Batch:
    """The rows that an insert has prepared so far, and what it has looked up."""

    inserted: list[Inserted] = field(default_factory=list)
    jobs: list[rows.Row] = field(default_factory=list)
    dependencies: list[tuple[int, int, str, int]] = field(default_factory=list)
    unique: dict[str, int] = field(default_factory=dict)  # held by jobs of this batch
    known: dict[str, int] = field(default_factory=dict)  # jobs of import keys
    keys: list[tuple[str, int, str]] = field(default_factory=list)
    statuses: dict[int, JobStatus] = field(default_factory=dict)


def require_queues(connection: sqlite3.Connection, names: Iterable[str]) -> None:
    """Raise `NotFound` for a queue that does not exist."""
    for name in names:
        if not connection.execute("SELECT 1 FROM queues WHERE name = ?", (name,)).fetchone():
            known = [row[0] for row in connection.execute("SELECT name FROM queues ORDER BY name")]
            raise NotFound(
                f"no queue {name!r}: known are {', '.join(known)} "
                f"(create it with `jobq queue create {name}`)"
            )


def statuses_of(connection: sqlite3.Connection, ids: Collection[int]) -> dict[int, JobStatus]:
    """Return the statuses of those jobs that exist."""
    found = connection.execute(
        "SELECT id, status FROM job_queue WHERE id IN (SELECT value FROM json_each(?))",
        (encode(list(ids)),),
    )
    return {job_id: JobStatus(status) for job_id, status in found}


def known_keys(connection: sqlite3.Connection, keys: Collection[str]) -> dict[str, KnownKey]:
    """Return those import keys that have a job."""
    found = connection.execute(
        "SELECT key, job_id, digest FROM job_keys WHERE key IN (SELECT value FROM json_each(?))",
        (encode(list(keys)),),
    )
    return {key: KnownKey(job_id, digest) for key, job_id, digest in found}


def _start_batch(connection: sqlite3.Connection, jobs: Sequence[NewJob]) -> _Batch:
    """Return a batch that knows the parents named by id, and the jobs of import keys."""
    batch = _Batch()
    refs = [ref for job in jobs for ref in job.parents]
    keys = {job.key for job in jobs if job.key is not None}
    keys.update(ref.key for ref in refs if ref.key is not None)
    if keys:
        known = known_keys(connection, keys)
        batch.known.update((key, found.job_id) for key, found in known.items())
    ids = {ref.id for ref in refs if ref.id is not None}
    ids.update(batch.known.values())
    if ids:
        batch.statuses.update(statuses_of(connection, ids))
    return batch


def _parents_of(connection: sqlite3.Connection, batch: _Batch, job: NewJob) -> dict[int, Condition]:
    """Return each parent once: two places in a batch are one job if one has the other's unique key."""
    parents: dict[int, Condition] = {}
    for ref in job.parents:
        parent_id = _parent_of(connection, batch, ref)
        if parents.setdefault(parent_id, ref.condition) is not ref.condition:
            raise UsageError(f"parent {parent_id} is named with two conditions: choose one")
    return parents


def _parent_of(connection: sqlite3.Connection, batch: _Batch, ref: ParentRef) -> int:
    parent_id = ref.id if ref.index is None else batch.inserted[ref.index].id
    if ref.key is not None:
        parent_id = batch.known.get(ref.key)
    if parent_id is not None and parent_id not in batch.statuses:
        batch.statuses.update(statuses_of(connection, (parent_id,)))
    if parent_id is None or parent_id not in batch.statuses:
        named = parent_id if ref.key is None else repr(ref.key)
        raise NotFound(f"no job {named} to wait for: see `jobq list`")
    return parent_id


def _first_status(job: NewJob, now: float, *, unmet: int, excluded: bool) -> JobStatus:
    if excluded:
        return JobStatus.CANCELLED
    if unmet:
        return JobStatus.BLOCKED
    if job.run_at is not None and job.run_at.timestamp() > now:
        return JobStatus.SCHEDULED
    return JobStatus.PENDING


def _existing(connection: sqlite3.Connection, batch: _Batch, job: NewJob) -> int | None:
    """Return the job of the new one's import key, or the holder of its unique key."""
    if job.key is not None and job.key in batch.known:
        return batch.known[job.key]
    if job.unique_key is None:
        return None
    holder = batch.unique.get(job.unique_key)
    if holder is None:
        holder = dependents.key_holder(connection, job.unique_key)
    if holder is not None:
        _record_key(batch, job, holder)
    return holder


def _record_key(batch: _Batch, job: NewJob, job_id: int) -> None:
    if job.key is not None:
        batch.known[job.key] = job_id
        batch.keys.append((job.key, job_id, job.digest))


def _prepare(
    connection: sqlite3.Connection,
    batch: _Batch,
    job: NewJob,
    job_id: int,
    now: float,
) -> int:
    """Prepare the rows and the answer of a job; return how many ids it takes: 1 or 0."""
    if (existing := _existing(connection, batch, job)) is not None:
        batch.inserted.append(Inserted(existing, created=False))
        return 0
    unmet, excluded = 0, None
    parents = _parents_of(connection, batch, job)
    one_met, one_possible = one_of_several(
        batch.statuses[parent] for parent, c in parents.items() if c is Condition.ONE_SUCCEEDED
    )
    for parent_id, condition in parents.items():
        ended = batch.statuses[parent_id]
        is_one = condition is Condition.ONE_SUCCEEDED
        met = one_met if is_one else condition.met_by(ended)
        unmet += not met
        excludes = not one_possible if is_one else condition.excluded_by(ended)
        if excludes and excluded is None:
            excluded = (parent_id, impossible_because(parent_id, ended, condition))
        batch.dependencies.append((job_id, parent_id, condition.value, int(met)))
    status = _first_status(job, now, unmet=unmet, excluded=excluded is not None)
    cancelled_by, reason = excluded or (None, None)
    batch.jobs.append(
        rows.job_row(
            job,
            job_id,
            status,
            now,
            unmet=unmet,
            cancelled_by=cancelled_by,
            reason=reason,
        )
    )
    if job.unique_key is not None and status not in FINISHED:
        batch.unique[job.unique_key] = job_id
    _record_key(batch, job, job_id)
    _record_added(batch, job_id, status)
    return 1


def _record_added(batch: _Batch, job_id: int, status: JobStatus) -> None:
    batch.statuses[job_id] = status
    batch.inserted.append(Inserted(job_id, created=True))


def _prepare_plain(batch: _Batch, job: NewJob, job_id: int, now: float) -> int:
    """Prepare a job without parents and keys, as most are: faster than `_prepare`."""
    status = _first_status(job, now, unmet=0, excluded=False)
    batch.jobs.append(rows.job_row(job, job_id, status, now))
    _record_key(batch, job, job_id)
    _record_added(batch, job_id, status)
    return 1


def insert(connection: sqlite3.Connection, jobs: Sequence[NewJob], now: datetime) -> list[Inserted]:
    """Add jobs inside a write transaction; return the id of each, and whether it was created."""
    require_queues(connection, {job.queue for job in jobs})
    batch = _start_batch(connection, jobs)
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'job_queue'").fetchone()
    next_id, at = row[0] + 1 if row else 1, now.timestamp()
    for job in jobs:
        if job.parents or job.unique_key is not None or job.key in batch.known:
            next_id += _prepare(connection, batch, job, next_id, at)
        else:
            next_id += _prepare_plain(batch, job, next_id, at)
    rows.insert(connection, "job_queue", rows.INSERTED_COLUMNS, batch.jobs)
    rows.insert(connection, "dependencies", rows.DEPENDENCY_COLUMNS, batch.dependencies)
    rows.insert(connection, "job_keys", rows.KEY_COLUMNS, batch.keys)
    if batch.jobs:
        count(connection, added=len(batch.jobs))
    return batch.inserted
