"""The runs of one supervisor: starts commands and children, notices their end, signals them.

A command is started directly, with its output on the job's own files: no pipe and no Python
process in between. A worker's job goes to an idle child. Which attempt runs when, and what its
end means, is the supervisor's business.
"""

import asyncio
import errno
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from jobq import progress, shell
from jobq.clock import utcnow
from jobq.config import Settings, job_environment
from jobq.endings import Exit, StopReason, exit_of_process, signal_name
from jobq.forkserver import FORK, GOODBYE, send_settings
from jobq.logs import STDERR, STDIN, STDOUT, JobLog, JobLogs, append_line, event_line
from jobq.models import Claim, LogOffsets, Outcome, Progress, Started, Usage
from jobq.processes import (
    ATTEMPT_MARK,
    JOB_MARK,
    SUPERVISOR_MARK,
    ProcessTree,
    start_time,
)
from jobq.redaction import Redaction
from jobq.trimming import SETTING, Trimmed, compact

COMMAND_NOT_FOUND = 127
COMMAND_NOT_EXECUTABLE = 126
"""The exit codes that shells use when a command can't be started."""

_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM}
_LAST_WORDS_BYTES = 4096
_LAST_WORDS_CHARACTERS = 300
_SERVER_SECONDS = 2.0
_CHILD_LOST = "the process that runs workers ended"


@dataclass(slots=True, eq=False)
class Run:
    """One attempt that is under way."""

    claim: Claim
    log: JobLog
    offsets: LogOffsets
    events: int  # a descriptor of events.jsonl
    hide: Redaction  # what is not to be in it
    pid: int | None = None
    pid_started: int | None = None
    stopped: StopReason | None = None
    ended: bool = False  # its processes are gone; what is left is to record it
    kill_at: float = 0.0  # loop time at which a stopped run is killed
    timers: list[asyncio.TimerHandle] = field(default_factory=list)
    crashed: bool = False
    descendants: dict[int, int] = field(default_factory=dict)  # pid and start time of who was seen
    progress: Progress | None = None
    trimmed: dict[str, int] = field(default_factory=dict)  # bytes dropped, by file

    @property
    def key(self) -> tuple[int, int]:
        """What names the attempt."""
        return self.claim.job.id, self.claim.attempt

    def tree(self) -> ProcessTree:
        """Its processes: those in its group; if it is stopped or crashed, those that left it, too."""
        return ProcessTree(
            self.claim.owner,
            self.claim.job.id,
            self.claim.attempt,
            self.pid,
            self.pid_started,
            beyond_group=self.stopped is not None or self.crashed,
            descendants=self.descendants,
        )

    def started(self) -> Started:
        """What the backend is told once the process runs."""
        assert self.pid is not None
        return Started(
            job_id=self.claim.job.id,
            attempt=self.claim.attempt,
            pid=self.pid,
            pid_started=self.pid_started,
            offsets=self.offsets,
        )

    def event(self, name: str, at: datetime, **details: Any) -> None:
        """Append to events.jsonl. A full disk loses the event, not the job."""
        with suppress(OSError):
            shown = self.hide.value(details)
            append_line(self.events, event_line(name, at, self.claim.attempt, **shown))

    def note_trimmed(self, trimmed: Trimmed) -> None:
        """Something was dropped from one of its logs: said once here, and at the end how much."""
        if trimmed.name not in self.trimmed:
            self.event("log_trimmed", utcnow(), file=trimmed.name, setting=SETTING)
        self.trimmed[trimmed.name] = trimmed.dropped

    def tidy(self) -> None:
        """Make ordinary files of trimmed logs, once its processes are gone."""
        with suppress(OSError):  # a full disk: they stay as they are, and can be read so
            compact(self.log)
            events = self.log.append_events()
            os.close(self.events)
            self.events = events
        for name, dropped in self.trimmed.items():
            self.event("log_trimmed", utcnow(), file=name, setting=SETTING, dropped=dropped)

    def read_progress(self) -> Progress | None:
        """New progress, if the job has made any since the last look."""
        latest = progress.read(self.log.descriptor)
        if latest is None or latest == self.progress:
            return None
        self.progress = latest
        return latest

    def close(self) -> None:
        """Let go of timers and files."""
        for timer in self.timers:
            timer.cancel()
        os.close(self.events)
        self.log.close()


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
                words = _last_words(run) if status else ""
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


def _last_words(run: Run) -> str:
    """The last line of this attempt's stderr, which mostly says what went wrong."""
    lines: list[str] = []
    with suppress(OSError), run.log.read(STDERR) as file:
        if file is None:
            return ""
        at = max(run.offsets.stderr, file.layout().end - _LAST_WORDS_BYTES)
        lines = file.read(at, _LAST_WORDS_BYTES)[0].decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip()[:_LAST_WORDS_CHARACTERS] if lines else ""


# -- children ----------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Child:
    connection: socket.socket
    pid: int | None = None
    pid_started: int | None = None
    run: Run | None = None
    status: int | None = None  # once it has ended
    buffer: bytearray = field(default_factory=bytearray)


class ChildPool:
    """Persistent children, forked by the fork server as they are needed."""

    def __init__(
        self,
        settings: Settings,
        environment: dict[str, str],
        on_started: Callable[[Run], None],
        on_exit: Callable[[Run, Exit], None],
        on_types: Callable[[list[str], list[str]], None],
    ) -> None:
        self._settings = settings
        self._environment = environment
        self._on_started = on_started
        self._on_exit = on_exit
        self._on_types = on_types
        self._idle: list[_Child] = []
        self._unborn: deque[_Child] = deque()  # asked for, their pids not known yet
        self._living: dict[int, _Child] = {}
        self._buffer = bytearray()
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._loaded = False

    def open(self) -> None:
        """Start the fork server."""
        self._control, theirs = socket.socketpair()
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-P", "-m", "jobq.forkserver", str(theirs.fileno())],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        send_settings(self._control, self._settings)
        asyncio.get_running_loop().add_reader(self._control.fileno(), self._on_control)

    def close(self) -> None:
        """Let the fork server and idle children go."""
        if self._control is not None:
            with suppress(OSError):
                self._control.sendall(GOODBYE)
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._control.close()
            self._control = None
        for child in [*self._living.values(), *self._unborn]:
            self._hang_up(child)
        if self._server is not None:
            self._wait_for_server(self._server)

    def reap(self) -> None:
        """Notice that the fork server has ended."""
        if self._server is not None and self._control is not None:
            self._server.poll()

    def _wait_for_server(self, server: subprocess.Popen[bytes]) -> None:
        """It leaves at once, unless a worker module hangs at import."""
        try:
            server.wait(_SERVER_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()

    def start(self, run: Run) -> None:
        """Hand a run to an idle child, or to a new one."""
        if self._control is None:
            self._on_exit(run, Exit(outcome=Outcome.CRASHED, error=_CHILD_LOST))
            return
        child = self._idle.pop() if self._idle else self._fork(self._control)
        child.run = run
        job = run.claim.job
        task = {
            "id": job.id,
            "attempt": run.claim.attempt,
            "type": job.type,
            "args": job.args,
            "tags": dict(job.tags),
        }
        with suppress(OSError):  # it has just died: its end of file says so
            child.connection.sendall(json.dumps(task).encode() + b"\n")
        if child.pid is not None:
            self._note_start(child)

    def _fork(self, control: socket.socket) -> _Child:
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(control, [FORK], [theirs.fileno()])
        child = _Child(ours)
        self._unborn.append(child)
        loop = asyncio.get_running_loop()
        loop.add_reader(ours.fileno(), self._on_child, child)
        return child

    def _note_start(self, child: _Child) -> None:
        if child.run is not None:
            child.run.pid, child.run.pid_started = child.pid, child.pid_started
            self._on_started(child.run)

    # -- what the fork server says ---------------------------------------------------------

    def _on_control(self) -> None:
        assert self._control is not None
        try:
            data = self._control.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._on_server_lost()
            return
        self._buffer += data
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = bytearray(rest)
        for line in lines:
            self._on_message(json.loads(line))

    def _on_message(self, message: dict[str, Any]) -> None:
        if "types" in message:
            self._loaded = True
            self._on_types(message["types"], message["errors"])
        elif "forked" in message:
            child = self._unborn.popleft()
            child.pid = message["forked"]
            child.pid_started = start_time(message["forked"])
            self._living[message["forked"]] = child
            self._note_start(child)
        elif "exited" in message:
            child_or_none = self._living.pop(message["exited"], None)
            if child_or_none is not None:
                child_or_none.status = message["status"]
                self._bury(child_or_none)

    def _on_server_lost(self) -> None:
        """Children die with the fork server; a new one is started for those that come."""
        assert self._control is not None
        asyncio.get_running_loop().remove_reader(self._control.fileno())
        self._control.close()
        self._control = None
        children = [*self._living.values(), *self._unborn]
        self._living.clear()
        self._unborn.clear()
        self._idle.clear()
        for child in children:
            child.status = signal.SIGKILL
            self._bury(child)
        if self._server is not None:
            self._wait_for_server(self._server)
        if self._loaded:
            self._loaded = False
            self.open()
        else:
            text = "the process that loads worker files ended while loading them: no worker can run"
            self._on_types([], [text])

    # -- what a child says -----------------------------------------------------------------

    def _on_child(self, child: _Child) -> None:
        try:
            data = child.connection.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        if not data:
            # Its status comes from the fork server, which waits for it.
            self._hang_up(child)
            return
        child.buffer += data
        if child.buffer.endswith(b"\n"):
            report = json.loads(child.buffer)
            child.buffer.clear()
            self._on_report(child, report)

    def _on_report(self, child: _Child, report: dict[str, Any]) -> None:
        run, child.run = child.run, None
        if run is None or (report["id"], report["attempt"]) != run.key:
            child.run = run  # told by somebody else than this run
            return
        end = Exit(
            outcome=Outcome(report["outcome"]),
            error=report.get("error"),
            result=report.get("result"),
            retryable=report.get("retryable", True),
            delay=report.get("delay"),
            usage=Usage(report["max_rss_bytes"], report["cpu_seconds"]),
        )
        if report["leftovers"] or run.stopped is not None:
            self._hang_up(child)  # it leaves, and what its job left behind is ended
        else:
            run.pid = None  # the child goes on: nothing of this run is left to be ended
            self._idle.append(child)
        self._on_exit(run, end)

    def _bury(self, child: _Child) -> None:
        """A child has ended; if in the middle of a run, that crashed."""
        self._hang_up(child)
        run, child.run = child.run, None
        if run is None:
            return
        code = os.waitstatus_to_exitcode(child.status or 0)
        how = f"killed by {signal_name(-code)}" if code < 0 else f"exit code {code}"
        words = _last_words(run)
        self._on_exit(
            run,
            Exit(
                outcome=Outcome.CRASHED,
                exit_code=code if code >= 0 else None,
                signal=-code if code < 0 else None,
                error=f"the worker's process died: {how}" + (f": {words}" if words else ""),
            ),
        )

    def _hang_up(self, child: _Child) -> None:
        if child in self._idle:
            self._idle.remove(child)
        if child.connection.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(child.connection.fileno())
            child.connection.close()
