"""The children of one supervisor: which of them runs what, and what becomes of it."""

import asyncio
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Collection
from typing import Any

from jobq.clock import steady_time
from jobq.config.settings import Settings
from jobq.execution.children.connection import ChildConnection
from jobq.execution.children.server_process import ServerProcess
from jobq.execution.children.silence import SilenceWatch
from jobq.execution.events import RunEvents
from jobq.execution.run import Run, last_words
from jobq.jobs.outcome import Exit, signal_name
from jobq.models import Outcome, Usage
from jobq.system.processes import parents, start_time
from jobq.system.resources import shortage_of

_MAX_TASKS_GIVEN = 200
"""Tasks that a child is given at most while it is busy with one, those included that are taken back
again: each has a token of its own, which is a byte."""

_MAX_JOBS_PER_CHILD = 1000
"""Jobs after which a child makes room for a new one: each costs it a little memory, as glibc frees
nothing that was in the environment, and pages shared with the fork server come apart."""

_START_SHARE = 0.5
"""The share of a lease within which what waits behind another run is begun, or refused: a child that
gets to it later, as on a host that was asleep, might begin what another supervisor has by then."""

_TERMINATED = Exit(
    outcome=Outcome.CRASHED,
    signal=signal.SIGTERM,
    error="the worker's process was sent SIGTERM, and not by jobq",
)
"""Whatever `run` made of it: it may have returned early, without reporting that."""


class ChildPool:
    """Persistent children, forked by the fork server as they are needed."""

    def __init__(
        self,
        settings: Settings,
        environment: dict[str, str],
        events: RunEvents,
        on_types: Callable[[list[str], list[str], list[str]], None],
        *,
        on_short: Callable[[str], None] = lambda _: None,
        on_silent: Callable[[], object] = lambda: None,
    ) -> None:
        """``on_types`` gets the job types that children can run, why others can't be run, and their files.

        ``on_short`` gets the reason why the fork server can't be started now. ``on_silent`` is
        called when it does not answer any more: then this is to be retired.
        """
        self._settings = settings
        self._events = events
        self.on_types = on_types
        self.on_server_short = on_short
        self._server = ServerProcess(settings, environment, self)
        self._silence = SilenceWatch(
            self._awaited,
            lambda: self._server.loaded_at,
            lambda: self.retire() if self._is_retired else on_silent(),
        )
        self._is_retired = False
        self._is_answering = True  # the fork server tells what becomes of children
        self._idle: list[ChildConnection] = []
        self._to_send: set[ChildConnection] = set()
        self._unborn: deque[ChildConnection] = deque()  # asked for, their pids not known yet
        self._living: dict[int, ChildConnection] = {}

    def open(self) -> None:
        """Start the fork server."""
        self._server.open()

    def close(self) -> None:
        """Let the fork server and idle children exit."""
        self._server.close()
        self._stop_listening()
        self._server.wait()

    def _stop_listening(self) -> None:
        self._silence.cancel()
        for child in self._all():
            self._hang_up(child)

    def retire(self, *, answering: bool = False) -> int:
        """Let busy children go on to the end of their jobs, and start no others; return how many.

        ``answering``: the fork server still tells what becomes of them.
        """
        self._is_retired, self._is_answering = True, answering
        self._server.retire()
        for child in list(self._unborn):
            if (run := self._taken_from(child)) is not None:
                self._events.on_back([run])
        for child in [*self._unborn, *self._idle]:
            if child.run is None:
                self._hang_up(child)
        for child in _dead(self._living.values()) if not answering else ():
            del self._living[child.pid or 0]
            self._bury(child)
        self._end_retired()
        return _busy(self._all())

    def _end_retired(self) -> None:
        """End a retired fork server once its children have nothing to do."""
        if not self._is_retired or _busy(self._all()):
            return
        if self._is_answering and self._server.loaded_at is not None:
            self._server.close()  # its children may have something to tidy up
            self._stop_listening()
        else:
            self._stop_listening()
            self._server.kill()

    @property
    def is_done(self) -> bool:
        """True once this is retired, and its processes have ended."""
        return self._is_retired and not _busy(self._all()) and self._server.has_exited

    @property
    def is_ready(self) -> bool:
        """True unless the host has no room for the fork server."""
        return not self._server.is_awaited

    def reap(self) -> None:
        """Notice that the fork server has exited."""
        self._server.reap()

    # -- giving --------------------------------------------------------------------------------

    def start(self, run: Run) -> None:
        """Give a run to an idle child, or to a new one; `send` sends it.

        Where the host has no room for another child, the run is taken back, now or later.
        """
        if not self._server.is_running:
            self._events.on_shortage([run], "the process that runs workers can't be started")
            return
        try:
            child = self._idle.pop() if self._idle else self._fork()
        except (OSError, MemoryError) as error:
            if (reason := shortage_of(error)) is None:
                raise
            self._events.on_shortage([run], reason)
            return
        self._give(child, run, None)
        _note_process(run, child)
        self._events.on_begin(run)

    def follow(self, run: Run) -> bool:
        """Give a run to a busy child, to go on with; return False if none takes more."""
        able = [child for child in self._all() if _takes_more(child)]
        if not able:
            return False
        start_by = steady_time() + self._settings.lease * _START_SHARE
        self._give(min(able, key=lambda child: len(child.runs)), run, start_by)
        return True

    def send(self) -> None:
        """Send what was given to children since the last time."""
        for child in self._to_send:
            child.send()
        self._to_send.clear()

    def take_back(self) -> None:
        """Take back what waits behind another run. Afterwards, it is certain what each child runs."""
        self.send()
        for child in self._all():
            if len(child.runs) > 1:
                self._events.on_back(child.take_back(keep=child.runs[0]))
                self._read(child)

    def withdraw(self, run: Run) -> bool:
        """Take back a run whose child was asked for, and has not begun it; return whether it was."""
        for child in self._unborn:
            if child.run is run:
                return self._taken_from(child) is run
        return False

    def _taken_from(self, child: ChildConnection) -> Run | None:
        """Take back the run that a child is to begin with; None if it has begun it.

        What waits behind it is taken back in any case.
        """
        run, back = child.run, child.take_back(keep=None)
        self._events.on_back([each for each in back if each is not run])
        return run if run in back else None

    def _all(self) -> list[ChildConnection]:
        return [*self._living.values(), *self._unborn]

    def _fork(self) -> ChildConnection:
        ours, theirs = socket.socketpair()
        try:
            tokens, their_tokens = socket.socketpair()
        except OSError:
            ours.close()
            theirs.close()
            raise
        ours.setblocking(False)
        with theirs:
            self._server.fork(theirs, their_tokens)
        child = ChildConnection(ours, tokens, their_tokens)
        self._unborn.append(child)
        asyncio.get_running_loop().add_reader(ours.fileno(), self._on_child, child)
        self._silence.expect(child)
        return child

    def _awaited(self) -> list[ChildConnection]:
        """Return the children of which the fork server should tell: born, or dead."""
        if self._is_retired and not self._is_answering:
            return []
        return [*self._unborn, *_dead(self._living.values())]

    def _give(self, child: ChildConnection, run: Run, start_by: float | None) -> None:
        child.give(run, start_by)
        self._to_send.add(child)

    # -- reports of the fork server --------------------------------------------------------------

    def on_forked(self, pid: int) -> None:
        child = self._unborn.popleft()
        child.pid, child.pid_started = pid, start_time(pid)
        self._living[pid] = child
        if child.run is not None:
            _note_process(child.run, child)
            self._events.on_born(child.run)
        else:  # another child has taken its run
            self._go_on(child)

    def on_refused(self, reason: str) -> None:
        child = self._unborn.popleft()
        runs = [run for _, run in child.runs]
        child.runs.clear()
        self._hang_up(child)
        if runs:
            self._events.on_shortage(runs, reason)

    def on_exited(self, pid: int, status: int) -> None:
        child = self._living.pop(pid, None)
        if child is not None:
            child.status = status
            self._bury(child)

    def on_server_lost(self) -> None:
        if self._server.loaded_at is None:  # it has forked no child: no run is to blame
            for child in self._unborn:
                self._events.on_back([run for _, run in child.runs])
                child.runs.clear()
        children = self._all()
        self._living.clear()
        self._unborn.clear()
        self._idle.clear()
        for child in children:
            child.status = signal.SIGKILL
            self._bury(child)

    # -- reports of children ---------------------------------------------------------------------

    def _on_child(self, child: ChildConnection) -> None:
        if self._read(child):
            return
        if not self._is_answering:  # nothing tells its status
            self._living.pop(child.pid or 0, None)
            self._bury(child)
        else:  # its status comes from the fork server, which waits for it
            self._hang_up(child)
            self._silence.expect(child)

    def _read(self, child: ChildConnection) -> bool:
        """Handle what a child has reported by now; return False at the end."""
        while child.is_open:
            try:
                reports = child.read()
            except BlockingIOError:
                return True
            except EOFError:
                return False
            for report in reports:
                self._on_report(child, report)
        return False

    def _on_report(self, child: ChildConnection, report: dict[str, Any]) -> None:
        run = child.run
        if run is None or (report["id"], report["attempt"]) != run.key[:2]:
            return  # sent by something else than this run
        child.runs.popleft()
        if not report["begun"]:
            if report[
                "leftovers"
            ]:  # what is behind it is given back first, so that it comes before
                self._hang_up(child)
            if reason := report.get("shortage"):
                self._events.on_shortage([run], reason)
            else:
                self._events.on_back([run])
            self._go_on(child)
            self._end_retired()
            return
        terminated = report["terminated"] and run.stopped is None
        end = _TERMINATED if terminated else _exit_of(report)
        run.end_noted, run.unread_progress = report["end_noted"], report["progress"]
        run.written, run.took = report["written"], report["took"]
        run.lost, run.c_lost = report["lost"], report["c_lost"]
        if report["leftovers"] or run.stopped is not None:
            self._hang_up(child)  # it exits, and what its job left behind is ended
        else:
            run.detached = True
            self._go_on(child)
        self._events.on_exit(run, end)
        self._end_retired()

    def _go_on(self, child: ChildConnection) -> None:
        """Begin the next task of a child; without one it is idle, or replaced if it is old."""
        if child.run is not None:
            _note_process(child.run, child)
            self._events.on_begin(child.run)
        elif not child.is_open:
            return
        elif self._is_retired or child.given >= _MAX_JOBS_PER_CHILD:
            self._hang_up(child)
        elif child not in self._idle and not self._adopts(child):
            self._idle.append(child)

    def _adopts(self, child: ChildConnection) -> bool:
        """Give a child without work the run of one that is not there yet; return whether it has one."""
        for unborn in self._unborn:
            if unborn.run is not None and (run := self._taken_from(unborn)) is not None:
                self._give(child, run, None)
                child.send()
                _note_process(run, child)
                self._events.on_born(run)
                return True
        return False

    def _bury(self, child: ChildConnection) -> None:
        """Report the crash of the run that a child has died at, if it was busy."""
        self._read(child)
        self._hang_up(child)
        if child.run is not None:
            _, run = child.runs.popleft()
            self._events.on_exit(run, _crash(child.status, last_words(run)))
        self._end_retired()

    def _hang_up(self, child: ChildConnection) -> None:
        """Let a child exit, without what it has not begun."""
        if child in self._idle:
            self._idle.remove(child)
        if child.is_open:
            self._events.on_back(child.hang_up(child.runs[0] if _is_to_blame(child) else None))


def _takes_more(child: ChildConnection) -> bool:
    if child.run is None or child.run.stopped is not None or not child.is_open:
        return False
    given = child.given - child.runs[0][0]
    return child.given < _MAX_JOBS_PER_CHILD and given < _MAX_TASKS_GIVEN


def _busy(children: Collection[ChildConnection]) -> int:
    return sum(child.run is not None for child in children)


def _dead(children: Collection[ChildConnection]) -> list[ChildConnection]:
    """Return the children that have died, and of which the fork server has told nothing."""
    gone = [child for child in children if not child.is_open]
    living = parents() if gone else {}
    return [child for child in gone if child.pid not in living]


def _note_process(run: Run, child: ChildConnection) -> None:
    run.pid, run.pid_started = child.pid, child.pid_started


def _is_to_blame(child: ChildConnection) -> bool:
    """Return whether what a child came to last ends with it, begun or not.

    Also its very first: where every child dies before it begins, that must come to an end.
    """
    return child.run is not None and (child.run.stopped is not None or not child.runs[0][0])


def _crash(status: int | None, words: str) -> Exit:
    """Return the exit of a run whose child has died, with a status as `wait` tells, if it is known."""
    error, code = "the worker's process died", None
    if status is not None:
        code = os.waitstatus_to_exitcode(status)
        error += f": killed by {signal_name(-code)}" if code < 0 else f": exit code {code}"
    return Exit(
        outcome=Outcome.CRASHED,
        exit_code=code if code is not None and code >= 0 else None,
        signal=-code if code is not None and code < 0 else None,
        error=error + (f": {words}" if words else ""),
    )


def _exit_of(report: dict[str, Any]) -> Exit:
    return Exit(
        outcome=Outcome(report["outcome"]),
        error=report.get("error"),
        frame=report.get("frame"),
        reason=report.get("reason"),
        result=report.get("result"),
        retryable=report.get("retryable", True),
        delay=report.get("delay"),
        usage=Usage(report["max_rss_bytes"], report["cpu_seconds"]),
    )
