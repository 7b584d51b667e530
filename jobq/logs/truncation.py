"""Truncation: a job's log files together stay within a limit, by dropping their middles."""

import ctypes
import errno
import os
from dataclasses import dataclass
from datetime import datetime

from jobq.logs.directory import CAPPED, EVENTS, JobLog, event_line, write_all
from jobq.logs.gaps import Gap, Layout

SETTING = "[logs] max_bytes"

_KEPT_SHARE = 0.75  # of the limit: what trimmed logs may still hold, so that they can grow again
_HEAD_SHARE = 1 / 8
_MIN_TAIL_SHARE = 1 / 16
# Four files with a head and the least tail each are within the kept share.

_LINE_SEARCH_BYTES = 1 << 16  # in which the end of a line is looked for
_BLOCK_BYTES = 1 << 20
_PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01
_NO_HOLES = {errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV}
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Trimmed:
    """A file from which something has been dropped."""

    name: str
    dropped: int  # bytes, of all that was ever written to it


def trim(log: JobLog, limit: int, now: datetime) -> tuple[int, list[Trimmed]]:
    """Drop the middle of the largest files if together they hold more than ``limit`` bytes.

    Returns:
        The bytes that they hold now, and what was trimmed.

    Raises:
        OSError: a file can't be read or written.
    """
    total = sum(log.stored_size(name) for name in CAPPED)
    if total <= limit:  # with the holes, which is quicker to find out
        return total, []
    layouts = {name: log.layout(name) for name in CAPPED}
    total = sum(layout.held for layout in layouts.values())
    trimmed: list[Trimmed] = []
    if total <= limit:
        return total, []
    for name, layout in sorted(layouts.items(), key=lambda item: -item[1].held):
        excess = total - int(limit * _KEPT_SHARE)
        if excess <= 0 or not layout.held:
            break
        head = int(limit * _HEAD_SHARE)
        tail = max(layout.held - head - excess, int(limit * _MIN_TAIL_SHARE))
        if after := _trim_file(log, name, head, tail, now):
            total += after.held - layout.held
            assert after.gap is not None
            trimmed.append(Trimmed(name, after.gap.dropped))
    return total, trimmed


def compact(log: JobLog) -> list[Trimmed]:
    """Rewrite files with holes as head, marker and tail, unless an attempt is under way.

    Raises:
        OSError: as when the disk is full; the file stays as it was.
    """
    gaps = log.gaps()
    if not gaps or not log.hold(alone=True):
        return []
    done = []
    for name, gap in gaps.items():
        with log.read(name) as file:
            layout = Layout(0) if file is None else file.layout()
        if layout.gap is not None and layout.resume != gap.start + len(gap.marker):
            _rewrite(log, name, layout, gap)
            done.append(Trimmed(name, gap.dropped))
    return done


# -- one file --------------------------------------------------------------------------------


def _trim_file(log: JobLog, name: str, head: int, tail: int, now: datetime) -> Layout | None:
    """Keep the head and the tail of a file; return its layout, None if nothing can be dropped."""
    descriptor = log.open(name, os.O_RDWR)
    try:
        before = log.layout(name)
        start = before.gap.start if before.gap else _line_end(descriptor, min(head, before.size))
        resume = _line_start(descriptor, max(start, before.size - tail), before.size)
        if resume <= (before.resume if before.gap else start):
            return None
        gap = _gap(descriptor, name, start, before.offset(resume), resume, now)
        try:
            return _drop(log, name, descriptor, gap)
        except OSError as error:
            if error.errno not in _NO_HOLES:
                raise
        # Without holes, head and marker stay, and processes that append go on behind them.
        gap = _gap(descriptor, name, start, before.end, before.size, now)
        log.note_gaps({**log.gaps(), name: gap})
        os.pwrite(descriptor, gap.marker, start)
        end = start + len(gap.marker)
        os.ftruncate(descriptor, end)
        return Layout(end, gap, end)
    finally:
        os.close(descriptor)


def _drop(log: JobLog, name: str, descriptor: int, gap: Gap) -> Layout:
    gaps = {**log.gaps(), name: gap}
    try:
        log.note_gaps(gaps)  # first, so that no reader takes the hole for output
    except OSError:  # a full disk, or the job prevents it: disk space matters more than readers
        _punch(descriptor, gap.start, gap.resume)
        log.note_gaps(gaps)
    _punch(descriptor, gap.start, gap.resume)
    return Layout(os.fstat(descriptor).st_size, gap, gap.resume)


def _punch(descriptor: int, start: int, end: int) -> None:
    """Give a part of a file back to the file system, without moving what is behind it."""
    try:
        fallocate = _LIBC.fallocate
    except AttributeError:  # only Linux has it
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    while fallocate(descriptor, _PUNCH_HOLE_KEEP_SIZE, start, end - start):
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


def _rewrite(log: JobLog, name: str, layout: Layout, gap: Gap) -> None:
    source = log.open(name, os.O_RDONLY)

    def write(descriptor: int) -> None:
        _copy(source, descriptor, 0, gap.start)
        write_all(descriptor, gap.marker)
        _copy(source, descriptor, layout.resume, layout.size)

    try:
        log.replace(name, write)
    finally:
        os.close(source)


def _copy(source: int, target: int, start: int, end: int) -> None:
    while start < end and (data := os.pread(source, min(_BLOCK_BYTES, end - start), start)):
        write_all(target, data)
        start += len(data)


# -- where a gap begins and ends ----------------------------------------------------------------------------


def _line_end(descriptor: int, place: int) -> int:
    """Return the end of the last line before a place; of a character, where lines are long."""
    first = max(place - _LINE_SEARCH_BYTES, place // 2)
    data = os.pread(descriptor, place - first, first)
    if newline := data.rfind(b"\n") + 1:
        return first + newline
    return next((at for at in range(place, place - 4, -1) if _starts(descriptor, at)), place)


def _line_start(descriptor: int, place: int, size: int) -> int:
    """Return the start of the first line from a place on; of a character, where lines are long."""
    reach = min(_LINE_SEARCH_BYTES, (size - place) // 2)
    newline = os.pread(descriptor, reach + 1, place - 1).find(b"\n") if place else -1
    if newline >= 0:
        return place + newline
    return next((at for at in range(place, place + 4) if _starts(descriptor, at)), place)


def _starts(descriptor: int, place: int) -> bool:
    """Return whether a character of UTF-8 starts at a place, rather than goes on."""
    return os.pread(descriptor, 1, place)[:1] < b"\x80" or os.pread(descriptor, 1, place) >= b"\xc0"


def _gap(descriptor: int, name: str, start: int, end: int, resume: int, now: datetime) -> Gap:
    """Return a gap, with the line that stands for what was dropped."""
    if name == EVENTS:
        line = event_line("log_trimmed", now, 0, file=name, dropped=end - start, setting=SETTING)
    else:
        line = f"[jobq: {end - start:,} bytes were dropped here, to keep to {SETTING}]\n".encode()
    on_its_own = start == 0 or os.pread(descriptor, 1, start - 1) == b"\n"
    return Gap(start, end, resume, line if on_its_own else b"\n" + line)
