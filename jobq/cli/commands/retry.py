"""``jobq retry``: run failed and cancelled jobs again."""

from collections.abc import Sequence

from jobq.cli.commands.bulk import Report, choose_approved
from jobq.cli.context import Cli
from jobq.cli.parsing.declarations import Context
from jobq.cli.parsing.options import AsJson, DryRun, Ids, Selection, Yes
from jobq.cli.rendering.hints import hint_paused
from jobq.jobs.retry import retry_refusal
from jobq.models import JobStatus, Retried, RetryEffect
from jobq.queue import JobQueue

RETRIABLE = frozenset({JobStatus.FAILED, JobStatus.CANCELLED})
_SENTENCES = {
    "pending": ("Queued again: {}", "Would retry {}"),
    "blocked": ("Waiting for parents again: {}", "Would wait for parents again: {}"),
}


def command(
    ctx: Context,
    pick: Selection,
    ids: Ids = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Run failed and cancelled jobs again.

    They keep their ids, and their attempts go on counting. One that waits for its next attempt is
    retried now. Give ids, or select jobs by what they
    have in common.

    Examples:
        jobq retry 42
        jobq retry --status failed --since 1d
    """
    cli: Cli = ctx.obj
    with cli.queue(adds=True) as queue:
        chosen = choose_approved(
            queue, pick, ids, verb="Retry", among=RETRIABLE, ask=not (yes or dry_run)
        )
        if chosen is None:
            return 1
        retried = foresee(queue, chosen) if dry_run else queue.retry_many(chosen)
        code = report(queue, retried).show(as_json=as_json, dry_run=dry_run)
        if not dry_run and any(each.paused for each in queue.queues()):
            back = [each.id for each in retried if each.effect in _BACK]
            hint_paused(queue, queue.existing(back).values())
        return code


_BACK = {RetryEffect.PENDING, RetryEffect.BLOCKED}


def foresee(queue: JobQueue, ids: Sequence[int]) -> list[Retried]:
    """Return what retrying these jobs would do, as far as their own state shows."""
    there = queue.existing(ids)

    def effect(job_id: int) -> RetryEffect:
        if job_id not in there:
            return RetryEffect.MISSING
        if there[job_id].status is JobStatus.RETRYING:
            return RetryEffect.PENDING
        if there[job_id].status not in RETRIABLE:
            return RetryEffect.REFUSED
        return RetryEffect.BLOCKED if there[job_id].unmet_parents else RetryEffect.PENDING

    return [Retried(job_id, effect(job_id)) for job_id in dict.fromkeys(ids)]


def report(queue: JobQueue, retried: Sequence[Retried]) -> Report:
    """Return what became of these jobs, to be shown."""
    ids = {wanted: [r.id for r in retried if r.effect is wanted] for wanted in RetryEffect}
    told = {RetryEffect.PENDING, RetryEffect.BLOCKED, RetryEffect.MISSING}
    refused = [r for r in retried if r.effect not in told]
    jobs = queue.existing([r.id for r in refused])
    return Report(
        done={"pending": ids[RetryEffect.PENDING], "blocked": ids[RetryEffect.BLOCKED]},
        sentences=_SENTENCES,
        missing=ids[RetryEffect.MISSING],
        refused={
            r.id: retry_refusal(r, jobs[r.id].status if r.id in jobs else None) for r in refused
        },
    )
