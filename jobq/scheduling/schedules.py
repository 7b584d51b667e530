"""Schedules: jobs that are added at the times of a cron expression.

Whoever calls `Schedules.fire_due` adds what is due; any number may do so at once. The next time of
each schedule is stored, and moved on in the transaction that adds the job.
"""

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from jobq.errors import DatabaseError, JobqError, NotFound, UsageError
from jobq.jobs.spec import JobSpec, to_spec
from jobq.models import Fired, Inserted, Missed, Overlap, Schedule, parse_priority
from jobq.queue import JobQueue
from jobq.scheduling.cron import Cron, cron, zone
from jobq.units import parse_duration, parse_limit

ON_TIME = timedelta(seconds=60)
"""A time that passed longer ago is a missed one."""

MOST_MISSED = 100
"""With `Missed.ALL`, the last so many are made up for."""

TAG = "schedule"
"""The tag that says which schedule a job is from."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_Choice = TypeVar("_Choice", Missed, Overlap)
_UNUSABLE = ("key", "unique", "after", "after_any", "after_fail", "at", "delay", "added_by")


@dataclass(frozen=True, slots=True)
class Firing:
    """What became of a schedule that was due."""

    schedule: Schedule
    fired: Sequence[Fired]
    error: str | None = None


class Schedules:
    """The schedules of a queue."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue
        self._backend = queue.backend

    # -- by name ---------------------------------------------------------------------------

    def all(self) -> list[Schedule]:
        """Every schedule, by name."""
        return self._backend.schedules.all()

    def get(self, name: str) -> Schedule:
        """A schedule by its name.

        Raises:
            NotFound: there is none.
        """
        for schedule in self.all():
            if schedule.name == name:
                return schedule
        raise NotFound(f"no schedule {name!r}: see `jobq schedule list`")

    def add(
        self,
        name: str,
        expression: str,
        job: JobSpec | Mapping[str, Any],
        *,
        tz: str | None = None,
        missed: str = Missed.ONCE,
        overlap: str | None = None,
    ) -> Schedule:
        """Add a schedule. Without ``tz`` it goes by the clock of this machine.

        With ``overlap="skip"``, a job is not added while the one before has not ended: the default,
        unless all missed times are to be made up for.

        Raises:
            UsageError: the name, the expression, the time zone or the job is wrong.
            NotFound: the queue does not exist.
            WrongState: there is a schedule of that name.
        """
        if not NAME.fullmatch(name):
            raise UsageError(f"schedule name {name!r}: use letters, digits, '.', '_' and '-'")
        now = self._backend.now()
        policy = _choice(Missed, "missed", missed)
        by_default = Overlap.ALLOW if policy is Missed.ALL else Overlap.SKIP
        schedule = _schedule(
            to_spec(job),
            name=name,
            cron=expression.strip(),
            tz=tz or local_zone(),
            missed=policy,
            overlap=by_default if overlap is None else _choice(Overlap, "overlap", overlap),
            created_at=now,
            settled_until=now,
        )
        schedule = replace(schedule, next_at=_cron_of(schedule).next_after(now))
        self._queue.checked(spec_of(schedule), now)
        self._backend.schedules.add(schedule)
        return self.get(name)

    def pause(self, name: str) -> Schedule:
        """Add no jobs until it is resumed; those that are there go on."""
        return self._change(name, lambda schedule: replace(schedule, paused=True))

    def resume(self, name: str) -> Schedule:
        """Let a paused schedule go on, from its next time; what passed meanwhile is left out."""
        now = self._backend.now()
        return self._change(
            name,
            lambda s: replace(s, paused=False, next_at=_next_at(s, now)) if s.paused else s,
        )

    def remove(self, name: str) -> None:
        """Forget a schedule; its jobs stay.

        Raises:
            NotFound: there is none of that name.
        """
        if not self._backend.schedules.remove(name):
            raise NotFound(f"no schedule {name!r}: see `jobq schedule list`")

    def run_now(self, name: str) -> Inserted:
        """Add a job of a schedule now, whatever its times; or the one that has not ended yet."""
        with self._backend.group():
            schedule = self.get(name)
            (inserted,) = self._queue.insert([spec_of(schedule)])
            ran = replace(schedule, last_job_id=inserted.id, last_error=None)
            self._backend.schedules.replace(schedule, ran)
        return inserted

    def _change(self, name: str, change: Any) -> Schedule:
        while True:
            before = self.get(name)
            after: Schedule = change(before)
            if after == before or self._backend.schedules.replace(before, after):
                return self.get(name)

    def free_name(self, wanted: str) -> str:
        """A name that no schedule has: this one, or one with a number after it."""
        base = re.sub(r"[^A-Za-z0-9._-]+", "-", wanted).strip("-._")[:50] or "schedule"
        taken = {schedule.name for schedule in self.all()}
        name, number = base, 1
        while name in taken:
            number += 1
            name = f"{base}-{number}"
        return name

    # -- firing ----------------------------------------------------------------------------

    def fire_due(self, now: datetime) -> list[Firing]:
        """Add the jobs of every schedule whose time has come, by its policy for missed times."""
        return [self._fire(schedule, now) for schedule in self._backend.schedules.all(due=now)]

    def _fire(self, schedule: Schedule, now: datetime) -> Firing:
        after = schedule
        try:
            times = _cron_of(schedule)
            after = replace(schedule, next_at=times.next_after(now), last_error=None)
            job = self._queue.checked(spec_of(schedule), now)
            ticks = _ticks(schedule, times, now)
            fired = self._queue.fire(schedule, after, job, ticks, now)
        except DatabaseError:
            raise
        except JobqError as error:  # its type, queue or zone is gone, or takes other arguments now
            return self._failed(schedule, after, now, str(error))
        except Exception as error:  # noqa: BLE001 - arguments are checked by code of anybody's
            return self._failed(schedule, after, now, f"{type(error).__name__}: {error}")
        return Firing(schedule, fired or ())

    def _failed(self, schedule: Schedule, after: Schedule, now: datetime, error: str) -> Firing:
        if after is schedule:  # when it comes next is not even known
            after = replace(schedule, next_at=now + timedelta(hours=1))
        noted = self._backend.schedules.replace(schedule, replace(after, last_error=error))
        return Firing(schedule, (), error if noted else None)

    def aim(self, now: datetime) -> None:
        """Have schedules go by the clock as it is now: it may have been ahead, and set back.

        A time that a schedule has fired for is passed over when it comes again.
        """
        for schedule in self._backend.schedules.all():
            if schedule.paused or schedule.next_at is None or schedule.next_at <= now:
                continue
            try:
                next_at = _next_at(schedule, now)
            except UsageError:  # its zone is gone: said when it fires
                continue
            if next_at is not None and next_at < schedule.next_at:
                self._backend.schedules.replace(schedule, replace(schedule, next_at=next_at))


def next_runs(schedule: Schedule, now: datetime, number: int) -> list[datetime]:
    """The next times at which a schedule will fire, unless it is changed."""
    if schedule.paused or schedule.next_at is None:
        return []
    try:
        times = _cron_of(schedule)
    except UsageError:  # its zone is gone: `in_words` says so
        return []
    if schedule.next_at <= now:
        return times.next_times(now, number)
    return [schedule.next_at, *times.next_times(schedule.next_at, number - 1)]


def in_words(schedule: Schedule) -> str:
    """When a schedule fires, as people would say it; or why that is not known any more."""
    try:
        return _cron_of(schedule).in_words()
    except UsageError as error:
        return str(error)


def spec_of(schedule: Schedule) -> JobSpec:
    """The job that a schedule adds."""
    return JobSpec(
        type=schedule.type,
        args=schedule.args,
        queue=schedule.queue,
        priority=schedule.priority,
        name=schedule.name,
        tags={**schedule.tags, TAG: schedule.name},
        unique=schedule.key,
        timeout=schedule.timeout,
        max_retries=schedule.max_retries,
        retry_base=schedule.retry_base,
    )


def _schedule(spec: JobSpec, **fields: Any) -> Schedule:
    for name in _UNUSABLE:
        if getattr(spec, name) not in (None, (), []):
            raise UsageError(f"the job of a schedule can't have {name!r}")
    return Schedule(
        type=spec.type,
        args=dict(spec.args or {}),
        queue=spec.queue,
        priority=parse_priority(spec.priority),
        tags=dict(spec.tags or {}),
        timeout=None if spec.timeout is None else parse_limit(spec.timeout),
        max_retries=spec.max_retries,
        retry_base=None if spec.retry_base is None else parse_duration(spec.retry_base),
        **fields,
    )


def _choice(kind: type[_Choice], what: str, text: str) -> _Choice:
    try:
        return kind(text)
    except ValueError:
        raise UsageError(f"{what} {text!r}: give {' or '.join(kind)}") from None


def _cron_of(schedule: Schedule) -> Cron:
    return cron(schedule.cron, schedule.tz)


def _next_at(schedule: Schedule, now: datetime) -> datetime | None:
    return _cron_of(schedule).next_after(max(now, schedule.settled_until))


def _ticks(schedule: Schedule, times: Cron, now: datetime) -> list[datetime]:
    """The times to fire for, of those that have come."""
    assert schedule.next_at is not None
    most = MOST_MISSED if schedule.missed is Missed.ALL else 1
    ticks = times.last_between(schedule.next_at, now, most)
    if schedule.missed is Missed.SKIP:
        return [tick for tick in ticks if now - tick <= ON_TIME]
    return ticks


# -- the zone of this machine ------------------------------------------------------------------


def local_zone(
    localtime: Path = Path("/etc/localtime"), timezone: Path = Path("/etc/timezone")
) -> str:
    """The time zone that this process goes by, by its name; UTC if that is what its clock shows.

    Raises:
        UsageError: it has no name, as where ``TZ`` is a rule, or ``/etc/localtime`` a mere file.
    """
    candidates = [os.environ.get("TZ", "").removeprefix(":")]
    if not candidates[0]:
        candidates.append(str(localtime.resolve()).partition("/zoneinfo/")[2])
        candidates.append(timezone.read_text("utf-8").strip() if timezone.is_file() else "")
    for name in filter(None, candidates):
        name = name.partition("/zoneinfo/")[2] or name  # noqa: PLW2901 - TZ may be a path
        try:
            zone(name)
        except UsageError:
            continue
        return name
    if time.timezone or time.daylight:  # UTC would be hours off, and nobody would be told
        raise UsageError(
            "no name is known of the time zone here: give one with --tz, such as Europe/Berlin"
        )
    return "UTC"
