"""The shipper: sends what jobs write to where other hosts can read it, in a thread of its own.

The files remain the truth. Nothing is buffered here: the thread reads the files, and what it could
not ship in time is left out, which readers see by the offsets.
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
from jobq.logs.owner import Owner
from jobq.models import AttemptKey, LogOffsets
from jobq.system.resources import start_thread

FILES = (STDOUT, STDERR, LOG, EVENTS)
"""In this order: a reader that sees that an attempt has finished has seen all that it wrote."""

SHIP_INTERVAL_S = 0.2
"""Seconds between two commands."""

BATCH_BYTES = 64 << 10
"""Bytes in one command, about; more waits for the next one."""

BATCH_CHUNKS = 64
"""Chunks in one command: each is a call within the server."""

CHUNK_BYTES = 16 << 10
"""Bytes in one chunk. Of a file that has grown by more since the last one, the end is shipped."""

MAX_ENDED = 1000
"""Attempts that have ended and are still to be shipped. Of more, the oldest never are."""

CLOSE_TIMEOUT_S = 1.0
"""Seconds to ship what is left at the end."""

RETRY_INTERVALS_S = (1.0, 5.0)
"""Seconds between two attempts to ship while that fails: the first interval, and the longest."""


@dataclass(slots=True, eq=False)
class _Attempt:
    key: AttemptKey
    owner: Owner
    at: dict[str, int]  # the offset up to which each file was shipped
    until: dict[str, int] = field(default_factory=dict)  # where the next attempt's output begins
    log: JobLog | None = None
    visited: bool = False  # it has had its turn once
    sending: dict[str, int] = field(default_factory=dict)  # the next `at`, if the command succeeds


class Shipper:
    """Reads the logs of the attempts that it was given, and ships them."""

    def __init__(self, backend: Backend, logs: JobLogs, *, max_bytes: int, ttl: timedelta) -> None:
        """``max_bytes`` of a job are kept by the backend, for a time after the last of them."""
        self._backend = backend
        self._logs = logs
        self._max_bytes = max_bytes
        self._ttl = ttl
        self._running: dict[AttemptKey, _Attempt] = {}
        self._ended: deque[_Attempt] = deque(maxlen=MAX_ENDED)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def bound(self, key: AttemptKey, offsets: LogOffsets) -> None:
        """End the output of a job's earlier attempts where that of its next one begins.

        Called before that one writes anything: it would be shipped as theirs, too.
        """
        if key.attempt > 1:
            with self._changed:
                for before in (*self._running.values(), *self._ended):
                    if before.key.job_id == key.job_id:
                        before.until = _by_file(offsets)

    def watch(self, key: AttemptKey, owner: Owner, offsets: LogOffsets) -> None:
        """Begin to ship an attempt that has started, and whose output begins at the offsets.

        ``owner`` is that of the log directory.
        """
        with self._changed:
            if not (self._running or self._ended):
                self._changed.notify()  # otherwise the thread is not idle
            self._running[key] = _Attempt(key, owner, _by_file(offsets))
        self.start()

    def start(self) -> None:
        """Start the thread, unless it runs, or the host has no room for it now."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="jobq-shipping", daemon=True)
            self._thread = thread if start_thread(thread) else None

    def ended(self, key: AttemptKey) -> None:
        """Ship the rest of an attempt that has ended, and writes no more."""
        with self._changed:
            if found := self._running.pop(key, None):
                self._ended.append(found)

    def close(self) -> None:
        """Ship what is left, for a moment, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            # A server that does not answer is not waited for.
            self._thread.join(2 * CLOSE_TIMEOUT_S)

    # -- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        first, longest = RETRY_INTERVALS_S
        interval = SHIP_INTERVAL_S
        while not self._wait(interval):
            interval = SHIP_INTERVAL_S if self._ship() else min(max(2 * interval, first), longest)
        deadline = time.monotonic() + CLOSE_TIMEOUT_S
        while self._ended and time.monotonic() < deadline and self._ship():
            pass

    def _wait(self, interval: float) -> bool:
        """Wait for the interval, and until there is an attempt; return whether it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed, interval)
            self._changed.wait_for(lambda: self._closed or self._running or self._ended)
            return self._closed

    def _ship(self) -> bool:
        """Ship one batch; return False if that failed."""
        chunks: list[LogChunk] = []
        done: list[_Attempt] = []
        with self._changed:
            running = list(self._running.values())
            # They stay in the deque until they are shipped: `bound` sets where they end.
            ended = list(self._ended)
        for attempt in running:
            if _size(chunks) < BATCH_BYTES // 2 and len(chunks) < BATCH_CHUNKS // 2:
                chunks += self._new_chunks(attempt)
        for attempt in ended:
            if _size(chunks) >= BATCH_BYTES or len(chunks) >= BATCH_CHUNKS:
                break
            attempt.visited = True
            chunks += self._new_chunks(attempt)
            done.append(attempt)
        shipped = self._send(chunks)
        self._settle(running, done, shipped=shipped)
        return shipped

    def _send(self, chunks: list[LogChunk]) -> bool:
        try:
            if chunks:
                self._backend.logs.ship(chunks, max_bytes=self._max_bytes, ttl=self._ttl)
        except DatabaseError:
            return False
        return True

    def _settle(self, running: list[_Attempt], done: list[_Attempt], *, shipped: bool) -> None:
        for attempt in (*running, *done):
            if shipped:
                attempt.at |= attempt.sending
            attempt.sending.clear()
        with self._changed:
            # The attempt that has waited longest for its turn comes first.
            for attempt in running if shipped else ():
                if attempt.key in self._running:
                    self._running[attempt.key] = self._running.pop(attempt.key)
            if not shipped:
                return
            while self._ended and self._ended[0] in done:  # it may have been full, and lost some
                self._ended.popleft()
        for attempt in done:
            if attempt.log is not None:
                attempt.log.close()

    def _new_chunks(self, attempt: _Attempt) -> Iterator[LogChunk]:
        """Yield what was written since the last time. New attempts wait for their second turn."""
        if not attempt.visited:  # it may end within the interval
            attempt.visited = True
            return
        with suppress(OSError):  # the job plays with its files
            if attempt.log is None:
                attempt.log = self._logs.open(attempt.owner)
            if attempt.log is not None:
                for name in FILES:
                    yield from _chunk(attempt, attempt.log, name)


def _by_file(offsets: LogOffsets) -> dict[str, int]:
    return dict(
        zip(FILES, (offsets.stdout, offsets.stderr, offsets.log, offsets.events), strict=True)
    )


def _chunk(attempt: _Attempt, log: JobLog, name: str) -> Iterator[LogChunk]:
    if not log.stored_size(name):
        return
    with log.read(name) as file:
        if file is None:
            return
        end = file.layout().end
        # Read after the end: nothing of the next attempt is in the file before this is set.
        end = min(end, attempt.until.get(name, sys.maxsize))
        at = max(attempt.at[name], end - CHUNK_BYTES)
        if at >= end:
            return
        data, behind = file.read(at, end - at)
        attempt.sending[name] = behind
        if behind == at + len(data):  # else it is the marker of a gap
            yield LogChunk(attempt.key.job_id, attempt.key.attempt, name, at, data)


def _size(chunks: list[LogChunk]) -> int:
    return sum(len(chunk.data) for chunk in chunks)
