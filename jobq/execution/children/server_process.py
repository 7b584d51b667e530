"""The process of the fork server: started, asked for children, and started again when it dies."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from typing import Any, Protocol

from jobq.config.environment import SUPERVISOR_VAR
from jobq.config.settings import Settings
from jobq.execution.children.fork_server import FORK, GOODBYE, send_settings
from jobq.job_types.worker_files import ENDS_PROCESS, MAX_IMPORT_DEATHS, hang_reason
from jobq.system.processes import kill_workers
from jobq.system.resources import shortage_of

_EXIT_TIMEOUT_S = 2.0

_RETRY_INTERVAL_S = 1.0
"""Seconds after which it is started again where the host had no room for it."""

_RESTART_INTERVAL_S = 30.0
"""Seconds after which it is started again where it has died before it could load the workers."""

_START_TIMEOUT_S = 60.0
"""For the process itself, before the time of the first worker file begins."""

_READ_BYTES = 1 << 16


class ServerEvents(Protocol):
    """Receives what the fork server reports."""

    def on_forked(self, pid: int) -> None:
        """Note the process of the child that was asked for first."""

    def on_refused(self, reason: str) -> None:
        """Note that the host has no room for the child that was asked for first."""

    def on_exited(self, pid: int, status: int) -> None:
        """Note that a child has exited, with a status as `wait` tells."""

    def on_server_short(self, reason: str) -> None:
        """Note that the host has no room for the fork server; it is started once there is."""

    def on_server_lost(self) -> None:
        """Note that the fork server has died, and all children with it."""

    def on_types(self, types: list[str], errors: list[str], files: list[str]) -> None:
        """Note the job types that children can run, why others can't be run, and their files."""


class ServerProcess:
    """The fork server, as its supervisor sees it."""

    def __init__(
        self, settings: Settings, environment: dict[str, str], events: ServerEvents
    ) -> None:
        self._settings = settings
        self._environment = environment
        self._events = events
        self._buffer = bytearray()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._loading = ""  # the worker file that is being imported
        self._deaths: Counter[str] = Counter()  # by what it was importing
        self._skip: dict[str, str] = {}  # worker files that are left out, and why
        self._import_timer: asyncio.TimerHandle | None = None
        self._start_timer: asyncio.TimerHandle | None = None
        self._is_retired = False
        self.is_awaited = False
        """True while the host has no room for it."""
        self.loaded_at: float | None = None
        """The loop's time at which it had loaded the workers; None: it has not."""

    @property
    def is_running(self) -> bool:
        """True while it can be asked for children."""
        return self._control is not None

    def open(self) -> None:
        """Start it; where the host has no room for it, as soon as there is."""
        self._start_timer = None
        try:
            self._control = self._start()
        except (OSError, MemoryError) as error:
            if (reason := shortage_of(error)) is None:
                raise
            self._start_later(_RETRY_INTERVAL_S)
            self.is_awaited = True
            self._events.on_server_short(reason)
            return
        self.is_awaited = False
        with suppress(OSError):  # it has just died: its end of file says so
            send_settings(self._control, self._settings, self._skip)
        asyncio.get_running_loop().add_reader(self._control.fileno(), self._on_control)
        self.loaded_at = None
        self._buffer.clear()
        self._note_loading("")

    def _start(self) -> socket.socket:
        """Start the process, and return this end of its connection."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(
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
            except BaseException:
                ours.close()
                raise
        return ours

    def _start_later(self, seconds: float) -> None:
        self._start_timer = asyncio.get_running_loop().call_later(seconds, self.open)

    def close(self) -> None:
        """Tell it to exit; `wait` waits until it has."""
        self._cancel_timers()
        if self._control is not None:
            with suppress(OSError):
                self._control.sendall(GOODBYE)
            self._close_control(self._control)

    def wait(self) -> None:
        """Wait until it has exited, which is a moment unless a worker module hangs at import."""
        if self._process is None:
            return
        try:
            self._process.wait(_EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def retire(self) -> None:
        """Start no other one when this one dies."""
        self._is_retired = True
        self._cancel_timers()

    @property
    def has_exited(self) -> bool:
        """True unless its process is there."""
        return self._process is None or self._process.poll() is not None

    def kill(self) -> None:
        """End it, and all of its children with it."""
        self._cancel_timers()
        if self._control is not None:
            self._close_control(self._control)
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def reap(self) -> None:
        """Notice that it has exited."""
        if self._process is not None and self._control is not None:
            self._process.poll()

    def fork(self, tasks: socket.socket, tokens: socket.socket) -> None:
        """Ask for a child that serves these two."""
        assert self._control is not None
        with suppress(OSError):  # it has just died: its end of file says so
            socket.send_fds(self._control, [FORK], [tasks.fileno(), tokens.fileno()])

    def _close_control(self, control: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(control.fileno())
        control.close()
        self._control = None

    # -- reports -----------------------------------------------------------------------------

    def _on_control(self) -> None:
        assert self._control is not None
        try:
            data = self._control.recv(_READ_BYTES)
        except OSError:
            data = b""
        if not data:
            self._on_lost(self._control)
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
            if self._is_retired:
                return
            self.loaded_at = asyncio.get_running_loop().time()
            self._deaths.clear()
            self._cancel_import_timer()
            self._events.on_types(message["types"], message["errors"], message["files"])
        elif "forked" in message:
            self._events.on_forked(message["forked"])
        elif "refused" in message:
            self._events.on_refused(message["refused"])
        elif "exited" in message:
            self._events.on_exited(message["exited"], message["status"])

    def _on_lost(self, control: socket.socket) -> None:
        """Start it again, for the children that are needed next."""
        self._close_control(control)
        self.wait()
        if self._is_retired:
            self._events.on_server_lost()
            return
        kill_workers(self._environment[SUPERVISOR_VAR])  # what children have forked lives on
        self._events.on_server_lost()
        self._cancel_import_timer()
        if self.loaded_at is not None or self._may_load_again():
            self.open()
            return
        if self._deaths[""] == MAX_IMPORT_DEATHS:
            text = "the process that runs workers can't be started: no worker can run until it can"
            self._events.on_types([], [text], [])
        self._start_later(_RESTART_INTERVAL_S)

    # -- imports -----------------------------------------------------------------------------

    def _may_load_again(self) -> bool:
        """Return whether to try again after a death at an import, which the file may have caused."""
        source = self._loading
        self._deaths[source] += 1
        if self._deaths[source] < MAX_IMPORT_DEATHS or source in self._skip:
            return True
        if not source:  # nothing to leave out
            return False
        self._skip[source] = ENDS_PROCESS
        return True

    def _note_loading(self, source: str) -> None:
        self._cancel_import_timer()
        self._loading = source
        timeout = self._settings.import_timeout + (0 if source else _START_TIMEOUT_S)
        self._import_timer = asyncio.get_running_loop().call_later(timeout, self._on_import_hangs)

    def _cancel_timers(self) -> None:
        self._cancel_import_timer()
        if self._start_timer is not None:
            self._start_timer.cancel()
            self._start_timer = None

    def _cancel_import_timer(self) -> None:
        if self._import_timer is not None:
            self._import_timer.cancel()
            self._import_timer = None

    def _on_import_hangs(self) -> None:
        """Leave out a file whose import does not end: to kill the fork server starts another."""
        assert self._process is not None
        if self._loading:
            self._skip[self._loading] = hang_reason(self._settings.import_timeout)
        self._process.kill()
