"""Keeps a job's log files, together, within a limit: head and tail stay, the middle goes."""

import ctypes
import errno
import os
from dataclasses import dataclass
from datetime import datetime

from jobq.logs.directory import CAPPED, EVENTS, JobLog, event_line, write_all
from jobq.logs.gaps import Gap, Layout

SETTING = "[logs] max_bytes"

_ROOM = 0.75  # of the limit is what a trimmed log may still hold, to have room to grow
_HEAD = 1 / 8
_LEAST_TAIL = 1 / 16
# Four files of which each has its head and the least tail are within the room.

_LINE = 1 << 16  # bytes in which the end of a line is looked for
_BLOCK = 1 << 20
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

    How many bytes they hold now, and what was trimmed.

    Raises:
        OSError: a file can't be read or written.
    """
    total = sum(log.stored_size(name) for name in CAPPED)
    if total <= limit:  # holes included: the quick look
        return total, []
    layouts = {name: log.layout(name) for name in CAPPED}
    total = sum(layout.held for layout in layouts.values())
    trimmed: list[Trimmed] = []
    if total <= limit:
        return total, []
    for name, layout in sorted(layouts.items(), key=lambda item: -item[1].held):
        excess = total - int(limit * _ROOM)
        if excess <= 0 or not layout.held:
            break
        head = int(limit * _HEAD)
        tail = max(layout.held - head - excess, int(limit * _LEAST_TAIL))
        if after := _trim_file(log, name, head, tail, now):
            total += after.held - layout.held
            assert after.cut is not None
            trimmed.append(Trimmed(name, after.cut.dropped))
    return total, trimmed


def compact(log: JobLog) -> list[Trimmed]:
    """Write files with holes anew, as head, marker and tail, unless an attempt is under way.

    Raises:
        OSError: as when the disk is full; the file stays as it was.
    """
    cuts = log.cuts()
    if not cuts or not log.hold(alone=True):
        return []
    done = []
    for name, cut in cuts.items():
        with log.read(name) as file:
            layout = Layout(0) if file is None else file.layout()
        if layout.cut is not None and layout.resume != cut.start + len(cut.marker):
            _write_anew(log, name, layout, cut)
            done.append(Trimmed(name, cut.dropped))
    return done


# -- one file --------------------------------------------------------------------------------


def _trim_file(log: JobLog, name: str, head: int, tail: int, now: datetime) -> Layout | None:
    """Leave the head and the tail of a file; its layout then, None if nothing can be dropped."""
    descriptor = log.open(name, os.O_RDWR)
    try:
        before = log.layout(name)
        start = before.cut.start if before.cut else _line_end(descriptor, min(head, before.size))
        resume = _line_start(descriptor, max(start, before.size - tail), before.size)
        if resume <= (before.resume if before.cut else start):
            return None
        cut = _cut(descriptor, name, start, before.offset(resume), resume, now)
        try:
            return _drop(log, name, descriptor, cut)
        except OSError as error:
            if error.errno not in _NO_HOLES:
                raise
        # Head and marker stay, and who writes goes on behind them.
        cut = _cut(descriptor, name, start, before.end, before.size, now)
        log.note_cuts({**log.cuts(), name: cut})
        os.pwrite(descriptor, cut.marker, start)
        end = start + len(cut.marker)
        os.ftruncate(descriptor, end)
        return Layout(end, cut, end)
    finally:
        os.close(descriptor)


def _drop(log: JobLog, name: str, descriptor: int, cut: Gap) -> Layout:
    cuts = {**log.cuts(), name: cut}
    try:
        log.note_cuts(cuts)  # first, so that no reader takes the hole for output
    except OSError:  # a full disk, or the job does not let it be noted: room goes before readers
        _punch(descriptor, cut.start, cut.resume)
        log.note_cuts(cuts)
    _punch(descriptor, cut.start, cut.resume)
    return Layout(os.fstat(descriptor).st_size, cut, cut.resume)


def _punch(descriptor: int, start: int, end: int) -> None:
    """Give a part of a file back to the file system; what is behind it stays where it is."""
    try:
        fallocate = _LIBC.fallocate
    except AttributeError:  # only Linux has it
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    while fallocate(descriptor, _PUNCH_HOLE_KEEP_SIZE, start, end - start):
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


def _write_anew(log: JobLog, name: str, layout: Layout, cut: Gap) -> None:
    source = log.open(name, os.O_RDONLY)

    def write(descriptor: int) -> None:
        _copy(source, descriptor, 0, cut.start)
        write_all(descriptor, cut.marker)
        _copy(source, descriptor, layout.resume, layout.size)

    try:
        log.replace(name, write)
    finally:
        os.close(source)


def _copy(source: int, target: int, start: int, end: int) -> None:
    while start < end and (data := os.pread(source, min(_BLOCK, end - start), start)):
        write_all(target, data)
        start += len(data)


# -- where to cut ----------------------------------------------------------------------------


def _line_end(descriptor: int, place: int) -> int:
    """The end of the last line before a place; of the last character, where lines are long."""
    first = max(place - _LINE, place // 2)
    data = os.pread(descriptor, place - first, first)
    if newline := data.rfind(b"\n") + 1:
        return first + newline
    return next((at for at in range(place, place - 4, -1) if _starts(descriptor, at)), place)


def _line_start(descriptor: int, place: int, size: int) -> int:
    """The start of the first line from a place on; of the first character, where lines are long."""
    reach = min(_LINE, (size - place) // 2)
    newline = os.pread(descriptor, reach + 1, place - 1).find(b"\n") if place else -1
    if newline >= 0:
        return place + newline
    return next((at for at in range(place, place + 4) if _starts(descriptor, at)), place)


def _starts(descriptor: int, place: int) -> bool:
    """Whether a character of UTF-8 starts at a place, rather than goes on."""
    return os.pread(descriptor, 1, place)[:1] < b"\x80" or os.pread(descriptor, 1, place) >= b"\xc0"


def _cut(descriptor: int, name: str, start: int, end: int, resume: int, now: datetime) -> Gap:
    """A cut, with the line that stands for what was dropped."""
    if name == EVENTS:
        line = event_line("log_trimmed", now, 0, file=name, dropped=end - start, setting=SETTING)
    else:
        line = f"[jobq: {end - start:,} bytes were dropped here, to keep to {SETTING}]\n".encode()
    on_its_own = start == 0 or os.pread(descriptor, 1, start - 1) == b"\n"
    return Gap(start, end, resume, line if on_its_own else b"\n" + line)
