"""A small terminal: what a command draws on it, cell by cell, and a command that runs on one."""

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from rich.cells import cell_len

_ON_ITS_TERMINAL = (
    "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "  # so that ^C is a signal
    "from jobq.__main__ import main; main()"
)
_TOKEN = re.compile(r"\x1b\[([?>]?)([0-9;:]*)([A-Za-z@`])|\x1b\][^\x07]*\x07|[^\x1b]", re.DOTALL)
_UNFINISHED = re.compile(r"\x1b(\[[?>]?[0-9;:]*)?\Z|\x1b\][^\x07]*\Z")
_BLANK = (" ", "")

Cell = tuple[str, str]  # a character and its look; an empty one follows a wide one


class Terminal:
    """Understands what jobq and rich write, and refuses anything else."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.cursor_shown = True
        self.alternate = False
        self.updating = False  # between the beginning and the end of a picture
        self.wraps = 0  # how often a line went on below
        self._autowrap = True
        self._look = ""
        self._rest = ""
        self._cells = self._blank()
        self._main = self._cells
        self._row = self._column = 0

    def _blank(self) -> list[list[Cell]]:
        return [[_BLANK] * self.columns for _ in range(self.rows)]

    @property
    def lines(self) -> list[str]:
        """The text on the screen, without the empty lines at the end."""
        text = ["".join(char for char, _ in row).rstrip() for row in self._cells]
        while text and not text[-1]:
            text.pop()
        return text

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def ansi(self) -> list[str]:
        """The lines with their styles."""
        coloured = []
        for row in self._cells[: len(self.lines)]:
            line, last = "", ""
            for char, look in row:
                line += (f"\x1b[0m{look}" if look != last else "") + char
                last = look
            coloured.append(line.rstrip() + "\x1b[0m")
        return coloured

    def feed(self, text: str) -> None:
        """Draw what was written."""
        text = self._rest + text
        unfinished = _UNFINISHED.search(text)
        end = unfinished.start() if unfinished else len(text)
        self._rest = text[end:]
        at = 0
        while at < end:
            match = _TOKEN.match(text, at, end)
            assert match, repr(text[at : at + 20])
            at = match.end()
            if match[3]:
                self._control(match[1], match[2], match[3])
            elif not match[0].startswith("\x1b"):
                self._character(match[0])

    def _character(self, char: str) -> None:
        if char == "\r":
            self._column = 0
        elif char == "\n":
            self._line_feed()
        elif char == "\b":
            self._column = max(0, self._column - 1)
        elif char not in "\x03\x07\x1a":  # an echoed Ctrl-C or Ctrl-Z is not seen
            assert char >= " ", repr(char)
            self._put(char, cell_len(char))

    def _put(self, char: str, width: int) -> None:
        if self._column + width > self.columns:
            if not self._autowrap:
                self._column = self.columns - width
            else:
                self.wraps += 1
                self._column = 0
                self._line_feed()
        row = self._cells[self._row]
        if width == 0:
            return
        row[self._column] = (char, self._look)
        if width == 2:
            row[self._column + 1] = ("", self._look)
        self._column += width

    def _line_feed(self) -> None:
        if self._row == self.rows - 1:
            self._cells.append([_BLANK] * self.columns)
            del self._cells[0]
        else:
            self._row += 1

    def _control(self, mark: str, numbers: str, letter: str) -> None:
        if mark:
            self._mode(numbers, on=letter == "h")
            return
        first = int(numbers.split(";", maxsplit=1)[0] or 0)
        match letter:
            case "m":
                self._look = "" if numbers in ("", "0") else self._look + f"\x1b[{numbers}m"
            case "A":
                self._row = max(0, self._row - max(1, first))
            case "B":
                self._row = min(self.rows - 1, self._row + max(1, first))
            case "H":
                assert not numbers
                self._row = self._column = 0
            case "K":
                start = 0 if first == 2 else self._column
                self._cells[self._row][start:] = [_BLANK] * (self.columns - start)
            case "J":
                assert first == 0
                self._control("", "", "K")
                for row in range(self._row + 1, self.rows):
                    self._cells[row] = [_BLANK] * self.columns
            case _:
                raise AssertionError(f"CSI {numbers}{letter}")

    def _mode(self, numbers: str, *, on: bool) -> None:
        match numbers:
            case "25":
                self.cursor_shown = on
            case "7":
                self._autowrap = on
            case "1049":
                self.alternate = on
                self._cells = self._blank() if on else self._main
            case "2026":
                self.updating = on
            case _:
                raise AssertionError(f"mode {numbers}")


class OnTerminal:
    """A jobq command that runs on a terminal of its own."""

    def __init__(
        self,
        cwd: Path,
        *argv: str,
        size: tuple[int, int] = (80, 24),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.screen = Terminal(*size)
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        unset = {"NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR"}
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name not in unset and not name.startswith("JOBQ_")
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", _ON_ITS_TERMINAL, *argv],
            cwd=cwd,
            env={**inherited, "TERM": "xterm-256color", "PYTHONUTF8": "1", **(env or {})},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)

    def until(self, condition: Callable[[Terminal], object], seconds: float = 30.0) -> Terminal:
        """Read what is drawn until it is as expected."""
        deadline = time.monotonic() + seconds
        while self.screen.updating or not condition(self.screen):
            left = deadline - time.monotonic()
            assert left > 0, f"not within {seconds} s:\n{self.screen.text}"
            assert self._read(left), f"it has ended:\n{self.screen.text}"
        return self.screen

    def end(self) -> int:
        """Read what is left, and return the exit code."""
        while self._read(30.0):
            pass
        return self.process.wait(timeout=30)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def close(self) -> None:
        """Close the window, as it were: the terminal is gone."""
        os.close(self._master)
        self._master = os.open(os.devnull, os.O_RDWR)

    def resize(self, columns: int, rows: int) -> None:
        """Resize the terminal, which clears it."""
        shown, alternate = self.screen.cursor_shown, self.screen.alternate
        self.screen = Terminal(columns, rows)
        self.screen.cursor_shown, self.screen.alternate = shown, alternate
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.killpg(self.process.pid, signal.SIGWINCH)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            raise TimeoutError(f"nothing came for {seconds:.0f} s:\n{self.screen.text}")
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: nobody has the other side open any more
            return False
        self.screen.feed(self._decoder.decode(data))
        if data and select.select([self._master], [], [], 0)[0]:
            return self._read(seconds)  # there is more of it
        return bool(data)
