"""The turnstile: an ``flock`` on a file beside a database, behind which everybody writes in turn.

The kernel keeps those who wait in a line. But ``flock`` has no time limit, and a holder that is
stopped (SIGSTOP) keeps it for ever: so a thread stands in line, and can be left behind there.
"""

import fcntl
import os
import threading
from contextlib import suppress

from jobq.backends.sqlite.errors import LOCKS
from jobq.errors import DatabaseError, DatabaseLockedError
from jobq.system.permissions import open_file


class WriteLock:
    """One thread's own way in: ``flock`` excludes open files, not threads."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = self._open()
        self._waiter: _Waiter | None = None

    def _open(self) -> int:
        return open_file(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)

    def take(self, seconds: float) -> None:
        """Wait for a turn.

        Raises:
            DatabaseLockedError: it did not come in time.
            DatabaseError: the file system has no locks.
        """
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._wait(seconds)
        except OSError as error:
            raise DatabaseError(f"{self._path}: {error.strerror}: {LOCKS}") from error

    def _wait(self, seconds: float) -> None:
        if self._waiter is None:
            self._waiter = _Waiter(self._file)
            self._waiter.start()
        came = False
        try:
            came = self._waiter.wait(seconds)
        finally:
            if not came:
                self._leave_behind()
        if not came:
            raise DatabaseLockedError(
                f"{self._path.removesuffix('.lock')}: locked by another process for "
                f"{seconds:.0f} s: see whether a jobq process is stopped"
            )

    def _leave_behind(self) -> None:
        """Let the waiter stand in line with the file that it has, and use another one from here on."""
        self.close()
        self._file, self._waiter = self._open(), None

    def leave(self) -> None:
        """Let the next one in."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of it, also if it is taken."""
        if self._waiter is not None:
            self._waiter.dismiss()
        os.close(self._file)


class _Waiter(threading.Thread):
    """Stands in line whenever it is called: to start a thread takes longer than most waits."""

    def __init__(self, file: int) -> None:
        super().__init__(name="jobq-turnstile", daemon=True)
        # A duplicate shares the lock, and stays valid when the other one is closed.
        self._file = os.dup(file)
        self._mutex = threading.Lock()
        self._dismissed = threading.Event()
        self._called, self._came = threading.Lock(), threading.Lock()
        self._called.acquire()
        self._came.acquire()

    def run(self) -> None:
        while self._called.acquire() and not self._dismissed.is_set():
            fcntl.flock(self._file, fcntl.LOCK_EX)
            with self._mutex:
                if self._dismissed.is_set():
                    fcntl.flock(self._file, fcntl.LOCK_UN)
                else:
                    self._came.release()
        os.close(self._file)

    def wait(self, seconds: float) -> bool:
        """Whether the turn came in time. If not, it is still waited for."""
        self._called.release()
        return self._came.acquire(timeout=seconds)

    def dismiss(self) -> None:
        """Leave the line, now or when the turn comes, and end."""
        with self._mutex:
            self._dismissed.set()
            fcntl.flock(self._file, fcntl.LOCK_UN)  # it may have come just now
        with suppress(RuntimeError):  # called, and not come to it yet: it sees this when it does
            self._called.release()
