"""``jobq delete``: delete jobs by their ids."""

from jobq.cli.commands.bulk import Report, choose_approved
from jobq.cli.context import Cli, complain
from jobq.cli.parsing.declarations import Context
from jobq.cli.parsing.options import AsJson, DryRun, Ids, Selection, Yes
from jobq.models import FINISHED

_SENTENCES = {"deleted": ("Deleted {}", "Would delete {}")}


def command(
    ctx: Context,
    pick: Selection,
    ids: Ids = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Delete jobs that have ended, with their logs.

    Give ids, or select jobs by what they have in common. `jobq prune` deletes by age.

    Examples:
        jobq delete 42
        jobq delete --status cancelled --queue downloads
    """
    cli: Cli = ctx.obj
    left: dict[int, OSError] = {}
    with cli.queue() as queue:
        chosen = choose_approved(
            queue, pick, ids, verb="Delete", among=FINISHED, ask=not (yes or dry_run)
        )
        if chosen is None:
            return 1
        there = queue.existing(chosen)
        ended = [job_id for job_id in chosen if job_id in there]
        refused = {
            job_id: f"job {job_id} is {there[job_id].status}: cancel it first: jobq cancel {job_id}"
            for job_id in ended
            if there[job_id].status not in FINISHED
        }
        deleted = [job_id for job_id in ended if job_id not in refused]
        if not dry_run:
            deleted = queue.delete(deleted, left.__setitem__)
    report = Report(
        done={"deleted": deleted},
        sentences=_SENTENCES,
        missing=[job_id for job_id in chosen if job_id not in there],
        refused=refused,
    )
    code = report.show(as_json=as_json, dry_run=dry_run)
    for job_id, error in left.items():
        complain(f"the log of job {job_id} could not be deleted: {error}")
    return code or int(bool(left))
