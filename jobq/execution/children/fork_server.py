"""The process that children are forked from, with the worker modules loaded once for all of them.

It is also the guard of its supervisor: when that dies, however it dies, it ends every process of
its jobs. The supervisor PID starts ``python -P -m jobq.execution.children.fork_server FD PID``, and
talks to it over the socket FD. The byte FORK, with two descriptors, asks for a child that reads
tasks from the first one and tokens from the second one; GOODBYE says that nothing is left to guard.
It reports in lines of JSON, for each child in the order of asking whether it was forked.
"""

import ctypes
import errno
import gc
import json
import os
import pickle
import select
import signal
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import NoReturn

from jobq.backends.factory import open_backend
from jobq.config.environment import SUPERVISOR_VAR
from jobq.config.settings import SQLITE, Settings
from jobq.errors import JobqError, WorkerLoadError
from jobq.execution.children.call import jsonable
from jobq.execution.children.child import Child
from jobq.execution.children.output import Output
from jobq.execution.late_imports import import_late_modules
from jobq.job_types.arguments import args_model
from jobq.job_types.learned import learn
from jobq.job_types.registry import Registry, load
from jobq.job_types.worker_files import code_digest, files_below
from jobq.logs.directory import JobLogs
from jobq.recovery import tree_left
from jobq.system.processes import ProcessTree, hook_trees, kill_all, marked_trees, parents
from jobq.system.resources import shortage_of

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
FORK = b"+"
GOODBYE = b"-"

_GUARD_ROUNDS = 2
_GUARD_INTERVAL_S = 0.2
TEARDOWN_TIMEOUT_S = 1.5
"""Seconds that the children of a supervisor that exits have for the teardown of their workers."""

_FORK_FAILED = 70  # the exit code of a child that could not begin: EX_SOFTWARE
_DESCRIPTORS_PER_CHILD = 2
_HEADER = struct.Struct("!I")


def main() -> None:
    """Load the workers, then fork children until the supervisor is gone."""
    server = ForkServer(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
    server.serve()


def send_settings(connection: socket.socket, settings: Settings, skip: Mapping[str, str]) -> None:
    """Send what the fork server needs first; ``skip`` are worker files to leave out, and why."""
    data = pickle.dumps((settings, dict(skip)))
    connection.sendall(_HEADER.pack(len(data)) + data)


class ForkServer:
    """The fork server, inside its own process."""

    def __init__(self, connection: socket.socket, parent: int) -> None:
        self._parent = parent  # passed in rather than asked for: it may be gone already
        self._pid = os.getpid()
        self._connection = connection
        self._owner = os.environ[SUPERVISOR_VAR]
        _restore_signals()
        # The settings come before the first job is started: without them, there is nothing to end.
        (size,) = _HEADER.unpack(self._receive(_HEADER.size))
        self._settings: Settings
        self._settings, skip = pickle.loads(self._receive(size))  # noqa: S301 - from our parent
        # While a worker module hangs at import, the socket is not read: a signal gets through.
        signal.signal(signal.SIGTERM, self._on_orphaned)
        _set_death_signal(signal.SIGTERM)
        if os.getppid() != self._parent:
            self._guard()
        # What a child that was killed leaves behind becomes this process's, and is noticed.
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._children: set[int] = set()
        self._left_alone: set[int] = set()
        self._asked: deque[list[int]] = deque()  # the descriptors of children not forked yet
        self._leave_if_told()
        self._output = Output()  # before worker files can keep the streams that it replaces
        self._registry = self._load(skip)

    def serve(self) -> NoReturn:
        """Fork when asked, report children that exited, and guard."""
        wake, waker = socket.socketpair()
        waker.setblocking(False)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            ready, _, _ = select.select([self._connection, wake], [], [])
            if wake in ready:
                wake.recv(4096)
                self._reap()
            if self._connection in ready:
                request, descriptors = self._request()
                if request == GOODBYE:
                    self._await_children(wake)
                    os._exit(0)
                if not request:
                    self._guard()
                if request == FORK:
                    self._asked.append(descriptors)
            self._fork_those_asked_for()

    def _await_children(self, wake: socket.socket) -> None:
        """Wait until children, whose supervisor lets them go, have tidied up and exited."""
        deadline = time.monotonic() + TEARDOWN_TIMEOUT_S
        while self._children and (left := deadline - time.monotonic()) > 0:
            if select.select([wake], [], [], left)[0]:
                wake.recv(4096)
            with suppress(ChildProcessError):
                while pid := os.waitpid(-1, os.WNOHANG)[0]:
                    self._children.discard(pid)

    def _leave_if_told(self) -> None:
        """Exit if the supervisor has finished already, since there was nothing to do."""
        if select.select([self._connection], [], [], 0)[0]:
            with suppress(OSError):
                if self._connection.recv(1, socket.MSG_PEEK) == GOODBYE:
                    os._exit(0)

    def _request(self) -> tuple[bytes, list[int]]:
        try:
            request, descriptors, _, _ = socket.recv_fds(
                self._connection, 1, _DESCRIPTORS_PER_CHILD
            )
        except OSError:  # it died with something unread: as good as the end of the stream
            return b"", []
        return request, descriptors

    def _load(self, skip: Mapping[str, str]) -> Registry:
        registry = load(
            self._settings.worker_paths,
            skip=skip,
            on_import=lambda source: self._report({"loading": source}),
        )
        learn(self._settings, registry, complete=not skip)
        _warm_up(registry)
        import_late_modules(self._settings)
        # What is alive now is shared with every child: the garbage collector must not touch it.
        gc.collect()
        gc.freeze()
        self._digests = {
            job_type.name: code_digest(job_type.worker.__module__.partition(".")[0])
            for job_type in registry.types.values()
            if job_type.worker
        }
        self._report(
            {
                "types": list(self._digests),
                "errors": [str(error) for error in registry.errors],
                "files": files_below(self._settings.worker_paths),
            }
        )
        return registry

    def _fork_those_asked_for(self) -> None:
        """Fork, or report that the host has no room for another process."""
        while self._asked:
            descriptors = self._asked[0]
            try:
                pid, ready, tell_ready = _fork(descriptors)
            except OSError as error:
                self._asked.popleft()
                for descriptor in descriptors:
                    os.close(descriptor)
                self._report({"refused": shortage_of(error) or error.strerror})
            else:
                self._on_forked(pid, ready, tell_ready, self._asked.popleft())

    def _on_forked(self, pid: int, ready: int, tell_ready: int, descriptors: list[int]) -> None:
        """Go on after a fork, on both sides; the pipe says that the child has a group of its own."""
        if pid:
            self._children.add(pid)
            for descriptor in (*descriptors, tell_ready):
                os.close(descriptor)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            os.read(ready, 1)  # from here on, its group exists and can be signalled
            os.close(ready)
            self._report({"forked": pid})
            return
        try:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            os.close(ready)
            os.close(tell_ready)
            self._become_child(descriptors)
        finally:
            os._exit(_FORK_FAILED)

    def _become_child(self, descriptors: list[int]) -> NoReturn:
        for others in self._asked:  # or their ends would not be seen
            for descriptor in others:
                os.close(descriptor)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _set_death_signal(signal.SIGKILL)
        if os.getppid() != self._pid:
            os._exit(0)
        # What a job leaves behind becomes this process's child, and is noticed.
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._connection.close()
        tasks, tokens = (socket.socket(fileno=descriptor) for descriptor in descriptors)
        Child(
            tasks, tokens, self._settings, self._registry, self._output, digests=self._digests
        ).serve()

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while (reaped := os.wait4(-1, os.WNOHANG))[0]:
                pid, status, _ = reaped
                self._left_alone.discard(pid)
                if pid in self._children:
                    self._children.remove(pid)
                    self._end_orphans(crashed=status != 0)
                    self._report({"exited": pid, "status": status})

    def _end_orphans(self, *, crashed: bool) -> None:
        """End what a child that crashed leaves. One that exited well may leave daemons."""
        while orphans := self._orphans():
            if not crashed:
                self._left_alone |= orphans
                return
            for pid in orphans:
                with suppress(
                    ProcessLookupError
                ):  # its pid is kept until this process waits for it
                    os.kill(pid, signal.SIGKILL)
                with suppress(ChildProcessError):
                    os.waitpid(pid, 0)

    def _orphans(self) -> set[int]:
        own = {pid for pid, (parent, _) in parents().items() if parent == self._pid}
        return own - self._children - self._left_alone

    def _report(self, message: dict[str, object]) -> None:
        with suppress(OSError):  # the supervisor is gone: the socket is at its end, which is next
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._connection.recv(size - len(data))
            if not part:
                os._exit(0)
            data += part
        return data

    def _on_orphaned(self, *_: object) -> None:
        # Sent by another process, to all of a session for example, it means nothing here.
        if os.getppid() != self._parent:
            self._guard()

    def _guard(self) -> NoReturn:
        """End what the supervisor left, which is gone, and exit."""
        if os.getpid() != self._pid:
            os._exit(_FORK_FAILED)
        # Its end is seen twice, by the socket and by a signal: begun again in the middle of an
        # import, this would fail.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            for _ in range(_GUARD_ROUNDS):
                kill_all([*self._open_trees(), *hook_trees([self._owner])])
                time.sleep(_GUARD_INTERVAL_S)  # for a process that was just being started
        finally:
            os._exit(0)

    def _open_trees(self) -> list[ProcessTree]:
        """Return the attempts that the supervisor had open; without a database, those that run."""
        settings = self._settings
        if settings.backend == SQLITE and not settings.database.exists():  # it must not be made
            return []
        try:
            backend = open_backend(settings)
            logs = JobLogs(settings.log_dir, backend.identity).pinned()
            return [
                tree_left(logs, job, attempt)
                for job, attempt in backend.open_attempts()
                if attempt.supervisor == self._owner
            ]
        except JobqError:
            return marked_trees(self._owner)


def _restore_signals() -> None:
    """Undo what this process inherited: an ignored signal is ignored by all that workers start.

    SIGINT means nothing here. It is handled rather than ignored, since handlers are not inherited.
    """
    signal.signal(signal.SIGINT, lambda *_: None)
    for number in (signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(number, signal.SIG_DFL)


def _warm_up(registry: Registry) -> None:
    """Make what each child would make at its first run, once and for all of them."""
    for job_type in registry.types.values():
        if job_type.worker is not None:
            with suppress(WorkerLoadError):  # the error of a job that runs it
                args_model(job_type.worker)
    jsonable(None)


def _fork(descriptors: list[int]) -> tuple[int, int, int]:
    """Fork a child for these; return its pid, or 0 in the child, and both ends of a pipe.

    SIGTERM is blocked from here on: one that is meant for the child must not find it with this
    process's handler.

    Raises:
        OSError: the host has no room for another process, or had none for its descriptors;
            nothing has changed.
    """
    if len(descriptors) < _DESCRIPTORS_PER_CHILD:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    ready, tell_ready = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        return os.fork(), ready, tell_ready
    except OSError:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        os.close(ready)
        os.close(tell_ready)
        raise


def _set_death_signal(number: signal.Signals) -> None:
    """Have the kernel send a signal to this process when its parent dies. Linux only."""
    _prctl(_PR_SET_PDEATHSIG, int(number))


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main()
