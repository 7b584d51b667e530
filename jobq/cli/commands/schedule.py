"""``jobq schedule``: jobs that are added by the clock, over and over."""

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from jobq.cli.context import Cli
from jobq.cli.parsing.declarations import Argument, Context, option
from jobq.cli.parsing.job_options import (
    Args,
    Cwd,
    Env,
    InQueue,
    JobOptions,
    Priority,
    Retries,
    RetryBase,
    Shell,
    Tag,
    Timeout,
    job_spec,
)
from jobq.cli.parsing.options import AsJson
from jobq.cli.parsing.typer_adapter import ArgvCommand, as_typer
from jobq.cli.rendering.output import (
    full_time,
    inert,
    is_terminal,
    local_time,
    note,
    print_columns,
    print_fields,
    print_json,
)
from jobq.clock import utcnow
from jobq.job_types import shell as command
from jobq.jobs.spec import JobSpec
from jobq.models import DEFAULT_QUEUE, FINISHED, Fired, Job, JsonObject, Missed, Schedule
from jobq.queue import JobQueue
from jobq.scheduling.cron import cron as parse_cron
from jobq.scheduling.schedules import Schedules, in_words, next_runs
from jobq.serializers import job_document, schedule_document
from jobq.units import format_duration, format_moment

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Add jobs by the clock: cron expressions, each in a time zone.",
)

Name = Annotated[
    str,
    Argument(metavar="NAME", help="The schedule's name.", completion="schedules"),
]

SHOWN_RUNS = 3
SHOWN_FIRINGS = 10


@app.command(cls=ArgvCommand)
@as_typer
def add(
    ctx: Context,
    cron: Annotated[
        str,
        Argument(
            metavar="CRON", help="When: '30 2 * * *' (minute, hour, day, month, weekday), @daily."
        ),
    ],
    words: Annotated[
        list[str] | None,
        Argument(
            metavar="[TYPE] [KEY=VALUE]... [-- COMMAND ARG...]",
            help="What: a job type with its arguments, or a command after --.",
            completion="words",
            then_command=True,
        ),
    ] = None,
    name: Annotated[
        str | None,
        option("--name", metavar="NAME", help="Its name (default: after what it runs)."),
    ] = None,
    tz: Annotated[
        str | None,
        option("--tz", metavar="ZONE", help="Europe/Berlin, UTC, … (default: yours)."),
    ] = None,
    missed: Annotated[
        str,
        option("--missed", metavar="skip|once|all", help="What to do about times that nobody ran."),
    ] = Missed.ONCE.value,
    overlap: Annotated[
        str | None,
        option(
            "--overlap",
            metavar="skip|allow",
            help="While its last job has not ended: add nothing (default), or add all the same.",
        ),
    ] = None,
    queue: InQueue = DEFAULT_QUEUE,
    priority: Priority = "normal",
    tag: Tag = None,
    timeout: Timeout = None,
    retries: Retries = None,
    retry_base: RetryBase = None,
    cwd: Cwd = None,
    env: Env = None,
    shell: Shell = None,
    args: Args = None,
    as_json: AsJson = False,
    quiet: Annotated[bool, option("--quiet", "-q", help="Print the name alone.")] = False,
) -> None:
    """Add a schedule: a job is added whenever its time comes, as long as `jobq work` runs."""
    cli: Cli = ctx.obj
    options = JobOptions(
        words=words or [],
        argv=ctx.meta.get("argv"),
        queue=queue,
        priority=priority,
        tag=tag,
        timeout=timeout,
        retries=retries,
        retry_base=retry_base,
        cwd=cwd,
        env=env,
        shell=shell,
        args=args,
    )
    parse_cron(cron, tz or "UTC")  # first: in an unquoted one, the shell puts names of files
    with cli.queue() as jobs:
        schedules, spec = Schedules(jobs), job_spec(jobs, options)
        added = schedules.add(
            schedules.free_name(_what(spec)) if name is None else name,
            cron,
            spec,
            tz=tz,
            missed=missed,
            overlap=overlap,
        )
        _tell_added(jobs, added, as_json=as_json, quiet=quiet or not is_terminal())


def _what(spec: JobSpec) -> str:
    """A name for a schedule that was given none."""
    if spec.type != command.JOB_TYPE:
        return spec.type
    args = spec.args or {}
    words = args.get("argv") or str(args.get("shell") or "").split()
    return Path(str(words[0])).name if words else spec.type


def _tell_added(jobs: JobQueue, schedule: Schedule, *, as_json: bool, quiet: bool) -> None:
    now = utcnow()
    if as_json:
        print_json(_document(jobs.settings.redactor.schedule(schedule), now))
    elif quiet:
        print(schedule.name)
    else:
        first = next_runs(schedule, now, 1)
        when = f"next {full_time(first[0], now)}" if first else "it never comes"
        print(f"Added schedule {schedule.name}: {_words(schedule)}, {schedule.tz}; {when}")
        _tell_if_nobody_works(jobs)


def _tell_if_nobody_works(jobs: JobQueue) -> None:
    if not any(each.takes_jobs for each in jobs.supervisors()):
        note("Nothing runs until `jobq work` does; `jobq service install` keeps it running.")


@app.command("list")
@as_typer
def list_schedules(ctx: Context, as_json: AsJson = False) -> None:
    """List the schedules: when they run next, and what became of their last job."""
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
            _tell_if_nobody_works(jobs)


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
        looks={"state": [{"on": None, "paused": "yellow"}.get(state, "red") for state in states]},
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
    return schedule_document(schedule, _words(schedule), next_runs(schedule, now, SHOWN_RUNS))


@app.command()
@as_typer
def show(ctx: Context, name: Name, as_json: AsJson = False) -> None:
    """Show everything about a schedule: its next times, and what it ran before."""
    cli: Cli = ctx.obj
    now = utcnow()
    with cli.queue() as jobs:
        schedule = jobs.settings.redactor.schedule(Schedules(jobs).get(name))
        fired = Schedules(jobs).firings(name, SHOWN_FIRINGS)
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
    runs = next_runs(schedule, now, SHOWN_RUNS)
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
        ("tags", " ".join(f"{key}={value}" for key, value in schedule.tags.items())),
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
        what = f"job {item.job_id} {became}" if item.created else f"not: job {item.job_id} ran on"
        lines.append(f"{local_time(item.at, now)}  {what}")
    return "\n".join(lines)


@app.command()
@as_typer
def pause(ctx: Context, name: Name) -> None:
    """Add no jobs until the schedule is resumed; those that are there go on."""
    cli: Cli = ctx.obj
    with cli.queue() as jobs:
        Schedules(jobs).pause(name)
    print(f"Paused schedule {name}")


@app.command()
@as_typer
def resume(ctx: Context, name: Name) -> None:
    """Let a paused schedule go on; the times that passed meanwhile are left out."""
    cli: Cli = ctx.obj
    now = utcnow()
    with cli.queue() as jobs:
        runs = next_runs(Schedules(jobs).resume(name), now, 1)
    print(f"Resumed schedule {name}" + (f": next {full_time(runs[0], now)}" if runs else ""))


@app.command()
@as_typer
def remove(ctx: Context, name: Name) -> None:
    """Remove a schedule; the jobs that it added stay."""
    cli: Cli = ctx.obj
    with cli.queue() as jobs:
        Schedules(jobs).remove(name)
    print(f"Removed schedule {name}")


@app.command("run-now")
@as_typer
def run_now(ctx: Context, name: Name, as_json: AsJson = False) -> None:
    """Add a job of a schedule now. Its times stay as they are."""
    cli: Cli = ctx.obj
    with cli.queue() as jobs:
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
    return f"Nothing added: job {job.id} of schedule {name} has not ended yet, it is {job.status}"
