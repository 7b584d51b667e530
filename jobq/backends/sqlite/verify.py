"""What `verify` reads of a SQLite database: whole histories, and flaws of the tables themselves."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterator

from jobq.backends.base import History, ParentState
from jobq.backends.sqlite import rows
from jobq.backends.sqlite.claim import select_jobs
from jobq.backends.sqlite.dependents import key_holder
from jobq.backends.text import encode
from jobq.models import UNFINISHED, Attempt, Condition, Job, JobStatus

_AMONG = "IN (SELECT value FROM json_each(?))"

_STRAYS = {
    "attempts of a job that is not there": (
        "SELECT DISTINCT job_id FROM attempts WHERE job_id NOT IN (SELECT id FROM job_queue)"
    ),
    "parents of a job that is not there": (
        "SELECT DISTINCT child_id FROM dependencies "
        "WHERE child_id NOT IN (SELECT id FROM job_queue)"
    ),
    "a key that stands for a job that is not there": (
        "SELECT job_id FROM job_keys WHERE job_id NOT IN (SELECT id FROM job_queue)"
    ),
    "a job in a queue that is not there": (
        "SELECT id FROM job_queue WHERE queue NOT IN (SELECT name FROM queues)"
    ),
    "a time that a schedule that is not there fired for": (
        "SELECT schedule_id FROM schedule_ticks WHERE schedule_id NOT IN (SELECT id FROM schedules)"
    ),
}
"""Rows that belong to nothing, each with the query that finds their ids."""

_NAMED = 5


def histories(connection: sqlite3.Connection, after_id: int, limit: int) -> list[History]:
    """A page of histories, read in one transaction."""
    connection.execute("BEGIN")
    try:
        jobs = select_jobs(connection, "WHERE id > ? ORDER BY id LIMIT ?", (after_id, limit))
        ids = encode([job.id for job in jobs])
        attempts, parents = _attempts(connection, ids), _parents(connection, ids)
        keys, unsettled = _keys(connection, ids), _unsettled(connection, ids)
        return [
            History(
                job,
                attempts[job.id],
                parents[job.id],
                _holder(connection, job),
                keys[job.id],
                job.id in unsettled,
            )
            for job in jobs
        ]
    finally:
        connection.execute("ROLLBACK")


def _attempts(connection: sqlite3.Connection, ids: str) -> defaultdict[int, list[Attempt]]:
    found: defaultdict[int, list[Attempt]] = defaultdict(list)
    for row in connection.execute(
        f"SELECT {rows.ATTEMPT_COLUMNS} FROM attempts WHERE job_id {_AMONG} "
        "ORDER BY job_id, attempt",
        (ids,),
    ):
        found[row[0]].append(rows.to_attempt(row))
    return found


def _parents(connection: sqlite3.Connection, ids: str) -> defaultdict[int, list[ParentState]]:
    found: defaultdict[int, list[ParentState]] = defaultdict(list)
    for child, parent, condition, met, status, unsettled in connection.execute(
        "SELECT child_id, d.parent_id, condition, met, status, u.parent_id IS NOT NULL "
        "FROM dependencies AS d LEFT JOIN job_queue ON id = d.parent_id "
        "LEFT JOIN unsettled_parents AS u ON u.parent_id = d.parent_id "
        f"WHERE child_id {_AMONG}",
        (ids,),
    ):
        state = None if status is None else JobStatus(status)
        found[child].append(
            ParentState(parent, Condition(condition), bool(met), state, bool(unsettled))
        )
    return found


def _keys(connection: sqlite3.Connection, ids: str) -> defaultdict[int, list[tuple[str, str]]]:
    found: defaultdict[int, list[tuple[str, str]]] = defaultdict(list)
    for job_id, key, digest in connection.execute(
        f"SELECT job_id, key, digest FROM job_keys WHERE job_id {_AMONG} ORDER BY key", (ids,)
    ):
        found[job_id].append((key, digest))
    return found


def _unsettled(connection: sqlite3.Connection, ids: str) -> set[int]:
    found = connection.execute(
        f"SELECT parent_id FROM unsettled_parents WHERE parent_id {_AMONG}", (ids,)
    )
    return {parent for (parent,) in found}


def _holder(connection: sqlite3.Connection, job: Job) -> int | None:
    wanted = job.unique_key is not None and job.status in UNFINISHED
    return key_holder(connection, job.unique_key) if wanted else None


def flaws(connection: sqlite3.Connection, *, thorough: bool) -> Iterator[str]:
    """What SQLite itself finds wrong, and rows that belong to nothing."""
    check = "integrity_check" if thorough else "quick_check"
    for (found,) in connection.execute(f"PRAGMA {check}").fetchall():
        if found != "ok":
            yield found
    for what, query in _STRAYS.items():
        ids = [str(row[0]) for row in connection.execute(f"{query} LIMIT ?", (_NAMED,))]
        if ids:
            yield f"{what}: {', '.join(ids)}"
