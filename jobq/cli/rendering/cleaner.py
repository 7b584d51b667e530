"""A filter for the output of a job: safe for a terminal, with progress bars as people see them."""

import codecs
import re
from typing import TextIO

from jobq.cli.rendering.ansi import AnsiFilter
from jobq.cli.rendering.output import cut, width_of

ERASE_LINE = "\r\x1b[K"
NEW_LINE = "\n"

_MAX_ESCAPE_CHARS = 32
_MAX_HELD_CHARS = 1 << 16
_ERASING = re.compile(r"\x1b\[[0-2]?K")
_STYLE = re.compile(r"\x1b\[[0-9;:]*m")


class Cleaner:
    """A filter that makes a stream of bytes safe for a terminal, in blocks of any size.

    A line that is written anew after a carriage return, as progress bars are, shows its last state.
    A ``raw`` filter keeps the bytes as the job wrote them, as a pipe gets them.
    """

    def __init__(
        self, *, raw: bool, color: bool, rewrite: str | None = None, width: int | None = None
    ) -> None:
        """Set how lines are rewritten.

        ``rewrite`` is written before a new state of a line that is shown: `ERASE_LINE`, for a
        terminal that draws, or `NEW_LINE`. Without it, lines are held back until they are whole.

        Of a line that is not whole yet, a state is cut to ``width`` columns.
        """
        self._raw = raw
        self._filter = AnsiFilter(color=color)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._kept = ""
        self._rewrite = rewrite
        self._width = width
        self._held = ""  # of a line that is not whole yet
        self._uncut = ""  # the state of the line that is shown, if it was cut
        self._is_returned = False  # after a carriage return: what comes is a new state
        self._is_open = False  # part of a line is shown
        self._is_rewritten = False  # and was rewritten

    def feed(self, data: bytes, *, final: bool = False) -> str:
        """Return what can be shown so far; hold back part of an escape sequence or line end."""
        text = self._kept + self._decoder.decode(data, final)
        end = len(text)
        if not final:
            escape = text.rfind("\x1b", max(0, end - _MAX_ESCAPE_CHARS))
            if escape >= 0 and "m" not in text[escape:] and not _ERASING.match(text, escape):
                end = escape
            if text[:end].endswith("\r"):
                end -= 1
        self._kept = text[end:]
        *whole, last = text[:end].replace("\r\n", "\n").split("\n")
        parts = []
        for line in whole:
            parts.append(self._part(line, is_whole=True) + "\n")
            self._is_open = self._is_rewritten = False
        return "".join((*parts, self._part(last, is_whole=final)))

    def leave_line(self) -> str:
        """Return what ends a line that may be rewritten, for others to write below it."""
        if not (self._is_open and self._is_rewritten):
            return ""
        self._is_open = False
        return "\n"

    def write(self, data: bytes, to: TextIO, *, final: bool = False) -> None:
        """Write what can be shown so far."""
        if self._raw:
            to.flush()
            to.buffer.write(data)
            to.buffer.flush()
        else:
            to.write(self.feed(data, final=final))
            to.flush()

    def _part(self, part: str, *, is_whole: bool) -> str:
        """Return what the next part of a line adds to what is shown of it."""
        if self._is_returned:
            part, self._is_returned = f"\r{part}", False
        if "\r" in part and not is_whole:
            self._is_returned = not _ERASING.sub("", part.rpartition("\r")[2])
        if self._rewrite is None:
            part, self._held = self._held + part, ""
            if not is_whole and len(part) <= _MAX_HELD_CHARS:
                self._held = _last_state(part)
                return ""
        before, erased = "", ""
        if "\r" in part:
            is_new = bool(part.partition("\r")[2].strip("\r"))
            erased = (self._rewrite or NEW_LINE) if self._is_open and is_new else ""
            self._is_rewritten, part = True, _last_state(part)
        elif self._uncut and (part or is_whole):
            erased, before = self._rewrite or NEW_LINE, self._uncut
        self._uncut = ""
        self._is_open = self._is_open or bool(part)
        return erased + self._fitted(before + part, is_whole=is_whole)

    def _fitted(self, text: str, *, is_whole: bool) -> str:
        shown = self._filter.shown(text)
        if is_whole or not self._is_rewritten or self._width is None:
            return shown
        plain = _STYLE.sub("", shown)
        if width_of(plain) <= self._width:
            return shown
        self._uncut = text
        return cut(plain, self._width)


def _last_state(line: str) -> str:
    """Return what is seen of a line in the end: what follows the last carriage return with text."""
    if "\r" not in line:
        return line
    first, *states = (_ERASING.sub("", state) for state in line.split("\r"))
    return next((state for state in reversed(states) if state), first)
