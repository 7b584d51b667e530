"""Schedules in SQLite. The primary key of `schedule_ticks` lets one fire only once for a time."""

import json
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime

from jobq.backends.base import FIRING_RETENTION, MIN_FIRINGS_KEPT, ScheduleStore
from jobq.backends.sqlite import rows
from jobq.backends.sqlite.connection import SqliteConnection
from jobq.backends.sqlite.insert import insert
from jobq.backends.sqlite.rows import Row, insert_statement, to_moment, to_seconds
from jobq.backends.text import encode, storable
from jobq.errors import WrongState
from jobq.models import Fired, Missed, NewJob, Overlap, Schedule

COLUMNS = (
    "id, revision, name, cron, tz, type, args, queue, priority, tags, timeout, max_retries, "
    "retry_base, missed, overlap, paused, created_at, next_at, settled_until, last_at, "
    "last_job_id, last_error"
)
_WRITTEN = COLUMNS.split(", ", 2)[2]  # all but id and revision


def _to_schedule(row: Row) -> Schedule:
    created_at, settled_until = to_moment(row[16]), to_moment(row[18])
    assert created_at is not None
    assert settled_until is not None
    return Schedule(
        id=row[0],
        revision=row[1],
        name=row[2],
        cron=row[3],
        tz=row[4],
        type=row[5],
        args=json.loads(row[6]),
        queue=row[7],
        priority=row[8],
        tags=json.loads(row[9]) if row[9] else {},
        timeout=row[10],
        max_retries=row[11],
        retry_base=row[12],
        missed=Missed(row[13]),
        overlap=Overlap(row[14]),
        paused=bool(row[15]),
        created_at=created_at,
        next_at=to_moment(row[17]),
        settled_until=settled_until,
        last_at=to_moment(row[19]),
        last_job_id=row[20],
        last_error=row[21],
    )


def _row(schedule: Schedule) -> Row:
    """Return the values of the columns from the name on."""
    return (
        schedule.name, schedule.cron, schedule.tz, schedule.type, encode(schedule.args),
        schedule.queue, schedule.priority, encode(dict(schedule.tags)) if schedule.tags else None,
        schedule.timeout, schedule.max_retries, schedule.retry_base, schedule.missed.value,
        schedule.overlap.value, int(schedule.paused), to_seconds(schedule.created_at),
        to_seconds(schedule.next_at), to_seconds(schedule.settled_until),
        to_seconds(schedule.last_at), schedule.last_job_id,
        schedule.last_error and storable(schedule.last_error),
    )  # fmt: skip


def _replace(connection: sqlite3.Connection, before: Schedule, after: Schedule) -> bool:
    values = ", ".join(f"{column} = ?" for column in _WRITTEN.split(", "))
    changed = connection.execute(
        f"UPDATE schedules SET {values}, revision = revision + 1 WHERE id = ? AND revision = ?",
        (*_row(after), before.id, before.revision),
    )
    return changed.rowcount == 1


def _forget(connection: sqlite3.Connection, schedule_id: int, before: datetime) -> None:
    """Forget old firings. Their times are settled from here on: the schedule never fires for them again."""
    forgotten = connection.execute(
        "DELETE FROM schedule_ticks WHERE schedule_id = ?1 AND at < ?2 AND at NOT IN "
        "(SELECT at FROM schedule_ticks WHERE schedule_id = ?1 ORDER BY at DESC LIMIT ?3) "
        "RETURNING at",
        (schedule_id, before.timestamp(), MIN_FIRINGS_KEPT),
    ).fetchall()
    if forgotten:
        connection.execute(
            "UPDATE schedules SET settled_until = max(settled_until, ?) WHERE id = ?",
            (max(at for (at,) in forgotten), schedule_id),
        )


def all_schedules(connection: sqlite3.Connection) -> list[Schedule]:
    """Return every schedule, by name."""
    return _select(connection, "ORDER BY name")


def _due(connection: sqlite3.Connection, until: datetime) -> list[Schedule]:
    clause = "WHERE paused = 0 AND next_at <= ? ORDER BY next_at"
    return _select(connection, clause, until.timestamp())


def _select(connection: sqlite3.Connection, clause: str, *values: float) -> list[Schedule]:
    found = connection.execute(f"SELECT {COLUMNS} FROM schedules {clause}", values)
    return [_to_schedule(row) for row in found]


def fired_for(connection: sqlite3.Connection, name: str, limit: int) -> list[Fired]:
    """Return the last firings of a schedule, the latest first; with a limit of -1, all."""
    found = connection.execute(
        "SELECT at, job_id, created FROM schedule_ticks WHERE schedule_id = "
        "(SELECT id FROM schedules WHERE name = ?) ORDER BY at DESC LIMIT ?",
        (name, limit),
    )
    return [
        Fired(moment, job_id, bool(created))
        for at, job_id, created in found
        if (moment := to_moment(at)) is not None
    ]


def put_schedule(
    connection: sqlite3.Connection, schedule: Schedule, fired: Sequence[Fired]
) -> None:
    """Store a schedule exactly as it is, with its firings."""
    row = (schedule.id, schedule.revision, *_row(schedule))
    rows.insert(connection, "schedules", COLUMNS, [row])
    ticks = [(schedule.id, each.at.timestamp(), each.job_id, int(each.created)) for each in fired]
    rows.insert(connection, "schedule_ticks", "schedule_id, at, job_id, created", ticks)


class SqliteSchedules(ScheduleStore):
    """Schedules in tables of the database."""

    def __init__(self, db: SqliteConnection, wake: Callable[[], None]) -> None:
        """With ``wake``, which wakes listeners once the current transaction is committed."""
        self._db = db
        self._wake = wake

    def all(self, *, due: datetime | None = None) -> list[Schedule]:
        with self._db.read() as connection:
            return all_schedules(connection) if due is None else _due(connection, due)

    def add(self, schedule: Schedule) -> None:
        statement = insert_statement("schedules", f"revision, {_WRITTEN}")
        with self._db.write() as connection:
            added = connection.execute(
                f"{statement} ON CONFLICT (name) DO NOTHING", (1, *_row(schedule))
            )
            if not added.rowcount:
                raise WrongState(
                    f"schedule {schedule.name!r} already exists: choose another --name, or "
                    f"`jobq schedule remove {schedule.name}` first"
                )
        self._wake()

    def replace(self, before: Schedule, after: Schedule) -> bool:
        with self._db.write() as connection:
            changed = _replace(connection, before, after)
        self._wake()
        return changed

    def remove(self, name: str) -> bool:
        with self._db.write() as connection:
            removed = connection.execute(
                "DELETE FROM schedules WHERE name = ? RETURNING id", (name,)
            ).fetchall()
            connection.executemany("DELETE FROM schedule_ticks WHERE schedule_id = ?", removed)
        return bool(removed)

    def next_tick(self) -> datetime | None:
        with self._db.read() as connection:
            (first,) = connection.execute(
                "SELECT min(next_at) FROM schedules WHERE paused = 0"
            ).fetchone()
        return to_moment(first)

    def fire(
        self,
        before: Schedule,
        after: Schedule,
        job: NewJob,
        ticks: Sequence[datetime],
        now: datetime,
    ) -> list[Fired] | None:
        with self._db.write() as connection:
            if not _replace(connection, before, after):
                return None
            fired = []
            for at in ticks:
                first = connection.execute(
                    "INSERT INTO schedule_ticks (schedule_id, at) VALUES (?, ?) "
                    "ON CONFLICT DO NOTHING",
                    (before.id, at.timestamp()),
                )
                if first.rowcount:
                    (inserted,) = insert(connection, [job], now)
                    fired.append(Fired(at, inserted.id, inserted.created))
            _record(connection, before.id, fired)
        self._wake()
        return fired

    def firings(self, name: str, limit: int) -> list[Fired]:
        with self._db.read() as connection:
            return fired_for(connection, name, limit)


def _record(connection: sqlite3.Connection, schedule_id: int, fired: Sequence[Fired]) -> None:
    if not fired:
        return
    connection.executemany(
        "UPDATE schedule_ticks SET job_id = ?, created = ? WHERE schedule_id = ? AND at = ?",
        [(f.job_id, int(f.created), schedule_id, f.at.timestamp()) for f in fired],
    )
    connection.execute(
        "UPDATE schedules SET last_at = ?, last_job_id = ? WHERE id = ?",
        (fired[-1].at.timestamp(), fired[-1].job_id, schedule_id),
    )
    _forget(connection, schedule_id, fired[0].at - FIRING_RETENTION)
