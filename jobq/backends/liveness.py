"""Liveness of the supervisors on this host, and waking them.

Beside a SQLite database is a directory with two files for each supervisor: a lock that its process
holds as long as it lives, and a FIFO that wakes it. The kernel releases a lock when its process
dies, however it dies; so a dead supervisor is detected immediately.
"""

import fcntl
import os
from collections.abc import Collection
from pathlib import Path

from jobq.backends.wakeup import FifoListener, poke
from jobq.errors import DatabaseError
from jobq.system.permissions import make_directory, open_file

_SUFFIX_LOCK = ".lock"
_SUFFIX_WAKE = ".wake"


class LivenessLocks:
    """The directory of the locks and FIFOs of supervisors."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def announce(self, owner: str) -> "FifoListener":
        """Take the owner's lock and open its FIFO."""
        lock = self.hold(owner)
        try:
            return FifoListener(lock, self._fifo(owner))
        except OSError as error:
            os.close(lock)
            raise self._unusable(error) from error

    def hold(self, owner: str) -> int:
        """Take the owner's lock; return a descriptor that releases it when closed."""
        try:
            make_directory(self.directory)
            path = self.directory / (owner + _SUFFIX_LOCK)
            lock = open_file(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
            fcntl.flock(lock, fcntl.LOCK_EX)  # a check of liveness holds it for a moment only
        except OSError as error:
            raise self._unusable(error) from error
        return lock

    def _unusable(self, error: OSError) -> DatabaseError:
        return DatabaseError(
            f"{error.filename or self.directory}: {error.strerror}: supervisors keep their "
            "locks there: make it a directory that you own, on a file system with locks"
        )

    def wake(self) -> None:
        """Wake every listener. One that can't be woken polls before long."""
        try:
            names = os.listdir(self.directory)  # noqa: PTH208 - on the path of every add
        except OSError:
            return
        for name in names:
            if name.endswith(_SUFFIX_WAKE):
                poke(self.directory / name)

    def dead(self, owners: Collection[str]) -> set[str]:
        """Return those owners whose lock file exists and is not held."""
        return {owner for owner in owners if self._is_held(owner) is False}

    def live(self) -> set[str]:
        """Return the owners that hold their locks, whether they are registered or not."""
        return {owner for owner in self.announced() if self._is_held(owner)}

    def announced(self) -> set[str]:
        """Return the owners of all files here, dead or alive."""
        try:
            names = [entry.name for entry in self.directory.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return set()
        suffixes = (_SUFFIX_LOCK, _SUFFIX_WAKE)
        return {name[: -len(end)] for name in names for end in suffixes if name.endswith(end)}

    def forget(self, owners: Collection[str]) -> None:
        """Remove the files of dead owners."""
        for owner in owners:
            if os.sep in owner:
                continue
            for path in (self._fifo(owner), self.directory / (owner + _SUFFIX_LOCK)):
                path.unlink(missing_ok=True)

    def _fifo(self, owner: str) -> Path:
        return self.directory / (owner + _SUFFIX_WAKE)

    def _is_held(self, owner: str) -> bool | None:
        """Return whether an owner's lock is held; None if it has no lock file."""
        if os.sep in owner:
            return None  # has no files here: a pull worker chooses its own name
        try:
            lock = os.open(self.directory / (owner + _SUFFIX_LOCK), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(lock)


def liveness_locks(database: Path) -> LivenessLocks:
    """Return the locks of the supervisors of a database."""
    return LivenessLocks(Path(f"{real_path(database)}.supervisors"))


def real_path(database: Path) -> Path:
    """Resolve a symbolic link to a database: its write-ahead log, locks and FIFOs are beside the target.

    Otherwise processes that use the link and processes that use the target would not wait for each
    other. A dangling link is returned as it is.
    """
    return database.resolve() if database.is_symlink() and database.exists() else database
