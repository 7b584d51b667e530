"""The standard streams, usable however they were left: closed, non-blocking, full, or unbuffered.

Python's own lose output on a descriptor that others made non-blocking, and with PYTHONUNBUFFERED
wherever a write takes only a part; nor do they read all input from such a descriptor.
"""

import os
import sys
from io import BufferedReader, BufferedWriter, RawIOBase, TextIOWrapper
from typing import Any, TextIO

_INPUT, _OUTPUT, _ERRORS = 0, 1, 2


class OutputError(OSError):
    """Output could not be written; a `BrokenPipeError` is none of these."""


class _Input(RawIOBase):
    """A descriptor that is read, and waited for if it does not block."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def readinto(self, buffer: Any) -> int:
        while True:
            try:
                return os.readv(self._descriptor, [buffer])
            except BlockingIOError:
                _wait_for(self._descriptor, writing=False)


class _Output(RawIOBase):
    """A descriptor that is written to, and waited for if it does not block."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.drops_failed = descriptor == _ERRORS  # an error could not be reported either
        self.drops_unread = False  # output whose reader has left
        self.failure: OSError | None = None  # the first one, if output was dropped

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        while True:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:
                _wait_for(self._descriptor, writing=True)
            except BrokenPipeError:
                if not self.drops_unread:
                    raise
                return len(data)
            except OSError as error:
                if not self.drops_failed:
                    raise OutputError(error.errno, error.strerror, "stdout") from None
                self.failure = self.failure or error
                return len(data)


def _wait_for(descriptor: int, *, writing: bool) -> None:
    import select  # only where a stream is non-blocking

    poll = select.poll()
    poll.register(descriptor, select.POLLOUT if writing else select.POLLIN)
    poll.poll()


def prepare() -> None:
    """Replace the standard streams by ones that wait, and whose output is UTF-8 in any locale.

    Where one was closed, nothing comes in and output is dropped; and no file that is opened later
    gets its number.
    """
    for descriptor in (_INPUT, _OUTPUT, _ERRORS):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number is free
    if (stdin := sys.__stdin__) is not None and sys.stdin is stdin:
        reader = BufferedReader(_Input(_INPUT))
        sys.stdin = TextIOWrapper(reader, encoding=stdin.encoding, errors=stdin.errors)
    sys.stdout = _prepared(sys.stdout, sys.__stdout__, _OUTPUT)
    sys.stderr = _prepared(sys.stderr, sys.__stderr__, _ERRORS)


def _prepared(stream: TextIO | None, original: TextIO | None, descriptor: int) -> TextIO:
    if stream is not original:  # somebody else's, who calls us from a program
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
        assert stream is not None
        return stream
    unbuffered = isinstance(stream, TextIOWrapper) and stream.write_through
    return TextIOWrapper(
        BufferedWriter(_Output(descriptor)),
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=unbuffered or descriptor == _ERRORS or os.isatty(descriptor),
    )


def go_on_without_output(*, unread: bool = True) -> None:
    """Drop output that can't be written: the command is not to end halfway because of it.

    ``unread``: also if the reader has left.
    """
    for stream in (sys.stdout, sys.stderr):
        if (output := _output_of(stream)) is not None:
            output.drops_failed, output.drops_unread = True, unread


def output_failure() -> OSError | None:
    """Return why output was dropped; None if it was not, or its reader left."""
    output = _output_of(sys.stdout)
    return None if output is None else output.failure


def _output_of(stream: Any) -> _Output | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, _Output) else None
