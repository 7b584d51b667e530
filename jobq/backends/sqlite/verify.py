"""Flaws of a SQLite database: damage that SQLite finds, and rows that belong to nothing."""

import sqlite3
from collections.abc import Iterator

_STRAYS = {
    "attempts of a job that does not exist": (
        "SELECT DISTINCT job_id FROM attempts WHERE job_id NOT IN (SELECT id FROM job_queue)"
    ),
    "parents of a job that does not exist": (
        "SELECT DISTINCT child_id FROM dependencies "
        "WHERE child_id NOT IN (SELECT id FROM job_queue)"
    ),
    "an import key of a job that does not exist": (
        "SELECT job_id FROM job_keys WHERE job_id NOT IN (SELECT id FROM job_queue)"
    ),
    "a job in a queue that does not exist": (
        "SELECT id FROM job_queue WHERE queue NOT IN (SELECT name FROM queues)"
    ),
    "a firing of a schedule that does not exist": (
        "SELECT schedule_id FROM schedule_ticks WHERE schedule_id NOT IN (SELECT id FROM schedules)"
    ),
}
"""Rows that belong to nothing, each with the query that finds their ids."""

_MAX_IDS_NAMED = 5


def flaws(connection: sqlite3.Connection, *, thorough: bool) -> Iterator[str]:
    """Yield what SQLite itself finds wrong, and rows that belong to nothing."""
    check = "integrity_check" if thorough else "quick_check"
    for (found,) in connection.execute(f"PRAGMA {check}").fetchall():
        if found != "ok":
            yield found
    for what, query in _STRAYS.items():
        ids = [str(row[0]) for row in connection.execute(f"{query} LIMIT ?", (_MAX_IDS_NAMED,))]
        if ids:
            yield f"{what}: {', '.join(ids)}"
