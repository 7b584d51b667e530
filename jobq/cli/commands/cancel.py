"""``jobq cancel``: take jobs out of line, or stop them."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from jobq.cli.commands.bulk import Report, approved, choose, name_of
from jobq.cli.context import Cli
from jobq.cli.parsing.arguments import selection
from jobq.cli.parsing.declarations import Context, option
from jobq.cli.parsing.options import (
    AsJson,
    DryRun,
    Ids,
    InQueue,
    Limit,
    OfType,
    Reason,
    Since,
    Status,
    Tags,
    Until,
    Yes,
)
from jobq.cli.rendering.output import count_of, is_terminal, note
from jobq.models import FINISHED, UNFINISHED, CancelEffect, JobStatus
from jobq.queue import JobQueue

Cascade = Annotated[bool, option("--cascade", help="Cancel whatever waits for these jobs, too.")]

_SENTENCES = {
    "cancelled": ("Cancelled {}", "Would cancel {}"),
    "requested": ("Asked {} to stop", "Would ask {} to stop"),
}


def command(
    ctx: Context,
    ids: Ids = None,
    status: Status = None,
    in_queue: InQueue = None,
    of_type: OfType = None,
    tags: Tags = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    reason: Reason = None,
    cascade: Cascade = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Cancel jobs; those that run are asked to stop.

    Give ids, or select unfinished jobs by what they have in common.
    """
    cli: Cli = ctx.obj
    with cli.queue() as queue:
        wanted = selection(
            queue,
            ids=ids,
            status=status,
            in_queue=in_queue,
            of_type=of_type,
            tags=tags,
            since=since,
            until=until,
        )
        chosen, named = choose(queue, wanted, among=UNFINISHED, limit=limit)
        if not chosen:
            note("No job matches.")
        elif not (named or yes or dry_run or approved(f"Cancel {count_of(len(chosen))}?")):
            return 1
        if dry_run:
            effects = foresee(queue, chosen, cascade=cascade)
        else:
            effects = queue.cancel_many(chosen, reason, cascade=cascade)
        report = _report(queue, effects)
        asked = report.done["requested"]
        if asked and not (is_terminal() or dry_run or as_json):
            note(f"asked {name_of(asked)} to stop")
        return report.show(as_json=as_json, dry_run=dry_run)


def foresee(queue: JobQueue, ids: Sequence[int], *, cascade: bool) -> dict[int, CancelEffect]:
    """What cancelling these jobs would do."""
    wanted = list(dict.fromkeys([*ids, *(queue.descendants(ids) if cascade else ())]))
    there = queue.existing(wanted)

    def effect(job_id: int) -> CancelEffect:
        if job_id not in there:
            return CancelEffect.MISSING
        if there[job_id].status in FINISHED:
            return CancelEffect.FINISHED
        running = there[job_id].status is JobStatus.RUNNING
        return CancelEffect.REQUESTED if running else CancelEffect.CANCELLED

    return {job_id: effect(job_id) for job_id in wanted}


def _report(queue: JobQueue, effects: Mapping[int, CancelEffect]) -> Report:
    ids = {wanted: [i for i, e in effects.items() if e is wanted] for wanted in CancelEffect}
    finished = queue.existing(ids[CancelEffect.FINISHED])
    return Report(
        done={
            "cancelled": ids[CancelEffect.CANCELLED],
            "requested": ids[CancelEffect.REQUESTED],
        },
        sentences=_SENTENCES,
        missing=ids[CancelEffect.MISSING],
        refused={
            job.id: f"job {job.id} is {job.status}: there is nothing to cancel"
            for job in finished.values()
        },
    )
