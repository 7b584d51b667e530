"""The runs of one supervisor: starts commands and children, notices their end, signals them.

A command is started directly, with its output on the job's own files: no pipe and no Python
process in between. A worker's job goes to an idle child. Which attempt runs when, and what its
end means, is the supervisor's business.
"""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from jobq import progress, shell
from jobq.children import ChildPool
from jobq.config import Settings, job_environment
from jobq.endings import Exit, exit_of_process
from jobq.logs import STDERR, STDIN, STDOUT, JobLog, JobLogs
from jobq.models import Claim, LogOffsets, Outcome, Usage
from jobq.processes import (
    ATTEMPT_MARK,
    JOB_MARK,
    SUPERVISOR_MARK,
    start_time,
)
from jobq.redaction import Redaction
from jobq.runs import Run, last_words
from jobq.trimming import compact

COMMAND_NOT_FOUND = 127
COMMAND_NOT_EXECUTABLE = 126
"""The exit codes that shells use when a command can't be started."""

_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM}


class Pool:
    """Starts runs; tells ``on_started`` and ``on_exit`` what became of them."""

    def __init__(
        self,
        settings: Settings,
        owner: str,
        on_started: Callable[[Run], None],
        on_exit: Callable[[Run, Exit], None],
        on_types: Callable[[list[str], list[str]], None],
    ) -> None:
        self._logs = JobLogs(settings.log_dir)
        self._redactor = settings.redactor
        self._on_started = on_started
        self._on_exit = on_exit
        self._commands: dict[int, Run] = {}
        self._environment = {**job_environment(settings), SUPERVISOR_MARK: owner}
        self._children = ChildPool(settings, self._environment, on_started, on_exit, on_types)

    def open(self) -> None:
        """Start the process that children are forked from, which is also this process's guard."""
        self._children.open()

    def close(self) -> None:
        """End idle children and their parent."""
        self._children.close()

    def start(self, claim: Claim) -> Run:
        """Start an attempt; its process may be known only later.

        A command that can't be started is an exit like any other. An error with the log
        directory is one, too.
        """
        try:
            run = self._open_run(claim)
        except OSError as error:
            text = f"the log directory can't be used: {error.filename}: {error.strerror}"
            run = _unopened(claim)
            self._on_exit(run, Exit(outcome=Outcome.FAILED, error=text))
            return run
        if claim.job.type == shell.JOB_TYPE:
            self._start_command(run)
        else:
            self._children.start(run)
        return run

    def reap(self) -> None:
        """Collect commands that have ended. Call it at SIGCHLD."""
        for pid, run in list(self._commands.items()):
            ended, status, used = os.wait4(pid, os.WNOHANG)
            if ended:
                del self._commands[pid]
                usage = Usage(_peak_of(used), used.ru_utime + used.ru_stime)
                words = last_words(run) if status else ""
                self._on_exit(run, exit_of_process(status, usage, words))
        self._children.reap()

    def _open_run(self, claim: Claim) -> Run:
        log = self._logs.create(claim.job.id)
        try:
            offsets = LogOffsets()
            if claim.attempt > 1:
                with suppress(OSError):  # a full disk
                    compact(log)  # where the supervisor of the last attempt could not
                offsets = log.offsets()
                with suppress(FileNotFoundError):
                    os.unlink(progress.FILE, dir_fd=log.descriptor)
            log.hold()
            hide = self._redactor.of(claim.job.args, claim.job.tags)
            return Run(claim, log, offsets, log.append_events(), hide)
        except OSError:
            log.close()
            raise

    def _start_command(self, run: Run) -> None:
        args = shell.ShellArgs(**run.claim.job.args)
        descriptors: list[int] = []
        try:
            descriptors.append(run.log.append(STDOUT))
            descriptors.append(run.log.append(STDERR))
            descriptors.append(_open_stdin(args.stdin, run.log))
            process = subprocess.Popen(
                args.command(),
                cwd=args.cwd,
                env=self._command_environment(run, args),
                stdin=descriptors[2],
                stdout=descriptors[0],
                stderr=descriptors[1],
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            self._on_exit(run, _start_failure(error, args))
            return
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        run.pid = process.pid
        run.pid_started = start_time(process.pid)
        process.returncode = 0  # waited for by reap(), which also learns what it used
        self._commands[process.pid] = run
        self._on_started(run)

    def _command_environment(self, run: Run, args: shell.ShellArgs) -> dict[str, str]:
        return {
            **self._environment,
            **args.env,
            SUPERVISOR_MARK: run.claim.owner,
            JOB_MARK: str(run.claim.job.id),
            ATTEMPT_MARK: str(run.claim.attempt),
            "JOBQ_LOG_DIR": str(run.log.path),
            "JOBQ_PROGRESS": str(run.log.path / progress.FILE),
        }


def _unopened(claim: Claim) -> Run:
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    directory = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    return Run(claim, JobLog(Path(os.devnull), directory), LogOffsets(), null, Redaction())


def _open_stdin(stdin: str | None, log: JobLog) -> int:
    # Without a writer, the opening of a FIFO would hold up every other job.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    if stdin == shell.OWN_STDIN:
        descriptor = os.open(STDIN, flags | os.O_NOFOLLOW, dir_fd=log.descriptor)
    else:
        descriptor = os.open(os.devnull if stdin is None else stdin, flags)
    os.set_blocking(descriptor, True)
    return descriptor


def _start_failure(error: OSError | ValueError, args: shell.ShellArgs) -> Exit:
    """A command that could not be started fails for good: to try again would not help."""
    if not isinstance(error, OSError):
        return Exit(outcome=Outcome.FAILED, error=str(error), retryable=False)
    if error.errno in _NO_ROOM:
        return Exit(outcome=Outcome.FAILED, error=f"can't be started now: {error.strerror}")
    name = error.filename
    command = args.command()[0]
    if name is not None and name not in (command, command.encode()):
        return Exit(outcome=Outcome.FAILED, error=f"{name}: {error.strerror}", retryable=False)
    missing = isinstance(error, FileNotFoundError)
    return Exit(
        outcome=Outcome.FAILED,
        exit_code=COMMAND_NOT_FOUND if missing else COMMAND_NOT_EXECUTABLE,
        error=f"{command}: {'command not found' if missing else error.strerror}",
        retryable=False,
    )


def _peak_of(used: resource.struct_rusage) -> int | None:
    """The peak memory of a command in bytes; None where it can't be told.

    Until it executes the command, a new process counts its parent's memory as its own: so only
    what is above this process's own peak is known to be the command's.
    """
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if used.ru_maxrss <= own:
        return None
    return used.ru_maxrss if sys.platform == "darwin" else used.ru_maxrss * 1024
