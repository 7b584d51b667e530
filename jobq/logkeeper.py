"""Keeps the logs of running jobs within their limit, in a thread of its own.

In a thread, because the supervisor may have to wait for the database, and a job that prints without
end would have filled the disk meanwhile.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from jobq.clock import utcnow
from jobq.logs import JobLog
from jobq.trimming import Trimmed, trim

SHORTEST = 0.005
LONGEST = 0.5
"""Seconds between two looks at a log: the faster it grows towards its limit, the fewer."""


@dataclass(slots=True, eq=False)
class _Watched:
    log: JobLog
    on_trimmed: Callable[[Trimmed], None]
    looked: float
    wait: float = SHORTEST
    total: int = 0  # bytes, at the last look


class LogKeeper:
    """Looks at the logs it was given, and trims those that outgrow the limit."""

    def __init__(self, limit: int) -> None:
        """``limit`` in bytes; 0 is none."""
        self._limit = limit
        self._watched: dict[JobLog, _Watched] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def watch(self, log: JobLog, on_trimmed: Callable[[Trimmed], None]) -> None:
        """Begin to look at a log. ``on_trimmed`` is called in the thread, for each trim."""
        if not self._limit:
            return
        with self._changed:
            self._watched[log] = _Watched(log, on_trimmed, time.monotonic())
            self._changed.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="jobq-logs", daemon=True)
            self._thread.start()

    def release(self, log: JobLog) -> None:
        """Look at a log for the last time; from here on the thread does not use it."""
        with self._changed:
            if watched := self._watched.pop(log, None):
                self._look(watched, time.monotonic())

    def look_once(self, log: JobLog, on_trimmed: Callable[[Trimmed], None]) -> None:
        """Look at a log that nobody watched, as its attempt was short."""
        if self._limit:
            self._look(_Watched(log, on_trimmed, time.monotonic()), time.monotonic())

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
                now = time.monotonic()
                for watched in self._watched.values():
                    if watched.looked + watched.wait <= now:
                        self._look(watched, now)
                self._changed.wait(self._until_next(time.monotonic()))

    def _until_next(self, now: float) -> float | None:
        """Seconds; None where nothing is watched."""
        dues = [watched.looked + watched.wait for watched in self._watched.values()]
        return max(0.0, min(dues) - now) if dues else None

    def _look(self, watched: _Watched, now: float) -> None:
        before, since = watched.total, now - watched.looked
        watched.looked = now
        with suppress(OSError):  # a full disk, or a job that plays with its files: at the next look
            watched.total, trimmed = trim(watched.log, self._limit, utcnow())
            for each in trimmed:
                watched.on_trimmed(each)
        wait = 2 * watched.wait
        if watched.total > before and since > 0:
            left = max(0, self._limit - watched.total)
            wait = min(wait, left * since / (watched.total - before) / 2)
        watched.wait = min(max(wait, SHORTEST), LONGEST)
