"""``jobq add``: store a job."""

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from jobq import shell
from jobq.bounds import bounded_text
from jobq.cli import completion
from jobq.cli.app import Cli
from jobq.cli.options import ArgvCommand, AsJson, parse_ids, parse_pairs, piped_in
from jobq.cli.output import inert, is_terminal, note, print_json
from jobq.clock import utcnow
from jobq.documents import job_document
from jobq.errors import UsageError
from jobq.models import DEFAULT_QUEUE, FINISHED, Job, JobStatus
from jobq.notify import TAG as NOTIFY
from jobq.queue import JobQueue
from jobq.redaction import ShownJob
from jobq.specs import JobSpec
from jobq.timespec import format_duration, parse_duration, parse_limit, parse_moment

app = typer.Typer(add_completion=False)

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[TYPE] [KEY=VALUE]... [-- COMMAND ARG...]",
        show_default=False,
        help="A job type with its arguments (`jobq types` lists them), or a command after --.",
        autocompletion=completion.words,
    ),
]
InQueue = Annotated[
    str,
    typer.Option(
        "--queue",
        "-Q",
        metavar="QUEUE",
        help="The queue it waits in.",
        autocompletion=completion.queues,
    ),
]
Priority = Annotated[
    str,
    typer.Option(
        "--priority", "-p", metavar="0-9", help="9 runs first; or low, normal, high, critical."
    ),
]
Name = Annotated[str | None, typer.Option("--name", metavar="TEXT", help="A name for people.")]
Tag = Annotated[
    list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="May be repeated.")
]
After = Annotated[
    list[str] | None,
    typer.Option(
        "--after",
        metavar="IDS",
        help="Run once these have succeeded.",
        autocompletion=completion.job_ids,
    ),
]
AfterAny = Annotated[
    list[str] | None,
    typer.Option(
        "--after-any",
        metavar="IDS",
        help="Run once these have ended.",
        autocompletion=completion.job_ids,
    ),
]
AfterFail = Annotated[
    list[str] | None,
    typer.Option(
        "--after-fail",
        metavar="IDS",
        help="Run once these have failed.",
        autocompletion=completion.job_ids,
    ),
]
At = Annotated[
    str | None,
    typer.Option("--at", metavar="TIME", help="Not before: '2026-12-24 18:00', 'tomorrow 7:00'."),
]
Delay = Annotated[
    str | None, typer.Option("--delay", metavar="SPAN", help="Not before so long from now: 10m.")
]
Timeout = Annotated[
    str | None,
    typer.Option("--timeout", metavar="SPAN", help="The longest a try may take: 5m, or none."),
]
Retries = Annotated[
    int | None, typer.Option("--retries", metavar="N", help="Tries after the first one.")
]
RetryBase = Annotated[
    str | None,
    typer.Option("--retry-base", metavar="SPAN", help="Wait before the first retry; it doubles."),
]
Unique = Annotated[
    str | None,
    typer.Option("--unique", metavar="KEY", help="Only one unfinished job may hold this key."),
]
Cwd = Annotated[
    str | None, typer.Option("--cwd", metavar="DIR", help="Where a command runs (default: here).")
]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="K=V|K", help="A variable for the command, or its value now."),
]
Shell = Annotated[
    str | None, typer.Option("--shell", metavar="TEXT", help="A line for sh: 'sort a | head'.")
]
Stdin = Annotated[
    str | None,
    typer.Option("--stdin", metavar="FILE|-", help="What the command reads (default: nothing)."),
]
Args = Annotated[
    str | None,
    typer.Option("--args", metavar="JSON|-", help="The arguments as a JSON object; - reads it."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """The options that describe a job, as they were typed."""

    words: list[str]
    argv: list[str] | None  # what stood after --
    queue: str = DEFAULT_QUEUE
    priority: str = "normal"
    name: str | None = None
    tag: list[str] | None = None
    after: list[str] | None = None
    after_any: list[str] | None = None
    after_fail: list[str] | None = None
    at: str | None = None
    delay: str | None = None
    timeout: str | None = None
    retries: int | None = None
    retry_base: str | None = None
    unique: str | None = None
    cwd: str | None = None
    env: list[str] | None = None
    shell: str | None = None
    stdin: str | None = None
    args: str | None = None
    notify: bool = False


@app.command(cls=ArgvCommand)
def add(
    ctx: typer.Context,
    words: Words = None,
    queue: InQueue = DEFAULT_QUEUE,
    priority: Priority = "normal",
    name: Name = None,
    tag: Tag = None,
    after: After = None,
    after_any: AfterAny = None,
    after_fail: AfterFail = None,
    at: At = None,
    delay: Delay = None,
    timeout: Timeout = None,
    retries: Retries = None,
    retry_base: RetryBase = None,
    unique: Unique = None,
    cwd: Cwd = None,
    env: Env = None,
    shell: Shell = None,
    stdin: Stdin = None,
    args: Args = None,
    notify: Annotated[
        bool, typer.Option("--notify", help="Tell on the desktop when it has ended.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Follow its log, and leave with its exit code.")
    ] = False,
    each: Annotated[
        bool,
        typer.Option("--each", help="A job for each line of stdin: {} {.} {/} {//} {/.} {#}."),
    ] = False,
    null: Annotated[
        bool, typer.Option("--null", "-0", help="With --each: what find -print0 writes.")
    ] = False,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the id alone.")] = False,
) -> None:
    """Add a job: a command after --, or a job type with its arguments.

    Prints the job's id. Nothing runs until `jobq work` does.
    """
    cli: Cli = ctx.obj
    options = JobOptions(
        words=words or [],
        argv=ctx.meta.get("argv"),
        queue=queue,
        priority=priority,
        name=name,
        tag=tag,
        after=after,
        after_any=after_any,
        after_fail=after_fail,
        at=at,
        delay=delay,
        timeout=timeout,
        retries=retries,
        retry_base=retry_base,
        unique=unique,
        cwd=cwd,
        env=env,
        shell=shell,
        stdin=stdin,
        args=args,
        notify=notify,
    )
    if null and not each:
        raise UsageError("--null goes with --each")
    if follow and each:
        raise UsageError("--follow follows one job: it does not go with --each")
    with cli.queue() as jobs:
        if each:
            from jobq.cli.each import add_each  # only here

            add_each(jobs, options, null=null, as_json=as_json, quiet=quiet)
            return
        added, created = add_job(jobs, options)
        job = jobs.shown(added)
        if as_json:
            print_json(job_document(job, jobs.logs.path(job.id)))
        elif quiet or not is_terminal():
            print(job.id)
        else:
            print(inert(_sentence(job, created=created)))
        if job.status is JobStatus.CANCELLED:
            note(f"job {job.id} was cancelled at once: {job.reason}")
        if follow:
            from jobq.cli.follow import follow_job  # only here

            raise typer.Exit(follow_job(jobs, job.id, color=cli.color))


def add_job(queue: JobQueue, options: JobOptions) -> tuple[Job, bool]:
    """Add the job that the options describe; and whether it is new.

    Raises:
        UsageError: an option or an argument is wrong.
    """
    spec = job_spec(queue, options)
    spooled = None
    if options.stdin == "-":
        spooled = queue.spool_stdin(piped_in().buffer)
    try:
        (inserted,) = queue.insert([spec], stdin=spooled)
    finally:
        if spooled is not None:
            spooled.unlink(missing_ok=True)
    return queue.get(inserted.id), inserted.created


def job_spec(queue: JobQueue, options: JobOptions) -> JobSpec:
    """The options as `JobQueue` takes them.

    Raises:
        UsageError: an option or an argument is wrong.
    """
    words = list(options.words)
    job_type = shell.JOB_TYPE
    if words and "=" not in words[0]:
        job_type = words.pop(0)
    if job_type != shell.JOB_TYPE:
        _refuse_shell_options(job_type, options)
    args = _args(queue, job_type, words, options)
    return JobSpec(
        type=job_type,
        args=_shell_args(queue, args, options) if job_type == shell.JOB_TYPE else args,
        queue=options.queue,
        priority=options.priority,
        name=options.name,
        tags=parse_pairs(options.tag, "tag") | ({NOTIFY: "1"} if options.notify else {}),
        unique=options.unique,
        after=parse_ids(options.after or (), queue),
        after_any=parse_ids(options.after_any or (), queue),
        after_fail=parse_ids(options.after_fail or (), queue),
        at=_moment(options.at),
        delay=None if options.delay is None else _duration("--delay", options.delay),
        timeout=None if options.timeout is None else _limit(options.timeout),
        max_retries=options.retries,
        retry_base=None
        if options.retry_base is None
        else _duration("--retry-base", options.retry_base),
    )


def _refuse_shell_options(job_type: str, options: JobOptions) -> None:
    given = {
        "a command after --": options.argv,
        "--shell": options.shell,
        "--cwd": options.cwd,
        "--env": options.env,
        "--stdin": options.stdin,
    }
    for name, value in given.items():
        if value is not None and value != []:
            raise UsageError(f"{name} goes with shell jobs, not with {job_type!r}")


def _args(queue: JobQueue, job_type: str, words: list[str], options: JobOptions) -> dict[str, Any]:
    if options.args is not None:
        if words:
            raise UsageError(f"give --args or key=value, not both: {words[0]!r}")
        return _json_args(options.args)
    if not words:
        return {}
    from jobq.registry import parse_words  # pydantic: not for plain commands

    return parse_words(queue.job_type(job_type), words)


def _json_args(text: str) -> dict[str, Any]:
    import json

    try:
        args = json.loads(piped_in().read() if text == "-" else text, parse_constant=_no_constant)
    except RecursionError:
        raise UsageError("--args: nested too deep") from None
    except ValueError as error:
        raise UsageError(f"--args: not valid JSON: {error}") from None
    if not isinstance(args, dict):
        raise UsageError("--args: expected a JSON object")
    return args


def _no_constant(name: str) -> Any:
    """Python would take NaN and Infinity, which no JSON has."""
    raise ValueError(name)


def _shell_args(queue: JobQueue, args: dict[str, Any], options: JobOptions) -> dict[str, Any]:
    given = dict(args)
    for key, value in (("argv", options.argv), ("shell", options.shell), ("stdin", options.stdin)):
        if value is not None:
            if key in given:
                raise UsageError(f"{key} is given twice")
            given[key] = value
    if given.get("stdin") not in (None, shell.OWN_STDIN):
        given["stdin"] = str(Path(given["stdin"]).absolute())
    given["cwd"] = str(Path(options.cwd or given.get("cwd") or Path.cwd()).absolute())
    env = {**queue.settings.captured(os.environ), **given.get("env", {})}
    for word in options.env or ():
        name, equals, value = word.partition("=")
        if not equals and name not in os.environ:
            raise UsageError(f"--env {name}: it is not set here: give --env {name}=VALUE")
        env[name] = value if equals else os.environ[name]
    given["env"] = env
    return given


def _moment(text: str | None) -> datetime | None:
    return None if text is None else parse_moment(text, utcnow())


def _duration(option: str, text: str) -> float:
    try:
        return parse_duration(text)
    except UsageError as error:
        raise UsageError(f"{option}: {error}") from None


def _limit(text: str) -> float:
    try:
        return parse_limit(text)
    except UsageError as error:
        raise UsageError(f"--timeout: {error}, or none") from None


def _sentence(job: ShownJob, *, created: bool) -> str:
    what = bounded_text(job.name or _what(job), 200)
    if not created:
        return f"Job {job.id} holds that key already: {what}, {job.status}"
    if job.status in FINISHED:
        return f"Added job {job.id}: {what}"
    waits = {
        JobStatus.BLOCKED: ", waits for " + ", ".join(str(parent.id) for parent in job.parents),
        JobStatus.SCHEDULED: f", runs in {_until(job)}",
    }
    return f"Added job {job.id}: {what}{waits.get(job.status, '')}"


def _until(job: Job) -> str:
    return (
        format_duration(max(0.0, job.run_at.timestamp() - utcnow().timestamp()))
        if job.run_at
        else ""
    )


def _what(job: ShownJob) -> str:
    from jobq.cli.describe import describe  # shlex

    return describe(job)
