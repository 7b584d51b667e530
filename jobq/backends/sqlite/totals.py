"""Totals of a SQLite database: numbers of jobs since its beginning, in a table of one row."""

import sqlite3
from collections.abc import Iterable

from jobq.models import AttemptResult, JobStatus, Outcome

NAMES = ("added", "completed", "failed", "recovered")


def read(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the totals by name."""
    row = connection.execute(f"SELECT {', '.join(NAMES)} FROM totals").fetchone()
    return dict(zip(NAMES, row, strict=True))


def count(
    connection: sqlite3.Connection,
    *,
    added: int = 0,
    completed: int = 0,
    failed: int = 0,
    recovered: int = 0,
) -> None:
    """Add these numbers: once for all jobs of a transaction."""
    connection.execute(
        "UPDATE totals SET added = added + ?, completed = completed + ?, failed = failed + ?, "
        "recovered = recovered + ?",
        (added, completed, failed, recovered),
    )


def count_ended(
    connection: sqlite3.Connection, ended: Iterable[tuple[AttemptResult, JobStatus]]
) -> None:
    """Count ended attempts, each with the status that its job got."""
    completed = failed = recovered = 0
    for ending, status in ended:
        completed += status is JobStatus.COMPLETED
        failed += status is JobStatus.FAILED
        recovered += ending.outcome is Outcome.LOST
    if completed or failed or recovered:
        count(connection, completed=completed, failed=failed, recovered=recovered)


def reset(connection: sqlite3.Connection) -> None:
    """Begin at 0."""
    connection.execute("UPDATE totals SET added = 0, completed = 0, failed = 0, recovered = 0")
