"""A Redis server that is filled from another store, and what such a store is filled from."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from redis.connection import parse_url

from jobq.backends.base import History, ScheduleHistory, Setup
from jobq.backends.redis import rows
from jobq.backends.redis.connection import Refused
from jobq.backends.redis.errors import FILLING, LAYOUT
from jobq.backends.redis.rows import given, to_micros, to_moment
from jobq.backends.redis.schedules import RedisSchedules
from jobq.backends.redis.scripts import place_script
from jobq.backends.text import encode, storable
from jobq.errors import DatabaseNewerError, WrongState
from jobq.models import Attempt, Job

AT_ONCE = 1 << 19
"""Bytes of jobs, about, in one script: others wait while it runs."""

_CLEARED_AT_ONCE = 1000
_ALL = 0  # of the times that a schedule fired for


class RedisFilling(RedisSchedules):
    """The part of the contract that is about moving everything here, or away."""

    def place(self) -> str:
        run_id = self._db.run(place_script()).decode()
        return f"{run_id} {parse_url(self._db.url.server).get('db', 0)} {self._db.url.name}"

    def setup(self) -> Setup:
        queues = sorted(self.queues(), key=lambda queue: queue.name)
        names = [queue.name for queue in queues]
        last_job, last_schedule, starts = self._db.read("setup", queues=names)
        return Setup(
            last_job_id=int(last_job),
            last_schedule_id=int(last_schedule),
            queues=tuple(queues),
            starts=tuple((name.decode(), to_moment(int(at))) for name, at in starts),
            schedules=tuple(
                ScheduleHistory(schedule, tuple(self.firings(schedule.name, _ALL)))
                for schedule in self.schedules()
            ),
        )

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
                raise WrongState(self._why_not(*refused.args)) from None
            else:
                self._db.layout = FILLING
                return after_id
        raise AssertionError

    def _why_not(self, kind: str, told: str) -> str:
        where = self._db.url.shown
        if kind == "filled from":
            return (
                f"{where}: half filled from {told}: go on with that, or begin anew with --restart"
            )
        if told == "jobs":
            return (
                f"{where}: has jobs or schedules of its own: nothing was moved; give another "
                "database (…/1) or name (…?name=other)"
            )
        return f"{where}: a supervisor works on it ({told}): let it end first"

    def _clear(self) -> None:
        """Remove all keys but the one that keeps others out, a portion at a time."""
        meta = f"{self._db.url.prefix}meta".encode()
        for keys in self._db.keys(self._db.url.prefix, _CLEARED_AT_ONCE):
            wanted = [key for key in keys if key != meta]
            if wanted:
                self._db.ask("UNLINK", *wanted)
        self._write("cleared")

    def load(self, histories: Sequence[History]) -> None:
        portion: list[dict[str, Any]] = []
        size = 0
        for each in map(_from_history, histories):
            portion.append(each)
            size += len(encode(each))
            if size > AT_ONCE:
                self._write("load", jobs=portion)
                portion, size = [], 0
        if portion:
            self._write("load", jobs=portion)

    def load_setup(self, setup: Setup) -> None:
        self._write(
            "load_setup",
            last_job_id=str(setup.last_job_id),
            last_schedule_id=str(setup.last_schedule_id),
            queues=list(chain(*((queue.name, rows.from_queue(queue)) for queue in setup.queues))),
            starts=[(queue, str(to_micros(at))) for queue, at in setup.starts],
            schedules=[_from_schedule(each) for each in setup.schedules],
        )

    def end_filling(self) -> None:
        self._write("end_filling", version=LAYOUT)
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
    """What `load` in filling.lua takes."""
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
        run_at=job.run_at and str(to_micros(job.run_at)),
        finished_at=job.finished_at and str(to_micros(job.finished_at)),
        unsettled=history.unsettled or None,
        fields=list(chain(*_fields(job).items())),
        attempts=list(chain(*(pair for each in history.attempts for pair in _attempt(each)))),
        parents=list(chain(*parents)),
        keys=history.keys,
    )


def _fields(job: Job) -> dict[str, Any]:
    """The fields of a job's hash, but for its status and its end."""
    kept = [
        job.name, job.args, dict(job.tags), job.added_by, job.max_retries, job.retry_base,
        job.timeout,
    ]  # fmt: skip
    return given(
        d=encode(kept),
        h=f"{job.priority}|{job.queue}|{to_micros(job.created_at)}|{job.type}",
        u=job.unique_key,
        np=len(job.parents) or None,
        um=job.unmet_parents or None,
        n=job.attempts or None,
        f=job.failures or None,
        c=job.crashes or None,
        ra=job.run_at and str(to_micros(job.run_at)),
        sa=job.started_at and str(to_micros(job.started_at)),
        cb=job.cancelled_by and str(job.cancelled_by),
        pg=job.progress and rows.from_progress(job.progress),
        ec=job.exit_code,
        sg=job.signal,
        er=None if job.error is None else storable(job.error),
        rs=None if job.reason is None else storable(job.reason),
        re=None if job.result is None else encode(job.result),
    )


def _attempt(attempt: Attempt) -> Iterator[tuple[str, str]]:
    """The fields of an attempt in its job's hash of them."""
    number, lease = attempt.attempt, to_micros(attempt.lease_until)
    yield f"{number}", f"{to_micros(attempt.started_at)}|{attempt.supervisor}"
    if attempt.pid is not None or any(attempt.offsets):
        yield f"{number}s", encode([attempt.pid, attempt.pid_started, *attempt.offsets])
    if attempt.ended_at is not None:
        record = [
            attempt.outcome and attempt.outcome.value, attempt.exit_code, attempt.signal,
            attempt.error, attempt.max_rss_bytes, attempt.cpu_seconds,
        ]  # fmt: skip
        yield f"{number}e", f"{to_micros(attempt.ended_at)}|{lease}|{encode(record)}"
