"""Live supervisors of one SQLite database: who is there, and how to wake them.

Beside the database is a directory with two files for each supervisor: a lock that its process
holds for as long as it lives, and a FIFO on which it is woken. The kernel lets go of a lock when
a process dies, however it dies; so a dead supervisor is known at once.
"""

import errno
import fcntl
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from jobq.backends.base import Listener

_SUFFIX_LOCK = ".lock"
_SUFFIX_WAKE = ".wake"


class Presence:
    """The directory of live supervisors."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def announce(self, owner: str) -> "FifoListener":
        """Take the owner's lock and open its FIFO."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return FifoListener(self.directory / (owner + _SUFFIX_LOCK), self._fifo(owner))

    def wake(self) -> None:
        """Wake every listener. Whoever can't be woken looks by itself before long."""
        try:
            names = os.listdir(self.directory)  # noqa: PTH208 - on the path of every add
        except OSError:
            return
        for name in names:
            if name.endswith(_SUFFIX_WAKE):
                _poke(self.directory / name)

    def dead(self, owners: Collection[str]) -> set[str]:
        """Those owners whose lock file is there and held by nobody."""
        return {owner for owner in owners if self._is_free(owner)}

    def forget(self, owners: Collection[str]) -> None:
        """Remove what dead owners left."""
        for owner in owners:
            if os.sep in owner:
                continue
            for path in (self._fifo(owner), self.directory / (owner + _SUFFIX_LOCK)):
                path.unlink(missing_ok=True)

    def _fifo(self, owner: str) -> Path:
        return self.directory / (owner + _SUFFIX_WAKE)

    def _is_free(self, owner: str) -> bool:
        if os.sep in owner:
            return False  # not announced here: a pull worker chooses its own name
        try:
            lock = os.open(self.directory / (owner + _SUFFIX_LOCK), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            return True
        finally:
            os.close(lock)


def _poke(path: Path) -> None:
    try:
        fifo = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.ENOENT, errno.EACCES):
            raise
        return  # nobody listens there any more
    try:
        with suppress(BlockingIOError, BrokenPipeError):  # full: it is awake already
            os.write(fifo, b"!")
    finally:
        os.close(fifo)


class FifoListener(Listener):
    """A supervisor's own lock and FIFO."""

    def __init__(self, lock: Path, fifo: Path) -> None:
        self._path = fifo
        self._lock = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.mkfifo(fifo, 0o600)
        # Opened for writing too, so that it never reads as ended when a writer leaves.
        self._fifo = os.open(fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        return self._fifo

    def drain(self) -> None:
        with suppress(BlockingIOError):
            while len(os.read(self._fifo, 4096)) == 4096:
                pass

    def close(self) -> None:
        # The lock file stays until `forget`: held by nobody, it says that the owner is dead.
        self._path.unlink(missing_ok=True)
        os.close(self._fifo)
        os.close(self._lock)
