"""What a process is like between two jobs, so that one job's changes are not the next one's.

What can be put back is put back; where it can't be, the process has to be replaced.
"""

import os
import resource
import signal
import socket
import sys
import threading

# `signal.getsignal` makes an enum of each: 64 of them took longer than to make a job's files.
from _signal import getsignal  # type: ignore[import-not-found]
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

_SIGNALS = tuple(map(int, signal.valid_signals()))
_LIMITS = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})


@dataclass(frozen=True, slots=True)
class _Trait:
    """Something that code can change of its process."""

    read: Callable[[], Any]
    write: Callable[[Any], object]


class Baseline:
    """The state of this process when this was made, to be restored."""

    def __init__(self) -> None:
        self._before = [trait.read() for trait in _TRAITS]
        self._streams = (sys.stdin, sys.stdout, sys.stderr)

    def restore(self) -> bool:
        """Put everything back; whether that worked, and nothing is left that can't be."""
        sys.stdin, sys.stdout, sys.stderr = self._streams
        restored = [
            _restored(trait, before) for trait, before in zip(_TRAITS, self._before, strict=True)
        ]
        usable = not any(stream is not None and stream.closed for stream in self._streams)
        return all(restored) and usable and threading.active_count() == 1


def _restored(trait: _Trait, before: Any) -> bool:
    with suppress(OSError, ValueError, TypeError):
        if trait.read() == before:
            return True
    with suppress(OSError, ValueError, TypeError):
        trait.write(before)
        return bool(trait.read() == before)
    return False


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _set_environ(before: dict[bytes, bytes]) -> None:
    os.environb.clear()
    os.environb.update(before)


def _set_path(before: list[str]) -> None:
    sys.path[:] = before


def _handlers() -> dict[int, Any]:
    return {number: getsignal(number) for number in _SIGNALS}


def _set_handlers(before: dict[int, Any]) -> None:
    for number, handler in before.items():
        if getsignal(number) is not handler:
            signal.signal(number, handler)


def _set_mask(before: set[signal.Signals]) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _set_timer(before: tuple[float, float]) -> None:
    signal.setitimer(signal.ITIMER_REAL, *before)


def _limits() -> list[tuple[int, int]]:
    return [resource.getrlimit(limit) for limit in _LIMITS]


def _set_limits(before: list[tuple[int, int]]) -> None:
    for limit, values in zip(_LIMITS, before, strict=True):
        if resource.getrlimit(limit) != values:
            resource.setrlimit(limit, values)


_TRAITS = (
    # First of all: a timer that is left would fire in the next job, whoever handles it.
    _Trait(lambda: signal.getitimer(signal.ITIMER_REAL), _set_timer),
    _Trait(_limits, _set_limits),
    _Trait(os.getcwd, os.chdir),
    _Trait(lambda: dict(os.environb), _set_environ),
    _Trait(_umask, os.umask),
    _Trait(lambda: list(sys.path), _set_path),
    _Trait(_handlers, _set_handlers),
    _Trait(lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ()), _set_mask),
    _Trait(socket.getdefaulttimeout, socket.setdefaulttimeout),
    _Trait(
        lambda: os.getpriority(os.PRIO_PROCESS, 0),
        lambda nice: os.setpriority(os.PRIO_PROCESS, 0, nice),
    ),
)
