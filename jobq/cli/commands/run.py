"""``jobq run``: run a job here and now, recorded like any other."""

import asyncio
import os
import signal
import sys
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from jobq.cli.commands.add import does
from jobq.cli.context import INTERRUPTED, Cli, complain
from jobq.cli.event_loop import run_to_end
from jobq.cli.parsing.arguments import own_stdin, piped_in
from jobq.cli.parsing.declarations import Context, Group, option
from jobq.cli.parsing.directives import with_directives
from jobq.cli.parsing.job_options import (
    JobOptions,
    JobRequest,
    SingleJobOptions,
    StartOptions,
    job_spec,
)
from jobq.cli.rendering import streams
from jobq.cli.rendering.log_follower import POLL_INTERVAL_S, Follower, exit_code, tell_failure
from jobq.cli.rendering.output import note, note_paused
from jobq.cli.rendering.raw_keyboard import raw_keyboard
from jobq.errors import DiskFullError, UsageError, WrongState
from jobq.execution.options import WorkOptions
from jobq.execution.supervisor import Supervisor
from jobq.execution.terminal import Inherited
from jobq.job_types import shell
from jobq.jobs.same_work import held_by_other
from jobq.jobs.spec import JobSpec
from jobq.logs.directory import LOG, STDERR, STDOUT
from jobq.models import Claim, Job, JobStatus
from jobq.queue import JobQueue
from jobq.recovery import owner_id
from jobq.redaction import ShownJob
from jobq.system.disk_space import shortage
from jobq.system.processes import host_name


class HereOptions(Group):
    """The options that run a job in this very process."""

    here: Annotated[
        bool,
        option("--here", help="Run it in this process, on this terminal: breakpoint() works."),
    ] = False
    pdb: Annotated[bool, option("--pdb", help="With --here: debug an exception, with pdb.")] = False
    id_: Annotated[
        int | None,
        option("--id", metavar="ID", least=1, help="With --here: run this job, which is queued."),
    ] = None


def command(
    ctx: Context,
    job: JobOptions,
    single: SingleJobOptions,
    place: HereOptions,
    quiet: Annotated[
        bool, option("--quiet", "-q", help="Record its output without showing it.")
    ] = False,
    tty: Annotated[
        bool, option("--tty", help="Give the command a terminal, e.g. for colours or a prompt.")
    ] = False,
) -> int | None:
    """Run a job here and now, show its output, and record it like any job.

    Exits with the exit code of the job. It has one attempt, unless --retries allows more. A command
    reads what is piped in. If what reads its output exits, as in `… | head -1`, the job is
    cancelled.

    Examples:
        jobq run -- make backup
        jobq run --unique cleanup cleanup older_than=30d
    """
    cli: Cli = ctx.obj
    with cli.queue(runs=True) as jobs:
        if short := shortage(jobs.settings):
            raise DiskFullError(f"{short}: free some disk space; no job was started")
        jobs.logs.make_root()
        if place.here:
            if tty:
                raise UsageError("--here and --tty don't go together: the job has this terminal")
            return _run_here(jobs, job, single, place)
        if place.pdb or place.id_ is not None:
            raise UsageError(f"{'--pdb' if place.pdb else '--id'} goes with --here")
        request = with_directives(JobRequest(job, single))
        spooled = jobs.logs.spool(piped_in().buffer) if request.single.stdin == "-" else None
        try:
            spec = job_spec(jobs, request._replace(start=StartOptions()))
            spec = replace(spec, max_retries=spec.max_retries or 0)
            jobs.job_type(
                spec.type
            )  # load worker files now, before a transaction makes others wait
            if tty and spec.type != shell.JOB_TYPE:
                raise UsageError(f"--tty goes with commands, not with {spec.type!r:.80}")
            here = _Here(jobs, spec, spooled, color=cli.color, quiet=quiet, tty=tty)
            with raw_keyboard() if here.keyboard is not None else nullcontext():
                ended = run_to_end(here.run)
        finally:
            if spooled is not None:
                spooled.unlink(missing_ok=True)
    return _exit_code(jobs, here, ended, single)


def _exit_code(
    jobs: JobQueue, here: "_Here", ended: Job | None, single: SingleJobOptions
) -> int | None:
    """Return the exit code for what became of the job, after telling of it."""
    if ended is None:
        if here.other is not None:
            complain(held_by_other(here.other))
            return WrongState.exit_code
        if sys.stderr.isatty():
            note(f"Job {here.job_id} holds the key {single.unique!r}: no job was started.")
        return None
    if here.reader_left and ended.status is JobStatus.CANCELLED:
        return READER_LEFT
    tell_failure(jobs.shown(ended))
    interrupted = ended.status is JobStatus.CANCELLED and here.interrupted
    return INTERRUPTED if interrupted else exit_code(ended)


def _run_here(
    queue: JobQueue, job: JobOptions, single: SingleJobOptions, place: HereOptions
) -> int:
    """Run a job in this process. Output is not recorded: a debugger needs the terminal."""
    from jobq.execution.here import run_here

    claim = _claim_here(queue, job, single, place)

    def debug(error: Exception) -> None:
        if place.pdb:
            import pdb  # noqa: T100 - asked for

            pdb.post_mortem(error.__traceback__)

    ended = run_here(queue, claim, debug)
    tell_failure(queue.shown(ended))
    if ended.status is JobStatus.CANCELLED and ended.reason == "interrupted":
        return INTERRUPTED
    return exit_code(ended)


def _claim_here(
    queue: JobQueue, job: JobOptions, single: SingleJobOptions, place: HereOptions
) -> Claim:
    owner = owner_id(host_name())
    if place.id_ is not None:
        if job.words or job.argv or job.shell:
            raise UsageError("give --id, or a job to add, not both")
        return queue.claim_job(place.id_, owner=owner)
    if single.stdin == "-":
        raise UsageError("--stdin - does not go with --here: the job has this terminal")
    spec = job_spec(queue, JobRequest(job, single))
    queue.job_type(spec.type)  # as in `command`
    inserted, claim = queue.insert_claimed(
        replace(spec, max_retries=spec.max_retries or 0), owner=owner
    )
    if claim is None:
        if not inserted.created:
            raise WrongState(
                f"job {inserted.id} holds the key {single.unique!r}: no job was started"
            )
        return queue.claim_job(inserted.id, owner=owner)  # which tells why not
    return claim


READER_LEFT = 128 + signal.SIGPIPE
"""The exit code for a job that was cancelled since what reads its output has exited."""


class _Here:
    """One job with a supervisor of its own."""

    def __init__(
        self,
        queue: JobQueue,
        spec: JobSpec,
        stdin: Path | None,
        *,
        color: bool,
        quiet: bool,
        tty: bool,
    ) -> None:
        self._queue = queue
        self._spec = spec
        self._stdin = stdin
        self._color = color
        self._quiet = quiet
        self._tty = tty
        self._created = False
        self.job_id = 0
        self.interrupted = False
        self.reader_left = False
        self.other: ShownJob | None = None  # that holds the key, and does something else

    @property
    def keyboard(self) -> int | None:
        """The terminal whose keys go to the command, if they do."""
        stdin = own_stdin()
        return stdin if self._tty and stdin is not None and os.isatty(stdin) else None

    def _inherited(self) -> Inherited:
        stdin = own_stdin()
        # Not a terminal: in the background, the command would take the keys meant for the shell.
        piped = stdin is not None and not os.isatty(stdin)
        return Inherited(
            stdin=stdin if piped else None,
            keyboard=self.keyboard,
            show=self._show_raw if self._tty else None,
        )

    async def run(self) -> Job | None:
        """Run the job. Return it as it ended; None if another job holds its unique key."""
        options = WorkOptions(
            slots=1,
            ids=(),
            drain=True,
            reload=False,
            cancel_at_stop=True,
            inherited=self._inherited(),
        )
        self._supervisor = supervisor = Supervisor(self._queue, options)
        streams.go_on_without_output(unread=False)
        with_output = asyncio.create_task(self._show())
        try:
            await supervisor.run(lambda owner: self._claim(supervisor, owner))
        finally:
            with_output.cancel()
            streams.go_on_without_output()
        if not self._created:
            holder = self._queue.get(self.job_id)
            if not does(self._queue, holder, self._spec, self._stdin):
                self.other = self._queue.shown(holder)
            return None
        self.interrupted = supervisor.stopping
        if self.interrupted:
            self._queue.cancel_many([self.job_id], "interrupted")
        while self._pump(final=True):
            pass
        return self._queue.get(self.job_id)

    def _claim(self, supervisor: Supervisor, owner: str) -> Collection[Claim]:
        """Add the job and claim it, so that no other supervisor gets it first."""
        inserted, claim = self._queue.insert_claimed(self._spec, owner=owner, stdin=self._stdin)
        self.job_id, self._created = inserted.id, inserted.created
        if inserted.created:
            supervisor.restrict_to((inserted.id,))
            if claim is None and self._queue.queue(self._spec.queue).paused:
                note_paused(self._spec.queue)
        return () if claim is None else (claim,)

    async def _show(self) -> None:
        """Show new output until the job has ended; stop it once the reader has left."""
        while not self.reader_left:
            await asyncio.sleep(POLL_INTERVAL_S)
            try:
                self._pump()
            except BrokenPipeError:
                self._stop_without_reader()

    def _stop_without_reader(self) -> None:
        self.reader_left = True
        self._supervisor.request_stop()

    def _show_raw(self, data: bytes) -> None:
        """Show what the command wrote to its terminal."""
        if self._quiet or self.reader_left:
            return
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            self._stop_without_reader()

    def _pump(self, *, final: bool = False) -> bool:
        """Show new output. Return whether there was any."""
        if self._quiet or self._tty or not self._created:
            return False
        if not hasattr(self, "_follower"):
            # A worker's log is for people: cron, where nobody watches, would mail it.
            names = (STDOUT, STDERR, LOG) if sys.stdout.isatty() else (STDOUT, STDERR)
            job = self._queue.get(self.job_id)
            self._follower = Follower(self._queue, job, names=names, split=True, color=self._color)
        return self._follower.pump(final=final)
