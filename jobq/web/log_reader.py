"""Logs in pieces: from an offset, a line or the end, with line numbers, and searched."""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from jobq.errors import NotFound
from jobq.logs.directory import EVENTS, LOG, OFFSET_FIELDS, STDERR, STDOUT, JobLog
from jobq.logs.gaps import Gap, Layout
from jobq.logs.remote import RemoteLog, wrote
from jobq.models import Job
from jobq.queue import JobQueue

FILES = {"stdout": STDOUT, "stderr": STDERR, "log": LOG, "events": EVENTS}
"""The files of a job by their names in URLs."""

BLOCK_BYTES = 1 << 20
MAX_INDEXED_FILES = 64
COUNT_LIMIT_S = 0.1
"""Time in which the lines before an offset are counted, for their number; else there is none."""

SEARCH_LIMIT_S = 0.2
MAX_HITS = 100
CONTEXT_BYTES = 200
"""Bytes before and behind a hit that are shown of its line."""


class Readable(Protocol):
    """A log file, here or as far as it was shipped."""

    def layout(self) -> Layout:
        """Return the places of its parts."""

    def read(self, offset: int, size: int) -> tuple[bytes, int]:
        """Return about `size` bytes from an offset on, and the offset behind them."""

    def last_lines(self, count: int | None, start: int, end: int) -> int:
        """Return the offset from which the last lines between two offsets can be read."""


class Span(NamedTuple):
    """The output of an attempt in a file: from an offset to another one, or to the end."""

    start: int
    stop: int | None


def spans(queue: JobQueue, job: Job, log: JobLog | RemoteLog, name: str) -> dict[int, Span]:
    """Return where the output of each attempt is, by its number: of those that are in this log."""
    attempts = queue.attempts(job.id)
    field = OFFSET_FIELDS[name]
    if isinstance(log, RemoteLog):
        starts = {each.attempt: getattr(log.span(each.attempt)[0], field) for each in attempts}
    else:
        starts = {
            each.attempt: getattr(each.offsets, field)
            for each in attempts
            if not queue.ships_logs or wrote(log, each.attempt)
        }
    stops = [*starts.values(), None][1:]
    return {number: Span(starts[number], stop) for number, stop in zip(starts, stops, strict=True)}


def span_of(
    queue: JobQueue, job: Job, log: JobLog | RemoteLog, name: str, attempt: int | None
) -> Span:
    """Return where the output of an attempt is; without a number, all of it.

    Raises:
        NotFound: there is no such attempt.
    """
    if attempt is None:
        return Span(0, None)
    found = spans(queue, job, log, name).get(attempt)
    if found is None:
        raise NotFound(f"job {job.id} has no attempt {attempt}: it has had {job.attempts}")
    return found


def blocks(
    file: Readable, start: int, stop: int, size: int | None = None
) -> Iterator[tuple[int, bytes, int]]:
    """Yield an offset, bytes from there on, and the offset behind them, up to a stop.

    The marker of a gap stands for all of it.
    """
    at = start
    while at < stop:
        data, behind = file.read(at, min(size or BLOCK_BYTES, stop - at))
        if not data:
            return
        yield at, data, behind
        at = behind


def read_part(file: Readable, start: int, stop: int, limit: int) -> tuple[bytes, int]:
    """Return up to ``limit`` bytes between two offsets, and the offset behind them.

    A marker at the beginning may be longer.
    """
    found, end = bytearray(), start
    for _, data, behind in blocks(file, start, stop, limit):
        if found and len(found) + len(data) > limit:
            break
        found += data
        end = behind
    return bytes(found), end


# -- lines -----------------------------------------------------------------------------------


class LineIndex:
    """The newlines of a file, counted once a megabyte. It forgets them when the file is trimmed."""

    def __init__(self) -> None:
        self._gap: Gap | None = None
        self._at: list[int] = [0]  # offsets up to which lines were counted
        self._newlines: list[int] = [0]  # before each of them
        self._lock = threading.Lock()

    def line_at(self, file: Readable, offset: int, seconds: float) -> int | None:
        """Return the number of the line that has an offset; None if counting takes longer."""
        with self._lock:
            self._check(file)
            if not self._extend(file, offset, seconds):
                return None
            place = max(i for i, at in enumerate(self._at) if at <= offset)
            newlines = self._newlines[place]
            for _, data, behind in blocks(file, self._at[place], offset):
                newlines += data.count(b"\n") if behind <= offset else 0
            return newlines + 1

    def offset_of(self, file: Readable, line: int) -> int:
        """Return the offset at which a line begins; the end, if there are fewer lines."""
        with self._lock:
            self._check(file)
            while self._newlines[-1] < line - 1 and self._step(file):
                pass
            return _behind_newline(file, self._at, self._newlines, line - 1)

    def _check(self, file: Readable) -> None:
        layout = file.layout()
        if layout.gap != self._gap or layout.end < self._at[-1]:
            self._gap, self._at, self._newlines = layout.gap, [0], [0]

    def _extend(self, file: Readable, offset: int, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self._at[-1] + BLOCK_BYTES <= offset:
            if time.monotonic() >= deadline:
                return False
            if not self._step(file):
                break
        return True

    def _step(self, file: Readable) -> bool:
        """Count one more block, if it is whole; return whether it was."""
        at = self._at[-1]
        data, behind = file.read(at, BLOCK_BYTES)
        if len(data) < BLOCK_BYTES and behind == at + len(data):
            gap = file.layout().gap
            if gap is None or behind != gap.start:
                return False  # the end, which may grow
        self._at.append(behind)
        self._newlines.append(self._newlines[-1] + data.count(b"\n"))
        return True


def _behind_newline(file: Readable, at: list[int], newlines: list[int], number: int) -> int:
    """Return the offset behind a newline, by its number from 1; the end if there is none."""
    if number < 1:
        return 0
    place = max(i for i, count in enumerate(newlines) if count < number)
    left, end = number - newlines[place], at[place]
    for start, data, behind in blocks(file, at[place], file.layout().end):
        count = data.count(b"\n")
        if count < left:
            left, end = left - count, behind
            continue
        found = -1
        for _ in range(left):
            found = data.index(b"\n", found + 1)
        return behind if found == len(data) - 1 else start + found + 1
    return end


class LineIndexes:
    """The indexes of the files that were read last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, str], LineIndex] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, job: Job, log: JobLog | RemoteLog, name: str) -> LineIndex:
        """Return the index of a file. What was shipped is small, and may lose its beginning."""
        if isinstance(log, RemoteLog):
            return LineIndex()
        with self._lock:
            found = self._kept.pop((job.id, name), None) or LineIndex()
            self._kept[job.id, name] = found
            while len(self._kept) > MAX_INDEXED_FILES:
                self._kept.popitem(last=False)
            return found


# -- search ----------------------------------------------------------------------------------


class Hit(NamedTuple):
    """A line that has a text: where the text is, and what is around it."""

    offset: int
    line: int | None
    text: str


class Found(NamedTuple):
    """What one search gave, and the offset to go on from; None if that was all."""

    hits: list[Hit]
    next: int | None


def search(
    file: Readable, text: bytes, start: int, line: int | None, *, ignore_case: bool = False
) -> Found:
    """Find the lines that have a text, for `SEARCH_LIMIT_S` at most.

    ``line`` is the number of the line at the start; None: not known. The first hit of a line stands
    for all of them.
    """
    deadline = time.monotonic() + SEARCH_LIMIT_S
    scan = _Scan(file, text, line, ignore_case=ignore_case)
    end = file.layout().end
    for at, data, behind in blocks(file, start, end):
        full_at = scan.take(at, data, behind)
        if full_at is not None:
            return Found(scan.hits, full_at)
        if time.monotonic() >= deadline and behind < end:
            return Found(scan.hits, max(start + 1, behind - len(text) + 1))
    return Found(scan.hits, None)


class _Scan:
    """The state of a search from block to block."""

    def __init__(self, file: Readable, text: bytes, line: int | None, *, ignore_case: bool) -> None:
        self.hits: list[Hit] = []
        self._file = file
        self._text = text.lower() if ignore_case else text
        self._ignore_case = ignore_case
        self._line = line  # at the end of the last block
        self._rest = b""  # of the last block: a hit may begin there
        self._has_hit = False  # on the line that the last block ended in

    def take(self, at: int, data: bytes, behind: int) -> int | None:
        """Search the next block; return the offset to go on from if there are enough hits."""
        is_marker = behind != at + len(data)
        window = data if is_marker else self._rest + data
        begin, known = at - (len(window) - len(data)), len(window) - len(data)
        shown = window.lower() if self._ignore_case else window
        place = 0
        if self._has_hit:
            place = self._next_line(shown, known)
        while place >= 0 and (place := shown.find(self._text, place)) >= 0:
            self._add(begin + place, self._line_of(window, known, place))
            place = self._next_line(shown, place)
            if len(self.hits) == MAX_HITS:
                return begin + place if place >= 0 else behind
        if self._line is not None:
            self._line += data.count(b"\n")
        self._has_hit = place == _NO_LINE
        self._rest = b"" if is_marker else window[len(window) - len(self._text) + 1 :]
        return None

    def _next_line(self, shown: bytes, place: int) -> int:
        newline = shown.find(b"\n", place)
        return _NO_LINE if newline < 0 else newline + 1

    def _line_of(self, window: bytes, known: int, place: int) -> int | None:
        """Return the number of a line; that of the first byte that is new is known."""
        if self._line is None:
            return None
        if place < known:
            return self._line - window.count(b"\n", place, known)
        return self._line + window.count(b"\n", known, place)

    def _add(self, offset: int, line: int | None) -> None:
        self.hits.append(Hit(offset, line, _line_around(self._file, offset, len(self._text))))


_NO_LINE = -2
"""In place of a position: the line does not end here."""


def _line_around(file: Readable, offset: int, size: int) -> str:
    """Return what is before and behind a hit, on its line."""
    first = max(0, offset - CONTEXT_BYTES)
    before, behind = file.read(first, offset - first) if first < offset else (b"", offset)
    after, _ = file.read(offset, size + CONTEXT_BYTES)
    before = before if behind == offset else b""
    head, tail = before.rpartition(b"\n")[2], after.partition(b"\n")[0]
    return (head + tail).decode("utf-8", "replace")
