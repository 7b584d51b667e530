"""Schedules on Redis."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from jobq.backends.base import FIRING_RETENTION, MIN_FIRINGS_KEPT, ScheduleStore
from jobq.backends.redis import rows
from jobq.backends.redis.connection import RedisConnection
from jobq.backends.redis.rows import to_micros, to_moment
from jobq.models import Fired, NewJob, Schedule


class RedisSchedules(ScheduleStore):
    """Schedules in hashes on the server."""

    def __init__(self, db: RedisConnection) -> None:
        self._db = db

    def add(self, schedule: Schedule) -> None:
        after = rows.from_schedule(schedule)
        self._db.write("add_schedule", wakes=True, name=schedule.name, after=after)

    def all(self, *, due: datetime | None = None) -> list[Schedule]:
        found = [rows.to_schedule(*row) for row in self._db.read("schedules")]
        if due is None:
            return sorted(found, key=lambda schedule: schedule.name)
        times = [(s.next_at, s.id, s) for s in found if s.next_at is not None and not s.paused]
        return [s for at, _, s in sorted(times, key=lambda each: each[:2]) if at <= due]

    def next_tick(self) -> datetime | None:
        found = self.all()
        return min((s.next_at for s in found if s.next_at and not s.paused), default=None)

    @staticmethod
    def _change(before: Schedule, after: Schedule) -> dict[str, Any]:
        return {
            "name": before.name,
            "id": str(before.id),
            "revision": str(before.revision),
            "after": rows.from_schedule(after),
        }

    def replace(self, before: Schedule, after: Schedule) -> bool:
        return bool(self._db.write("replace_schedule", wakes=True, **self._change(before, after)))

    def remove(self, name: str) -> bool:
        return bool(self._db.write("remove_schedule", name=name))

    def fire(
        self,
        before: Schedule,
        after: Schedule,
        job: NewJob,
        ticks: Sequence[datetime],
        now: datetime,
    ) -> list[Fired] | None:
        fired = self._db.write(
            "fire",
            wakes=True,
            **self._change(before, after),
            job=rows.from_new_job(job),
            ticks=[str(to_micros(tick)) for tick in ticks],
            now=to_micros(now),
            remembered=rows.span(FIRING_RETENTION),
            shown=MIN_FIRINGS_KEPT,
        )
        if fired is None:
            return None
        return [Fired(to_moment(int(at)), int(job), bool(int(new))) for at, job, new in fired]

    def firings(self, name: str, limit: int) -> list[Fired]:
        found = []
        for at, text in self._db.read("firings", name=name, limit=limit):
            job_id, created = text.split(b"|")
            found.append(Fired(to_moment(int(at)), int(job_id), created == b"1"))
        return found
