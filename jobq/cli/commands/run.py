"""``jobq run``: run a job here and now, recorded like any other."""

import asyncio
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

from jobq.cli.context import INTERRUPTED, Cli
from jobq.cli.parsing.arguments import piped_in
from jobq.cli.parsing.declarations import Context, option
from jobq.cli.parsing.job_options import (
    Args,
    Cwd,
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
from jobq.cli.rendering.log_follower import BEAT, Follower, exit_code, tell_failure
from jobq.cli.rendering.output import note
from jobq.errors import DiskFullError
from jobq.execution.options import WorkOptions
from jobq.execution.supervisor import Supervisor
from jobq.jobs.spec import JobSpec
from jobq.logs.directory import LOG, STDERR, STDOUT
from jobq.models import DEFAULT_QUEUE, Claim, Job, JobStatus
from jobq.queue import JobQueue
from jobq.system.disk_space import shortage


def command(
    ctx: Context,
    words: Words = None,
    queue: InQueue = DEFAULT_QUEUE,
    priority: Priority = "normal",
    name: Name = None,
    tag: Tag = None,
    timeout: Timeout = None,
    retries: Retries = None,
    retry_base: RetryBase = None,
    unique: Unique = None,
    cwd: Cwd = None,
    env: Env = None,
    shell: Shell = None,
    stdin: Stdin = None,
    args: Args = None,
    quiet: Annotated[
        bool, option("--quiet", "-q", help="Do not show its output, only record it.")
    ] = False,
) -> int | None:
    """Run a job here and now: its output is shown, and recorded like that of any job.

    Leaves with its exit code. It is tried once, unless --retries says otherwise.
    """
    cli: Cli = ctx.obj
    options = JobOptions(
        words=words or [],
        argv=ctx.meta.get("argv"),
        queue=queue,
        priority=priority,
        name=name,
        tag=tag,
        timeout=timeout,
        retries=retries or 0,
        retry_base=retry_base,
        unique=unique,
        cwd=cwd,
        env=env,
        shell=shell,
        stdin=stdin,
        args=args,
    )
    with cli.queue() as jobs:
        if short := shortage(jobs.settings):
            raise DiskFullError(f"{short}: free some disk space; nothing was started")
        spooled = jobs.logs.spool(piped_in().buffer) if stdin == "-" else None
        try:
            spec = job_spec(jobs, options)
            jobs.job_type(spec.type)  # worker files are read now, not while others wait for us
            here = _Here(jobs, spec, spooled, color=cli.color, quiet=quiet)
            job = asyncio.run(here.run())
        finally:
            if spooled is not None:
                spooled.unlink(missing_ok=True)
    if job is None:
        if sys.stderr.isatty():
            note(f"Job {here.job_id} holds the key {unique!r}: nothing was started.")
        return None
    tell_failure(jobs.shown(job))
    interrupted = job.status is JobStatus.CANCELLED and here.interrupted
    return INTERRUPTED if interrupted else exit_code(job)


class _Here:
    """One job, and a supervisor of its own for it."""

    def __init__(
        self, queue: JobQueue, spec: JobSpec, stdin: Path | None, *, color: bool, quiet: bool
    ) -> None:
        self._queue = queue
        self._spec = spec
        self._stdin = stdin
        self._color = color
        self._quiet = quiet
        self._created = False
        self.job_id = 0
        self.interrupted = False

    async def run(self) -> Job | None:
        """Run it; the job as it ended. None: another one holds its unique key."""
        options = WorkOptions(slots=1, ids=(), drain=True, cancel_at_stop=True)
        supervisor = Supervisor(self._queue, options)
        with_output = asyncio.create_task(self._show())
        try:
            await supervisor.run(lambda owner: self._claim(supervisor, owner))
        finally:
            with_output.cancel()
        if not self._created:
            return None
        while self._pump(final=True):
            pass
        self.interrupted = supervisor.stopping
        if self.interrupted:
            self._queue.cancel_many([self.job_id], "interrupted")
        return self._queue.get(self.job_id)

    def _claim(self, supervisor: Supervisor, owner: str) -> Collection[Claim]:
        """Add the job and claim it, so that no other supervisor gets it first."""
        inserted, claim = self._queue.insert_claimed(self._spec, owner=owner, stdin=self._stdin)
        self.job_id, self._created = inserted.id, inserted.created
        if inserted.created:
            supervisor.restrict_to((inserted.id,))
        return () if claim is None else (claim,)

    async def _show(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            self._pump()

    def _pump(self, *, final: bool = False) -> bool:
        """Show what is new; whether there was anything."""
        if self._quiet or not self._created:
            return False
        if not hasattr(self, "_follower"):
            # What a worker logs is for people: cron, where nobody looks on, would mail it.
            names = (STDOUT, STDERR, LOG) if sys.stdout.isatty() else (STDOUT, STDERR)
            self._follower = Follower(
                self._queue, self.job_id, names=names, split=True, color=self._color
            )
        return self._follower.pump(final=final)
