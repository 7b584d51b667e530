"""Transfer: filling a Redis store from another one, and reading all of it to fill others."""

from collections.abc import Collection, Sequence
from itertools import chain
from typing import Any

from redis.connection import parse_url

from jobq.backends.messages import History, ParentState, ScheduleHistory, Setup
from jobq.backends.redis import rows
from jobq.backends.redis.connection import RedisConnection, Refused
from jobq.backends.redis.errors import FILLING, LAYOUT
from jobq.backends.redis.rows import given, to_micros, to_moment
from jobq.backends.redis.schedules import RedisSchedules
from jobq.backends.redis.scripts import place_script
from jobq.backends.text import encode
from jobq.backends.transfer_store import TransferStore
from jobq.errors import DatabaseNewerError, WrongState
from jobq.models import JobStatus, KnownKey

MAX_LOAD_BYTES = 1 << 19
"""Bytes of jobs, about, in one script: other callers wait while it runs."""

_ALL = 0  # as a limit of firings


class RedisTransfer(TransferStore):
    """Filling the store and reading all of it, in batches."""

    def __init__(self, db: RedisConnection) -> None:
        self._db = db

    def place(self) -> str:
        run_id = self._db.run(place_script()).decode()
        return f"{run_id} {parse_url(self._db.url.server).get('db', 0)} {self._db.url.name}"

    def setup(self) -> Setup:
        queues = sorted(rows.to_queues(self._db.read("queues")), key=lambda queue: queue.name)
        schedules = RedisSchedules(self._db)
        names = [queue.name for queue in queues]
        store, last_job, last_schedule, starts = self._db.read("setup", queues=names)
        return Setup(
            store=rows.to_identity(store),
            last_job_id=int(last_job),
            last_schedule_id=int(last_schedule),
            queues=tuple(queues),
            starts=tuple((name.decode(), to_moment(int(at))) for name, at in starts),
            schedules=tuple(
                ScheduleHistory(schedule, tuple(schedules.firings(schedule.name, _ALL)))
                for schedule in schedules.all()
            ),
        )

    def histories(self, *, after_id: int, limit: int) -> list[History]:
        found = self._db.read("histories", statuses=list(JobStatus), after=after_id, limit=limit)
        return [_to_history(row) for row in found]

    def known_keys(self, keys: Collection[str]) -> dict[str, KnownKey]:
        found: dict[str, KnownKey] = {}
        for batch in rows.batches(keys):
            for key, text in zip(batch, self._db.read("known_keys", keys=batch), strict=True):
                if text is not None:
                    job_id, _, digest = text.partition(b"|")
                    found[key] = KnownKey(int(job_id), digest.decode())
        return found

    def begin_filling(self, source: str, *, restart: bool = False) -> int:
        after_id = self._begin(source, restart=restart)
        if after_id < 0:
            self._clear()
            after_id = 0
        return after_id

    def _begin(self, source: str, *, restart: bool) -> int:
        wanted = given(source=source, restart=restart or None)
        for layout in (FILLING, LAYOUT):
            self._db.layout = layout
            try:
                after_id = int(self._db.write("begin_filling", **wanted))
            except DatabaseNewerError:
                if layout == LAYOUT:
                    raise
            except Refused as refused:
                self._db.layout = LAYOUT
                raise WrongState(self._refusal(*refused.args)) from None
            else:
                self._db.layout = FILLING
                return after_id
        raise AssertionError

    def _refusal(self, kind: str, detail: str) -> str:
        where = self._db.url.shown
        if kind == "filled from":
            return (
                f"{where}: half filled from {detail}: continue with that source, or start over with "
                "--restart"
            )
        if detail == "jobs":
            return (
                f"{where}: has jobs or schedules of its own: nothing was migrated; give another "
                "database (…/1) or name (…?name=other)"
            )
        return f"{where}: a supervisor uses it ({detail}): stop it first"

    def _clear(self) -> None:
        """Delete all keys except the one that locks out other processes, in batches."""
        meta = f"{self._db.url.prefix}meta".encode()
        for keys in self._db.keys(self._db.url.prefix, rows.BATCH_SIZE):
            wanted = [key for key in keys if key != meta]
            if wanted:
                self._db.ask("UNLINK", *wanted)
        self._db.write("cleared")

    def load(self, histories: Sequence[History]) -> None:
        batch: list[dict[str, Any]] = []
        size = 0
        for each in map(_from_history, histories):
            batch.append(each)
            size += len(encode(each))
            if size > MAX_LOAD_BYTES:
                self._db.write("load", jobs=batch)
                batch, size = [], 0
        if batch:
            self._db.write("load", jobs=batch)

    def load_setup(self, setup: Setup) -> None:
        self._db.write(
            "load_setup",
            store=setup.store,
            last_job_id=str(setup.last_job_id),
            last_schedule_id=str(setup.last_schedule_id),
            queues=list(chain(*((queue.name, rows.from_queue(queue)) for queue in setup.queues))),
            starts=[(queue, str(to_micros(at))) for queue, at in setup.starts],
            schedules=[_from_schedule(each) for each in setup.schedules],
        )

    def end_filling(self) -> None:
        self._db.write("end_filling", version=LAYOUT)
        self._db.layout = LAYOUT


def _from_schedule(each: ScheduleHistory) -> dict[str, Any]:
    schedule, fired = each
    return {
        "name": schedule.name,
        "id": str(schedule.id),
        "revision": schedule.revision,
        "after": rows.from_schedule(schedule),
        "fired": [(str(to_micros(f.at)), f"{f.job_id}|{int(f.created)}") for f in fired],
    }


def _from_history(history: History) -> dict[str, Any]:
    """Return a job as `load` in migrate_data.lua takes it."""
    job = history.job
    parents = [
        (str(parent.id), f"{parent.condition.value[0]}{int(parent.met)}")
        for parent in history.parents
    ]
    return given(
        id=str(job.id),
        status=job.status.value,
        queue=job.queue,
        priority=job.priority,
        type=job.type,
        unique=job.unique_key,
        signature=job.signature,
        run_at=job.run_at and str(to_micros(job.run_at)),
        finished_at=job.finished_at and str(to_micros(job.finished_at)),
        unsettled=history.unsettled or None,
        fields=list(chain(*rows.job_fields(job).items())),
        attempts=list(
            chain(*(pair for each in history.attempts for pair in rows.attempt_fields(each)))
        ),
        parents=list(chain(*parents)),
        keys=history.keys,
    )


def _to_history(row: Sequence[Any]) -> History:
    job_row, attempts, parents, holder, keys, unsettled = row
    job = rows.to_job(job_row)
    return History(
        job,
        rows.to_attempts(job.id, attempts),
        [_to_parent_state(parent) for parent in parents],
        None if holder is None else int(holder),
        sorted((key.decode(), digest.decode()) for key, digest in keys),
        bool(unsettled),
    )


def _to_parent_state(row: Sequence[Any]) -> ParentState:
    parent, condition, met, status, unsettled = row
    state = None if status is None else JobStatus(status.decode())
    return ParentState(int(parent), rows.to_condition(condition), bool(met), state, bool(unsettled))
