"""``jobq cancel``: cancel waiting jobs, stop running ones."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from jobq.cli.commands.bulk import Report, choose_approved, name_of
from jobq.cli.context import Cli
from jobq.cli.parsing.declarations import Context, option
from jobq.cli.parsing.options import AsJson, DryRun, Ids, Selection, Yes
from jobq.cli.rendering.output import is_terminal, note
from jobq.models import FINISHED, UNFINISHED, CancelEffect, JobStatus
from jobq.queue import JobQueue

Cascade = Annotated[bool, option("--cascade", help="Also cancel the jobs that wait for them.")]
Reason = Annotated[
    str | None, option("--reason", metavar="TEXT", help="Keep this reason with the jobs.")
]

_SENTENCES = {
    "cancelled": ("Cancelled {}", "Would cancel {}"),
    "requested": ("Asked {} to stop", "Would ask {} to stop"),
}


def command(
    ctx: Context,
    pick: Selection,
    ids: Ids = None,
    reason: Reason = None,
    cascade: Cascade = False,
    signal: Annotated[
        str | None,
        option("--signal", metavar="NAME", help="Send this to commands first, e.g. INT."),
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Cancel jobs; those that run are asked to stop.

    Give ids, or select unfinished jobs by what they have in common.

    Examples:
        jobq cancel 42 --reason "wrong file"
        jobq cancel --queue downloads --status pending
    """
    cli: Cli = ctx.obj
    with cli.queue() as queue:
        chosen = choose_approved(
            queue, pick, ids, verb="Cancel", among=UNFINISHED, ask=not (yes or dry_run)
        )
        if chosen is None:
            return 1
        if dry_run:
            effects = foresee(queue, chosen, cascade=cascade)
        else:
            if signal is not None:
                _leave_signal(queue, chosen, signal)
            effects = queue.cancel_many(chosen, reason, cascade=cascade)
        outcome = report(queue, effects)
        asked = outcome.done["requested"]
        if asked and not (is_terminal() or dry_run or as_json):
            note(f"asked {name_of(asked)} to stop")
        return outcome.show(as_json=as_json, dry_run=dry_run)


def _leave_signal(queue: JobQueue, ids: Sequence[int], signal: str) -> None:
    if others := queue.leave_stop_signal(ids, signal):
        note(f"{name_of(others)}: no command on this host: it gets SIGTERM, not {signal}")


def foresee(queue: JobQueue, ids: Sequence[int], *, cascade: bool) -> dict[int, CancelEffect]:
    """Return what cancelling these jobs would do."""
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


def report(queue: JobQueue, effects: Mapping[int, CancelEffect]) -> Report:
    """Return what became of these jobs, to be shown."""
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
