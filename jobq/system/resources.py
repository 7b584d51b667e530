"""Resources of the host: what it can run out of, through no fault of a job, and threads without them."""

import errno
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

_T = TypeVar("_T")
_U = TypeVar("_U")

_OUT_OF_PROCESSES = "end some processes, or raise their limit (ulimit -u)"
_OUT_OF_FILES = "close some files, or raise their limit (ulimit -n)"
_OUT_OF_MEMORY = "free some memory"
_OUT_OF_SPACE = "free some disk space"
_BROKEN_DISK = "see to the disk"

_REMEDIES = {
    errno.EAGAIN: _OUT_OF_PROCESSES,
    errno.EMFILE: _OUT_OF_FILES,
    errno.ENFILE: _OUT_OF_FILES,
    errno.ENOMEM: _OUT_OF_MEMORY,
    errno.ENOBUFS: _OUT_OF_MEMORY,
    errno.ENOLCK: "free some locks",
    errno.ENOSPC: _OUT_OF_SPACE,
    errno.EDQUOT: _OUT_OF_SPACE,
}
"""What helps where a host is short of something, by the number of the error."""

_DISK_REMEDIES = dict.fromkeys(
    (errno.EIO, errno.EROFS, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EMLINK),
    _BROKEN_DISK,
)

FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, *_DISK_REMEDIES})
"""The errors of writing to a file that its disk is to blame for."""


def shortage_of(error: OSError | MemoryError, *, disk: bool = False) -> str | None:
    """Return what the host is short of and what helps, in one line; None if that is not the reason.

    With ``disk``, a disk that fails counts, too: for files of jobq's own, not for those of a job.
    """
    if isinstance(error, MemoryError):
        return f"out of memory: {_OUT_OF_MEMORY}"
    remedy = _REMEDIES.get(error.errno or 0)
    if remedy is None and disk:
        remedy = _DISK_REMEDIES.get(error.errno or 0)
    if remedy is None:
        return None
    where = f"{error.filename}: " if error.filename is not None else ""
    return f"{where}{error.strerror}: {remedy}"


class SpareFiles:
    """Descriptors in reserve: to find and end processes takes some, where no other may be left."""

    def __init__(self, count: int = 0) -> None:
        self._count = count
        self._spare: list[int] = []

    def open(self) -> None:
        """Reserve the descriptors, as far as there are any."""
        with suppress(OSError):
            while len(self._spare) < self._count:
                self._spare.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def call(self, look: Callable[[], _T], otherwise: _U) -> _T | _U:
        """Return the result of a call, with the reserve if it needs that; ``otherwise`` if it fails.

        It may be called twice.
        """
        try:
            return look()
        except OSError:
            self.close()
        try:
            return look()
        except OSError:  # no system-wide table has room either
            return otherwise
        finally:
            self.open()

    def close(self) -> None:
        """Give up the reserve."""
        while self._spare:
            os.close(self._spare.pop())


def start_thread(thread: threading.Thread) -> bool:
    """Start a thread; return False where the host has no room for another one."""
    try:
        thread.start()
    except RuntimeError:
        return False
    return True


async def in_thread(call: Callable[[], _T]) -> _T:
    """Return the result of a call that runs in a thread; here, where there is no room for one."""
    import asyncio  # commands do without

    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(result: _T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = call()
        except BaseException as raised:  # noqa: BLE001 - it is raised where the result is awaited
            error = raised
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, error)

    if not start_thread(threading.Thread(target=run, name="jobq-call", daemon=True)):
        return call()
    return await done
