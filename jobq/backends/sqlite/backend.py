"""The embedded backend: one SQLite file, shared by every process on this host."""

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from jobq.backends.base import SETTLE_BATCH_SIZE, Backend
from jobq.backends.lists import require_no_text
from jobq.backends.liveness import liveness_locks
from jobq.backends.log_relay import LogRelay
from jobq.backends.messages import ClaimRequest, Exchange, LogChunk, Report, StoreIdentity
from jobq.backends.sqlite import dependents, rows, verify
from jobq.backends.sqlite.claim import (
    all_queues,
    choose,
    choose_among,
    correct_waits,
    promote_due,
    queues_named,
    queues_with_rate,
    room_of,
    select_jobs,
    start,
    waits_ahead,
)
from jobq.backends.sqlite.connection import SqliteConnection
from jobq.backends.sqlite.failures import SqliteFailures
from jobq.backends.sqlite.finish import end, unclaim
from jobq.backends.sqlite.insert import insert, require_queues, statuses_of
from jobq.backends.sqlite.lists import SqliteLists, find
from jobq.backends.sqlite.migrate_data import SqliteTransfer, stored_identity
from jobq.backends.sqlite.schedules import SqliteSchedules
from jobq.backends.sqlite.stats import SqliteStats
from jobq.backends.sqlite.supervisors import SqliteSupervisors
from jobq.backends.sqlite.totals import count_ended
from jobq.backends.text import encode, storable
from jobq.errors import WrongState
from jobq.models import (
    DEFAULT_QUEUE,
    FINISHED,
    Attempt,
    AttemptKey,
    AttemptResult,
    CancelEffect,
    Claim,
    Finished,
    Held,
    Inserted,
    Job,
    JobFilter,
    JobStatus,
    NewJob,
    Progress,
    Queue,
    Retried,
    RetryEffect,
    Started,
)

_CLOSED = ("completed", "failed", "cancelled")


class LocalLogs(LogRelay):
    """No relay: every process that uses the database can read the files of the jobs."""

    ships = False

    def ship(self, chunks: Sequence[LogChunk], *, max_bytes: int, ttl: timedelta) -> None:
        del chunks, max_bytes, ttl

    def shipped(self, job_id: int, after: str | None = None) -> tuple[list[LogChunk], str | None]:
        del job_id
        return [], after


class SqliteBackend(Backend):
    """The `Backend` contract on SQLite. Safe to use from several threads and processes."""

    def __init__(self, path: Path, *, untouched: bool = False) -> None:
        """With ``untouched``, nothing is written, and every verb that would write fails."""
        self._db = SqliteConnection(path, untouched=untouched)
        self._liveness = liveness_locks(path)
        self.supervisors = SqliteSupervisors(self._db, self._liveness)
        self.schedules = SqliteSchedules(self._db, self._wake)
        self.stats = SqliteStats(self._db)
        self.failures = SqliteFailures(self._db)
        self.transfer = SqliteTransfer(self._db, self._liveness)
        self.logs = LocalLogs()
        self.lists = SqliteLists(self._db)

    def _wake(self) -> None:
        """Wake listeners as soon as the changes of this thread are there for them to see."""
        self._db.after_commit(self._liveness.wake)

    # -- life ------------------------------------------------------------------------------

    def open(self) -> None:
        self._db.check()

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def group(self) -> Iterator[None]:
        with self._db.write():
            yield

    def change_counter(self) -> int:
        return self._db.data_version()

    def identity(self) -> StoreIdentity:
        with self._db.read() as connection:
            return stored_identity(connection)

    def maintain(self) -> None:
        self._db.checkpoint()

    def correct_waits(self, now: datetime) -> int:
        with self._db.read() as connection:
            if not waits_ahead(connection, now.timestamp()):
                return 0
        with self._db.write() as connection:
            corrected = correct_waits(connection, now.timestamp())
        self._wake()
        return corrected

    # -- adding ----------------------------------------------------------------------------

    def insert(self, jobs: Sequence[NewJob], now: datetime) -> list[Inserted]:
        with self._db.write() as connection:
            inserted = insert(connection, jobs, now)
            self._wake()
        return inserted

    # -- reading ---------------------------------------------------------------------------

    def get(self, ids: Collection[int]) -> dict[int, Job]:
        with self._db.read() as connection:
            found = select_jobs(
                connection, "WHERE id IN (SELECT value FROM json_each(?))", (encode(list(ids)),)
            )
        return {job.id: job for job in found}

    def find(self, jobs: JobFilter, *, limit: int | None, newest: bool = False) -> list[Job]:
        require_no_text(jobs)
        with self._db.snapshot() as connection:
            return find(connection, jobs, limit, newest=newest)

    def counts(self) -> dict[str, dict[JobStatus, int]]:
        counts: dict[str, dict[JobStatus, int]] = defaultdict(dict)
        with self._db.read() as connection:
            for queue, status, number in connection.execute(
                "SELECT queue, status, jobs FROM job_counts WHERE jobs"
            ):
                counts[queue][JobStatus(status)] = number
        return dict(counts)

    def flaws(self, *, thorough: bool) -> list[str]:
        with self._db.read() as connection:
            return list(verify.flaws(connection, thorough=thorough))

    def attempts(self, job_id: int) -> list[Attempt]:
        with self._db.read() as connection:
            found = connection.execute(
                f"SELECT {rows.ATTEMPT_COLUMNS} FROM attempts WHERE job_id = ? ORDER BY attempt",
                (job_id,),
            )
            return [rows.to_attempt(row) for row in found]

    def open_attempts(self) -> list[tuple[Job, Attempt]]:
        with self._db.read() as connection:
            found = connection.execute(
                f"SELECT {rows.ATTEMPT_COLUMNS} FROM attempts WHERE ended_at IS NULL"
            )
            held = {attempt.job_id: attempt for attempt in map(rows.to_attempt, found)}
        jobs = self.get(held)
        return [(jobs[job_id], attempt) for job_id, attempt in held.items() if job_id in jobs]

    def finished_before(
        self, before: datetime, *, after: Finished | None = None, limit: int
    ) -> list[Finished]:
        since, last = (after.at.timestamp(), after.id) if after else (0.0, 0)
        with self._db.read() as connection:
            found = connection.execute(
                "SELECT finished_at, id, status FROM job_queue "
                "WHERE status IN ('completed', 'failed', 'cancelled') AND finished_at < ? "
                "AND (finished_at, id) > (?, ?) ORDER BY finished_at, id LIMIT ?",
                (before.timestamp(), since, last, limit),
            )
            return [
                Finished(rows.from_seconds(at), job_id, JobStatus(status))
                for at, job_id, status in found
            ]

    # -- claiming --------------------------------------------------------------------------

    def claim(self, request: ClaimRequest, now: datetime) -> list[Claim]:
        if request.limit + request.prefetch <= 0:
            return []
        with self._db.write() as connection:
            promote_due(connection, now.timestamp())
            if request.ids is None:
                ids = choose(connection, request, now.timestamp())
            else:
                ids = choose_among(connection, request, now.timestamp())
            return start(connection, ids, request, now)

    def unclaim(self, claims: Sequence[Claim], now: datetime) -> None:
        if not claims:
            return
        with self._db.write() as connection:
            cancelled = unclaim(connection, claims, now.timestamp())
            self._settle(connection, cancelled, now)
        self._wake()

    def limit_waits(self, seconds: float | None) -> None:
        self._db.limit_waits(seconds)

    def exchange(self, report: Report, request: ClaimRequest | None, now: datetime) -> Exchange:
        with self._db.write():
            if report.starts:
                self.started(report.starts)
            for key, progress in report.progress.items():
                self.progress(key, progress)
            ended = self.end(report.endings, now) if report.endings else []
            self.unclaim(report.unstarted, now)
            claims = [] if request is None else self.claim(request, now)
            return Exchange(ended, claims, self.next_due(now))

    def next_due(self, now: datetime) -> datetime | None:
        with self._db.read() as connection:
            (due,) = connection.execute(
                "SELECT min(run_at) FROM job_queue WHERE status IN ('scheduled', 'retrying')"
            ).fetchone()
            times = [due] if due is not None else []
            for queue in queues_with_rate(connection):
                if queue.rate and room_of(connection, queue, now.timestamp()) <= 0:
                    (oldest,) = connection.execute(
                        "SELECT min(started_at) FROM recent_starts "
                        "WHERE queue = ? AND started_at > ? AND EXISTS "
                        "(SELECT 1 FROM job_queue AS j WHERE j.queue = ? AND status = 'pending')",
                        (queue.name, now.timestamp() - queue.rate.seconds, queue.name),
                    ).fetchone()
                    if oldest is not None:
                        times.append(oldest + queue.rate.seconds)
        return rows.to_moment(min(times)) if times else None

    # -- running ---------------------------------------------------------------------------

    def started(self, starts: Sequence[Started]) -> None:
        with self._db.write() as connection:
            connection.executemany(
                "UPDATE attempts SET pid = ?, pid_started = ?, stdout_offset = ?, "
                "stderr_offset = ?, events_offset = ?, log_offset = ? "
                "WHERE job_id = ? AND attempt = ? AND started_at = ? AND ended_at IS NULL",
                [
                    (
                        start.pid, start.pid_started, start.offsets.stdout, start.offsets.stderr,
                        start.offsets.events, start.offsets.log, *rows.from_key(start.key),
                    )
                    for start in starts
                ],
            )  # fmt: skip

    def progress(self, key: AttemptKey, progress: Progress) -> bool:
        message = progress.message
        with self._db.write() as connection:
            noted = connection.execute(
                "UPDATE job_queue SET progress_done = ?, progress_total = ?, progress_message = ? "
                "WHERE id = ? AND attempts = ? AND started_at = ? AND status = 'running'",
                (
                    progress.done,
                    progress.total,
                    message and storable(message),
                    *rows.from_key(key),
                ),
            )
        return noted.rowcount == 1

    def heartbeat(self, owner: str, lease: timedelta, now: datetime) -> list[Held]:
        with self._db.write() as connection:
            connection.execute(
                "UPDATE supervisors SET heartbeat_at = ? WHERE id = ?", (now.timestamp(), owner)
            )
            connection.execute(
                "UPDATE attempts SET lease_until = ? WHERE supervisor = ? AND ended_at IS NULL",
                ((now + lease).timestamp(), owner),
            )
            return _held(connection, owner)

    def cancel_requests(self, owner: str) -> list[Held]:
        with self._db.read() as connection:
            return [held for held in _held(connection, owner) if held.cancel_requested]

    def end(
        self,
        endings: Sequence[AttemptResult],
        now: datetime,
        *,
        lease_before: datetime | None = None,
    ) -> list[bool]:
        with self._db.write() as connection:
            after = [end(connection, ending, now, lease_before) for ending in endings]
            ended = [
                (ending, status)
                for ending, status in zip(endings, after, strict=True)
                if status is not None
            ]
            count_ended(connection, ended)
            finished = [ending.job_id for ending, status in ended if status in FINISHED]
            released = self._settle(connection, finished, now)
        # A supervisor that ends an attempt has room for one job: others are woken for more.
        if released > 1 or JobStatus.PENDING in after:
            self._wake()
        return [status is not None for status in after]

    def cancel(
        self, ids: Collection[int], reason: str | None, now: datetime
    ) -> dict[int, CancelEffect]:
        wanted = encode(list(ids))
        with self._db.write() as connection:
            stopped = connection.execute(
                "UPDATE job_queue SET status = 'cancelled', finished_at = ?, reason = ? "
                "WHERE id IN (SELECT value FROM json_each(?)) "
                "AND status IN ('blocked', 'scheduled', 'pending', 'retrying') RETURNING id",
                (now.timestamp(), reason, wanted),
            ).fetchall()
            asked = connection.execute(
                "UPDATE job_queue SET cancel_requested = 1, reason = coalesce(?, reason) "
                "WHERE id IN (SELECT value FROM json_each(?)) AND status = 'running' RETURNING id",
                (reason, wanted),
            ).fetchall()
            self._settle(connection, [row[0] for row in stopped], now)
            there = statuses_of(connection, ids)
        self._wake()
        effects = dict.fromkeys(ids, CancelEffect.MISSING)
        effects.update(dict.fromkeys(there, CancelEffect.FINISHED))
        effects.update(dict.fromkeys((row[0] for row in stopped), CancelEffect.CANCELLED))
        effects.update(dict.fromkeys((row[0] for row in asked), CancelEffect.REQUESTED))
        return effects

    def requeue(self, ids: Collection[int], now: datetime) -> list[Retried]:
        with self._db.write() as connection:
            there = statuses_of(connection, ids)
            retried = [
                _requeue(connection, job_id)
                if job_id in there
                else Retried(job_id, RetryEffect.MISSING)
                for job_id in ids
            ]
            changed = (RetryEffect.PENDING, RetryEffect.BLOCKED)
            self._settle(connection, [r.id for r in retried if r.effect in changed], now)
        self._wake()
        return retried

    def settle_dependents(self, now: datetime, limit: int = SETTLE_BATCH_SIZE) -> bool:
        with self._db.read() as connection:
            if not connection.execute("SELECT EXISTS (SELECT 1 FROM unsettled_parents)").fetchone()[
                0
            ]:
                return False
        with self._db.write() as connection:
            released, more = dependents.settle(connection, now.timestamp(), limit)
        if released:
            self._wake()
        return more

    def _settle(self, connection: sqlite3.Connection, ids: list[int], now: datetime) -> int:
        if not ids or not dependents.unsettle(connection, ids):
            return 0
        released, _ = dependents.settle(connection, now.timestamp(), SETTLE_BATCH_SIZE)
        return released

    def descendants(self, ids: Collection[int]) -> list[int]:
        with self._db.read() as connection:
            found = connection.execute(
                "WITH RECURSIVE below (id) AS ("
                "SELECT child_id FROM dependencies "
                "WHERE parent_id IN (SELECT value FROM json_each(?)) AND met = 0 "
                "UNION SELECT child_id FROM dependencies JOIN below ON parent_id = below.id "
                "WHERE met = 0) "
                "SELECT id FROM below JOIN job_queue USING (id) "
                "WHERE status NOT IN (?, ?, ?) ORDER BY id",
                (encode(list(ids)), *_CLOSED),
            )
            return [row[0] for row in found]

    def delete(self, ids: Collection[int]) -> list[int]:
        with self._db.write() as connection:
            deleted = [
                row[0]
                for row in connection.execute(
                    "DELETE FROM job_queue WHERE id IN (SELECT value FROM json_each(?)) "
                    "AND status IN (?, ?, ?) "
                    "AND id NOT IN (SELECT parent_id FROM unsettled_parents) RETURNING id",
                    (encode(list(ids)), *_CLOSED),
                ).fetchall()
            ]
            for table, column in (
                ("attempts", "job_id"),
                ("dependencies", "child_id"),
                ("job_keys", "job_id"),
            ):
                connection.execute(
                    f"DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))",
                    (encode(deleted),),
                )
        return deleted

    # -- queues ----------------------------------------------------------------------------

    def queues(self, names: Collection[str] | None = None) -> list[Queue]:
        with self._db.read() as connection:
            if names is None:
                return list(all_queues(connection))
            return queues_named(connection, names)

    def put_queues(self, queues: Sequence[Queue]) -> None:
        new = [rows.queue_row(queue) for queue in queues]
        with self._db.write() as connection:
            rows.replace(connection, "queues", rows.QUEUE_COLUMNS, new)
        self._wake()

    def delete_queue(self, name: str) -> None:
        with self._db.write() as connection:
            require_queues(connection, {name})
            if name == DEFAULT_QUEUE:
                raise WrongState(f"queue {name!r} can't be deleted: jobs without a queue go there")
            (jobs,) = connection.execute(
                "SELECT coalesce(sum(jobs), 0) FROM job_counts WHERE queue = ?", (name,)
            ).fetchone()
            if jobs:
                raise WrongState(
                    f"queue {name!r} has {jobs} jobs: cancel and prune them first "
                    f"(`jobq list --queue {name}`)"
                )
            connection.execute("DELETE FROM queues WHERE name = ?", (name,))


# -- shared by verbs ---------------------------------------------------------------------------


def _held(connection: sqlite3.Connection, owner: str) -> list[Held]:
    found = connection.execute(
        "SELECT job_id, attempt, attempts.started_at, cancel_requested "
        "FROM attempts JOIN job_queue ON id = job_id "
        "WHERE supervisor = ? AND ended_at IS NULL",
        (owner,),
    )
    return [Held(rows.to_key(*key), bool(asked)) for *key, asked in found]


def _requeue(connection: sqlite3.Connection, job_id: int) -> Retried:
    row = connection.execute(
        "SELECT status, unique_key, unmet_parents FROM job_queue WHERE id = ?", (job_id,)
    ).fetchone()
    status, key, unmet = row
    if status == "retrying":  # its retry is due now
        connection.execute(
            "UPDATE job_queue SET status = 'pending', run_at = NULL WHERE id = ?", (job_id,)
        )
        return Retried(job_id, RetryEffect.PENDING)
    if status not in ("failed", "cancelled"):
        return Retried(job_id, RetryEffect.REFUSED)
    if (holder := dependents.key_holder(connection, key)) is not None:
        return Retried(job_id, RetryEffect.KEY_TAKEN, holder)
    if (excluding := dependents.excluding_parent(connection, job_id)) is not None:
        return Retried(job_id, RetryEffect.IMPOSSIBLE, excluding[0])
    effect = RetryEffect.BLOCKED if unmet else RetryEffect.PENDING
    connection.execute(
        "UPDATE job_queue SET status = ?, failures = 0, crashes = 0, run_at = NULL, "
        "finished_at = NULL, cancelled_by = NULL, reason = NULL, exit_code = NULL, signal = NULL, "
        "progress_done = NULL, progress_total = NULL, progress_message = NULL WHERE id = ?",
        (effect.value, job_id),
    )
    return Retried(job_id, effect)
