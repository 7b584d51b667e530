"""Dependents in SQLite: consequences of a job's end, or its retry, for the jobs that wait for it.

`unsettled_parents` lists the jobs whose dependents have not been told yet. It is written in the
transaction that changes the parent, and worked off in batches, there or in later transactions: so
a parent of 100,000 children, or a chain of 10,000, does not delay others, and a crash loses nothing.
"""

import sqlite3
from collections.abc import Iterable

from jobq.models import Condition, JobStatus, impossible_because

_UNSETTLE = """
INSERT INTO unsettled_parents (parent_id)
SELECT value FROM json_each(?)
WHERE EXISTS (SELECT 1 FROM dependencies WHERE parent_id = value)
ON CONFLICT (parent_id) DO UPDATE SET after_child = 0
"""


def unsettle(connection: sqlite3.Connection, ids: Iterable[int]) -> bool:
    """Record that the dependents of these jobs are to be told; return whether there are any."""
    return connection.execute(_UNSETTLE, ("[" + ",".join(map(str, ids)) + "]",)).rowcount > 0


def settle(connection: sqlite3.Connection, now: float, limit: int) -> tuple[int, bool]:
    """Tell up to ``limit`` dependents; return how many became pending, and whether more are left."""
    released = 0
    while limit > 0:
        row = connection.execute(
            "SELECT parent_id, after_child, status FROM unsettled_parents "
            "LEFT JOIN job_queue ON id = parent_id LIMIT 1"
        ).fetchone()
        if row is None:
            return released, False
        parent, after, status = row
        if status is None:  # deleted meanwhile
            connection.execute("DELETE FROM unsettled_parents WHERE parent_id = ?", (parent,))
            continue
        told, freed = _settle_one(connection, parent, JobStatus(status), after, limit, now)
        released += freed
        limit -= max(told, 1)
    more = connection.execute("SELECT EXISTS (SELECT 1 FROM unsettled_parents)").fetchone()[0]
    return released, bool(more)


def _settle_one(
    connection: sqlite3.Connection,
    parent: int,
    status: JobStatus,
    after: int,
    limit: int,
    now: float,
) -> tuple[int, int]:
    children = connection.execute(
        "SELECT child_id, condition FROM dependencies "
        "WHERE parent_id = ? AND child_id > ? ORDER BY child_id LIMIT ?",
        (parent, after, limit),
    ).fetchall()
    freed = 0
    may_revive = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM job_queue WHERE cancelled_by = ?)", (parent,)
    ).fetchone()[0]
    for child, text in children:
        condition = Condition(text)
        excluded = condition.excluded_by(status)
        if condition is Condition.ONE_SUCCEEDED:
            freed += _tell_one_of_several(connection, child, parent, status, now)
            continue
        if may_revive and not excluded:
            # Even if the parent has ended again, which may be before all children were revived.
            _revive(connection, child, parent, now)
        if condition.met_by(status):
            freed += _meet(connection, child, parent, condition, now)
        elif excluded:
            _exclude(connection, child, parent, status, condition, now)
    if len(children) < limit:
        connection.execute("DELETE FROM unsettled_parents WHERE parent_id = ?", (parent,))
    else:
        connection.execute(
            "UPDATE unsettled_parents SET after_child = ? WHERE parent_id = ?",
            (children[-1][0], parent),
        )
    return len(children), freed


_ALTERNATIVES = (
    "SELECT parent_id FROM dependencies WHERE child_id = ? AND condition = 'one_succeeded'"
)


def _tell_one_of_several(
    connection: sqlite3.Connection, child: int, parent: int, status: JobStatus, now: float
) -> int:
    """Tell a child of a parent of which, or of others, one has to succeed; return 1 if that is met."""
    condition = Condition.ONE_SUCCEEDED
    if not condition.excluded_by(status):
        cancelled_by = connection.execute(
            f"SELECT cancelled_by FROM job_queue WHERE id = ? AND cancelled_by IN ({_ALTERNATIVES})",
            (child, child),
        ).fetchone()
        if cancelled_by is not None:
            _revive(connection, child, cancelled_by[0], now)
    if not condition.met_by(status):
        if condition.excluded_by(status) and not _may_be_met(connection, child):
            _exclude(connection, child, parent, status, condition, now)
        return 0
    met = connection.execute(
        "UPDATE dependencies SET met = 1 "
        "WHERE child_id = ? AND condition = 'one_succeeded' AND met = 0",
        (child,),
    ).rowcount
    if met:
        _count_met(connection, child, met, now)
    return int(met > 0)


def _may_be_met(connection: sqlite3.Connection, child: int) -> bool:
    """Return whether one of several parents has succeeded, or still may."""
    found = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM dependencies LEFT JOIN job_queue ON id = parent_id "
        "WHERE child_id = ? AND condition = 'one_succeeded' "
        "AND (met = 1 OR status NOT IN ('failed', 'cancelled')))",
        (child,),
    ).fetchone()
    return bool(found[0])


def _meet(
    connection: sqlite3.Connection, child: int, parent: int, condition: Condition, now: float
) -> int:
    met = connection.execute(
        "UPDATE dependencies SET met = 1 "
        "WHERE child_id = ? AND parent_id = ? AND condition = ? AND met = 0",
        (child, parent, condition.value),
    )
    if not met.rowcount:
        return 0
    _count_met(connection, child, 1, now)
    return 1


def _count_met(connection: sqlite3.Connection, child: int, number: int, now: float) -> None:
    """Count parents of a child as met; release it if these were the last ones."""
    connection.execute(
        "UPDATE job_queue SET unmet_parents = unmet_parents - ?1, status = CASE "
        "WHEN status = 'blocked' AND unmet_parents = ?1 "
        "THEN iif(coalesce(run_at, 0) > ?2, 'scheduled', 'pending') ELSE status END WHERE id = ?3",
        (number, now, child),
    )


def _exclude(
    connection: sqlite3.Connection,
    child: int,
    parent: int,
    status: JobStatus,
    condition: Condition,
    now: float,
) -> None:
    cancelled = connection.execute(
        "UPDATE job_queue SET status = 'cancelled', finished_at = ?, cancelled_by = ?, reason = ? "
        "WHERE id = ? AND status = 'blocked'",
        (now, parent, impossible_because(parent, status, condition), child),
    )
    if cancelled.rowcount:
        unsettle(connection, (child,))


def _revive(connection: sqlite3.Connection, child: int, parent: int, now: float) -> None:
    """Block a child again that was cancelled because of its parent, unless something else prevents it."""
    row = connection.execute(
        "SELECT unique_key FROM job_queue "
        "WHERE id = ? AND status = 'cancelled' AND cancelled_by = ?",
        (child, parent),
    ).fetchone()
    if row is None:
        return
    if (holder := key_holder(connection, row[0])) is not None:
        connection.execute(
            "UPDATE job_queue SET cancelled_by = NULL, reason = ? WHERE id = ?",
            (f"job {holder} has its unique key", child),
        )
        return
    connection.execute(
        "UPDATE job_queue SET status = 'blocked', finished_at = NULL, cancelled_by = NULL, "
        "reason = NULL WHERE id = ?",
        (child,),
    )
    if (other := excluding_parent(connection, child)) is not None:
        _exclude(connection, child, *other, now)
    else:
        unsettle(connection, (child,))


def key_holder(connection: sqlite3.Connection, unique_key: str | None) -> int | None:
    """Return the unfinished job that holds a unique key."""
    row = connection.execute(
        "SELECT id FROM job_queue WHERE unique_key = ? AND unique_key IS NOT NULL "
        "AND status IN ('blocked', 'scheduled', 'pending', 'running', 'retrying')",
        (unique_key,),
    ).fetchone()
    return None if row is None else row[0]


def excluding_parent(
    connection: sqlite3.Connection, child: int
) -> tuple[int, JobStatus, Condition] | None:
    """Return a parent that has ended so that the child can never run, if there is one."""
    rows = connection.execute(
        "SELECT parent_id, status, condition FROM dependencies "
        "LEFT JOIN job_queue ON id = parent_id WHERE child_id = ? AND met = 0",
        (child,),
    )
    may_be_met: bool | None = None
    for parent, status, text in rows:
        if text == Condition.ONE_SUCCEEDED:
            if may_be_met is None:
                may_be_met = _may_be_met(connection, child)
            if may_be_met:
                continue
        # A deleted parent had ended, and had not met the condition before it was deleted.
        ended = JobStatus.CANCELLED if status is None else JobStatus(status)
        if Condition(text).excluded_by(ended) or status is None:
            return parent, ended, Condition(text)
    return None
