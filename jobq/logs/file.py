"""A log file as its readers see it: with a marker in the place of what was dropped from it."""

import os
from collections.abc import Callable
from typing import Protocol

from jobq.logs.gaps import Gap, Layout

_BLOCK = 1 << 16


class LogFile:
    """A log file as it was written, with a marker in the place of what was dropped from it."""

    def __init__(self, descriptor: int, find_gap: Callable[[], Gap | None]) -> None:
        self._descriptor = descriptor
        self._find_gap = find_gap

    def layout(self) -> Layout:
        """Return the places of its parts now."""
        return self._layout(self._find_gap())

    def _layout(self, gap: Gap | None) -> Layout:
        size = os.fstat(self._descriptor).st_size
        if gap is None or size < gap.start:  # its job has rewritten it
            return Layout(size)
        marked = os.pread(self._descriptor, len(gap.marker), gap.start) == gap.marker
        return Layout(size, gap, gap.start + len(gap.marker) if marked else gap.resume)

    def read(self, offset: int, size: int) -> tuple[bytes, int]:
        """Return about `size` bytes from an offset on, and the offset behind them.

        There are none at the end.
        """
        while True:
            gap = self._find_gap()
            data, behind = self._read(self._layout(gap), offset, size)
            if self._find_gap() == gap:  # else zeros may have been read: gaps are noted beforehand
                return data, behind

    def read_all(self) -> bytes:
        """Return all of it, with the marker."""
        data, at = bytearray(), 0
        while (read := self.read(at, _BLOCK))[0]:
            data += read[0]
            at = read[1]
        return bytes(data)

    def last_lines(self, count: int | None, start: int, end: int) -> int:
        """Return the offset from which the last lines between two offsets can be read."""
        layout = self.layout()
        shown = _Shown(layout, lambda at, size: self._read(layout, at, size)[0])
        place = last_lines(shown, count, layout.shown_from(start), layout.shown_to(end))
        return layout.offset_shown(place)

    def _read(self, layout: Layout, offset: int, size: int) -> tuple[bytes, int]:
        gap = layout.gap
        if gap is not None and gap.start <= offset < gap.end:
            return gap.marker, gap.end
        if gap is None or offset < gap.start:
            place, size = offset, size if gap is None else min(size, gap.start - offset)
        else:
            place = layout.resume + offset - gap.end
        data = os.pread(self._descriptor, size, place)
        return data, offset + len(data)


class _Blocks(Protocol):
    """Something that can be read block by block."""

    def seek(self, place: int, /) -> object: ...

    def read(self, size: int, /) -> bytes: ...


class _Shown:
    """Head, marker and tail of a log file as one file."""

    def __init__(self, layout: Layout, read: Callable[[int, int], bytes]) -> None:
        self._layout = layout
        self._read = read
        self._place = 0

    def seek(self, place: int) -> None:
        self._place = place

    def read(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            place = self._place + len(found)
            offset = self._layout.offset_shown(place)
            skip = place - self._layout.shown_from(offset)
            data = self._read(offset, skip + size - len(found))[skip:]
            if not data:
                break
            found += data[: size - len(found)]
        self._place += len(found)
        return found


def last_lines(file: _Blocks, count: int | None, start: int, end: int) -> int:
    """Return the offset in ``start``..``end`` from which the last ``count`` lines can be read.

    It reads backwards from the end, so that the length of the file does not matter.
    """
    if count is None:
        return start
    if count == 0:
        return end
    at, found = end, -1
    while at > start:
        size = min(_BLOCK, at - start)
        at -= size
        file.seek(at)
        block = file.read(size)
        if found < 0:  # a newline at the very end closes the last line, and starts none
            found = 0
            if block.endswith(b"\n"):
                block = block[:-1]
        newlines = block.count(b"\n")
        if found + newlines >= count:
            for _ in range(count - found):
                end_of_line = block.rfind(b"\n")
                block = block[:end_of_line]
            return at + end_of_line + 1
        found += newlines
    return start
