"""``jobq show``: show everything about one job."""

import json
import shlex
from collections.abc import Iterator, Sequence
from datetime import datetime

from jobq.cli.context import Cli
from jobq.cli.parsing.arguments import parse_one_id
from jobq.cli.parsing.declarations import Context
from jobq.cli.parsing.options import AsJson, Id
from jobq.cli.rendering.dependency_tree import tree_of
from jobq.cli.rendering.job_text import exit_of, progress_of, time_of
from jobq.cli.rendering.output import (
    COLOURS,
    format_ids,
    full_time,
    is_terminal,
    local_time,
    print_fields,
    print_json,
    styled,
)
from jobq.cli.rendering.table import print_columns
from jobq.clock import utcnow
from jobq.config.settings import priority_band
from jobq.describe import describe
from jobq.job_types import shell
from jobq.limits import MAX_LISTED
from jobq.models import FINISHED, Attempt, Job, Outcome
from jobq.queue import JobQueue
from jobq.redaction import ShownJob
from jobq.serializers import attempt_document, job_document
from jobq.units import format_duration, format_elapsed, format_size

_BAD = frozenset({Outcome.FAILED, Outcome.TIMED_OUT, Outcome.CRASHED, Outcome.LOST})


def command(ctx: Context, job_id: Id, as_json: AsJson = False) -> None:
    """Show everything about one job, its attempts included.

    Examples:
        jobq show last
        jobq show 42 --json
    """
    cli: Cli = ctx.obj
    with cli.queue() as queue:
        stored = queue.get(parse_one_id(job_id, queue))
        job = queue.shown(stored)
        redactor = queue.settings.redactor
        attempts = [redactor.attempt(each, stored) for each in queue.attempts(job.id)]
        if as_json:
            history = [attempt_document(attempt) for attempt in attempts]
            print_json({**job_document(job, queue.logs.path(job.id)), "history": history})
            return
        status = styled(job.status, COLOURS[job.status], color=cli.color and is_terminal())
        print(f"job {job.id}: {status}{' (asked to stop)' if job.cancel_requested else ''}")
        print_fields(_fields(queue, job, utcnow()))
        _print_history(attempts, utcnow(), color=cli.color)


def _fields(queue: JobQueue, job: ShownJob, now: datetime) -> Iterator[tuple[str, str]]:
    yield "name", job.name or ""
    yield from _what(job)
    yield "tags", " ".join(f"{k}={v}" for k, v in job.tags.items() if not k.startswith("jobq:"))
    yield "after", _parents(queue, job)
    if job.status not in FINISHED:
        yield "awaited by", format_ids(queue.descendants([job.id]))
    yield "tree", "\n".join(tree_of(queue, job))
    yield "added by", "" if job.added_by is None else f"job {job.added_by}"
    yield "queue", job.queue
    yield "priority", str(job.priority)
    yield "unique key", job.unique_key or ""
    yield "timeout", _timeout(queue, job)
    yield "retries", f"{job.max_retries} (first after {format_duration(job.retry_base)})"
    yield from _times(job, now)
    yield from _outcome(queue, job)


def _what(job: ShownJob) -> Iterator[tuple[str, str]]:
    """Yield the command, or the type and its arguments."""
    if job.type != shell.JOB_TYPE:
        yield "type", job.type
        yield "args", "\n".join(f"{k} = {_json(v)}" for k, v in job.args.items())
        return
    yield "command", describe(job)
    yield "directory", job.args.get("cwd") or ""
    env = job.args.get("env") or {}
    yield "variables", shlex.join(sorted(env))
    yield "stdin", job.args.get("stdin") or ""


def _timeout(queue: JobQueue, job: Job) -> str:
    """Return the time limit of an attempt, and the setting that it is the same as."""
    if job.timeout is None:
        return "none"
    timeouts = queue.settings.timeouts
    by = ""
    if job.timeout == timeouts.types.get(job.type):
        by = f", as [timeouts.types] has for {job.type}"
    elif job.type != shell.JOB_TYPE and job.timeout == timeouts.of_priority(job.priority):
        by = f", by its priority: [timeouts] {priority_band(job.priority)}"
    return f"{format_duration(job.timeout)}{by}"


def _parents(queue: JobQueue, job: Job) -> str:
    shown = job.parents[:MAX_LISTED]
    there = queue.existing([parent.id for parent in shown])
    lines = [
        f"{parent.id} ({there[parent.id].status if parent.id in there else 'pruned'}; "
        f"must have {parent.condition})"
        for parent in shown
    ]
    if more := len(job.parents) - len(shown):
        lines.append(f"{more:,} more: `jobq show {job.id} --json` lists all")
    return "\n".join(lines)


def _times(job: Job, now: datetime) -> Iterator[tuple[str, str]]:
    for name, moment in (
        ("added", job.created_at),
        ("not before", job.run_at),
        ("started", job.started_at),
        ("finished", job.finished_at),
    ):
        yield name, "" if moment is None else full_time(moment, now)
    if job.status in FINISHED:
        yield "took", time_of(job, now)


def _outcome(queue: JobQueue, job: Job) -> Iterator[tuple[str, str]]:
    message = job.progress and job.progress.message
    yield "progress", f"{progress_of(job)} {message or ''}".rstrip()
    ended = exit_of(job.exit_code, job.signal)
    yield "ended with", "" if ended in (job.error or "") else ended
    yield "error", job.error or ""
    yield "reason", job.reason or ""
    yield "result", "" if job.result is None else _json(job.result, indent=2)
    yield "logs", _logs(queue, job)


def _json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _logs(queue: JobQueue, job: Job) -> str:
    """Return where the logs are: on the host of the last attempt, if they are not here."""
    path = queue.logs.location(job)
    if queue.ships_logs and job.attempts and path is None:
        host = queue.attempts(job.id)[-1].supervisor.split(":")[0]
        return f"on {host}, in its log directory, jobs/{job.id} (`jobq tail {job.id}`)"
    return str(path or queue.logs.path(job.id))


def _print_history(attempts: Sequence[Attempt], now: datetime, *, color: bool) -> None:
    if not attempts:
        return
    print()
    rows = [_row(attempt, now) for attempt in attempts]
    print_columns(
        {title: [row[title] for row in rows] for title in rows[0]},
        color=color,
        styles={"outcome": [_look(attempt.outcome) for attempt in attempts]},
        flexible=("error",),
        optional=("CPU", "memory", "started", "took"),
    )


def _look(outcome: Outcome | None) -> str | None:
    return "red" if outcome in _BAD else "green" if outcome is Outcome.COMPLETED else None


def _row(attempt: Attempt, now: datetime) -> dict[str, str]:
    memory, cpu = attempt.max_rss_bytes, attempt.cpu_seconds
    ended = exit_of(attempt.exit_code, attempt.signal)
    return {
        "attempt": str(attempt.attempt),
        "outcome": (attempt.outcome or "running").replace("_", " "),
        "started": local_time(attempt.started_at, now),
        "took": format_elapsed(attempt.started_at, attempt.ended_at or now),
        "exit": ended,
        "memory": "" if memory is None else format_size(memory),
        "CPU": "" if cpu is None else format_duration(cpu),
        "error": "" if attempt.error == ended else attempt.error or "",
    }
