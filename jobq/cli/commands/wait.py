"""``jobq wait``: wait until jobs have ended."""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Annotated

from jobq.cli.commands.bulk import choose
from jobq.cli.context import Cli, complain
from jobq.cli.parsing.arguments import parse_span
from jobq.cli.parsing.declarations import Context, option
from jobq.cli.parsing.options import AsJson, Ids, Selection
from jobq.cli.rendering import log_follower as follow
from jobq.cli.rendering.hints import hint_no_supervisor, hint_paused
from jobq.cli.rendering.job_text import outcome_of
from jobq.cli.rendering.outlook import outlook
from jobq.cli.rendering.output import count_of, note, print_json_array
from jobq.describe import describe
from jobq.errors import NotFound
from jobq.models import Job, JobStatus
from jobq.redaction import ShownJob
from jobq.serializers import job_document

TIMED_OUT = 124
OUTLOOK_INTERVAL_S = 30.0
"""Shortest time (s) between two lines about how long jobs may take."""

Timeout = Annotated[
    str | None,
    option(
        "--timeout",
        metavar="SPAN",
        help="Stop waiting after this long, e.g. 5m, with exit code 124.",
    ),
]


def command(
    ctx: Context,
    pick: Selection,
    ids: Ids = None,
    timeout: Timeout = None,
    notify: Annotated[
        bool, option("--notify", help="Show a desktop notification when they have ended.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Wait until jobs have ended, and exit with their outcome.

    The exit code is 0 if all completed and 1 otherwise; for one shell job, its own exit code, or
    128 plus the number of the signal that killed it; for one job that was cancelled, 130; and 3 if
    no job matches. A selection means the jobs that exist now, those that have ended included.

    Examples:
        jobq wait 42 && echo done
        jobq wait --tag batch=7 --timeout 1h
    """
    cli: Cli = ctx.obj
    seconds = None if timeout is None else parse_span("--timeout", timeout)
    with cli.queue() as queue:
        queue.hold_store()
        wanted = pick.job_filter(queue, ids)
        chosen, _ = choose(queue, wanted, among=frozenset(JobStatus), limit=pick.limit)
        if not chosen:
            # To succeed would be to say of a mistyped tag that its jobs have completed.
            raise NotFound("no job matches: there is nothing to wait for")
        waited_for = queue.get_many(chosen)
        hint_no_supervisor(queue, waited_for, until_ended=True)
        hint_paused(queue, waited_for)
        try:
            jobs = queue.wait_all(chosen, seconds, tell=complain, on_change=_Outlook().show)
            code = exit_code(jobs)
        except TimeoutError:
            jobs, code = queue.get_many(chosen), TIMED_OUT
        if notify:
            _notify([queue.shown(job) for job in jobs])
        for job in jobs:
            if job.status is not JobStatus.COMPLETED:
                complain(outcome_of(queue.shown(job)))
        if as_json:
            print_json_array(
                job_document(queue.shown(job), queue.logs.path(job.id)) for job in jobs
            )
        return code


def exit_code(jobs: Sequence[Job]) -> int:
    """Return the exit code of `jobq wait` for jobs that have ended."""
    if len(jobs) == 1:
        return follow.exit_code(jobs[0])
    return int(any(job.status is not JobStatus.COMPLETED for job in jobs))


class _Outlook:
    """A line on the terminal about how many jobs have ended, and how long the others may take."""

    def __init__(self) -> None:
        self._next_at = 0.0

    def show(self, jobs: Sequence[Job]) -> None:
        """Print the line, once in a while."""
        if len(jobs) < 2 or not sys.stderr.isatty() or time.monotonic() < self._next_at:
            return
        if (text := outlook(jobs)) is not None:
            self._next_at = time.monotonic() + OUTLOOK_INTERVAL_S
            note(text)


def _notify(jobs: Sequence[ShownJob]) -> None:
    from jobq.system.desktop_notification import notify  # subprocess

    counts = Counter(job.status.value for job in jobs)
    done = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    if len(jobs) == 1:
        notify(f"jobq: {jobs[0].name or describe(jobs[0])}", f"job {jobs[0].id}: {done}")
    else:
        notify(f"jobq: {count_of(len(jobs))} ended", done or "none")
