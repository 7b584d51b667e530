"""The standard streams of children: a disk that takes no more costs output, and no job.

Python would raise an error in the job that prints, and C would say nothing: here, both go on, and
what could not be kept is counted as far as possible.
"""

import ctypes
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from jobq.system.resources import FULL_DISK

_LIBC = ctypes.CDLL(None)
_C_STREAMS = ("stdout", "stderr") if sys.platform == "linux" else ("__stdoutp", "__stderrp")


class _LossyFile(io.FileIO):
    """A file that counts what its disk does not take."""

    lost = 0  # bytes

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in FULL_DISK:
                raise
            size = memoryview(data).nbytes
            self.lost += size
            return size


class Output:
    """The output of this process: Python's standard streams, in the place of those it began with."""

    def __init__(self) -> None:
        self._files = {name: _LossyFile(number, "w", closefd=False) for name, number in _STREAMS}
        self._lost = 0  # bytes of other files
        for name, file in self._files.items():
            file.name = f"<{name}>"
            text = io.TextIOWrapper(
                io.BufferedWriter(file),
                encoding="utf-8",
                errors="backslashreplace",
                line_buffering=True,
            )
            setattr(sys, name, text)
            setattr(sys, f"__{name}__", text)

    def begin(self) -> None:
        """Begin with a run: nothing is lost yet."""
        self._lost = 0
        for file in self._files.values():
            file.lost = 0
        _has_c_lost()

    def append(self, descriptor: int, data: bytes) -> None:
        """Write to another file of the run, as far as its disk takes it."""
        try:
            while data:
                data = data[os.write(descriptor, data) :]
        except OSError as error:
            if error.errno not in FULL_DISK:
                raise
            self._lost += len(data)

    def lost(self) -> dict[str, Any]:
        """Return what the run has lost, as it is reported to the supervisor."""
        lost = self._lost + sum(file.lost for file in self._files.values())
        return {"lost": lost, "c_lost": _has_c_lost()}


_STREAMS = (("stdout", 1), ("stderr", 2))


def _has_c_lost() -> bool:
    """Return whether C could not write something since the last call."""
    return sum(_call_on(name, _take_error) for name in _C_STREAMS) > 0


def _call_on(name: str, call: Callable[[ctypes.c_void_p], bool]) -> bool:
    with suppress(ValueError):  # this C library has no such name
        return call(ctypes.c_void_p.in_dll(_LIBC, name))
    return False


def _take_error(stream: ctypes.c_void_p) -> bool:
    failed = bool(_LIBC.ferror(stream))
    _LIBC.clearerr(stream)
    return failed
