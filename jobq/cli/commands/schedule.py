"""``jobq schedule``: add jobs by the clock, over and over."""

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

from jobq.cli.context import Cli
from jobq.cli.parsing.declarations import Argument, Context, Group, option
from jobq.cli.parsing.job_options import JobOptions, JobRequest, job_spec
from jobq.cli.parsing.options import AsJson
from jobq.cli.parsing.typer_adapter import group_app, verb
from jobq.cli.rendering.output import (
    full_time,
    is_terminal,
    local_time,
    note,
    print_fields,
    print_json,
)
from jobq.cli.rendering.table import print_columns
from jobq.clock import utcnow
from jobq.inert import inert
from jobq.job_types import shell as command
from jobq.jobs.spec import JobSpec
from jobq.models import FINISHED, Fired, Job, JsonObject, Missed, Schedule
from jobq.queue import JobQueue
from jobq.scheduling.cron import cron as parse_cron
from jobq.scheduling.schedules import Schedules, in_words, next_runs
from jobq.serializers import job_document, schedule_document
from jobq.units import format_duration, format_moment

app = group_app(
    "Add jobs by the clock: cron expressions, each in a time zone.",
    ["jobq schedule add '30 2 * * *' -- ./backup.sh", "jobq schedule list"],
)

Name = Annotated[
    str,
    Argument(metavar="NAME", help="The name of the schedule.", completion="schedules"),
]

NEXT_RUNS = 3
"""Next times of a schedule that `show` and the documents give."""

MAX_FIRINGS = 10
"""Past times of a schedule that `show` gives, the newest first."""


class ScheduleOptions(Group):
    """The options that say when a schedule adds jobs."""

    name: Annotated[
        str | None,
        option("--name", metavar="NAME", help="Name it (default: after what it runs)."),
    ] = None
    tz: Annotated[
        str | None,
        option(
            "--tz", metavar="ZONE", help="Use a time zone, e.g. Europe/Berlin (default: yours)."
        ),
    ] = None
    missed: Annotated[
        str,
        option(
            "--missed",
            metavar="skip|once|all",
            help="Make up for times at which no supervisor ran: never, once, or each.",
        ),
    ] = Missed.ONCE.value
    overlap: Annotated[
        str | None,
        option(
            "--overlap",
            metavar="skip|allow",
            help="While its last job has not ended, skip a time (default) or allow another job.",
        ),
    ] = None


@verb(app)
def add(
    ctx: Context,
    cron: Annotated[
        str,
        Argument(
            metavar="CRON", help="'30 2 * * *' (minute, hour, day, month, weekday), or @daily."
        ),
    ],
    when: ScheduleOptions,
    job: JobOptions,
    as_json: AsJson = False,
    quiet: Annotated[bool, option("--quiet", "-q", help="Print only the name.")] = False,
) -> None:
    """Add a schedule: it adds a job at each of its times, while `jobq work` runs.

    Examples:
        jobq schedule add '30 2 * * *' -- ./backup.sh
        jobq schedule add @daily --tz Europe/Berlin cleanup older_than=30d
    """
    cli: Cli = ctx.obj
    times = parse_cron(cron, when.tz or "UTC")  # first: the shell expands an unquoted * to files
    with cli.queue(adds=True) as jobs:
        schedules, spec = Schedules(jobs), job_spec(jobs, JobRequest(job))
        added = schedules.add(
            schedules.free_name(_what(spec)) if when.name is None else when.name,
            cron,
            spec,
            tz=when.tz,
            missed=when.missed,
            overlap=when.overlap,
        )
        _show_added(jobs, added, as_json=as_json, quiet=quiet or not is_terminal())
        for uneven in times.uneven_steps():
            note(f"{uneven}: {in_words(added)}")


def _what(spec: JobSpec) -> str:
    """Return a name for a schedule that was given none."""
    if spec.type != command.JOB_TYPE:
        return spec.type
    args = spec.args or {}
    words = args.get("argv") or str(args.get("shell") or "").split()
    return Path(str(words[0])).name if words else spec.type


def _show_added(jobs: JobQueue, schedule: Schedule, *, as_json: bool, quiet: bool) -> None:
    now = utcnow()
    if as_json:
        print_json(_document(jobs.settings.redactor.schedule(schedule), now))
    elif quiet:
        print(schedule.name)
    else:
        first = next_runs(schedule, now, 1)
        when = f"next {full_time(first[0], now)}" if first else "it has no next time"
        print(f"Added schedule {schedule.name}: {_words(schedule)}, {schedule.tz}; {when}")
        _hint_no_supervisor(jobs)


def _hint_no_supervisor(jobs: JobQueue) -> None:
    if not any(each.takes_jobs for each in jobs.supervisors()):
        note("No jobs are added until `jobq work` runs; `jobq service install` keeps it running.")


@verb(app, "list")
def list_schedules(ctx: Context, as_json: AsJson = False) -> None:
    """List the schedules: their next times, and the status of their last job."""
    cli: Cli = ctx.obj
    now = utcnow()
    with cli.queue() as jobs:
        redactor = jobs.settings.redactor
        schedules = [redactor.schedule(each) for each in Schedules(jobs).all()]
        if as_json:
            print_json([_document(schedule, now) for schedule in schedules])
            return
        last = jobs.existing({s.last_job_id for s in schedules if s.last_job_id is not None})
        if not schedules:
            if is_terminal():
                note("No schedules yet: jobq schedule add '30 2 * * *' -- COMMAND")
            return
        _print_schedules(schedules, last, now, color=cli.color)
        if is_terminal():
            _hint_no_supervisor(jobs)


def _print_schedules(
    schedules: Sequence[Schedule], jobs: Mapping[int, Job], now: datetime, *, color: bool
) -> None:
    states = [_state(schedule) for schedule in schedules]
    print_columns(
        {
            "name": [s.name for s in schedules],
            "cron": [s.cron for s in schedules],
            "in words": [_words(s) for s in schedules],
            "zone": [s.tz for s in schedules],
            "state": states,
            "next runs": [_next_of(s, now) for s in schedules],
            "last job": [_last_of(s, jobs) for s in schedules],
            "runs": [_job_of(s) for s in schedules],
            "error": [s.last_error or "" for s in schedules],
        },
        color=color,
        styles={"state": [{"on": None, "paused": "yellow"}.get(state, "red") for state in states]},
        flexible=("name", "in words", "runs", "error", "next runs"),
        optional=("runs", "in words", "zone", "error", "last job"),
    )


def _state(schedule: Schedule) -> str:
    if schedule.paused:
        return "paused"
    if schedule.last_error is not None:
        return "error"
    return "on" if schedule.next_at is not None else "over"


def _words(schedule: Schedule) -> str:
    return in_words(schedule)


def _next_of(schedule: Schedule, now: datetime) -> str:
    return ", ".join(local_time(at, now) for at in next_runs(schedule, now, 2))


def _last_of(schedule: Schedule, jobs: Mapping[int, Job]) -> str:
    if schedule.last_job_id is None:
        return ""
    job = jobs.get(schedule.last_job_id)
    return f"{schedule.last_job_id} {'pruned' if job is None else job.status}"


def _job_of(schedule: Schedule) -> str:
    if schedule.type != command.JOB_TYPE:
        return " ".join([schedule.type, *(f"{k}={v}" for k, v in schedule.args.items())])
    return schedule.args.get("shell") or shlex.join(schedule.args.get("argv", ()))


def _document(schedule: Schedule, now: datetime) -> JsonObject:
    return schedule_document(schedule, _words(schedule), next_runs(schedule, now, NEXT_RUNS))


@verb(app)
def show(ctx: Context, name: Name, as_json: AsJson = False) -> None:
    """Show everything about a schedule: its next times, and its last jobs."""
    cli: Cli = ctx.obj
    now = utcnow()
    with cli.queue() as jobs:
        schedule = jobs.settings.redactor.schedule(Schedules(jobs).get(name))
        fired = Schedules(jobs).firings(name, MAX_FIRINGS)
        last = jobs.existing({item.job_id for item in fired})
    if as_json:
        document = _document(schedule, now)
        history = [
            {"at": format_moment(item.at), "job_id": item.job_id} | {"added": item.created}
            for item in fired
        ]
        print_json({**document, "history": history})
        return
    print_fields([*_fields(schedule, now), ("ran", _history(fired, last, now))])


def _fields(schedule: Schedule, now: datetime) -> list[tuple[str, str]]:
    runs = next_runs(schedule, now, NEXT_RUNS)
    return [
        ("schedule", schedule.name),
        ("cron", f"{schedule.cron} ({_words(schedule)})"),
        ("zone", schedule.tz),
        ("state", _state(schedule)),
        ("error", schedule.last_error or ""),
        ("next", "\n".join(full_time(at, now) for at in runs)),
        ("runs", _job_of(schedule)),
        ("in", schedule.args.get("cwd", "") if schedule.type == command.JOB_TYPE else ""),
        ("queue", schedule.queue),
        ("priority", str(schedule.priority)),
        (
            "tags",
            " ".join(f"{k}={v}" for k, v in schedule.tags.items() if not k.startswith("jobq:")),
        ),
        ("timeout", _span(schedule.timeout)),
        ("retries", "" if schedule.max_retries is None else str(schedule.max_retries)),
        ("retry base", _span(schedule.retry_base)),
        ("missed", schedule.missed.value),
        ("overlap", schedule.overlap.value),
        ("added", full_time(schedule.created_at, now)),
    ]


def _span(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return format_duration(seconds) if seconds else "none"


def _history(fired: Sequence[Fired], jobs: Mapping[int, Job], now: datetime) -> str:
    lines = []
    for item in fired:
        job = jobs.get(item.job_id)
        became = "pruned" if job is None else str(job.status)
        what = (
            f"job {item.job_id} {became}"
            if item.created
            else f"skipped: job {item.job_id} had not ended"
        )
        lines.append(f"{local_time(item.at, now)}  {what}")
    return "\n".join(lines)


@verb(app)
def pause(ctx: Context, name: Name) -> None:
    """Add no jobs until the schedule is resumed; jobs that it has added go on."""
    cli: Cli = ctx.obj
    with cli.queue() as jobs:
        Schedules(jobs).pause(name)
    print(f"Paused schedule {name}")


@verb(app)
def resume(ctx: Context, name: Name) -> None:
    """Let a paused schedule add jobs again; times that passed meanwhile are skipped."""
    cli: Cli = ctx.obj
    now = utcnow()
    with cli.queue() as jobs:
        runs = next_runs(Schedules(jobs).resume(name), now, 1)
    print(f"Resumed schedule {name}" + (f": next {full_time(runs[0], now)}" if runs else ""))


@verb(app)
def remove(ctx: Context, name: Name) -> None:
    """Remove a schedule; the jobs that it has added stay."""
    cli: Cli = ctx.obj
    with cli.queue() as jobs:
        Schedules(jobs).remove(name)
    print(f"Removed schedule {name}")


@verb(app, "run-now")
def run_now(ctx: Context, name: Name, as_json: AsJson = False) -> None:
    """Add a job of a schedule now; its times stay as they are."""
    cli: Cli = ctx.obj
    with cli.queue(adds=True) as jobs:
        inserted = Schedules(jobs).run_now(name)
        job = jobs.get(inserted.id)
        if as_json:
            print_json(job_document(jobs.shown(job), jobs.logs.path(job.id)))
        elif is_terminal():
            print(inert(_ran(name, job, created=inserted.created)))
        else:
            print(job.id)


def _ran(name: str, job: Job, *, created: bool) -> str:
    if created or job.status in FINISHED:
        return f"Added job {job.id} of schedule {name}"
    return f"Nothing added: job {job.id} of schedule {name} is still {job.status}"
