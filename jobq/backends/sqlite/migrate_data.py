"""A SQLite database that is filled from another store, and what such a store is filled from."""

import sqlite3
from collections.abc import Iterable, Sequence

from jobq.backends.base import History, ScheduleHistory, Setup
from jobq.backends.sqlite import rows
from jobq.backends.sqlite.claim import all_queues
from jobq.backends.sqlite.rows import Row, to_seconds
from jobq.backends.sqlite.schedules import SqliteSchedules, all_schedules, fired_for, put_schedule
from jobq.backends.sqlite.schema import FILLING, SCHEMA_VERSION
from jobq.backends.text import encode, storable
from jobq.errors import WrongState
from jobq.models import Attempt, Job

_MARKS = {
    columns: ", ".join("?" * len(columns.split(",")))
    for columns in (rows.JOB_COLUMNS, rows.ATTEMPT_COLUMNS, rows.QUEUE_COLUMNS)
}
_OF_JOBS = ("job_queue", "attempts", "dependencies", "unsettled_parents", "job_keys", "job_counts")
_OF_SETUP = ("queues", "recent_starts", "schedules", "schedule_ticks")
_NOW_FILLING = FILLING + SCHEMA_VERSION


class SqliteFilling(SqliteSchedules):
    """The part of the contract that is about moving everything here, or away."""

    def place(self) -> str:
        return str(self._db.path.resolve())

    def setup(self) -> Setup:
        with self._db.read() as connection:
            connection.execute("BEGIN")
            try:
                return _setup(connection)
            finally:
                connection.execute("ROLLBACK")

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
        if version != _NOW_FILLING:
            self._require_free(connection)
            connection.execute("CREATE TABLE filling (source TEXT, after_id INTEGER) STRICT")
            connection.execute(f"PRAGMA user_version = {_NOW_FILLING}")
            restart = True
        if restart:
            _empty(connection, (*_OF_JOBS, *_OF_SETUP, "sqlite_sequence", "filling"))
            connection.execute("INSERT INTO filling VALUES (?, 0)", (source,))
        begun, after_id = connection.execute("SELECT source, after_id FROM filling").fetchone()
        if begun != source:
            raise WrongState(
                f"{self._db.path}: half filled from {begun}: go on with that, or begin anew with "
                "--restart"
            )
        return int(after_id)

    def _require_free(self, connection: sqlite3.Connection) -> None:
        for table in ("job_queue", "schedules"):
            if connection.execute(f"SELECT EXISTS (SELECT 1 FROM {table})").fetchone()[0]:
                raise WrongState(
                    f"{self._db.path}: has jobs or schedules of its own: nothing was moved; give "
                    "another file, or move this one away"
                )
        if live := self._presence.live():
            raise WrongState(
                f"{self._db.path}: a supervisor works on it ({', '.join(sorted(live))}): let it "
                "end first"
            )

    def load(self, histories: Sequence[History]) -> None:
        with self._db.write() as connection:
            (after_id,) = connection.execute("SELECT after_id FROM filling").fetchone()
            new = [history for history in histories if history.job.id > after_id]
            if new:
                _load(connection, new)
                connection.execute("UPDATE filling SET after_id = ?", (new[-1].job.id,))

    def load_setup(self, setup: Setup) -> None:
        with self._db.write() as connection:
            _empty(connection, _OF_SETUP)
            _insert(connection, "queues", rows.QUEUE_COLUMNS, map(rows.queue_row, setup.queues))
            connection.executemany(
                "INSERT INTO recent_starts (queue, started_at) VALUES (?, ?)",
                [(queue, at.timestamp()) for queue, at in setup.starts],
            )
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


def _empty(connection: sqlite3.Connection, tables: Sequence[str]) -> None:
    for table in tables:
        connection.execute(f"DELETE FROM {table}")


def _load(connection: sqlite3.Connection, histories: Sequence[History]) -> None:
    _insert(connection, "job_queue", rows.JOB_COLUMNS, (_job_row(each.job) for each in histories))
    attempts = (_attempt_row(attempt) for each in histories for attempt in each.attempts)
    _insert(connection, "attempts", rows.ATTEMPT_COLUMNS, attempts)
    connection.executemany(
        "INSERT INTO dependencies (child_id, parent_id, condition, met) VALUES (?, ?, ?, ?)",
        [
            (each.job.id, parent.id, parent.condition.value, int(parent.met))
            for each in histories
            for parent in each.parents
        ],
    )
    connection.executemany(
        "INSERT INTO job_keys (key, job_id, digest) VALUES (?, ?, ?)",
        [(key, each.job.id, digest) for each in histories for key, digest in each.keys],
    )
    connection.executemany(
        "INSERT INTO unsettled_parents (parent_id) VALUES (?)",
        [(each.job.id,) for each in histories if each.unsettled],
    )


def _insert(
    connection: sqlite3.Connection, table: str, columns: str, values: Iterable[Row]
) -> None:
    connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({_MARKS[columns]})", values)


def _job_row(job: Job) -> Row:
    """The values of JOB_COLUMNS."""
    done, total, message = job.progress or (None, None, None)
    return (
        job.id, job.type, job.name, job.status.value, job.queue, job.priority, encode(job.args),
        encode(dict(job.tags)) if job.tags else None, job.unique_key, len(job.parents),
        job.unmet_parents, job.added_by, job.attempts, job.failures, job.crashes, job.max_retries,
        job.retry_base, job.timeout, to_seconds(job.created_at), to_seconds(job.run_at),
        to_seconds(job.started_at), to_seconds(job.finished_at), int(job.cancel_requested),
        job.cancelled_by, done, total, message and storable(message), job.exit_code, job.signal,
        job.error and storable(job.error), job.reason and storable(job.reason),
        None if job.result is None else encode(job.result),
    )  # fmt: skip


def _attempt_row(attempt: Attempt) -> Row:
    """The values of ATTEMPT_COLUMNS."""
    return (
        attempt.job_id, attempt.attempt, attempt.supervisor, attempt.pid, attempt.pid_started,
        to_seconds(attempt.started_at), to_seconds(attempt.lease_until),
        to_seconds(attempt.ended_at), attempt.outcome and attempt.outcome.value,
        attempt.exit_code, attempt.signal, attempt.error and storable(attempt.error),
        attempt.max_rss_bytes, attempt.cpu_seconds, *attempt.offsets,
    )  # fmt: skip
