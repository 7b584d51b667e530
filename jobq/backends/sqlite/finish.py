"""Ends of attempts in SQLite: with an outcome, or given back because they were never started."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from jobq.backends.messages import end_of
from jobq.backends.sqlite import rows
from jobq.backends.text import encode, storable
from jobq.models import FINISHED, AttemptResult, Claim, JobStatus


def end(
    connection: sqlite3.Connection,
    ending: AttemptResult,
    now: datetime,
    lease_before: datetime | None,
) -> JobStatus | None:
    """End an attempt; return the job's new status, or None if the attempt was not running."""
    fence = "id = ? AND attempts = ? AND started_at = ? AND status = 'running'"
    values: list[Any] = [*rows.from_key(ending.key)]
    if lease_before is not None:
        fence += (
            " AND EXISTS (SELECT 1 FROM attempts AS held WHERE held.job_id = id "
            "AND held.attempt = job_queue.attempts AND held.lease_until < ?)"
        )
        values.append(lease_before.timestamp())
    at = end_of(ending, now).timestamp()
    # A job that was asked to stop does not run again, however its last attempt ended.
    status = ending.status.value
    again = ending.status not in FINISHED
    error, reason = (
        ending.error and storable(ending.error),
        ending.reason and storable(ending.reason),
    )
    ended = connection.execute(
        "UPDATE job_queue SET status = iif(cancel_requested AND ?, 'cancelled', ?), "
        "run_at = iif(cancel_requested, NULL, ?), "
        "finished_at = iif(cancel_requested OR NOT ?, ?, NULL), "
        "failures = ?, crashes = ?, exit_code = ?, signal = ?, error = ?, "
        "signature = ?, reason = coalesce(?, reason), result = ?, cancel_requested = 0 "
        f"WHERE {fence} RETURNING status",
        (
            again, status, rows.to_seconds(ending.run_at), again, at,
            ending.failures, ending.crashes, ending.exit_code, ending.signal, error,
            ending.signature, reason, None if ending.result is None else encode(ending.result), *values,
        ),
    ).fetchone()  # fmt: skip
    if ended is None:
        return None
    usage = ending.usage
    connection.execute(
        "UPDATE attempts SET ended_at = ?, outcome = ?, exit_code = ?, signal = ?, error = ?, "
        "max_rss_bytes = ?, cpu_seconds = ? WHERE job_id = ? AND attempt = ?",
        (
            at, ending.outcome.value, ending.exit_code, ending.signal, error,
            usage and usage.max_rss_bytes, usage and usage.cpu_seconds,
            ending.job_id, ending.attempt,
        ),
    )  # fmt: skip
    return JobStatus(ended[0])


def unclaim(connection: sqlite3.Connection, claims: Sequence[Claim], now: float) -> list[int]:
    """Undo claims that are still held; return the ids of those jobs that are cancelled by it."""
    cancelled: list[int] = []
    for claim in claims:
        held = connection.execute(
            "DELETE FROM attempts WHERE job_id = ? AND attempt = ? AND started_at = ? "
            "AND supervisor = ? AND ended_at IS NULL RETURNING started_at",
            (*rows.from_key(claim.key), claim.owner),
        ).fetchall()
        for (started_at,) in held:
            _forget_start(connection, claim.job.queue, started_at)
            if _put_back(connection, claim, now) is JobStatus.CANCELLED:
                cancelled.append(claim.job.id)
    return cancelled


def _forget_start(connection: sqlite3.Connection, queue: str, started_at: float) -> None:
    connection.execute(
        "DELETE FROM recent_starts WHERE id = "
        "(SELECT id FROM recent_starts WHERE queue = ? AND started_at = ? LIMIT 1)",
        (queue, started_at),
    )


def _put_back(connection: sqlite3.Connection, claim: Claim, now: float) -> JobStatus:
    (status,) = connection.execute(
        "UPDATE job_queue SET status = iif(cancel_requested, 'cancelled', 'pending'), "
        "finished_at = iif(cancel_requested, ?, NULL), cancel_requested = 0, "
        "attempts = attempts - 1, started_at = "
        "(SELECT started_at FROM attempts WHERE job_id = id AND attempt = job_queue.attempts - 1) "
        "WHERE id = ? RETURNING status",
        (now, claim.job.id),
    ).fetchone()
    return JobStatus(status)
