"""``jobq tail``: show the log of a job."""

import json
import sys
from datetime import datetime
from typing import Annotated

from jobq.cli.context import Cli
from jobq.cli.parsing.arguments import parse_one_id
from jobq.cli.parsing.declarations import Context, option
from jobq.cli.parsing.options import Id
from jobq.cli.rendering.hints import hint_no_supervisor, hint_paused
from jobq.cli.rendering.log_follower import Follower, follow, show_part, tell_failure
from jobq.cli.rendering.output import is_terminal, note
from jobq.errors import NotFound, UsageError
from jobq.inert import inert
from jobq.limits import MAX_COUNT
from jobq.logs.directory import EVENTS, LOG, OFFSET_FIELDS, STDERR, STDOUT, JobLog
from jobq.logs.remote import RemoteLog, wrote
from jobq.models import FINISHED, Job, LogOffsets
from jobq.queue import JobQueue

DEFAULT_LINES = 100


def command(
    ctx: Context,
    job: Id,
    following: Annotated[
        bool, option("--follow", "-f", help="Follow the log until the job ends, across retries.")
    ] = False,
    lines: Annotated[
        str, option("--lines", "-n", metavar="N|all", help="Show the last N lines of each stream.")
    ] = str(DEFAULT_LINES),
    stdout: Annotated[bool, option("--stdout", help="Show only its stdout.")] = False,
    stderr: Annotated[bool, option("--stderr", help="Show only its stderr.")] = False,
    events: Annotated[bool, option("--events", help="Show only its events, one per line.")] = False,
    attempt: Annotated[
        int | None, option("--attempt", least=1, metavar="K", help="Show only attempt K, e.g. 2.")
    ] = None,
    raw: Annotated[
        bool, option("--raw", help="Print the bytes unchanged, control sequences included.")
    ] = False,
) -> None:
    """Show the end of a job's log, or follow it.

    Examples:
        jobq tail -f last
        jobq tail 42 --stderr --attempt 2
    """
    cli: Cli = ctx.obj
    count = _count(lines)
    names = _names(stdout=stdout, stderr=stderr, events=events)
    if following and attempt is not None:
        raise UsageError("give -f or --attempt, not both: -f follows the current attempt")
    with cli.queue() as queue:
        if following:
            queue.hold_store()
        job_id = parse_one_id(job, queue)
        found = queue.get(job_id)
        log = queue.open_log(found, attempt)
        if attempt is not None and log is not None and not _has(log, queue, attempt):
            log.close()
            log = None
        span = _span(queue, found, log, attempt)
        ends: dict[str, int] = {}
        if log is not None:
            ends = _show(log, names, count, span, raw=raw, color=cli.color)
        if following:
            if log is None and found.status not in FINISHED and sys.stderr.isatty():
                note(f"Job {job_id} is {found.status}: waiting for it to start.")
            hint_no_supervisor(queue, [found], until_ended=True)
            hint_paused(queue, [found])
            follower = Follower(
                queue, found, names=names, raw=raw, color=cli.color, offsets=ends,
                log=log, attempt=found.attempts,
            )  # fmt: skip
            tell_failure(queue.shown(follow(queue, follower, job_id)))
        elif log is None:
            note(_nothing(queue, found, attempt))
        else:
            if is_terminal() and not any(ends.values()):
                state = "has printed nothing" + ("" if found.status in FINISHED else " yet")
                note(f"Job {job_id} is {found.status}: it {state}.")
            log.close()


def _show(
    log: JobLog | RemoteLog,
    names: list[str],
    count: int | None,
    span: tuple[LogOffsets, LogOffsets | None],
    *,
    raw: bool,
    color: bool,
) -> dict[str, int]:
    """Show the log as it is. Return the offset at which each file ended."""
    starts, stops = span
    if names == [EVENTS] and is_terminal() and not raw:
        return {EVENTS: _show_events(log, count)}
    there = [name for name in names if log.size(name) > getattr(starts, OFFSET_FIELDS[name])]
    ends = dict.fromkeys(names, 0)
    for place, name in enumerate(there):
        if len(there) > 1:
            print(f"{chr(10) if place else ''}==> {name} <==", flush=True)
        start = getattr(starts, OFFSET_FIELDS[name])
        stop = None if stops is None else getattr(stops, OFFSET_FIELDS[name])
        ends[name] = show_part(log, name, count, (start, stop), raw=raw, color=color)
    return ends


def _span(
    queue: JobQueue, job: Job, log: JobLog | RemoteLog | None, attempt: int | None
) -> tuple[LogOffsets, LogOffsets | None]:
    """Return where the output of an attempt starts, and where that of the next one does."""
    if attempt is None:
        return LogOffsets(), None
    history = {item.attempt: item.offsets for item in queue.attempts(job.id)}
    if attempt not in history:
        raise NotFound(f"job {job.id} has no attempt {attempt}: it has had {job.attempts}")
    if isinstance(log, RemoteLog):
        return log.span(attempt)
    later = (number for number in sorted(history) if number > attempt)
    here = (number for number in later if log is None or _has(log, queue, number))
    return history[attempt], history.get(next(here, 0))


def _has(log: JobLog | RemoteLog, queue: JobQueue, attempt: int) -> bool:
    """Return whether an attempt's output is in this log: others may be on other hosts."""
    return not queue.ships_logs or isinstance(log, RemoteLog) or wrote(log, attempt)


def _show_events(log: JobLog | RemoteLog, count: int | None) -> int:
    """Print the events as lines for people. Return the offset at which the file ended."""
    with log.read(EVENTS) as file:
        if file is None:
            return 0
        end = file.layout().end
        lines = file.read_all().splitlines()
        for line in lines if count is None else lines[len(lines) - min(count, len(lines)) :]:
            print(_event_text(line))
        return end


def _event_text(line: bytes) -> str:
    """Return an event as text. The job can write to the file too: other lines stay as they are."""
    try:
        event = json.loads(line)
        at = datetime.fromisoformat(event.pop("time")).astimezone()
        head = f"{at:%H:%M:%S} attempt {event.pop('attempt')} {event.pop('event')}"
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return inert(line.decode("utf-8", "replace"))
    details = " ".join(f"{key}={value}" for key, value in event.items() if value is not None)
    return inert(f"{head} {details}".rstrip())


def _nothing(queue: JobQueue, job: Job, attempt: int | None) -> str:
    if queue.ships_logs and (history := queue.attempts(job.id)):
        asked = [item for item in history if attempt in (None, item.attempt)]
        host = asked[-1].supervisor.split(":")[0]
        return (
            f"Job {job.id} is {job.status}; its log is no longer kept for other hosts: see "
            f"jobs/{job.id} in the log directory of {host}."
        )
    if job.status in FINISHED:
        return f"Job {job.id} is {job.status} and has no log."
    return f"Job {job.id} is {job.status}: it has no log yet (-f waits for it)."


def _count(text: str) -> int | None:
    if text == "all":
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_COUNT))):
        raise UsageError(f"--lines {text!r:.80}: give a number of up to {MAX_COUNT:,}, or all")
    return int(text)


def _names(*, stdout: bool, stderr: bool, events: bool) -> list[str]:
    if events:
        if stdout or stderr:
            raise UsageError("give --events alone: --stdout and --stderr are not events")
        return [EVENTS]
    chosen = [name for name, wanted in ((STDOUT, stdout), (STDERR, stderr)) if wanted]
    return chosen or [STDOUT, STDERR, LOG]
