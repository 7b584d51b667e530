"""Live supervisors on this machine: who is there, and how to wake them.

Beside a SQLite database is a directory with two files for each supervisor: a lock that its process
holds for as long as it lives, and a FIFO on which it is woken. The kernel lets go of a lock when
a process dies, however it dies; so a dead supervisor is known at once.
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
    """The directory of live supervisors."""

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
        """Take the owner's lock: a descriptor, with which it is let go of."""
        try:
            make_directory(self.directory)
            path = self.directory / (owner + _SUFFIX_LOCK)
            lock = open_file(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
            fcntl.flock(lock, fcntl.LOCK_EX)  # who only looks whether it is held lets go at once
        except OSError as error:
            raise self._unusable(error) from error
        return lock

    def _unusable(self, error: OSError) -> DatabaseError:
        return DatabaseError(
            f"{error.filename or self.directory}: {error.strerror}: a supervisor announces itself "
            "there: make it a directory that is yours, on a file system with locks"
        )

    def wake(self) -> None:
        """Wake every listener. Whoever can't be woken looks by itself before long."""
        try:
            names = os.listdir(self.directory)  # noqa: PTH208 - on the path of every add
        except OSError:
            return
        for name in names:
            if name.endswith(_SUFFIX_WAKE):
                poke(self.directory / name)

    def dead(self, owners: Collection[str]) -> set[str]:
        """Those owners whose lock file is there and held by nobody."""
        return {owner for owner in owners if self._is_held(owner) is False}

    def live(self) -> set[str]:
        """Those who hold their locks, whether they are registered or not."""
        return {owner for owner in self.announced() if self._is_held(owner)}

    def announced(self) -> set[str]:
        """All who have left a file here, dead or alive."""
        try:
            names = [entry.name for entry in self.directory.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return set()
        suffixes = (_SUFFIX_LOCK, _SUFFIX_WAKE)
        return {name[: -len(end)] for name in names for end in suffixes if name.endswith(end)}

    def forget(self, owners: Collection[str]) -> None:
        """Remove what dead owners left."""
        for owner in owners:
            if os.sep in owner:
                continue
            for path in (self._fifo(owner), self.directory / (owner + _SUFFIX_LOCK)):
                path.unlink(missing_ok=True)

    def _fifo(self, owner: str) -> Path:
        return self.directory / (owner + _SUFFIX_WAKE)

    def _is_held(self, owner: str) -> bool | None:
        """Whether somebody holds an owner's lock; None if there is none to hold."""
        if os.sep in owner:
            return None  # not announced here: a pull worker chooses its own name
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
    """Where the supervisors of a database announce themselves."""
    return LivenessLocks(Path(f"{real_path(database)}.supervisors"))


def real_path(database: Path) -> Path:
    """Where a database is that a symbolic link names: its log, its lock and the like are there.

    Those who name it and those who name the link would otherwise not wait for each other. A link
    to nowhere is left as it is.
    """
    return database.resolve() if database.is_symlink() and database.exists() else database
