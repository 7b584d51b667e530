"""The children of one supervisor, and the fork server that they come from."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from jobq.config import Settings
from jobq.endings import Exit, signal_name
from jobq.forkserver import FORK, GOODBYE, send_settings
from jobq.models import Outcome, Usage
from jobq.processes import SUPERVISOR_MARK, kill_workers, start_time
from jobq.runs import Run, last_words
from jobq.timespec import format_duration

_SERVER_SECONDS = 2.0
_MOST_DEATHS = 2
"""How often the import of one worker file may end the fork server before the file is left out."""

_CHILD_LOST = "the process that runs workers ended"


@dataclass(slots=True, eq=False)
class _Child:
    connection: socket.socket
    pid: int | None = None
    pid_started: int | None = None
    run: Run | None = None
    status: int | None = None  # once it has ended
    buffer: bytearray = field(default_factory=bytearray)
    unsent: bytearray = field(default_factory=bytearray)


_TERMINATED = Exit(
    outcome=Outcome.CRASHED,
    signal=signal.SIGTERM,
    error="the worker's process was sent SIGTERM, and not by jobq",
)
"""Whatever `run` made of it: it may have left early, and says so to nobody."""


def _exit_of(report: dict[str, Any]) -> Exit:
    return Exit(
        outcome=Outcome(report["outcome"]),
        error=report.get("error"),
        result=report.get("result"),
        retryable=report.get("retryable", True),
        delay=report.get("delay"),
        usage=Usage(report["max_rss_bytes"], report["cpu_seconds"]),
    )


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
        self._loading = ""  # the worker file that is being imported
        self._deaths: Counter[str] = Counter()  # of the fork server, by what it was importing
        self._skip: dict[str, str] = {}  # worker files that are left out, and why
        self._import_timer: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Start the fork server."""
        self._control, theirs = socket.socketpair()
        with theirs:
            self._server = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "jobq.forkserver",
                    str(theirs.fileno()),
                    str(os.getpid()),
                ],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        with suppress(OSError):  # it has just died: its end of file says so
            send_settings(self._control, self._settings, self._skip)
        asyncio.get_running_loop().add_reader(self._control.fileno(), self._on_control)
        self._loaded = False
        self._buffer.clear()
        self._note_loading("")

    def close(self) -> None:
        """Let the fork server and idle children go."""
        self._cancel_import_timer()
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
        child.unsent += json.dumps(task).encode() + b"\n"
        self._send(child)
        if child.pid is not None:
            self._note_start(child)

    def _send(self, child: _Child) -> None:
        """Send what it takes now, and the rest later: it may be stopped, or not forked yet."""
        loop = asyncio.get_running_loop()
        loop.remove_writer(child.connection.fileno())
        try:
            del child.unsent[: child.connection.send(child.unsent)]
        except BlockingIOError:
            pass
        except OSError:  # it has just died: its end of file says so
            return
        if child.unsent:
            loop.add_writer(child.connection.fileno(), self._send, child)

    def _fork(self, control: socket.socket) -> _Child:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs, suppress(OSError):  # the fork server has just died: its end of file says so
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
        if "loading" in message:
            self._note_loading(message["loading"])
        elif "types" in message:
            self._loaded = True
            self._deaths.clear()
            self._cancel_import_timer()
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
        if self._server is not None:
            self._wait_for_server(self._server)
        kill_workers(self._environment[SUPERVISOR_MARK])  # what children have forked lives on
        for child in children:
            child.status = signal.SIGKILL
            self._bury(child)
        self._cancel_import_timer()
        if not self._loaded and not self._may_load_again():
            text = "the process that runs workers can't be started: no worker can run"
            self._on_types([], [text])
            return
        self.open()

    def _may_load_again(self) -> bool:
        """The fork server has died at an import, which may have been the file's fault, or not."""
        source = self._loading
        self._deaths[source] += 1
        if self._deaths[source] < _MOST_DEATHS or source in self._skip:
            return True
        self._skip[source] = "does not import: it ends the process that imports it"
        return source != ""

    def _note_loading(self, source: str) -> None:
        self._cancel_import_timer()
        self._loading = source
        self._import_timer = asyncio.get_running_loop().call_later(
            self._settings.import_timeout, self._on_import_hangs
        )

    def _cancel_import_timer(self) -> None:
        if self._import_timer is not None:
            self._import_timer.cancel()
            self._import_timer = None

    def _on_import_hangs(self) -> None:
        """Do without a file that does not come to an end; killing the fork server starts another."""
        assert self._server is not None
        if self._loading:
            span = format_duration(self._settings.import_timeout)
            self._skip[self._loading] = (
                f"does not import: not done after {span}: "
                "move what takes so long into run(), or raise workers.import_timeout"
            )
        self._server.kill()

    # -- what a child says -----------------------------------------------------------------

    def _on_child(self, child: _Child) -> None:
        try:
            data = child.connection.recv(1 << 20)
        except BlockingIOError:
            return
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
        terminated = report["terminated"] and run.stopped is None
        end = _TERMINATED if terminated else _exit_of(report)
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
        words = last_words(run)
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
            asyncio.get_running_loop().remove_writer(child.connection.fileno())
            child.connection.close()
