"""``jobq prune``: delete jobs that have ended."""

from typing import Annotated

from jobq.cli.commands.bulk import approved, name_of
from jobq.cli.context import Cli, complain
from jobq.cli.parsing.arguments import parse_span
from jobq.cli.parsing.declarations import Context, option
from jobq.cli.parsing.options import AsJson, DryRun, Selection, Yes
from jobq.cli.rendering.output import count_of, note, print_json
from jobq.models import JobFilter
from jobq.queue import JobQueue

OlderThan = Annotated[
    str | None,
    option("--older-than", metavar="SPAN", help="Delete jobs that ended longer ago, e.g. 30d."),
]
KeepLast = Annotated[
    int | None,
    option("--keep-last", least=0, metavar="N", help="Keep the newest N of the jobs selected."),
]


def command(
    ctx: Context,
    pick: Selection,
    older_than: OlderThan = None,
    keep_last: KeepLast = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Delete jobs that have ended, with their logs.

    Without options that select jobs, [retention] in jobq.toml decides. Logs that can't be deleted
    are reported, and make the exit code 1.

    Examples:
        jobq prune --older-than 30d --keep-last 1000
        jobq prune --status completed --dry-run
    """
    cli: Cli = ctx.obj
    left: dict[int, OSError] = {}
    with cli.queue() as queue:
        wanted = pick.job_filter(queue)
        ids = prunable(queue, wanted, older_than, keep_last)[: pick.limit or None]
        question = f"Delete {count_of(len(ids))} and their logs?"
        if not (yes or dry_run or not ids or approved(question)):
            return 1
        if not dry_run:
            ids = queue.delete(ids, left.__setitem__)
    if as_json:
        print_json({"deleted": ids, "dry_run": dry_run})
    elif ids:
        print(f"{'Would delete' if dry_run else 'Deleted'} {name_of(ids)}")
    else:
        note("No jobs to delete.")
    for job_id, error in left.items():
        complain(f"the log of job {job_id} could not be deleted: {error}")
    return int(bool(left))


def prunable(
    queue: JobQueue, wanted: JobFilter, older_than: str | None, keep_last: int | None
) -> list[int]:
    """Return the ids of the jobs to delete, the oldest first."""
    age = None if older_than is None else parse_span("--older-than", older_than)
    if wanted == JobFilter() and older_than is None and keep_last is None:
        age, keep_last = queue.settings.retention.older_than, queue.settings.retention.keep_last
    return queue.prunable(
        older_than=age,
        keep_last=keep_last or 0,
        status=wanted.statuses,
        queue=wanted.queue,
        type=wanted.type,
        tags=wanted.tags,
        signature=wanted.signature,
        since=wanted.since,
        until=wanted.until,
        text=wanted.text,
    )
