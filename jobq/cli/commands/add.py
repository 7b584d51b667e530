"""``jobq add``: store a job."""

from typing import Annotated

from jobq.cli.context import Cli
from jobq.cli.parsing.arguments import piped_in
from jobq.cli.parsing.declarations import Context, option
from jobq.cli.parsing.job_options import (
    After,
    AfterAny,
    AfterFail,
    Args,
    At,
    Cwd,
    Delay,
    Env,
    InQueue,
    JobOptions,
    Name,
    Priority,
    Retries,
    RetryBase,
    Shell,
    Stdin,
    Tag,
    Timeout,
    Unique,
    Words,
    job_spec,
)
from jobq.cli.rendering.output import inert, is_terminal, note, print_json
from jobq.clock import utcnow
from jobq.errors import UsageError
from jobq.limits import bounded_text
from jobq.models import DEFAULT_QUEUE, FINISHED, Job, JobStatus
from jobq.queue import JobQueue
from jobq.redaction import ShownJob
from jobq.serializers import job_document
from jobq.units import format_duration


def command(
    ctx: Context,
    words: Words = None,
    queue: InQueue = DEFAULT_QUEUE,
    priority: Priority = "normal",
    name: Name = None,
    tag: Tag = None,
    after: After = None,
    after_any: AfterAny = None,
    after_fail: AfterFail = None,
    at: At = None,
    delay: Delay = None,
    timeout: Timeout = None,
    retries: Retries = None,
    retry_base: RetryBase = None,
    unique: Unique = None,
    cwd: Cwd = None,
    env: Env = None,
    shell: Shell = None,
    stdin: Stdin = None,
    args: Args = None,
    notify: Annotated[
        bool, option("--notify", help="Tell on the desktop when it has ended.")
    ] = False,
    follow: Annotated[
        bool, option("--follow", "-f", help="Follow its log, and leave with its exit code.")
    ] = False,
    each: Annotated[
        bool,
        option("--each", help="A job for each line of stdin: {} {.} {/} {//} {/.} {#}."),
    ] = False,
    null: Annotated[
        bool, option("--null", "-0", help="With --each: what find -print0 writes.")
    ] = False,
    as_json: Annotated[bool, option("--json", help="Print one JSON document.")] = False,
    quiet: Annotated[bool, option("--quiet", "-q", help="Print the id alone.")] = False,
) -> int | None:
    """Add a job: a command after --, or a job type with its arguments.

    Prints the job's id. Nothing runs until `jobq work` does.
    """
    cli: Cli = ctx.obj
    options = JobOptions(
        words=words or [],
        argv=ctx.meta.get("argv"),
        queue=queue,
        priority=priority,
        name=name,
        tag=tag,
        after=after,
        after_any=after_any,
        after_fail=after_fail,
        at=at,
        delay=delay,
        timeout=timeout,
        retries=retries,
        retry_base=retry_base,
        unique=unique,
        cwd=cwd,
        env=env,
        shell=shell,
        stdin=stdin,
        args=args,
        notify=notify,
    )
    if null and not each:
        raise UsageError("--null goes with --each")
    if follow and each:
        raise UsageError("--follow follows one job: it does not go with --each")
    with cli.queue() as jobs:
        if each:
            from jobq.cli.commands.add_each import add_each  # only here

            add_each(jobs, options, null=null, as_json=as_json, quiet=quiet)
            return None
        job, created = add_job(jobs, options)
        if as_json:
            print_json(job_document(jobs.shown(job), jobs.logs.path(job.id)))
        elif quiet or not is_terminal():
            print(job.id)
        else:
            print(inert(_sentence(jobs.shown(job), created=created)))
        if job.status is JobStatus.CANCELLED:
            note(f"job {job.id} was cancelled at once: {jobs.shown(job).reason}")
        if follow:
            from jobq.cli.rendering.log_follower import follow_job  # only here

            return follow_job(jobs, job.id, color=cli.color)
    return None


def add_job(queue: JobQueue, options: JobOptions) -> tuple[Job, bool]:
    """Add the job that the options describe; and whether it is new.

    Raises:
        UsageError: an option or an argument is wrong.
    """
    spec = job_spec(queue, options)
    spooled = None
    if options.stdin == "-":
        spooled = queue.logs.spool(piped_in().buffer)
    try:
        (inserted,) = queue.insert([spec], stdin=spooled)
    finally:
        if spooled is not None:
            spooled.unlink(missing_ok=True)
    return queue.get(inserted.id), inserted.created


def _sentence(job: ShownJob, *, created: bool) -> str:
    what = bounded_text(job.name or _what(job), 200)
    if not created:
        return f"Job {job.id} holds that key already: {what}, {job.status}"
    if job.status in FINISHED:
        return f"Added job {job.id}: {what}"
    waits = {
        JobStatus.BLOCKED: ", waits for " + ", ".join(str(parent.id) for parent in job.parents),
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
    from jobq.cli.rendering.job_text import describe  # shlex

    return describe(job)
