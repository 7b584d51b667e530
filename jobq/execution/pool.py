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
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from jobq.clock import utcnow
from jobq.config.environment import (
    ATTEMPT_VAR,
    JOB_ID_VAR,
    LOG_DIR_VAR,
    PROGRESS_VAR,
    SUPERVISOR_VAR,
    job_environment,
)
from jobq.config.settings import Settings
from jobq.execution.children.pool import ChildPool, RunEvents
from jobq.execution.run import Run, last_words
from jobq.job_types import shell
from jobq.jobs.outcome import Exit, exit_of_process
from jobq.logs import progress
from jobq.logs.directory import STDERR, STDIN, STDOUT, JobLog
from jobq.models import Outcome, Usage

COMMAND_NOT_FOUND = 127
COMMAND_NOT_EXECUTABLE = 126
"""The exit codes that shells use when a command can't be started."""

_STDERR = 2
_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM}


class Pool:
    """Starts runs, and tells what becomes of them."""

    def __init__(self, settings: Settings, owner: str, events: RunEvents) -> None:
        self._events = events
        self._commands: dict[int, Run] = {}
        environment = {**job_environment(settings), SUPERVISOR_VAR: owner}
        self._environment = _encoded(environment)  # once, rather than for each command
        self._children = ChildPool(settings, environment, events)

    def open(self) -> None:
        """Start the process that children are forked from, which is also this process's guard."""
        _keep_files_to_itself()
        self._children.open()

    def close(self) -> None:
        """End idle children and their parent."""
        self._children.close()

    def start(self, run: Run) -> None:
        """Start an attempt in a slot of its own; its process may be known only later.

        A command that can't be started is an exit like any other. An error with the log
        directory is one, too.
        """
        try:
            if run.claim.attempt > 1:
                run.open_again()
            elif run.is_command:
                run.open()
        except OSError as error:
            text = f"the log directory can't be used: {error.filename}: {error.strerror}"
            self._events.on_begin(run)
            self._events.on_exit(run, Exit(outcome=Outcome.FAILED, error=text))
            return
        if run.is_command:
            self._start_command(run)
        else:
            self._children.start(run)

    def follow(self, run: Run) -> bool:
        """Give an attempt to a child that is at another, to go on with; False if none takes it."""
        if run.is_command or run.claim.attempt > 1:  # its files are for this process to see to
            return False
        return self._children.follow(run)

    def send(self) -> None:
        """Let children know what they were given."""
        self._children.send()

    def take_back(self) -> None:
        """Take back whatever has not been begun."""
        self._children.take_back()

    def reap(self) -> None:
        """Collect commands that have ended. Call it at SIGCHLD."""
        for pid, run in list(self._commands.items()):
            ended, status, used = os.wait4(pid, os.WNOHANG)
            if ended:
                del self._commands[pid]
                usage = Usage(_peak_of(used), used.ru_utime + used.ru_stime)
                words = last_words(run) if status else ""
                self._events.on_exit(run, exit_of_process(status, usage, words))
        self._children.reap()

    def _start_command(self, run: Run) -> None:
        self._events.on_begin(run)
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
                close_fds=False,  # each of ours is closed when a program is executed
            )
        except (OSError, ValueError) as error:
            self._events.on_exit(run, _start_failure(error, args))
            return
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        run.pid = process.pid
        process.returncode = 0  # waited for by reap(), which also learns what it used
        self._commands[process.pid] = run
        run.event("started", utcnow(), pid=run.pid, supervisor=run.claim.owner)

    def _command_environment(self, run: Run, args: shell.ShellArgs) -> dict[bytes, bytes]:
        own = {
            **args.env,
            SUPERVISOR_VAR: run.claim.owner,
            JOB_ID_VAR: str(run.claim.job.id),
            ATTEMPT_VAR: str(run.claim.attempt),
            LOG_DIR_VAR: str(run.log.path),
            PROGRESS_VAR: str(run.log.path / progress.FILE),
        }
        return self._environment | _encoded(own)


def _encoded(environment: Mapping[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}


def _keep_files_to_itself() -> None:
    """What this process was given besides the standard streams is not for commands."""
    for path in list(Path("/dev/fd").iterdir()):
        with suppress(OSError):  # the listing's own is closed by now
            if int(path.name) > _STDERR:
                os.set_inheritable(int(path.name), False)


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
