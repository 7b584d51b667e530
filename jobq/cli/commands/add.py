"""``jobq add``: store a job."""

import sys
from pathlib import Path
from typing import Annotated, NamedTuple

from jobq.cli.context import Cli, complain
from jobq.cli.parsing.arguments import piped_in
from jobq.cli.parsing.declarations import Context, option
from jobq.cli.parsing.job_options import (
    JobOptions,
    JobRequest,
    ManyOptions,
    SingleJobOptions,
    StartOptions,
    job_spec,
)
from jobq.cli.rendering.output import is_terminal, note, note_paused, print_json
from jobq.clock import utcnow
from jobq.errors import UsageError, WrongState
from jobq.inert import inert
from jobq.jobs.spec import JobSpec
from jobq.limits import bounded_text, listed
from jobq.logs.directory import STDIN
from jobq.models import FINISHED, Job, JobStatus
from jobq.queue import JobQueue
from jobq.redaction import ShownJob
from jobq.serializers import job_document
from jobq.units import format_duration

MAX_NAME_CHARS = 200


def command(
    ctx: Context,
    job: JobOptions,
    single: SingleJobOptions,
    start: StartOptions,
    many: ManyOptions,
    follow: Annotated[
        bool, option("--follow", "-f", help="Follow its log and exit with its exit code.")
    ] = False,
    as_json: Annotated[bool, option("--json", help="Print one JSON document.")] = False,
    quiet: Annotated[bool, option("--quiet", "-q", help="Print only the id.")] = False,
) -> int | None:
    """Add a job: a command after --, or a job type with its arguments.

    Prints the id of the job. Nothing runs until `jobq work` does.

    Examples:
        jobq add -- ffmpeg -i in.mov out.mp4
        jobq add --after 41 --timeout 10m --shell 'sort names | uniq > sorted'
    """
    cli: Cli = ctx.obj
    request = JobRequest(job, single, start)
    if job.argv and "/" in job.argv[0]:
        from jobq.cli.parsing.directives import with_directives  # only for scripts

        request = with_directives(request)
    _refuse_together(many, follow=follow)
    with cli.queue(adds=not many.dry_run) as queue:
        if many.each or many.array is not None:
            from jobq.cli.commands.add_each import add_each  # only here

            return add_each(queue, request, many, as_json=as_json, quiet=quiet)
        if many.dry_run:
            _show_plan(queue, request, as_json=as_json)
            return None
        added = add_job(queue, request)
        _show(queue, added, as_json=as_json, quiet=quiet)
        if not added.is_same:
            from jobq.jobs.same_work import held_by_other  # only here

            complain(held_by_other(queue.shown(added.job)))
            return WrongState.exit_code
        if follow:
            from jobq.cli.rendering.log_follower import follow_job  # only here

            try:
                return follow_job(queue, added.job.id, color=cli.color)
            except KeyboardInterrupt:
                _tell_of_job_that_goes_on(queue, added.job.id)
                raise
    return None


def _refuse_together(many: ManyOptions, *, follow: bool) -> None:
    if many.null and not many.each:
        raise UsageError("--null goes with --each")
    if many.each and many.array is not None:
        raise UsageError("give one of --each and --array")
    given = {"--each": many.each, "--array": many.array is not None, "--dry-run": many.dry_run}
    for name, value in given.items():
        if follow and value:
            raise UsageError(f"--follow follows one job: it does not go with {name}")


def _show_plan(queue: JobQueue, request: JobRequest, *, as_json: bool) -> None:
    """Show the job that would be added."""
    from jobq.cli.rendering.plan import plan_document, plan_line  # only here

    (job,) = queue.plan([job_spec(queue, request)])
    if as_json:
        print_json(plan_document(queue.shown(job)))
    elif job.existing:
        holder = queue.shown(job)
        print(inert(f"Would add nothing: job {job.id} holds that key: {_what(holder)}"))
    else:
        print(f"Would add: {plan_line(queue.shown(job))}")


def _tell_of_job_that_goes_on(queue: JobQueue, job_id: int) -> None:
    """Say on a terminal that Ctrl-C has only ended the following."""
    job = queue.get(job_id)
    if sys.stderr.isatty() and job.status not in FINISHED:
        note(
            f"Job {job_id} goes on ({job.status}): jobq tail -f {job_id}; to end it: "
            f"jobq cancel {job_id}"
        )


class Added(NamedTuple):
    """The job that was added, or that holds its key."""

    job: Job
    created: bool
    is_same: bool  # it does what was asked for
    is_paused: bool  # its queue


def add_job(queue: JobQueue, request: JobRequest) -> Added:
    """Add the job that the options describe.

    Raises:
        UsageError: an option or an argument is wrong.
    """
    spec = job_spec(queue, request)
    spooled = None
    paused: list[str] = []
    if request.single.stdin == "-":
        spooled = queue.logs.spool(piped_in().buffer)
    try:
        (inserted,) = queue.insert([spec], stdin=spooled, on_paused=paused.append)
        job = queue.get(inserted.id)
        is_same = inserted.created or does(queue, job, spec, spooled)
    finally:
        if spooled is not None:
            spooled.unlink(missing_ok=True)
    return Added(job, inserted.created, is_same, bool(paused))


def does(queue: JobQueue, job: Job, spec: JobSpec, stdin: Path | None) -> bool:
    """Return whether a job does what was asked for, as far as is known here."""
    import filecmp  # only here

    from jobq.jobs.prepare import parsed_args
    from jobq.jobs.same_work import is_same_work

    args = parsed_args(queue.job_type(spec.type), spec.args or {}, queue.settings)
    if not is_same_work(job, spec.type, args, queue.settings):
        return False
    there = queue.logs.path(job.id) / STDIN
    return stdin is None or not there.is_file() or filecmp.cmp(stdin, there, shallow=False)


def _show(queue: JobQueue, added: Added, *, as_json: bool, quiet: bool) -> None:
    job = added.job
    if as_json:
        document = job_document(queue.shown(job), queue.logs.path(job.id))
        print_json({**document, "existing": not added.created})
    elif quiet or not is_terminal():
        print(job.id)
    else:
        print(inert(_sentence(queue.shown(job), created=added.created)))
    if job.status is JobStatus.CANCELLED:
        note(f"job {job.id} was cancelled immediately: {queue.shown(job).reason}")
    elif added.is_paused and job.status not in FINISHED:
        note_paused(job.queue)


def _sentence(job: ShownJob, *, created: bool) -> str:
    what = bounded_text(job.name or _what(job), MAX_NAME_CHARS)
    if not created:
        return f"Nothing added: job {job.id} holds that key: {what}, {job.status}"
    if job.status in FINISHED:
        return f"Added job {job.id}: {what}"
    waits = {
        JobStatus.BLOCKED: ", waits for " + listed([parent.id for parent in job.parents]),
        JobStatus.SCHEDULED: f", runs in {_until(job)}",
    }
    return f"Added job {job.id}: {what}{waits.get(job.status, '')}"


def _until(job: Job) -> str:
    return (
        format_duration(max(0.0, job.run_at.timestamp() - utcnow().timestamp()))
        if job.run_at
        else ""
    )


def _what(job: ShownJob) -> str:
    from jobq.describe import describe  # shlex

    return describe(job)
