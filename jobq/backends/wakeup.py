"""Wake-ups of a sleeping supervisor: a FIFO of its own, written to by processes with work for it."""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from jobq.backends.base import Listener
from jobq.system.permissions import FILE_MODE, is_ours

_TO_WAKE = os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
# For writing too, so that it never reads as ended when a writer closes it.
_TO_LISTEN = os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


def poke(name: str, directory: int) -> None:
    """Write to the FIFO of a supervisor, in an open directory; do nothing where none listens.

    Raises:
        OSError: it is something else than a FIFO of this user, or can't be written to.
    """
    try:
        fifo = os.open(name, _TO_WAKE, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.ENOENT, errno.EACCES):
            raise
        return  # no supervisor listens there any more
    try:
        found = os.fstat(fifo)
        if not (stat.S_ISFIFO(found.st_mode) and is_ours(found)):
            raise OSError(errno.EINVAL, "not a FIFO of this user", name)
        with suppress(BlockingIOError, BrokenPipeError):  # full: it is awake already
            os.write(fifo, b"!")
    finally:
        os.close(fifo)


class FifoListener(Listener):
    """A supervisor's own lock and FIFO."""

    def __init__(self, lock: int, fifo: Path, directory: int) -> None:
        """``directory`` is that of the FIFO, open; it is used here only."""
        self._path = fifo
        self._lock = lock
        os.mkfifo(fifo.name, FILE_MODE, dir_fd=directory)
        os.chmod(fifo.name, FILE_MODE, dir_fd=directory)
        self._fifo = os.open(fifo.name, _TO_LISTEN, dir_fd=directory)

    def fileno(self) -> int:
        return self._fifo

    def drain(self) -> None:
        with suppress(BlockingIOError):
            while len(os.read(self._fifo, 4096)) == 4096:
                pass

    def close(self) -> None:
        # The lock file stays until `LivenessLocks.forget`: not held, it tells that the owner is dead.
        self._path.unlink(missing_ok=True)
        os.close(self._fifo)
        os.close(self._lock)
