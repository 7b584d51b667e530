"""The write lock: an ``flock`` on a file beside a database, held during every write transaction.

The kernel grants it in order of arrival. But ``flock`` has no timeout, and a holder that is stopped
(SIGSTOP) keeps it for ever: so a thread waits for it, and is abandoned when time is up.
"""

import fcntl
import os
import threading
import time
from contextlib import suppress

from jobq.backends.sqlite.errors import NO_LOCKS_ADVICE
from jobq.errors import DatabaseError, DatabaseLockedError
from jobq.system.permissions import open_file
from jobq.system.resources import start_thread

_POLL_INTERVAL_S = 0.002
"""Seconds between two attempts to get the lock where there is no room for a thread that waits."""


class WriteLock:
    """One thread's own lock: ``flock`` excludes open files, not threads."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = self._open()
        self._waiter: _Waiter | None = None

    def _open(self) -> int:
        return open_file(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK)

    def acquire(self, timeout: float) -> None:
        """Wait for the lock, up to ``timeout`` seconds.

        Raises:
            DatabaseLockedError: it was not granted in time.
            DatabaseError: the file system has no locks.
        """
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._wait(timeout)
        except OSError as error:
            raise DatabaseError(f"{self._path}: {error.strerror}: {NO_LOCKS_ADVICE}") from error

    def _wait(self, timeout: float) -> None:
        if not self._is_granted(timeout):
            raise DatabaseLockedError(
                f"{self._path.removesuffix('.lock')}: locked by another process for "
                f"{timeout:.0f} s: see whether a jobq process is stopped"
            )

    def _is_granted(self, timeout: float) -> bool:
        """Wait in line, and return whether the lock was granted in time."""
        if self._waiter is None:
            waiter = _Waiter(self._file)
            if not start_thread(waiter):
                waiter.discard()
                return self._is_granted_by_polling(timeout)
            self._waiter = waiter
        granted = False
        try:
            granted = self._waiter.wait(timeout)
        finally:
            if not granted:
                self._abandon_waiter()
        return granted

    def _is_granted_by_polling(self, timeout: float) -> bool:
        """Try again and again, out of line: the host has no room for a thread."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            time.sleep(_POLL_INTERVAL_S)
            with suppress(BlockingIOError):
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
        return False

    def _abandon_waiter(self) -> None:
        """Leave the waiter to its file, and use another file and waiter from here on."""
        self.close()
        self._file, self._waiter = self._open(), None

    def release(self) -> None:
        """Release the lock to the next process in line."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file, which releases the lock if it is held."""
        if self._waiter is not None:
            self._waiter.dismiss()
        os.close(self._file)


class _Waiter(threading.Thread):
    """A thread that waits for the lock on request: starting one takes longer than most waits."""

    def __init__(self, file: int) -> None:
        super().__init__(name="jobq-write-lock", daemon=True)
        # A duplicate shares the lock, and stays valid when the other one is closed.
        self._file = os.dup(file)
        self._mutex = threading.Lock()
        self._dismissed = threading.Event()
        self._requested, self._granted = threading.Lock(), threading.Lock()
        self._requested.acquire()
        self._granted.acquire()

    def run(self) -> None:
        while self._requested.acquire() and not self._dismissed.is_set():
            fcntl.flock(self._file, fcntl.LOCK_EX)
            with self._mutex:
                if self._dismissed.is_set():
                    fcntl.flock(self._file, fcntl.LOCK_UN)
                else:
                    self._granted.release()
        os.close(self._file)

    def discard(self) -> None:
        """Close its file: it was not started."""
        os.close(self._file)

    def wait(self, timeout: float) -> bool:
        """Return whether the lock was granted in time. If not, the thread still waits for it."""
        self._requested.release()
        return self._granted.acquire(timeout=timeout)

    def dismiss(self) -> None:
        """Give up the lock, now or when it is granted, and end."""
        with self._mutex:
            self._dismissed.set()
            fcntl.flock(self._file, fcntl.LOCK_UN)  # it may have been granted just now
        with suppress(RuntimeError):  # requested, but not seen by the thread yet: it will see this
            self._requested.release()
