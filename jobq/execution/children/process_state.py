"""The state of a process between two jobs, restored so that no job sees another one's changes.

Where something can't be restored, the process has to be replaced.
"""

import faulthandler
import io
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time

# `signal.getsignal` makes an enum of each: 64 of them took longer than to make a job's files.
from _signal import getsignal  # type: ignore[import-not-found]
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_SIGNALS = tuple(map(int, signal.valid_signals()))
_LIMITS = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})


STDERR_DESCRIPTOR = 2

_REFUSALS = (OSError, ValueError, TypeError)


@dataclass(frozen=True, slots=True)
class _Trait:
    """Something of its process that code can change."""

    read: Callable[[], Any]
    write: Callable[[Any], object]


class ProcessState:
    """The state that this process had when this was made."""

    def __init__(self) -> None:
        self._streams = (sys.stdin, sys.stdout, sys.stderr)
        self._environ = (os.environ, os.environb)
        self._before = [trait.read() for trait in _TRAITS]
        self._threads = 1
        faulthandler.enable(STDERR_DESCRIPTOR)

    def allow_threads(self) -> None:
        """Let the threads that there are now go on from one job to the next."""
        self._threads = threading.active_count()

    def restore(self) -> bool:
        """Restore everything; return whether that worked, and nothing else is left."""
        if signal.sigpending():  # once it is unblocked, it would hit the next job
            return False
        sys.stdin, sys.stdout, sys.stderr = self._streams
        os.environ, os.environb = self._environ
        faulthandler.cancel_dump_traceback_later()  # which may have been told to end the process
        faulthandler.enable(STDERR_DESCRIPTOR)  # again, where the job has given it a file
        restored = [
            _restored(trait, before) for trait, before in zip(_TRAITS, self._before, strict=True)
        ]
        return all(restored) and threading.active_count() <= self._threads


def _restored(trait: _Trait, before: Any) -> bool:
    return _is(trait, before) or (_written(trait, before) and _is(trait, before))


def _is(trait: _Trait, before: Any) -> bool:
    try:
        return bool(trait.read() == before)
    except _REFUSALS:  # a directory that is gone, or a stream that was taken apart
        return False


def _written(trait: _Trait, before: Any) -> bool:
    try:
        trait.write(before)
    except _REFUSALS:
        return False
    return True


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _set_environ(before: dict[bytes, bytes]) -> None:
    os.environb.clear()
    os.environb.update(before)
    time.tzset()  # which alone reads the zone from there


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


def _timers() -> list[tuple[float, float]]:
    return [signal.getitimer(timer) for timer in _TIMERS]


def _set_timers(before: list[tuple[float, float]]) -> None:
    for timer, values in zip(_TIMERS, before, strict=True):
        signal.setitimer(timer, *values)


def _output_streams() -> list[tuple[Any, ...]]:
    return [
        (stream.closed, stream.encoding, stream.errors, stream.line_buffering, stream.write_through)
        for stream in (sys.stdout, sys.stderr)
        if isinstance(stream, io.TextIOWrapper)
    ]


def _set_output_streams(before: list[tuple[Any, ...]]) -> None:
    for stream, (_, encoding, errors, line_buffering, write_through) in zip(
        (sys.stdout, sys.stderr), before, strict=True
    ):
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(
            encoding=encoding,
            errors=errors,
            line_buffering=line_buffering,
            write_through=write_through,
        )


def _set_users(before: tuple[int, int]) -> None:
    os.setreuid(*before)


def _set_groups(before: tuple[int, int, list[int]]) -> None:
    os.setregid(*before[:2])
    os.setgroups(before[2])


def _limits() -> list[tuple[int, int]]:
    return [resource.getrlimit(limit) for limit in _LIMITS]


def _set_limits(before: list[tuple[int, int]]) -> None:
    for limit, values in zip(_LIMITS, before, strict=True):
        if resource.getrlimit(limit) != values:
            resource.setrlimit(limit, values)


_AFFINITY = (
    [_Trait(lambda: os.sched_getaffinity(0), lambda cores: os.sched_setaffinity(0, cores))]
    if hasattr(os, "sched_getaffinity")
    else []
)

_TRAITS = (
    # First of all: a timer that is left would fire in the next job.
    _Trait(_timers, _set_timers),
    # Before everything that it takes rights to restore.
    _Trait(lambda: (os.getuid(), os.geteuid()), _set_users),
    _Trait(lambda: (os.getgid(), os.getegid(), os.getgroups()), _set_groups),
    _Trait(_limits, _set_limits),
    _Trait(os.getcwd, os.chdir),
    _Trait(lambda: dict(os.environb), _set_environ),
    _Trait(_umask, os.umask),
    _Trait(lambda: list(sys.path), _set_path),
    _Trait(_handlers, _set_handlers),
    _Trait(lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ()), _set_mask),
    _Trait(_output_streams, _set_output_streams),
    _Trait(sys.getrecursionlimit, sys.setrecursionlimit),
    _Trait(socket.getdefaulttimeout, socket.setdefaulttimeout),
    _Trait(lambda: logging.root.manager.disable, logging.disable),
    _Trait(
        lambda: os.getpriority(os.PRIO_PROCESS, 0),
        lambda nice: os.setpriority(os.PRIO_PROCESS, 0, nice),
    ),
    *_AFFINITY,
)
