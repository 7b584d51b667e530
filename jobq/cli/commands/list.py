"""``jobq list``: show jobs and how they are doing."""

import heapq
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any

from jobq.cli.context import Cli
from jobq.cli.parsing.declarations import Context, option
from jobq.cli.parsing.options import AsJson, AsJsonl, Ids, Selection
from jobq.cli.rendering.hints import hint_no_supervisor
from jobq.cli.rendering.job_text import attempts_of, progress_of, time_of
from jobq.cli.rendering.output import (
    COLOURS,
    is_terminal,
    note,
    print_json_array,
    print_jsonl,
    print_tabs,
)
from jobq.cli.rendering.table import print_columns
from jobq.clock import utcnow
from jobq.describe import describe
from jobq.errors import NotFound, UsageError
from jobq.limits import listed
from jobq.models import DEFAULT_QUEUE, FINISHED, Job, JobFilter, JobStatus
from jobq.queue import JobQueue
from jobq.redaction import ShownJob
from jobq.serializers import job_document
from jobq.units import Priority, format_moment

DEFAULT_LIMIT = 50
"""Jobs in the table where neither ids nor --limit are given."""


_MAX_OUTLOOK_JOBS = 5000
"""Most jobs that an estimate is made for."""

_FAILED = frozenset({JobStatus.FAILED})
_ORDER = list(JobStatus)
KEYS: dict[str, Callable[[Job], Any]] = {
    "id": lambda job: job.id,
    "status": lambda job: _ORDER.index(job.status),
    "priority": lambda job: job.priority,
    "queue": lambda job: job.queue,
    "type": lambda job: job.type,
    "name": lambda job: job.name,
    "attempts": lambda job: job.attempts,
    "run-at": lambda job: job.run_at,
    "started": lambda job: job.started_at,
    "finished": lambda job: job.finished_at,
    "took": lambda job: job.started_at and job.finished_at and job.finished_at - job.started_at,
}
"""The sort keys that ``--sort`` takes."""

Sort = Annotated[
    str,
    option("--sort", metavar="KEY", help=f"Sort by {', '.join(KEYS)}; -KEY reverses."),
]
Watch = Annotated[
    bool,
    option("--watch", "-w", help="Keep a live table; in a pipe, print a line per change."),
]
Plain = Annotated[bool, option("--plain", help="Print columns separated by tabs.")]


def command(
    ctx: Context,
    pick: Selection,
    ids: Ids = None,
    sort: Sort = "id",
    watch: Watch = False,
    plain: Plain = False,
    as_json: AsJson = False,
    as_jsonl: AsJsonl = False,
) -> None:
    """List jobs, the newest last.

    On a terminal, of more than 50 it shows those that run, failed last, come next, and the newest
    ones, unless you give ids or --limit. In a pipe, it lists all.

    Examples:
        jobq list --status failed --since 1d
        jobq list --queue downloads --watch
    """
    cli: Cli = ctx.obj
    if plain + as_json + as_jsonl > 1:
        raise UsageError("give one of --plain, --json and --jsonl")
    if watch and (plain or as_json or pick.limit is not None or sort != "id"):
        raise UsageError("--watch can only be combined with a selection and --jsonl")
    with cli.queue() as queue:
        wanted = pick.job_filter(queue, ids)
        if watch:
            _watch(queue, wanted, cli, as_jsonl=as_jsonl)
            return
        for_people = not (plain or as_json or as_jsonl)
        by_default = pick.limit is None and for_people and wanted.ids is None and is_terminal()
        limit = DEFAULT_LIMIT if by_default else pick.limit or None
        jobs, more = fetch(queue, wanted, sort, limit)
        if more and by_default and sort == "id":
            from jobq.cli.rendering.overview import overview  # only where there are many

            jobs = overview(queue, wanted, DEFAULT_LIMIT)
        if for_people:
            _show(cli, queue, wanted, [queue.shown(job) for job in jobs])
            if wanted != JobFilter() and is_terminal():
                _tell_outlook(queue, wanted)
        elif plain:
            print_tabs(_plain(queue.shown(job)) for job in jobs)
        else:
            documents = (job_document(queue.shown(job), queue.logs.path(job.id)) for job in jobs)
            (print_json_array if as_json else print_jsonl)(documents)
        if more and by_default:
            _tell_of_more(queue, wanted)
        if wanted.ids is not None:
            _require(queue, wanted.ids)


def fetch(
    queue: JobQueue, wanted: JobFilter, sort: str, limit: int | None
) -> tuple[Iterable[Job], bool]:
    """Return the last ``limit`` jobs in an order, and whether there are more.

    Raises:
        UsageError: there is no such order.
    """
    name = sort.removeprefix("-")
    if name not in KEYS:
        raise UsageError(f"--sort {sort!r}: give one of {', '.join(KEYS)}")
    if sort == "id" and limit is None:
        return queue.each(wanted), False
    if name == "id" and limit is not None:
        last = queue.find(wanted, limit=limit + 1, newest=True)
    else:
        last = _last(queue.each(wanted), KEYS[name], limit)
    more = limit is not None and len(last) > limit
    return last[:limit] if sort.startswith("-") else last[:limit][::-1], more


def _last(jobs: Iterable[Job], key: Callable[[Job], Any], limit: int | None) -> list[Job]:
    """Return the last jobs in an order, one more than the limit, the last one first.

    Jobs without a value come before those with one.
    """

    def place(job: Job) -> tuple[Any, ...]:
        value = key(job)
        return (value is not None, value, job.id)

    if limit is None:
        return sorted(jobs, key=place, reverse=True)
    return heapq.nlargest(limit + 1, jobs, key=place)


def _require(queue: JobQueue, ids: Sequence[int]) -> None:
    there = queue.existing(ids)
    missing = [job_id for job_id in ids if job_id not in there]
    if missing:
        raise NotFound(f"no job {listed(missing)}")


def _watch(queue: JobQueue, wanted: JobFilter, cli: Cli, *, as_jsonl: bool) -> None:
    from jobq.cli.rendering.watch_screen import watch  # statistics, and more

    watch(queue, wanted, color=cli.color, draws=cli.draws, as_jsonl=as_jsonl)


# -- for people ------------------------------------------------------------------------------


def _show(cli: Cli, queue: JobQueue, wanted: JobFilter, jobs: list[ShownJob]) -> None:
    if jobs:
        print_table(jobs, utcnow(), color=cli.color, errors=wanted.statuses == _FAILED)
        hint_no_supervisor(queue, jobs)
    elif wanted != JobFilter() and queue.find(limit=1):
        note("No job matches.")
    else:
        note(f"No jobs yet{_place(queue)}: jobq add -- echo hello")


def _place(queue: JobQueue) -> str:
    """Return which jobs these are, where that may be a surprise."""
    if queue.settings.path is not None:
        return ""
    return f" in {queue.settings.database} (no jobq.toml found here or above)"


def _tell_outlook(queue: JobQueue, wanted: JobFilter) -> None:
    """Print how long the jobs of a selection may take, unless there are very many."""
    from jobq.cli.rendering.outlook import outlook  # only for people

    jobs = queue.find(wanted, limit=_MAX_OUTLOOK_JOBS + 1)
    if 1 < len(jobs) <= _MAX_OUTLOOK_JOBS and (text := outlook(jobs)) is not None:
        note(text)


def _tell_of_more(queue: JobQueue, wanted: JobFilter) -> None:
    if wanted == JobFilter():
        counts = queue.counts()
        parts = ", ".join(f"{number:,} {status}" for status, number in counts.items() if number)
        print(f"{sum(counts.values()):,} jobs: {parts}")
    note(f"Only {DEFAULT_LIMIT} are shown: --limit 0 shows all.")


def print_table(jobs: Sequence[ShownJob], now: datetime, *, color: bool, errors: bool) -> None:
    """Print a line for each job; leave out columns that are empty."""
    columns = {
        "id": [str(job.id) for job in jobs],
        "status": [job.status.value for job in jobs],
        "prio": [str(job.priority) for job in jobs],
        "queue": [job.queue for job in jobs],
        "job": [job.name or describe(job) for job in jobs],
        "attempts": [attempts_of(job) for job in jobs],
        "time": [time_of(job, now) for job in jobs],
        "done": ["" if job.status in FINISHED else progress_of(job) for job in jobs],
        "error": [job.error or "" for job in jobs],
    }
    if all(job.queue == DEFAULT_QUEUE for job in jobs):
        del columns["queue"]
    if (
        errors
        or all(job.priority == Priority.NORMAL for job in jobs)
        or _are_alike(columns["prio"])
    ):
        del columns["prio"]
    if not errors:
        del columns["error"]
    if not is_terminal():  # last, so that names of any length pad no line
        columns["job"] = columns.pop("job")
    print_columns(
        columns,
        color=color,
        styles={"status": [COLOURS[job.status] for job in jobs]},
        flexible=("job", "error"),
        middle=("job",),
        optional=("prio", "attempts", "queue", "done", "time"),
    )


def _are_alike(column: list[str]) -> bool:
    return len(column) > 1 and len(set(column)) == 1


# -- for scripts -----------------------------------------------------------------------------


def _plain(job: ShownJob) -> list[str]:
    """Return the columns of ``--plain``. New ones are only added at the end."""
    return [
        str(job.id),
        job.status.value,
        job.queue,
        str(job.priority),
        job.type,
        str(job.attempts),
        *(format_moment(at) or "" for at in (job.created_at, job.started_at, job.finished_at)),
        job.name or "",
        describe(job),
    ]
