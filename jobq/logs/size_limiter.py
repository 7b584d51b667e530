"""The size limiter: keeps the logs of running jobs within their limit, in a thread of its own.

In a thread, because the supervisor may have to wait for the database, and a job that prints without
end would fill the disk meanwhile.
"""

import threading
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass

from jobq.clock import utcnow
from jobq.logs.directory import JobLog
from jobq.logs.truncation import Trimmed, trim
from jobq.system.resources import start_thread

MIN_INTERVAL_S = 0.005
MAX_INTERVAL_S = 0.5
"""Seconds between two looks at a log: shorter, the faster it grows towards its limit."""

FIRST_INTERVAL_S = 0.05
"""Seconds before the first look: most jobs have ended by then."""


@dataclass(slots=True, eq=False)
class _Watched:
    log: Callable[[], JobLog]
    on_trimmed: Callable[[Trimmed], None]
    looked_at: float
    interval: float = FIRST_INTERVAL_S
    total: int = 0  # bytes, at the last look


class LogSizeLimiter:
    """Looks at logs from time to time, and trims those that outgrow the limit."""

    def __init__(self, limit: int) -> None:
        """``limit`` in bytes; 0: there is none."""
        self._limit = limit
        self._watched: dict[Hashable, _Watched] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._sleeps_until: float | None = None
        self._closed = False

    def watch(
        self, key: Hashable, log: Callable[[], JobLog], on_trimmed: Callable[[Trimmed], None]
    ) -> None:
        """Begin to limit a log. ``log``, for each look, and ``on_trimmed`` are called in the thread."""
        if not self._limit:
            return
        with self._changed:
            watched = self._watched[key] = _Watched(log, on_trimmed, time.monotonic())
            if (
                self._sleeps_until is None
                or watched.looked_at + watched.interval < self._sleeps_until
            ):
                self._changed.notify()
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="jobq-logs", daemon=True)
        if start_thread(thread):
            self._thread = thread

    def stand_in(self) -> None:
        """Look at all logs where there was no room for the thread, and try again to start it."""
        if self._thread is None and self._watched:
            self._look_at_due()
            self._start()

    def release(self, key: Hashable, *, look: bool) -> None:
        """Stop limiting a log, which the thread does not use any more; ``look``: after a last look."""
        with self._changed:
            watched = self._watched.pop(key, None)
            if watched is not None and look:
                self._look(watched, time.monotonic())

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                self._look_at_due()
                dues = [watched.looked_at + watched.interval for watched in self._watched.values()]
                self._sleeps_until = min(dues, default=None)
                self._changed.wait(None if not dues else max(0.0, min(dues) - time.monotonic()))

    def _look_at_due(self) -> None:
        now = time.monotonic()
        for watched in self._watched.values():
            if watched.looked_at + watched.interval <= now:
                self._look(watched, now)

    def _look(self, watched: _Watched, now: float) -> None:
        before, since = watched.total, now - watched.looked_at
        watched.looked_at = now
        with suppress(OSError):  # a full disk, or a job that removes its files: at the next look
            watched.total, trimmed = trim(watched.log(), self._limit, utcnow())
            for each in trimmed:
                watched.on_trimmed(each)
        interval = 2 * watched.interval
        if watched.total > before and since > 0:
            left = max(0, self._limit - watched.total)
            interval = min(interval, left * since / (watched.total - before) / 2)
        watched.interval = min(max(interval, MIN_INTERVAL_S), MAX_INTERVAL_S)
