"""Transfer: filling a SQLite database from another store, and reading all of it to fill others."""

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Sequence

from jobq.backends.liveness import LivenessLocks
from jobq.backends.messages import (
    History,
    ParentState,
    ScheduleHistory,
    Setup,
    StoreIdentity,
)
from jobq.backends.sqlite import rows, totals
from jobq.backends.sqlite.claim import all_queues, select_jobs
from jobq.backends.sqlite.connection import SqliteConnection
from jobq.backends.sqlite.dependents import key_holder
from jobq.backends.sqlite.insert import known_keys
from jobq.backends.sqlite.schedules import all_schedules, fired_for, put_schedule
from jobq.backends.sqlite.schema import FILLING_MARK, SCHEMA_VERSION
from jobq.backends.text import encode
from jobq.backends.transfer_store import TransferStore
from jobq.errors import WrongState
from jobq.models import UNFINISHED, Attempt, Condition, Job, JobStatus, KnownKey

_AMONG = "IN (SELECT value FROM json_each(?))"
_OF_JOBS = ("job_queue", "attempts", "dependencies", "unsettled_parents", "job_keys", "job_counts")
_OF_SETUP = ("store", "queues", "recent_starts", "schedules", "schedule_ticks")
_FILLING_VERSION = FILLING_MARK + SCHEMA_VERSION


class SqliteTransfer(TransferStore):
    """Filling the database and reading all of it, each in transactions."""

    def __init__(self, db: SqliteConnection, liveness: LivenessLocks) -> None:
        self._db = db
        self._liveness = liveness

    def place(self) -> str:
        return str(self._db.path.resolve())

    def setup(self) -> Setup:
        with self._db.snapshot() as connection:
            return _setup(connection)

    def histories(self, *, after_id: int, limit: int) -> list[History]:
        with self._db.snapshot() as connection:
            return _histories(connection, after_id, limit)

    def known_keys(self, keys: Collection[str]) -> dict[str, KnownKey]:
        with self._db.read() as connection:
            return known_keys(connection, keys)

    def begin_filling(self, source: str, *, restart: bool = False) -> int:
        self._db.filling = True
        try:
            with self._db.write() as connection:
                return self._begin(connection, source, restart=restart)
        except WrongState:
            self._db.filling = False
            raise

    def _begin(self, connection: sqlite3.Connection, source: str, *, restart: bool) -> int:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != _FILLING_VERSION:
            self._require_free(connection)
            connection.execute("CREATE TABLE filling (source TEXT, after_id INTEGER) STRICT")
            connection.execute(f"PRAGMA user_version = {_FILLING_VERSION}")
            restart = True
        if restart:
            _empty(connection, (*_OF_JOBS, *_OF_SETUP, "sqlite_sequence", "filling"))
            totals.reset(connection)
            connection.execute("INSERT INTO filling VALUES (?, 0)", (source,))
        begun, after_id = connection.execute("SELECT source, after_id FROM filling").fetchone()
        if begun != source:
            raise WrongState(
                f"{self._db.path}: half filled from {begun}: continue with that source, or start over "
                "with --restart"
            )
        return int(after_id)

    def _require_free(self, connection: sqlite3.Connection) -> None:
        for table in ("job_queue", "schedules"):
            if connection.execute(f"SELECT EXISTS (SELECT 1 FROM {table})").fetchone()[0]:
                raise WrongState(
                    f"{self._db.path}: has jobs or schedules of its own: nothing was migrated; give "
                    "another file, or move this one away"
                )
        if live := self._liveness.live():
            raise WrongState(
                f"{self._db.path}: a supervisor uses it ({', '.join(sorted(live))}): stop it first"
            )

    def load(self, histories: Sequence[History]) -> None:
        with self._db.write() as connection:
            (after_id,) = connection.execute("SELECT after_id FROM filling").fetchone()
            new = [history for history in histories if history.job.id > after_id]
            if new:
                _load(connection, new)
                totals.count(connection, added=len(new))
                connection.execute("UPDATE filling SET after_id = ?", (new[-1].job.id,))

    def load_setup(self, setup: Setup) -> None:
        with self._db.write() as connection:
            _empty(connection, _OF_SETUP)
            rows.insert(connection, "store", "id, marked_after", [setup.store])
            queues = [rows.queue_row(queue) for queue in setup.queues]
            rows.insert(connection, "queues", rows.QUEUE_COLUMNS, queues)
            starts = [(queue, at.timestamp()) for queue, at in setup.starts]
            rows.insert(connection, "recent_starts", "queue, started_at", starts)
            for schedule, fired in setup.schedules:
                put_schedule(connection, schedule, fired)
            for table, last in (
                ("job_queue", setup.last_job_id),
                ("schedules", setup.last_schedule_id),
            ):
                connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
                if last:
                    connection.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", (table, last))

    def end_filling(self) -> None:
        with self._db.write() as connection:
            connection.execute("DROP TABLE filling")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self._db.filling = False


def _setup(connection: sqlite3.Connection) -> Setup:
    given = dict(connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
    starts = connection.execute(
        "SELECT queue, started_at FROM recent_starts ORDER BY queue, started_at"
    )
    return Setup(
        store=stored_identity(connection),
        last_job_id=given.get("job_queue", 0),
        last_schedule_id=given.get("schedules", 0),
        queues=tuple(sorted(all_queues(connection), key=lambda queue: queue.name)),
        starts=tuple(
            (queue, moment)
            for queue, at in starts.fetchall()
            if (moment := rows.to_moment(at)) is not None
        ),
        schedules=tuple(
            ScheduleHistory(schedule, tuple(fired_for(connection, schedule.name, -1)))
            for schedule in all_schedules(connection)
        ),
    )


def stored_identity(connection: sqlite3.Connection) -> StoreIdentity:
    """Return the identity of a database."""
    return StoreIdentity(*connection.execute("SELECT id, marked_after FROM store").fetchone())


def _empty(connection: sqlite3.Connection, tables: Sequence[str]) -> None:
    for table in tables:
        connection.execute(f"DELETE FROM {table}")


def _load(connection: sqlite3.Connection, histories: Sequence[History]) -> None:
    jobs = [rows.full_job_row(each.job) for each in histories]
    rows.insert(connection, "job_queue", rows.JOB_COLUMNS, jobs)
    attempts = [rows.attempt_row(attempt) for each in histories for attempt in each.attempts]
    rows.insert(connection, "attempts", rows.ATTEMPT_COLUMNS, attempts)
    parents = [
        (each.job.id, parent.id, parent.condition.value, int(parent.met))
        for each in histories
        for parent in each.parents
    ]
    rows.insert(connection, "dependencies", rows.DEPENDENCY_COLUMNS, parents)
    keys = [(key, each.job.id, digest) for each in histories for key, digest in each.keys]
    rows.insert(connection, "job_keys", rows.KEY_COLUMNS, keys)
    unsettled = [(each.job.id,) for each in histories if each.unsettled]
    rows.insert(connection, "unsettled_parents", "parent_id", unsettled)


def _histories(connection: sqlite3.Connection, after_id: int, limit: int) -> list[History]:
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
