"""``jobq prune``: forget jobs that have ended."""

from typing import Annotated

from jobq.cli.commands.bulk import approved, name_of
from jobq.cli.context import Cli, complain
from jobq.cli.parsing.arguments import parse_span, selection
from jobq.cli.parsing.declarations import Context, option
from jobq.cli.parsing.options import (
    AsJson,
    DryRun,
    InQueue,
    Limit,
    OfType,
    Since,
    Status,
    Tags,
    Until,
    Yes,
)
from jobq.cli.rendering.output import count_of, note, print_json
from jobq.models import JobFilter
from jobq.queue import JobQueue

OlderThan = Annotated[
    str | None,
    option("--older-than", metavar="SPAN", help="Those that ended longer ago: 30d."),
]
KeepLast = Annotated[
    int | None,
    option("--keep-last", least=0, metavar="N", help="Keep the newest N of them."),
]


def command(
    ctx: Context,
    status: Status = None,
    in_queue: InQueue = None,
    of_type: OfType = None,
    tags: Tags = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    older_than: OlderThan = None,
    keep_last: KeepLast = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Delete jobs that have ended, with their logs.

    Without options that choose some, those that [retention] in jobq.toml does not keep. Logs that
    can't be deleted are told, and make the exit code 1.
    """
    cli: Cli = ctx.obj
    left: dict[int, OSError] = {}
    with cli.queue() as queue:
        wanted = selection(
            queue,
            status=status,
            in_queue=in_queue,
            of_type=of_type,
            tags=tags,
            since=since,
            until=until,
        )
        ids = prunable(queue, wanted, older_than, keep_last)[: limit or None]
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
        note("No job to delete.")
    for job_id, error in left.items():
        complain(f"the log of job {job_id} is not deleted: {error}")
    return int(bool(left))


def prunable(
    queue: JobQueue, wanted: JobFilter, older_than: str | None, keep_last: int | None
) -> list[int]:
    """The jobs to delete, the oldest first."""
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
        since=wanted.since,
        until=wanted.until,
    )
