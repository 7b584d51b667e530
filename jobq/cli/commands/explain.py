"""``jobq explain``: say why a job is not running."""

from jobq.cli.context import Cli
from jobq.cli.parsing.arguments import parse_one_id
from jobq.cli.parsing.declarations import Context
from jobq.cli.parsing.options import AsJson, Id
from jobq.cli.rendering.output import COLOURS, is_terminal, print_json, styled
from jobq.diagnostics.explain import explain as reasons_of
from jobq.diagnostics.explain_facts import gather
from jobq.inert import inert


def command(ctx: Context, job_id: Id, as_json: AsJson = False) -> None:
    """Say why a job is not running, and what would let it run.

    For a job that runs or has ended, say where and how. Each line ends with the command that helps.

    Examples:
        jobq explain 42
        jobq explain last --json
    """
    cli: Cli = ctx.obj
    with cli.queue() as queue:
        job = queue.get(parse_one_id(job_id, queue))
        reasons = reasons_of(gather(queue, job, queue.now()))
    if as_json:
        documents = [reason.document() for reason in reasons]
        print_json({"id": job.id, "status": job.status.value, "reasons": documents})
        return
    color = cli.color and is_terminal()
    print(f"job {job.id}: {styled(job.status, COLOURS[job.status], color=color)}")
    for reason in reasons:
        command = f"  → {styled(reason.command, 'bold', color=color)}" if reason.command else ""
        print(f"  {inert(reason.message)}{command}")
