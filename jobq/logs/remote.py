"""A job's log as another machine than its own sees it: what was shipped of it."""

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Self

from jobq.backends.base import Backend
from jobq.backends.messages import LogChunk
from jobq.logs.directory import (
    EVENTS,
    OFFSET_FIELDS,
    JobLog,
    JobLogs,
    last_lines,
)
from jobq.logs.gaps import Layout
from jobq.models import Job, LogOffsets

MOST = 1 << 20
"""Bytes of a file that are held while it is followed."""

_LOOK = 1 << 16


def open_log(
    logs: JobLogs, backend: Backend, job: Job, attempt: int | None = None
) -> "JobLog | RemoteLog | None":
    """The log of a job: the files themselves, if its last attempt wrote to them; else what came.

    With ``attempt``, that one counts in the place of the last.

    Where nothing came, it is the files, if there are any.
    """
    log = logs.open(job.id)
    if not backend.logs.ships or not job.attempts or (log and wrote(log, attempt or job.attempts)):
        return log
    shipped = RemoteLog(backend, job)
    if not shipped.refresh():
        return log
    if log is not None:
        log.close()
    return shipped


def wrote(log: JobLog, attempt: int) -> bool:
    """Whether an attempt has left an event here: it may have run on another machine."""
    with suppress(OSError), log.read(EVENTS) as file:
        if file is not None:
            end = file.layout().end
            last, _ = file.read(max(0, end - _LOOK), _LOOK)
            sign = re.compile(rb'"attempt": %d\b' % attempt)
            return bool(sign.search(last) or (end > _LOOK and sign.search(file.read_all())))
    return False


class ShippedFile:
    """One file, as far as it came; a line stands in the place of what did not."""

    def __init__(self) -> None:
        self._data = b""
        self._dropped = 0  # bytes before them

    def append(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > 2 * MOST:
            self._dropped += len(self._data) - MOST
            self._data = self._data[-MOST:]

    def layout(self) -> Layout:
        return Layout(self._dropped + len(self._data))

    def read(self, offset: int, size: int) -> tuple[bytes, int]:
        """About so many bytes from an offset on, and the offset behind them."""
        start = max(offset - self._dropped, 0)
        data = self._data[start : start + size]
        return data, self._dropped + start + len(data)

    def read_all(self) -> bytes:
        return self._data

    def last_lines(self, count: int | None, start: int, end: int) -> int:
        """The offset from which the last lines between two offsets can be read."""
        start, end = max(start - self._dropped, 0), max(end - self._dropped, 0)
        return self._dropped + last_lines(io.BytesIO(self._data), count, start, end)


class RemoteLog:
    """What came of all files of a job."""

    def __init__(self, backend: Backend, job: Job) -> None:
        self._backend = backend
        self._job_id = job.id
        self._attempts: Mapping[int, LogOffsets] = {}
        self._after: str | None = None
        self._files: dict[str, ShippedFile] = {}
        self._ends: dict[tuple[str, int], int] = {}
        self._starts: dict[int, dict[str, int]] = {}
        self._came: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is held open."""

    def refresh(self) -> bool:
        """Take in what came since the last time; whether there is anything by now."""
        parts, self._after = self._backend.logs.shipped(self._job_id, self._after)
        if any(part.attempt not in self._attempts for part in parts):
            found = self._backend.attempts(self._job_id)
            # What came of an attempt may be here before it is known where its output starts.
            self._attempts = {each.attempt: each.offsets for each in found if each.pid is not None}
        for part in parts:
            self._take(part)
        return bool(self._files)

    def _take(self, part: LogChunk) -> None:
        file = self._files.setdefault(part.file, ShippedFile())
        if part.attempt not in self._starts:
            starts = {name: each.layout().end for name, each in self._files.items()}
            self._starts[part.attempt] = starts
        key = part.file, part.attempt
        first = LogOffsets() if part.attempt == 1 else None
        offsets = self._attempts.get(part.attempt, first)
        begun = part.offset if offsets is None else getattr(offsets, OFFSET_FIELDS[part.file])
        expected = self._ends.get(key, begun)
        if part.offset > expected:
            file.append(_missing(part.file, part.offset - expected))
        if part.offset + len(part.data) > expected:  # else it came twice
            file.append(part.data[max(0, expected - part.offset) :])
            self._ends[key] = part.offset + len(part.data)
            self._came[part.file] = len(self._came) and max(self._came.values()) + 1

    def size(self, name: str) -> int:
        """How many bytes came of a file."""
        return self._files[name].layout().end if name in self._files else 0

    def changed_at(self, name: str) -> int:
        """In which order files were written to, as far as that can be told."""
        return self._came.get(name, 0)

    @contextmanager
    def read(self, name: str) -> Iterator[ShippedFile | None]:
        """A file; None if nothing came of it."""
        yield self._files.get(name)

    def span(self, attempt: int) -> tuple[LogOffsets, LogOffsets | None]:
        """Where what came of an attempt starts, and where that of the next one does."""
        later = [number for number in sorted(self._starts) if number > attempt]
        return self._start(attempt), self._start(later[0]) if later else None

    def _start(self, attempt: int) -> LogOffsets:
        starts = self._starts.get(attempt)
        if starts is None:
            starts = {name: self.size(name) for name in OFFSET_FIELDS}
        return LogOffsets(**{field: starts.get(name, 0) for name, field in OFFSET_FIELDS.items()})

    def has_end_of(self, attempt: int) -> bool:
        """Whether all that an attempt wrote has come: its last event is shipped last."""
        events = self._files.get(EVENTS)
        end = rb'"event": "finished", "attempt": %d\b' % attempt
        return events is not None and re.search(end, events.read_all()[-_LOOK:]) is not None


def _missing(name: str, count: int) -> bytes:
    if name == EVENTS:
        return b'{"event": "not_shipped", "bytes": %d}\n' % count
    text = f"[jobq: {count:,} bytes were not shipped: they are in the file where the job ran]\n"
    return text.encode()
