"""Pseudo-terminals: what commands of ``jobq run --tty`` read from and write to."""

import asyncio
import fcntl
import os
import signal
import struct
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from jobq.logs.directory import write_all

_BLOCK_BYTES = 1 << 16
_DEFAULT_SIZE = struct.pack("HHHH", 24, 80, 0, 0)


class Inherited(NamedTuple):
    """What commands get of the terminal or script that started their supervisor."""

    stdin: int | None = None  # a descriptor, for commands that have no stdin of their own
    keyboard: int | None = None  # a terminal, in raw mode: its keys go to a pseudo-terminal
    show: Callable[[bytes], None] | None = None  # gets what is written to a pseudo-terminal

    @property
    def wants_terminal(self) -> bool:
        """True if each command gets a pseudo-terminal."""
        return self.show is not None


class PseudoTerminal:
    """A terminal of one attempt: its output is recorded as stdout, and shown as it comes."""

    def __init__(self, log: int, inherited: Inherited) -> None:
        """``log`` is a descriptor that the terminal closes itself."""
        assert inherited.show is not None
        self._log = log
        self._show = inherited.show
        self._keyboard = inherited.keyboard
        self._typed = b""  # and not taken yet
        self._loop = asyncio.get_running_loop()
        self._master, self.slave = os.openpty()
        os.set_blocking(self._master, False)
        self._resize()
        self._loop.add_signal_handler(signal.SIGWINCH, self._resize)
        self._loop.add_reader(self._master, self._relay)
        if self._keyboard is not None:
            self._loop.add_reader(self._keyboard, self._read_keys)

    @staticmethod
    def become_controlling() -> None:
        """Make stdout the controlling terminal of this process, which leads a session."""
        fcntl.ioctl(1, termios.TIOCSCTTY, 0)

    def started(self) -> None:
        """Leave the inner side to the command."""
        os.close(self.slave)
        self.slave = -1

    def close(self) -> None:
        """Relay what is left, and let go of it."""
        while self._relay():
            pass
        self._loop.remove_signal_handler(signal.SIGWINCH)
        self._loop.remove_reader(self._master)
        self._loop.remove_writer(self._master)
        if self._keyboard is not None:
            self._loop.remove_reader(self._keyboard)
        for descriptor in (self._master, self._log, self.slave):
            if descriptor >= 0:
                os.close(descriptor)

    def _relay(self) -> bool:
        """Record and show what was written. Return whether there may be more."""
        try:
            data = os.read(self._master, _BLOCK_BYTES)
        except BlockingIOError:
            return False
        except OSError:  # EIO: no process has the inner side open
            data = b""
        if not data:
            self._loop.remove_reader(self._master)
            return False
        with suppress(OSError):  # a full disk loses output, not the job
            write_all(self._log, data)
        self._show(data)
        return True

    def _read_keys(self) -> None:
        assert self._keyboard is not None
        try:
            keys = os.read(self._keyboard, _BLOCK_BYTES)
        except OSError:  # the terminal is gone
            keys = b""
        self._loop.remove_reader(self._keyboard)  # until these are taken; for good at the end
        if keys:
            self._typed = keys
            self._send_keys()

    def _send_keys(self) -> None:
        assert self._keyboard is not None
        try:
            self._typed = self._typed[os.write(self._master, self._typed) :]
        except BlockingIOError:
            pass
        except OSError:  # the command has ended
            self._typed = b""
        if self._typed:
            self._loop.add_writer(self._master, self._send_keys)
        else:
            self._loop.remove_writer(self._master)
            self._loop.add_reader(self._keyboard, self._read_keys)

    def _resize(self) -> None:
        """Take on the size of the terminal around it."""
        size = _DEFAULT_SIZE
        for outer in (self._keyboard, 1, 2):
            with suppress(OSError):
                if outer is not None:
                    size = fcntl.ioctl(outer, termios.TIOCGWINSZ, _DEFAULT_SIZE)
                    break
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)
