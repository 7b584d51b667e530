"""Schedules on Redis."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from jobq.backends.base import REMEMBERED, SHOWN, Backend
from jobq.backends.redis import rows
from jobq.backends.redis.connection import RedisConnection, Refused
from jobq.backends.redis.rows import pairs, to_micros, to_moment
from jobq.errors import JobqError, NotFound, UsageError, WrongState
from jobq.models import Fired, Missed, NewJob, Overlap, Schedule


def to_schedule(name: bytes, flat: Sequence[bytes]) -> Schedule:
    fields = pairs(flat)
    (
        cron, tz, job_type, args, queue, priority, tags, timeout, max_retries, retry_base, missed,
        overlap, created_at, last_error,
    ) = json.loads(fields[b"d"])  # fmt: skip
    next_at, last_at, last_job = (fields.get(name) for name in (b"na", b"la", b"lj"))
    return Schedule(
        id=int(fields[b"id"]),
        revision=int(fields[b"rev"]),
        name=name.decode(),
        cron=cron,
        tz=tz,
        type=job_type,
        args=args,
        queue=queue,
        priority=priority,
        tags=tags,
        timeout=timeout,
        max_retries=max_retries,
        retry_base=retry_base,
        missed=Missed(missed),
        overlap=Overlap(overlap),
        paused=b"pa" in fields,
        created_at=to_moment(created_at),
        next_at=None if next_at is None else to_moment(int(next_at)),
        settled_until=to_moment(int(fields[b"su"])),
        last_at=None if last_at is None else to_moment(int(last_at)),
        last_job_id=None if last_job is None else int(last_job),
        last_error=last_error,
    )


_REFUSALS: dict[str, tuple[type[JobqError], str]] = {
    "no queue": (
        NotFound,
        "no queue '{0}': known are {1} (create it with `jobq queue create {0}`)",
    ),
    "no parent": (NotFound, "no job {0} to wait for: see `jobq list`"),
    "two conditions": (UsageError, "parent {0} is named with two conditions: choose one"),
    "default queue": (
        WrongState,
        "queue '{0}' can't be deleted: jobs without a queue go there",
    ),
    "queue has jobs": (
        WrongState,
        "queue '{0}' has {1} jobs: cancel and prune them first (`jobq list --queue {0}`)",
    ),
    "schedule there": (
        WrongState,
        "schedule '{0}' is there already: choose another --name, or `jobq schedule remove {0}`",
    ),
}
"""What a verb that did nothing says, by what the script says."""


class RedisSchedules(Backend):
    """The part of the contract that is about schedules."""

    _db: RedisConnection

    def _write(self, verb: str, *, wakes: bool = False, **arguments: Any) -> Any:
        """What a verb that changes something answers; what it refuses is raised as our errors."""
        try:
            return self._db.write(verb, wakes=wakes, **arguments)
        except Refused as refused:
            kind, text = _REFUSALS[refused.kind]
            raise kind(text.format(*refused.told)) from None

    def add_schedule(self, schedule: Schedule) -> None:
        after = rows.from_schedule(schedule)
        self._write("add_schedule", wakes=True, name=schedule.name, after=after)

    def schedules(self, *, due: datetime | None = None) -> list[Schedule]:
        found = [to_schedule(*row) for row in self._db.read("schedules")]
        if due is None:
            return sorted(found, key=lambda schedule: schedule.name)
        times = [(s.next_at, s.id, s) for s in found if s.next_at is not None and not s.paused]
        return [s for at, _, s in sorted(times, key=lambda each: each[:2]) if at <= due]

    def next_tick(self) -> datetime | None:
        found = self.schedules()
        return min((s.next_at for s in found if s.next_at and not s.paused), default=None)

    @staticmethod
    def _change(before: Schedule, after: Schedule) -> dict[str, Any]:
        return {
            "name": before.name,
            "id": str(before.id),
            "revision": str(before.revision),
            "after": rows.from_schedule(after),
        }

    def replace_schedule(self, before: Schedule, after: Schedule) -> bool:
        return bool(self._write("replace_schedule", wakes=True, **self._change(before, after)))

    def remove_schedule(self, name: str) -> bool:
        return bool(self._write("remove_schedule", name=name))

    def fire(
        self,
        before: Schedule,
        after: Schedule,
        job: NewJob,
        ticks: Sequence[datetime],
        now: datetime,
    ) -> list[Fired] | None:
        fired = self._write(
            "fire",
            wakes=True,
            **self._change(before, after),
            job=rows.from_new_job(job),
            ticks=[str(to_micros(tick)) for tick in ticks],
            now=to_micros(now),
            remembered=rows.span(REMEMBERED),
            shown=SHOWN,
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
