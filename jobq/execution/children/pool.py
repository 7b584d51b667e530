"""The children of one supervisor, and the fork server that they come from."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from jobq.clock import steady_time
from jobq.config.environment import SUPERVISOR_VAR
from jobq.config.settings import Settings
from jobq.execution.children.fork_server import FORK, GOODBYE, send_settings
from jobq.execution.run import Run, last_words
from jobq.jobs.outcome import Exit, signal_name
from jobq.models import Outcome, Usage
from jobq.system.processes import kill_workers, start_time
from jobq.units import format_duration

_SERVER_SECONDS = 2.0
_MOST_DEATHS = 2
"""How often the import of one worker file may end the fork server before the file is left out."""

_MOST_TASKS = 200
"""So many are given to a child at most while it is at one, those that are taken back again included:
each has a token of its own, which is a byte."""

_MOST_JOBS = 1000
"""After so many, a child makes room for a new one: each costs it a little memory, as glibc frees
nothing that was in the environment, and pages shared with the fork server come apart."""

_START_WITHIN = 0.5
"""Of a lease, the share within which what waits behind another is begun, or refused: a child that
gets to it later, as on a machine that was asleep, might begin what somebody else has by then."""

_CHILD_LOST = "the process that runs workers ended"


@dataclass(slots=True, eq=False)
class _Child:
    """A child, and the tasks that it was given.

    It takes a token for each task that it begins. What is given to it beforehand can be taken back
    for as long as its token can: of this process and the child, one gets it.
    """

    connection: socket.socket
    tokens: socket.socket  # written to
    taken_back: socket.socket  # the child's own end of it
    pid: int | None = None
    pid_started: int | None = None
    runs: deque[tuple[int, Run]] = field(default_factory=deque)  # numbered; the first is begun
    given: int = 0  # tasks so far
    status: int | None = None  # once it has ended
    buffer: bytearray = field(default_factory=bytearray)
    unsent: bytearray = field(default_factory=bytearray)
    unsent_tokens: bytearray = field(default_factory=bytearray)
    is_waiting: bool = False  # the loop tells when it takes more of what is unsent

    @property
    def run(self) -> Run | None:
        """What it is at."""
        return self.runs[0][1] if self.runs else None


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


def _token(number: int) -> int:
    """The token of a child's task, which is a byte."""
    return number % 256


class RunEvents(Protocol):
    """Who is told what becomes of runs."""

    def on_begin(self, run: Run) -> None:
        """A run takes up a slot from here on; its process may be known only later."""

    def on_born(self, run: Run) -> None:
        """The process of a run that has begun is known now."""

    def on_exit(self, run: Run, end: Exit) -> None:
        """Its process ended, or has done with it."""

    def on_back(self, runs: list[Run]) -> None:
        """These were not begun, and will not be unless they are started anew."""

    def on_types(self, types: list[str], errors: list[str]) -> None:
        """These types can be run, and these worker files can't."""


class ChildPool:
    """Persistent children, forked by the fork server as they are needed."""

    def __init__(
        self,
        settings: Settings,
        environment: dict[str, str],
        events: RunEvents,
    ) -> None:
        self._settings = settings
        self._environment = environment
        self._events = events
        self._idle: list[_Child] = []
        self._to_send: set[_Child] = set()
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
                    "jobq.execution.children.fork_server",
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
        """Give a run to an idle child, or to a new one; `send` sends it."""
        if self._control is None:
            self._events.on_begin(run)
            self._events.on_exit(run, Exit(outcome=Outcome.CRASHED, error=_CHILD_LOST))
            return
        child = self._idle.pop() if self._idle else self._fork(self._control)
        self._give(child, run)
        self._begin(child)

    def follow(self, run: Run) -> bool:
        """Give a run to a child that is at another, to go on with; False if none takes more."""
        able = [child for child in self._all() if self._takes_more(child)]
        if not able:
            return False
        self._give(min(able, key=lambda child: len(child.runs)), run)
        return True

    def _takes_more(self, child: _Child) -> bool:
        if child.run is None or child.run.stopped is not None or child.connection.fileno() < 0:
            return False
        return child.given < _MOST_JOBS and child.given - child.runs[0][0] < _MOST_TASKS

    def send(self) -> None:
        """Send what was given to children since the last time."""
        for child in self._to_send:
            self._send(child)
        self._to_send.clear()

    def take_back(self) -> None:
        """Take back what waits behind another. Afterwards, what a child is at is known for certain."""
        self.send()
        for child in self._all():
            if len(child.runs) > 1:
                self._take_back_from(child, keep=child.runs[0])
                self._read(child)

    def _all(self) -> list[_Child]:
        return [*self._living.values(), *self._unborn]

    def _give(self, child: _Child, run: Run) -> None:
        child.runs.append((child.given, run))
        token = _token(child.given)
        child.given += 1
        job = run.claim.job
        task = {
            "token": token,
            "start_by": None if len(child.runs) == 1 else self._start_by(),
            "id": job.id,
            "attempt": run.claim.attempt,
            "type": job.type,
            "args": job.args,
            "tags": job.tags,
            "timeout": job.timeout,
        }
        child.unsent += json.dumps(task).encode() + b"\n"
        child.unsent_tokens.append(token)
        self._to_send.add(child)

    def _start_by(self) -> float:
        return steady_time() + self._settings.lease * _START_WITHIN

    def _begin(self, child: _Child) -> None:
        """A child goes on with the first of its tasks."""
        if child.run is not None:
            child.run.pid, child.run.pid_started = child.pid, child.pid_started
            self._events.on_begin(child.run)

    def _take_back_from(self, child: _Child, keep: tuple[int, Run] | None) -> None:
        """The tokens that this process gets are not the child's: it skips their tasks.

        ``keep``: what it has begun as far as anybody else knows, and may only not have come to yet.
        """
        try:
            tokens = child.taken_back.recv(256, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if keep is not None and _token(keep[0]) in tokens:
            child.tokens.sendall(bytes([_token(keep[0])]))
            tokens = tokens.replace(bytes([_token(keep[0])]), b"")
        back = [run for number, run in child.runs if _token(number) in tokens]
        child.runs = deque(each for each in child.runs if _token(each[0]) not in tokens)
        self._events.on_back(back)

    def _send(self, child: _Child) -> None:
        """Send what it takes now, and the rest later: it may be stopped, or not forked yet."""
        loop = asyncio.get_running_loop()
        if child.connection.fileno() < 0:
            return
        if child.unsent_tokens:
            child.tokens.sendall(child.unsent_tokens)
            child.unsent_tokens.clear()
        try:
            del child.unsent[: child.connection.send(child.unsent)]
        except BlockingIOError:
            pass
        except OSError:  # it has just died: its end of file says so
            child.unsent.clear()
        if child.unsent and not child.is_waiting:
            loop.add_writer(child.connection.fileno(), self._send, child)
        elif not child.unsent and child.is_waiting:
            loop.remove_writer(child.connection.fileno())
        child.is_waiting = bool(child.unsent)

    def _fork(self, control: socket.socket) -> _Child:
        ours, theirs = socket.socketpair()
        tokens, their_tokens = socket.socketpair()
        ours.setblocking(False)
        with theirs, suppress(OSError):  # the fork server has just died: its end of file says so
            socket.send_fds(control, [FORK], [theirs.fileno(), their_tokens.fileno()])
        child = _Child(ours, tokens, their_tokens)
        self._unborn.append(child)
        loop = asyncio.get_running_loop()
        loop.add_reader(ours.fileno(), self._on_child, child)
        return child

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
            self._events.on_types(message["types"], message["errors"])
        elif "forked" in message:
            child = self._unborn.popleft()
            child.pid = message["forked"]
            child.pid_started = start_time(message["forked"])
            self._living[message["forked"]] = child
            if child.run is not None:
                child.run.pid, child.run.pid_started = child.pid, child.pid_started
                self._events.on_born(child.run)
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
        kill_workers(self._environment[SUPERVISOR_VAR])  # what children have forked lives on
        for child in children:
            child.status = signal.SIGKILL
            self._bury(child)
        self._cancel_import_timer()
        if not self._loaded and not self._may_load_again():
            text = "the process that runs workers can't be started: no worker can run"
            self._events.on_types([], [text])
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
        if not self._read(child):
            # Its status comes from the fork server, which waits for it.
            self._hang_up(child)

    def _read(self, child: _Child) -> bool:
        """Read what it has reported so far; False at the end."""
        while child.connection.fileno() >= 0:
            try:
                data = child.connection.recv(1 << 20)
            except BlockingIOError:
                return True
            except ConnectionResetError:
                return False
            if not data:
                return False
            child.buffer += data
            *lines, rest = child.buffer.split(b"\n")
            child.buffer = rest
            for line in lines:
                self._on_report(child, json.loads(line))
        return False

    def _on_report(self, child: _Child, report: dict[str, Any]) -> None:
        run = child.run
        if run is None or (report["id"], report["attempt"]) != run.key[:2]:
            return  # told by somebody else than this run
        child.runs.popleft()
        if not report["begun"]:
            if report[
                "leftovers"
            ]:  # those behind it are given back first, so that it is before them
                self._hang_up(child)
            self._events.on_back([run])
            self._go_on(child)
            return
        terminated = report["terminated"] and run.stopped is None
        end = _TERMINATED if terminated else _exit_of(report)
        run.told, run.unread_progress = report["told"], report["progress"]
        run.written, run.took = report["written"], report["took"]
        if report["leftovers"] or run.stopped is not None:
            self._hang_up(child)  # it leaves, and what its job left behind is ended
        else:
            run.detached = True
            self._go_on(child)
        self._events.on_exit(run, end)

    def _go_on(self, child: _Child) -> None:
        if child.runs:
            self._begin(child)
        else:
            self._rest(child)

    def _rest(self, child: _Child) -> None:
        """A child without a task waits for one, unless it is on its way out, or to be."""
        if child.runs or child.connection.fileno() < 0:
            return
        if child.given >= _MOST_JOBS:
            self._hang_up(child)
        elif child not in self._idle:
            self._idle.append(child)

    def _bury(self, child: _Child) -> None:
        """A child has ended; if in the middle of a run, that crashed."""
        self._read(child)
        self._hang_up(child)
        if (run := child.run) is None:
            return
        child.runs.popleft()
        code = os.waitstatus_to_exitcode(child.status or 0)
        how = f"killed by {signal_name(-code)}" if code < 0 else f"exit code {code}"
        words = last_words(run)
        self._events.on_exit(
            run,
            Exit(
                outcome=Outcome.CRASHED,
                exit_code=code if code >= 0 else None,
                signal=-code if code < 0 else None,
                error=f"the worker's process died: {how}" + (f": {words}" if words else ""),
            ),
        )

    def _is_to_blame(self, child: _Child) -> bool:
        """Whether what a child came to last ends with it, begun or not.

        Also its very first: where every child dies before it begins, that must come to an end.
        """
        return child.run is not None and (child.run.stopped is not None or not child.runs[0][0])

    def _hang_up(self, child: _Child) -> None:
        """Let a child go, without what it has not begun."""
        if child in self._idle:
            self._idle.remove(child)
        if child.connection.fileno() < 0:
            return
        if child.unsent_tokens:  # so that they can be taken back
            child.tokens.sendall(child.unsent_tokens)
            child.unsent_tokens.clear()
        self._take_back_from(child, keep=child.runs[0] if self._is_to_blame(child) else None)
        loop = asyncio.get_running_loop()
        loop.remove_reader(child.connection.fileno())
        loop.remove_writer(child.connection.fileno())
        for end in (child.connection, child.tokens, child.taken_back):
            end.close()
