"""The connection to one child: the tasks that it was given, and what it reports."""

import asyncio
import json
import socket
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from jobq.execution.run import Run

_READ_BYTES = 1 << 20


@dataclass(slots=True, eq=False)
class ChildConnection:
    """A child, and the tasks that it was given.

    A child takes a token for each task that it begins. A task that waits behind another can be
    taken back for as long as its token can: either this process or the child gets it.
    """

    tasks: socket.socket
    tokens: socket.socket  # written to
    taken_back: socket.socket  # the child's own end of it
    pid: int | None = None
    pid_started: int | None = None
    runs: deque[tuple[int, Run]] = field(default_factory=deque)  # numbered; the first is begun
    given: int = 0  # tasks so far
    awaited_since: float = 0.0  # loop time since which the fork server is to tell of it
    status: int | None = None  # once it has exited
    _buffer: bytearray = field(default_factory=bytearray)
    _unsent: bytearray = field(default_factory=bytearray)
    _unsent_tokens: bytearray = field(default_factory=bytearray)
    _is_waiting: bool = False  # the loop tells when it takes more of what is unsent

    @property
    def run(self) -> Run | None:
        """The run that it is busy with."""
        return self.runs[0][1] if self.runs else None

    @property
    def is_open(self) -> bool:
        """True until it is hung up."""
        return self.tasks.fileno() >= 0

    def give(self, run: Run, start_by: float | None) -> None:
        """Give it a run, behind those it has; `send` sends it.

        ``start_by``: the time, by `steady_time`, after which it is not to begin it any more.
        """
        job = run.claim.job
        token = _token(self.given)
        task = {
            "token": token,
            "start_by": start_by,
            "id": job.id,
            "attempt": run.claim.attempt,
            "owner": run.owner,
            "added": None if run.added is None else run.added.timestamp(),
            "type": job.type,
            "args": job.args,
            "tags": job.tags,
            "timeout": job.timeout,
        }
        self.runs.append((self.given, run))
        self.given += 1
        self._unsent += json.dumps(task).encode() + b"\n"
        self._unsent_tokens.append(token)

    def send(self) -> None:
        """Send what it takes now, and the rest later: it may be stopped, or not forked yet."""
        if not self.is_open:
            return
        self._send_tokens()
        try:
            del self._unsent[: self.tasks.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:  # it has just died: its end of file says so
            self._unsent.clear()
        loop = asyncio.get_running_loop()
        if self._unsent and not self._is_waiting:
            loop.add_writer(self.tasks.fileno(), self.send)
        elif not self._unsent and self._is_waiting:
            loop.remove_writer(self.tasks.fileno())
        self._is_waiting = bool(self._unsent)

    def _send_tokens(self) -> None:
        if self._unsent_tokens:
            self.tokens.sendall(self._unsent_tokens)
            self._unsent_tokens.clear()

    def take_back(self, keep: tuple[int, Run] | None) -> list[Run]:
        """Take back the tasks whose tokens it has not taken: it skips them. Return their runs.

        ``keep``: the task that counts as begun, and that the child may only not have come to yet.
        """
        self._send_tokens()  # so that they can be taken back
        try:
            tokens = self.taken_back.recv(256, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        if keep is not None and _token(keep[0]) in tokens:
            self.tokens.sendall(bytes([_token(keep[0])]))
            tokens = tokens.replace(bytes([_token(keep[0])]), b"")
        back = [run for number, run in self.runs if _token(number) in tokens]
        self.runs = deque(each for each in self.runs if _token(each[0]) not in tokens)
        return back

    def read(self) -> list[dict[str, Any]]:
        """Return the reports that have come since the last call, as far as they are complete.

        Raises:
            BlockingIOError: nothing has come.
            EOFError: nothing more will.
        """
        try:
            data = self.tasks.recv(_READ_BYTES)
        except ConnectionResetError:
            data = b""
        if not data:
            raise EOFError
        self._buffer += data
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = rest
        return [json.loads(line) for line in lines]

    def hang_up(self, keep: tuple[int, Run] | None) -> list[Run]:
        """Take back its tasks, as `take_back` does, and close the connection."""
        back = self.take_back(keep)
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.tasks.fileno())
        loop.remove_writer(self.tasks.fileno())
        for end in (self.tasks, self.tokens, self.taken_back):
            end.close()
        return back


def _token(number: int) -> int:
    """Return the token of a child's task, which is a byte."""
    return number % 256
