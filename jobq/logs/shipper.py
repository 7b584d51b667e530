"""Ships what jobs write to where other machines can read it, in a thread of its own.

The file stays the truth. Nothing is kept here for later: the thread reads the files, and what it
could not ship in time is left out; who reads it sees by the offsets that it is.
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from jobq.backends.base import Backend
from jobq.backends.messages import LogChunk
from jobq.errors import DatabaseError
from jobq.logs.directory import EVENTS, LOG, STDERR, STDOUT, JobLog, JobLogs
from jobq.models import AttemptKey, LogOffsets

FILES = (STDOUT, STDERR, LOG, EVENTS)
"""In this order: who sees that an attempt has finished has seen all that it wrote."""

BEAT = 0.2
"""Seconds between two commands."""

AT_ONCE = 64 << 10
"""Bytes in one command, about; more waits for the next one."""

PARTS = 64
"""Parts in one command: each is a call within the server."""

PART = 16 << 10
"""Bytes in one part. Of a file that has grown by more since the last one, the end is shipped."""

ENDED = 1000
"""Attempts that have ended and are still to be shipped. Of more, the oldest never are."""

LAST = 1.0
"""Seconds that are taken at the end for what is left."""

PAUSES = (1.0, 5.0)
"""Seconds between two tries where nothing can be shipped: at first, and at most."""


@dataclass(slots=True, eq=False)
class _Attempt:
    key: AttemptKey
    at: dict[str, int]  # up to where each file has been shipped
    until: dict[str, int] = field(default_factory=dict)  # where the next attempt's output begins
    log: JobLog | None = None
    looked: bool = False
    ahead: dict[str, int] = field(default_factory=dict)  # the same, once what is under way is there


class Shipper:
    """Reads the logs of attempts that it is told of, and ships them."""

    def __init__(self, backend: Backend, logs: JobLogs, *, most: int, kept: timedelta) -> None:
        """``most`` bytes of a job are kept there, for so long after the last of them."""
        self._backend = backend
        self._logs = logs
        self._most = most
        self._kept = kept
        self._running: dict[AttemptKey, _Attempt] = {}
        self._ended: deque[_Attempt] = deque(maxlen=ENDED)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def watch(self, key: AttemptKey, offsets: LogOffsets) -> None:
        """An attempt has started; its output begins there."""
        at = dict(
            zip(FILES, (offsets.stdout, offsets.stderr, offsets.log, offsets.events), strict=True)
        )
        with self._changed:
            if not (self._running or self._ended):
                self._changed.notify()  # else it beats
            for before in (*self._running.values(), *self._ended) if key.attempt > 1 else ():
                if before.key.job_id == key.job_id:
                    before.until = at
            self._running[key] = _Attempt(key, dict(at))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="jobq-shipping", daemon=True)
            self._thread.start()

    def ended(self, key: AttemptKey) -> None:
        """An attempt has ended, and written its last."""
        with self._changed:
            if found := self._running.pop(key, None):
                self._ended.append(found)

    def close(self) -> None:
        """Ship what is left, for a moment."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(2 * LAST)  # a server that does not answer is not waited for

    # -- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        pause = BEAT
        while not self._wait(pause):
            pause = BEAT if self._ship() else min(max(2 * pause, PAUSES[0]), PAUSES[1])
        deadline = time.monotonic() + LAST
        while self._ended and time.monotonic() < deadline and self._ship():
            pass

    def _wait(self, pause: float) -> bool:
        """Wait for a beat, and for as long as there is nothing; whether this is the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed, pause)
            self._changed.wait_for(lambda: self._closed or self._running or self._ended)
            return self._closed

    def _ship(self) -> bool:
        """Ship a portion; False if it could not be."""
        parts: list[LogChunk] = []
        done: list[_Attempt] = []
        with self._changed:
            running = list(self._running.values())
        for attempt in running:
            if _size(parts) < AT_ONCE // 2 and len(parts) < PARTS // 2:
                parts += self._grown(attempt)
        while self._ended and _size(parts) < AT_ONCE and len(parts) < PARTS:
            attempt = self._ended.popleft()
            attempt.looked = True
            parts += self._grown(attempt)
            done.append(attempt)
        shipped = self._send(parts)
        self._settle(running, done, shipped=shipped)
        return shipped

    def _send(self, parts: list[LogChunk]) -> bool:
        try:
            if parts:
                self._backend.logs.ship(parts, max_bytes=self._most, ttl=self._kept)
        except DatabaseError:
            return False
        return True

    def _settle(self, running: list[_Attempt], done: list[_Attempt], *, shipped: bool) -> None:
        for attempt in (*running, *done):
            if shipped:
                attempt.at |= attempt.ahead
            attempt.ahead.clear()
        with self._changed:
            # Who has waited longest for its turn comes first.
            for attempt in running if shipped else ():
                if attempt.key in self._running:
                    self._running[attempt.key] = self._running.pop(attempt.key)
            if not shipped:
                self._ended.extendleft(reversed(done[: ENDED - len(self._ended)]))
                return
        for attempt in done:
            if attempt.log is not None:
                attempt.log.close()

    def _grown(self, attempt: _Attempt) -> Iterator[LogChunk]:
        """What has been written since the last part. Those that may end at once wait for a beat."""
        if not attempt.looked:
            attempt.looked = True
            return
        with suppress(OSError):  # the job plays with its files
            if attempt.log is None:
                attempt.log = self._logs.open(attempt.key.job_id)
            if attempt.log is not None:
                for name in FILES:
                    yield from _part(attempt, attempt.log, name)


def _part(attempt: _Attempt, log: JobLog, name: str) -> Iterator[LogChunk]:
    if not log.stored_size(name):
        return
    with log.read(name) as file:
        if file is None:
            return
        end = min(file.layout().end, attempt.until.get(name, sys.maxsize))
        at = max(attempt.at[name], end - PART)
        if at >= end:
            return
        data, behind = file.read(at, end - at)
        attempt.ahead[name] = behind
        if behind == at + len(data):  # else it is a line of ours, for what is not in the file
            yield LogChunk(attempt.key.job_id, attempt.key.attempt, name, at, data)


def _size(parts: list[LogChunk]) -> int:
    return sum(len(part.data) for part in parts)
