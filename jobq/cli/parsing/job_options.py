"""The options that describe a job, and the job that they describe."""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from jobq.cli.parsing.arguments import parse_ids, parse_pairs, parse_span, piped_in
from jobq.cli.parsing.declarations import Argument, CommandLine, Group, option
from jobq.clock import utcnow
from jobq.errors import UsageError
from jobq.job_types import shell
from jobq.jobs.spec import JobSpec
from jobq.models import DEFAULT_QUEUE
from jobq.queue import JobQueue
from jobq.units import parse_limit, parse_moment


class JobOptions(Group):
    """The options that describe a job, or the jobs of a schedule."""

    words: Annotated[
        list[str] | None,
        Argument(
            metavar="[TYPE] [KEY=VALUE]... [-- COMMAND ARG...]",
            help="A job type with its arguments (`jobq types` lists them), or a command after --.",
            completion="words",
        ),
    ] = None
    argv: Annotated[list[str] | None, CommandLine()] = None
    queue: Annotated[
        str,
        option("--queue", "-Q", metavar="QUEUE", help="Add to this queue.", completion="queues"),
    ] = DEFAULT_QUEUE
    priority: Annotated[
        str,
        option(
            "--priority", "-p", metavar="0-9", help="Run 9 first; or low, normal, high, critical."
        ),
    ] = "normal"
    tag: Annotated[
        list[str] | None,
        option("--tag", metavar="KEY=VALUE", help="Add a tag, e.g. batch=7; repeatable."),
    ] = None
    timeout: Annotated[
        str | None,
        option("--timeout", metavar="SPAN", help="Limit each attempt, e.g. 5m; or none."),
    ] = None
    retries: Annotated[
        int | None,
        option("--retries", metavar="N", help="Retry at most N times after a failure."),
    ] = None
    retry_base: Annotated[
        str | None,
        option(
            "--retry-base",
            metavar="SPAN",
            help="Wait this long before the first retry, e.g. 10s; it doubles each time.",
        ),
    ] = None
    cwd: Annotated[
        str | None,
        option("--cwd", metavar="DIR", help="Run the command in DIR (default: here)."),
    ] = None
    env: Annotated[
        list[str] | None,
        option("--env", metavar="K=V|K", help="Set a variable, or keep its value now; repeatable."),
    ] = None
    shell: Annotated[
        str | None,
        option("--shell", metavar="TEXT", help="Run a line of sh, e.g. 'sort a | head'."),
    ] = None
    args: Annotated[
        str | None,
        option("--args", metavar="JSON|-", help="Pass arguments as a JSON object; - reads stdin."),
    ] = None


class SingleJobOptions(Group):
    """The options that describe one job, but no schedule."""

    name: Annotated[
        str | None, option("--name", metavar="TEXT", help="Show this name instead of the command.")
    ] = None
    unique: Annotated[
        str | None,
        option("--unique", metavar="KEY", help="Add nothing if an unfinished job holds KEY."),
    ] = None
    stdin: Annotated[
        str | None,
        option(
            "--stdin",
            metavar="FILE|-",
            help="Feed FILE to the command, or what is piped in now (default: nothing).",
        ),
    ] = None


class StartOptions(Group):
    """The options that say when a job may start, and who is told of its end."""

    after: Annotated[
        list[str] | None,
        option(
            "--after",
            metavar="IDS",
            help="Run once these jobs have succeeded, e.g. 41.",
            completion="job_ids",
        ),
    ] = None
    after_any: Annotated[
        list[str] | None,
        option(
            "--after-any",
            metavar="IDS",
            help="Run once these jobs have ended.",
            completion="job_ids",
        ),
    ] = None
    after_fail: Annotated[
        list[str] | None,
        option(
            "--after-fail",
            metavar="IDS",
            help="Run once these jobs have failed.",
            completion="job_ids",
        ),
    ] = None
    after_one: Annotated[
        list[str] | None,
        option(
            "--after-one",
            metavar="IDS",
            help="Run once one of these jobs has succeeded, e.g. 3,4.",
            completion="job_ids",
        ),
    ] = None
    at: Annotated[
        str | None,
        option(
            "--at",
            metavar="TIME",
            help="Start no earlier than TIME, e.g. 18:00 or '2026-12-24 18:00'.",
        ),
    ] = None
    delay: Annotated[
        str | None,
        option("--delay", metavar="SPAN", help="Wait this long before starting, e.g. 10m."),
    ] = None
    notify: Annotated[
        bool, option("--notify", help="Show a desktop notification when the job has ended.")
    ] = False


class ManyOptions(Group):
    """The options that add a job for each of several values, or none yet."""

    each: Annotated[
        bool,
        option(
            "--each",
            help="Add a job for each line of stdin, or value after :::, "
            "at {} {.} {/} {//} {/.} {#}.",
        ),
    ] = False
    null: Annotated[
        bool, option("--null", "-0", help="With --each: read what find -print0 writes.")
    ] = False
    array: Annotated[
        str | None,
        option(
            "--array", metavar="INDEXES", help="Add a job for each index, at {}: 1-100 or 0-90:10."
        ),
    ] = None
    dry_run: Annotated[bool, option("--dry-run", help="Only show what would be added.")] = False


class JobRequest(NamedTuple):
    """All options that describe a job, as they were typed."""

    job: JobOptions
    single: SingleJobOptions = SingleJobOptions()
    start: StartOptions = StartOptions()


def job_spec(queue: JobQueue, request: JobRequest) -> JobSpec:
    """Return the options as `JobQueue` takes them.

    Raises:
        UsageError: an option or an argument is wrong.
    """
    job, single, start = request
    words = list(job.words or ())
    job_type = shell.JOB_TYPE
    if words and "=" not in words[0]:
        job_type = words.pop(0)
    if job_type != shell.JOB_TYPE:
        _refuse_shell_options(queue, job_type, job, single)
    args = _args(queue, job_type, words, job)
    return JobSpec(
        type=job_type,
        args=_shell_args(queue, args, request) if job_type == shell.JOB_TYPE else args,
        queue=job.queue,
        priority=job.priority,
        name=single.name,
        tags=_tags(job, start),
        unique=single.unique,
        after=parse_ids(start.after or (), queue),
        after_any=parse_ids(start.after_any or (), queue),
        after_fail=parse_ids(start.after_fail or (), queue),
        after_one=parse_ids(start.after_one or (), queue),
        at=_moment(start.at),
        delay=_span("--delay", start.delay),
        timeout=None if job.timeout is None else _limit(job.timeout),
        max_retries=job.retries,
        retry_base=_span("--retry-base", job.retry_base),
    )


def _tags(job: JobOptions, start: StartOptions) -> dict[str, str]:
    tags = parse_pairs(job.tag, "tag")
    if start.notify:
        from jobq.system.desktop_notification import TAG  # subprocess, and all that comes with it

        tags[TAG] = "1"
    return tags


def _refuse_shell_options(
    queue: JobQueue, job_type: str, job: JobOptions, single: SingleJobOptions
) -> None:
    given = {
        "a command after --": job.argv,
        "--shell": job.shell,
        "--cwd": job.cwd,
        "--env": job.env,
        "--stdin": single.stdin,
    }
    for name, value in given.items():
        if value is not None and value != []:
            named = any(each.name == job_type for each in queue.queues())
            hint = f" (a queue is named with -Q {job_type})" if named else ""
            raise UsageError(f"{name} goes with shell jobs, not with {job_type!r:.80}{hint}")


def _args(queue: JobQueue, job_type: str, words: list[str], job: JobOptions) -> dict[str, Any]:
    if job.args is not None:
        if words:
            raise UsageError(f"give --args or key=value, not both: {words[0]!r}")
        return _json_args(job.args)
    if not words:
        return {}
    return queue.job_type(job_type).parse_words(words)


def _json_args(text: str) -> dict[str, Any]:
    import json

    from jobq.job_types.argument_text import STRICT_JSON  # not for plain commands

    try:
        given = piped_in().read().removeprefix("\ufeff") if text == "-" else text
        args = json.loads(given, **STRICT_JSON)
    except RecursionError:
        raise UsageError("--args: nested too deep") from None
    except ValueError as error:
        raise UsageError(f"--args: not valid JSON: {error}") from None
    if not isinstance(args, dict):
        raise UsageError("--args: expected a JSON object")
    return args


def _shell_args(queue: JobQueue, args: dict[str, Any], request: JobRequest) -> dict[str, Any]:
    job, stdin = request.job, request.single.stdin
    given = dict(args)
    for key, value in (("argv", job.argv), ("shell", job.shell), ("stdin", stdin)):
        if value is not None:
            if key in given:
                raise UsageError(f"{key} is given twice")
            given[key] = value
    if given.get("stdin") not in (None, shell.OWN_STDIN):
        given["stdin"] = str(Path(given["stdin"]).absolute())
    given["cwd"] = str(Path(job.cwd or given.get("cwd") or Path.cwd()).absolute())
    given["env"] = {
        **queue.settings.captured(os.environ),
        **given.get("env", {}),
        **_variables(job.env or ()),
    }
    return given


def _variables(words: Sequence[str]) -> dict[str, str]:
    """Return the variables that ``--env`` sets."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name in found:
            raise UsageError(f"--env {name} is given twice")
        if not equals and name not in os.environ:
            raise UsageError(f"--env {name}: it is not set here: give --env {name}=VALUE")
        found[name] = value if equals else os.environ[name]
    return found


def _moment(text: str | None) -> datetime | None:
    return None if text is None else parse_moment(text, utcnow())


def _span(option: str, text: str | None) -> float | None:
    return None if text is None else parse_span(option, text)


def _limit(text: str) -> float:
    try:
        return parse_limit(text)
    except UsageError as error:
        raise UsageError(f"--timeout: {error}, or none") from None
