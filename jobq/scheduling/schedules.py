"""Schedules: jobs that are added at the times of a cron expression.

`Schedules.fire_due` adds the jobs that are due; any number of processes may call it together. The
next time of each schedule is stored, and advanced in the transaction that adds the job.
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
from jobq.jobs.insert import create_unused
from jobq.jobs.spec import JobSpec, to_spec
from jobq.models import Fired, Inserted, Missed, Overlap, Schedule
from jobq.queue import JobQueue, backend_of, prepare_jobs
from jobq.scheduling.cron import Cron, cron, refuse_long_steps, zone
from jobq.units import parse_duration, parse_limit, parse_priority

ON_TIME = timedelta(seconds=60)
"""A time that passed longer ago counts as missed."""

RETRY_INTERVAL = timedelta(hours=1)
"""The wait after a failure to compute the next time of a schedule."""

MAX_MISSED_RUNS = 100
"""With `Missed.ALL`, jobs are added for at most this many missed times, the latest ones."""

TAG = "schedule"
"""The tag with the name of the schedule that added a job."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_Choice = TypeVar("_Choice", Missed, Overlap)
_TIME_FIELDS = ("cron", "tz", "missed", "overlap")
_JOB_FIELDS = (
    "type",
    "args",
    "queue",
    "priority",
    "tags",
    "timeout",
    "max_retries",
    "retry_base",
)
_UNUSABLE = (
    "key",
    "unique",
    "after",
    "after_any",
    "after_fail",
    "after_one",
    "at",
    "delay",
    "added_by",
)


@dataclass(frozen=True, slots=True)
class Firing:
    """The outcome of a schedule that was due."""

    schedule: Schedule
    fired: Sequence[Fired]
    error: str | None = None


class Schedules:
    """The schedules of a queue."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue
        self._backend = backend_of(queue)

    # -- by name ---------------------------------------------------------------------------

    def all(self) -> list[Schedule]:
        """Return every schedule, sorted by name."""
        return self._backend.schedules.all()

    def get(self, name: str) -> Schedule:
        """Return a schedule by its name.

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
        """Add a schedule. Without ``tz`` it uses the time zone of this machine.

        With ``overlap="skip"``, no job is added while the previous one has not ended: the default,
        except with ``missed="all"``.

        Raises:
            UsageError: the name, the expression, the time zone or the job is invalid.
            NotFound: the queue does not exist.
            WrongState: a schedule of that name exists.
        """
        if not NAME.fullmatch(name):
            raise UsageError(f"schedule name {name!r}: use letters, digits, '.', '_' and '-'")
        refuse_long_steps(expression)  # not in Cron: those stored by older versions go on
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
        prepare_jobs(self._queue, [spec_of(schedule)], now)  # which refuses it if it is invalid
        self._backend.schedules.add(schedule)
        return self.get(name)

    def change(self, name: str, /, **fields: Any) -> Schedule:
        """Change fields of a schedule: `cron`, `tz`, `missed`, `overlap`, and those of its job.

        With other times, it goes on from now: those that have passed are skipped.

        Raises:
            UsageError: a field, or the job as it is then, is invalid.
            NotFound: there is no schedule of that name, or no such queue.
        """
        unknown = fields.keys() - {*_JOB_FIELDS, *_TIME_FIELDS}
        if unknown:
            raise UsageError(f"a schedule has no {', '.join(sorted(unknown))}")
        return self._change(name, lambda schedule: self._changed(schedule, fields))

    def _changed(self, before: Schedule, fields: Mapping[str, Any]) -> Schedule:
        wanted = {name: fields.get(name, getattr(before, name)) for name in _TIME_FIELDS}
        job = {name: fields.get(name, getattr(before, name)) for name in _JOB_FIELDS}
        if "cron" in fields:
            refuse_long_steps(wanted["cron"])
        times = {
            "cron": wanted["cron"].strip(),
            "tz": wanted["tz"],
            "missed": _choice(Missed, "missed", wanted["missed"]),
            "overlap": _choice(Overlap, "overlap", wanted["overlap"]),
        }
        made = _schedule(
            JobSpec(**job),
            name=before.name,
            created_at=before.created_at,
            settled_until=before.settled_until,
            **times,
        )
        own = {name: getattr(made, name) for name in _JOB_FIELDS}
        after = replace(before, **times, **own, last_error=None)
        now = self._backend.now()
        if (after.cron, after.tz) != (before.cron, before.tz):
            after = replace(after, next_at=_next_at(after, now))
        prepare_jobs(self._queue, [spec_of(after)], now)  # which refuses it if it is invalid
        return after

    def pause(self, name: str) -> Schedule:
        """Add no jobs until the schedule is resumed; existing jobs go on."""
        return self._change(name, lambda schedule: replace(schedule, paused=True))

    def resume(self, name: str) -> Schedule:
        """Resume a paused schedule from its next time; times that passed meanwhile are skipped."""
        now = self._backend.now()
        return self._change(
            name,
            lambda s: replace(s, paused=False, next_at=_next_at(s, now)) if s.paused else s,
        )

    def remove(self, name: str) -> None:
        """Delete a schedule; its jobs stay.

        Raises:
            NotFound: there is none of that name.
        """
        if not self._backend.schedules.remove(name):
            raise NotFound(f"no schedule {name!r}: see `jobq schedule list`")

    def run_now(self, name: str) -> Inserted:
        """Add a job of a schedule now; return it, or the previous one if that has not ended."""
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
        """Return an unused name: the wanted one, or that with a number after it."""
        base = re.sub(r"[^A-Za-z0-9._-]+", "-", wanted).strip("-._")[:50] or "schedule"
        taken = {schedule.name for schedule in self.all()}
        name, number = base, 1
        while name in taken:
            number += 1
            name = f"{base}-{number}"
        return name

    def firings(self, name: str, limit: int) -> list[Fired]:
        """Return up to ``limit`` of the last times that a schedule has fired for, latest first."""
        return self._backend.schedules.firings(name, limit)

    # -- firing ----------------------------------------------------------------------------

    def fire_due(self, now: datetime) -> list[Firing]:
        """Add the jobs of every schedule that is due, by its policy for missed times."""
        return [self._fire(schedule, now) for schedule in self._backend.schedules.all(due=now)]

    def _fire(self, schedule: Schedule, now: datetime) -> Firing:
        after = schedule
        try:
            times = _cron_of(schedule)
            after = replace(schedule, next_at=times.next_after(now), last_error=None)
            prepared = prepare_jobs(self._queue, [spec_of(schedule)], now)
            ticks = _ticks(schedule, times, now)
            with self._backend.group():
                create_unused(prepared.unused_queues, self._backend)
                fired = self._backend.schedules.fire(schedule, after, prepared.jobs[0], ticks, now)
        except DatabaseError:
            raise
        except JobqError as error:  # its type, queue or zone is gone, or its arguments changed
            return self._failed(schedule, after, now, str(error))
        except Exception as error:  # noqa: BLE001 - arguments are checked by users' own code
            return self._failed(schedule, after, now, f"{type(error).__name__}: {error}")
        return Firing(schedule, fired or ())

    def _failed(self, schedule: Schedule, after: Schedule, now: datetime, error: str) -> Firing:
        if after is schedule:  # its next time can't be computed
            after = replace(schedule, next_at=now + RETRY_INTERVAL)
        noted = self._backend.schedules.replace(schedule, replace(after, last_error=error))
        return Firing(schedule, (), error if noted else None)

    def aim(self, now: datetime) -> None:
        """Recompute next times after the clock was set back.

        A time that a schedule has fired for is skipped when it comes again.
        """
        for schedule in self._backend.schedules.all():
            if schedule.paused or schedule.next_at is None or schedule.next_at <= now:
                continue
            try:
                next_at = _next_at(schedule, now)
            except UsageError:  # its zone is gone: reported when it fires
                next_at = now + RETRY_INTERVAL
            if next_at is not None and next_at < schedule.next_at:
                self._backend.schedules.replace(schedule, replace(schedule, next_at=next_at))


def next_runs(schedule: Schedule, now: datetime, number: int) -> list[datetime]:
    """Return the next ``number`` times at which a schedule will fire."""
    if schedule.paused or schedule.next_at is None:
        return []
    try:
        times = _cron_of(schedule)
    except UsageError:  # its zone is gone: `in_words` returns the error
        return []
    if schedule.next_at <= now:
        return times.next_times(now, number)
    return [schedule.next_at, *times.next_times(schedule.next_at, number - 1)]


def in_words(schedule: Schedule) -> str:
    """Return a schedule's times in words, or the error if its expression has become invalid."""
    try:
        return _cron_of(schedule).in_words()
    except UsageError as error:
        return str(error)


def spec_of(schedule: Schedule) -> JobSpec:
    """Return the job that a schedule adds."""
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
    # Until it has fired, no time is settled: its clock may have been ahead when it was added.
    has_fired = schedule.settled_until > schedule.created_at
    return _cron_of(schedule).next_after(max(now, schedule.settled_until) if has_fired else now)


def _ticks(schedule: Schedule, times: Cron, now: datetime) -> list[datetime]:
    """Return the times to fire for, up to now."""
    assert schedule.next_at is not None
    limit = MAX_MISSED_RUNS if schedule.missed is Missed.ALL else 1
    ticks = times.last_between(schedule.next_at, now, limit)
    if schedule.missed is Missed.SKIP:
        return [tick for tick in ticks if now - tick <= ON_TIME]
    return ticks


# -- the time zone of this machine -------------------------------------------------------------


def local_zone(
    localtime: Path = Path("/etc/localtime"), timezone: Path = Path("/etc/timezone")
) -> str:
    """Return the name of this process's time zone; UTC if its clock shows UTC.

    Raises:
        UsageError: it has no name, as if ``TZ`` is a rule or ``/etc/localtime`` not a link.
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
    if time.timezone or time.daylight:  # falling back to UTC would be hours off, silently
        raise UsageError(
            "the time zone of this machine has no name: give one with --tz, such as Europe/Berlin"
        )
    return "UTC"
