"""The options that describe a job, for the verbs that take them, and the job that they describe."""

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from jobq.cli.parsing.arguments import parse_ids, parse_pairs, parse_span, piped_in
from jobq.cli.parsing.declarations import Argument, option
from jobq.clock import utcnow
from jobq.errors import UsageError
from jobq.job_types import shell
from jobq.jobs.spec import JobSpec
from jobq.models import DEFAULT_QUEUE
from jobq.queue import JobQueue
from jobq.units import parse_limit, parse_moment

Words = Annotated[
    list[str] | None,
    Argument(
        metavar="[TYPE] [KEY=VALUE]... [-- COMMAND ARG...]",
        help="A job type with its arguments (`jobq types` lists them), or a command after --.",
        completion="words",
        then_command=True,
    ),
]
InQueue = Annotated[
    str,
    option(
        "--queue",
        "-Q",
        metavar="QUEUE",
        help="The queue it waits in.",
        completion="queues",
    ),
]
Priority = Annotated[
    str,
    option("--priority", "-p", metavar="0-9", help="9 runs first; or low, normal, high, critical."),
]
Name = Annotated[str | None, option("--name", metavar="TEXT", help="A name for people.")]
Tag = Annotated[list[str] | None, option("--tag", metavar="KEY=VALUE", help="May be repeated.")]
After = Annotated[
    list[str] | None,
    option(
        "--after",
        metavar="IDS",
        help="Run once these have succeeded.",
        completion="job_ids",
    ),
]
AfterAny = Annotated[
    list[str] | None,
    option(
        "--after-any",
        metavar="IDS",
        help="Run once these have ended.",
        completion="job_ids",
    ),
]
AfterFail = Annotated[
    list[str] | None,
    option(
        "--after-fail",
        metavar="IDS",
        help="Run once these have failed.",
        completion="job_ids",
    ),
]
At = Annotated[
    str | None,
    option("--at", metavar="TIME", help="Not before: '2026-12-24 18:00', 'tomorrow 7:00'."),
]
Delay = Annotated[
    str | None, option("--delay", metavar="SPAN", help="Not before so long from now: 10m.")
]
Timeout = Annotated[
    str | None,
    option("--timeout", metavar="SPAN", help="The longest a try may take: 5m, or none."),
]
Retries = Annotated[int | None, option("--retries", metavar="N", help="Tries after the first one.")]
RetryBase = Annotated[
    str | None,
    option("--retry-base", metavar="SPAN", help="Wait before the first retry; it doubles."),
]
Unique = Annotated[
    str | None,
    option("--unique", metavar="KEY", help="Only one unfinished job may hold this key."),
]
Cwd = Annotated[
    str | None, option("--cwd", metavar="DIR", help="Where a command runs (default: here).")
]
Env = Annotated[
    list[str] | None,
    option("--env", metavar="K=V|K", help="A variable for the command, or its value now."),
]
Shell = Annotated[
    str | None, option("--shell", metavar="TEXT", help="A line for sh: 'sort a | head'.")
]
Stdin = Annotated[
    str | None,
    option("--stdin", metavar="FILE|-", help="What the command reads (default: nothing)."),
]
Args = Annotated[
    str | None,
    option("--args", metavar="JSON|-", help="The arguments as a JSON object; - reads it."),
]


class JobOptions(NamedTuple):
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
        tags=_tags(options),
        unique=options.unique,
        after=parse_ids(options.after or (), queue),
        after_any=parse_ids(options.after_any or (), queue),
        after_fail=parse_ids(options.after_fail or (), queue),
        at=_moment(options.at),
        delay=None if options.delay is None else parse_span("--delay", options.delay),
        timeout=None if options.timeout is None else _limit(options.timeout),
        max_retries=options.retries,
        retry_base=None
        if options.retry_base is None
        else parse_span("--retry-base", options.retry_base),
    )


def _tags(options: JobOptions) -> dict[str, str]:
    tags = parse_pairs(options.tag, "tag")
    if options.notify:
        from jobq.system.desktop_notification import TAG  # subprocess, and all that comes with it

        tags[TAG] = "1"
    return tags


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
    return queue.job_type(job_type).parse_words(words)


def _json_args(text: str) -> dict[str, Any]:
    import json

    from jobq.job_types.arguments import refuse_constant  # not for plain commands

    try:
        given = piped_in().read() if text == "-" else text
        args = json.loads(given, parse_constant=refuse_constant)
    except RecursionError:
        raise UsageError("--args: nested too deep") from None
    except ValueError as error:
        raise UsageError(f"--args: not valid JSON: {error}") from None
    if not isinstance(args, dict):
        raise UsageError("--args: expected a JSON object")
    return args


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


def _limit(text: str) -> float:
    try:
        return parse_limit(text)
    except UsageError as error:
        raise UsageError(f"--timeout: {error}, or none") from None
