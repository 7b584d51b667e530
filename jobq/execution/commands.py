"""Commands: shell jobs, each started as a process of its own, and waited for.

A command is started directly, with its output on the job's own files: no pipe and no Python
process in between.
"""

import os
import resource
import subprocess
import sys
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from jobq.clock import utcnow
from jobq.config.environment import (
    ATTEMPT_VAR,
    JOB_ID_VAR,
    LOG_DIR_VAR,
    PROGRESS_VAR,
    SUPERVISOR_VAR,
)
from jobq.execution import programs
from jobq.execution.events import RunEvents
from jobq.execution.hold import reason_to_wait
from jobq.execution.run import Run, last_words
from jobq.job_types import shell
from jobq.jobs.outcome import Exit, exit_of_process
from jobq.logs import progress
from jobq.logs.directory import STDERR, STDIN, STDOUT, JobLog
from jobq.models import Outcome, Usage

if TYPE_CHECKING:
    from jobq.execution.terminal import Inherited, PseudoTerminal

COMMAND_NOT_FOUND = 127
COMMAND_NOT_EXECUTABLE = 126
"""The exit codes that shells use when a command can't be started."""


class Commands:
    """The commands that run now."""

    def __init__(
        self,
        environment: Mapping[str, str],
        events: RunEvents,
        inherited: "Inherited | None" = None,
    ) -> None:
        """``environment`` is what each of them inherits; ``inherited`` their stdin and terminal."""
        self._environment = _encoded(environment)  # once, rather than for each command
        self._events = events
        self._inherited = inherited
        self._runs: dict[int, Run] = {}  # by pid
        self._terminals: dict[int, PseudoTerminal] = {}  # by pid

    def start(self, run: Run) -> None:
        """Start a command.

        One that can't be started has an exit like any other; where the host is short of something,
        it is taken back.
        """
        self._events.on_begin(run)
        args = shell.ShellArgs(**run.claim.job.args)
        env = self._environment_of(run, args)
        try:
            process = self._execute(run, args, env)
        except (OSError, ValueError, MemoryError) as error:
            if reason := reason_to_wait(error, run.logs):
                self._events.on_shortage([run], reason)
            else:
                self._events.on_exit(run, _start_failure(error, args, env))
            return
        run.pid = process.pid
        process.returncode = 0  # waited for by reap(), which also learns what it used
        self._runs[process.pid] = run
        self._events.on_born(run)
        run.note_start(utcnow())

    def _execute(
        self, run: Run, args: shell.ShellArgs, env: Mapping[bytes, bytes]
    ) -> "subprocess.Popen[bytes]":
        if self._inherited is not None and self._inherited.wants_terminal:
            return self._execute_on_terminal(run, args, env, self._inherited)
        descriptors: list[int] = []
        try:
            descriptors.append(run.log.append(STDOUT))
            descriptors.append(run.log.append(STDERR))
            descriptors.append(self._open_stdin(args, run.log))
            stdout, stderr, stdin = descriptors
            return _start(args, env, stdin=stdin, stdout=stdout, stderr=stderr)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _execute_on_terminal(
        self, run: Run, args: shell.ShellArgs, env: Mapping[bytes, bytes], inherited: "Inherited"
    ) -> "subprocess.Popen[bytes]":
        from jobq.execution.terminal import PseudoTerminal  # only for `jobq run --tty`

        typed = inherited.keyboard is not None and args.stdin is None
        terminal = PseudoTerminal(
            run.log.append(STDOUT), inherited if typed else inherited._replace(keyboard=None)
        )
        stdin = terminal.slave
        try:
            stdin = terminal.slave if typed else self._open_stdin(args, run.log)
            process = _start(
                args,
                env,
                stdin=stdin,
                stdout=terminal.slave,
                stderr=terminal.slave,
                preexec_fn=terminal.become_controlling,
            )
        except BaseException:
            terminal.close()
            raise
        finally:
            if not typed and stdin != terminal.slave:
                os.close(stdin)
        terminal.started()
        self._terminals[process.pid] = terminal
        return process

    def _open_stdin(self, args: shell.ShellArgs, log: JobLog) -> int:
        inherited = None if self._inherited is None else self._inherited.stdin
        if args.stdin is None and inherited is not None:
            return os.dup(inherited)
        return _open_stdin(args.stdin, log)

    @property
    def pids(self) -> Collection[int]:
        """The processes that are waited for here."""
        return self._runs.keys()

    def reap(self) -> None:
        """Collect commands that have exited. Call it at SIGCHLD."""
        for pid, run in list(self._runs.items()):
            ended, status, used = os.wait4(pid, os.WNOHANG)
            if ended:
                del self._runs[pid]
                if (terminal := self._terminals.pop(pid, None)) is not None:
                    terminal.close()
                usage = Usage(_peak_of(used), used.ru_utime + used.ru_stime)
                words = last_words(run) if status else ""
                self._events.on_exit(run, exit_of_process(status, usage, words))

    def _environment_of(self, run: Run, args: shell.ShellArgs) -> dict[bytes, bytes]:
        own = {
            **args.env,
            SUPERVISOR_VAR: run.claim.owner,
            JOB_ID_VAR: str(run.claim.job.id),
            ATTEMPT_VAR: str(run.claim.attempt),
            LOG_DIR_VAR: str(run.log.path),
            PROGRESS_VAR: str(run.log.path / progress.FILE),
        }
        return self._environment | _encoded(own)


def _start(
    args: shell.ShellArgs, env: Mapping[bytes, bytes], **options: Any
) -> "subprocess.Popen[bytes]":
    return programs.start(
        args.command(),
        cwd=args.cwd,
        env=env,
        start_new_session=True,
        close_fds=False,  # each of ours is closed when a program is executed
        **options,
    )


def _encoded(environment: Mapping[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}


def _open_stdin(stdin: str | None, log: JobLog) -> int:
    # Without a writer, opening a FIFO would hold up every other job.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    if stdin == shell.OWN_STDIN:
        descriptor = log.open(STDIN, flags)
    else:
        descriptor = os.open(os.devnull if stdin is None else stdin, flags)
    os.set_blocking(descriptor, True)
    return descriptor


def _start_failure(error: Exception, args: shell.ShellArgs, env: Mapping[bytes, bytes]) -> Exit:
    """Return the exit of a command that could not be started: another attempt would not help."""
    if not isinstance(error, OSError):
        return Exit(outcome=Outcome.FAILED, error=str(error), retryable=False)
    name = error.filename
    command = args.command()[0]
    if name is not None and name not in (command, command.encode()):
        return Exit(outcome=Outcome.FAILED, error=f"{name}: {error.strerror}", retryable=False)
    missing = isinstance(error, FileNotFoundError)
    interpreter = programs.bad_interpreter(command, args.cwd, env) if missing else None
    what = "command not found" if missing else error.strerror
    return Exit(
        outcome=Outcome.FAILED,
        exit_code=COMMAND_NOT_FOUND if missing and not interpreter else COMMAND_NOT_EXECUTABLE,
        error=interpreter or f"{command}: {what}",
        retryable=False,
    )


def _peak_of(used: resource.struct_rusage) -> int | None:
    """Return the peak memory of a command in bytes; None where it can't be told.

    Until it executes the command, a new process counts its parent's memory as its own: so only
    what is above this process's own peak is known to be the command's.
    """
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if used.ru_maxrss <= own:
        return None
    return used.ru_maxrss if sys.platform == "darwin" else used.ru_maxrss * 1024
