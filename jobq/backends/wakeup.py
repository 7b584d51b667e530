"""Wake-ups of a sleeping supervisor: a FIFO of its own, written to by processes with work for it."""

import errno
import os
from contextlib import suppress
from pathlib import Path

from jobq.backends.base import Listener
from jobq.system.permissions import FILE_MODE


def poke(path: Path) -> None:
    """Write to the FIFO of a supervisor; do nothing where none listens."""
    try:
        fifo = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.ENOENT, errno.EACCES):
            raise
        return  # no supervisor listens there any more
    try:
        with suppress(BlockingIOError, BrokenPipeError):  # full: it is awake already
            os.write(fifo, b"!")
    finally:
        os.close(fifo)


class FifoListener(Listener):
    """A supervisor's own lock and FIFO."""

    def __init__(self, lock: int, fifo: Path) -> None:
        self._path = fifo
        self._lock = lock
        os.mkfifo(fifo, FILE_MODE)
        fifo.chmod(FILE_MODE)
        # Opened for writing too, so that it never reads as ended when a writer closes it.
        self._fifo = os.open(fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

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
