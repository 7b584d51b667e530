"""Remote logs: a job's log as other hosts than its own see it, from what was shipped of it."""

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Self

from jobq.backends.base import Backend
from jobq.backends.messages import LogChunk
from jobq.logs.directory import EVENTS, OFFSET_FIELDS, JobLog, JobLogs
from jobq.logs.file import last_lines
from jobq.logs.gaps import Layout
from jobq.models import Job, LogOffsets

MAX_HELD_BYTES = 1 << 20
"""Bytes of a file that are held while it is followed."""

_SEARCHED_BYTES = 1 << 16  # at the end of the events, where the last attempt's are


def open_log(
    logs: JobLogs, backend: Backend, job: Job, attempt: int | None = None
) -> "JobLog | RemoteLog | None":
    """Open the log of a job: its files, if its last attempt ran here; else what was shipped.

    With ``attempt``, that one counts in the place of the last. Where nothing was shipped, it is the
    files, if there are any.
    """
    log = logs.open(job)
    if not backend.logs.ships or not job.attempts or (log and wrote(log, attempt or job.attempts)):
        return log
    shipped = RemoteLog(backend, job)
    if not shipped.refresh():
        return log
    if log is not None:
        log.close()
    return shipped


def wrote(log: JobLog, attempt: int) -> bool:
    """Return whether an attempt has left an event here: it may have run on another host."""
    with suppress(OSError), log.read(EVENTS) as file:
        if file is not None:
            end = file.layout().end
            last, _ = file.read(max(0, end - _SEARCHED_BYTES), _SEARCHED_BYTES)
            sign = re.compile(rb'"attempt": %d\b' % attempt)
            return bool(
                sign.search(last) or (end > _SEARCHED_BYTES and sign.search(file.read_all()))
            )
    return False


class ShippedFile:
    """One file, as far as it was shipped, with a line in the place of what was not."""

    def __init__(self) -> None:
        self._data = b""
        self._dropped = 0  # bytes before them

    def append(self, data: bytes) -> None:
        """Add what was shipped next."""
        self._data += data
        if len(self._data) > 2 * MAX_HELD_BYTES:
            self._dropped += len(self._data) - MAX_HELD_BYTES
            self._data = self._data[-MAX_HELD_BYTES:]

    def layout(self) -> Layout:
        """Return the places of its parts, as `LogFile.layout` does."""
        return Layout(self._dropped + len(self._data))

    def read(self, offset: int, size: int) -> tuple[bytes, int]:
        """Return about `size` bytes from an offset on, and the offset behind them."""
        start = max(offset - self._dropped, 0)
        data = self._data[start : start + size]
        return data, self._dropped + start + len(data)

    def read_all(self) -> bytes:
        """Return all that is held of it."""
        return self._data

    def last_lines(self, count: int | None, start: int, end: int) -> int:
        """Return the offset from which the last lines between two offsets can be read."""
        start, end = max(start - self._dropped, 0), max(end - self._dropped, 0)
        return self._dropped + last_lines(io.BytesIO(self._data), count, start, end)


class RemoteLog:
    """All files of a job, as far as they were shipped."""

    def __init__(self, backend: Backend, job: Job) -> None:
        self._backend = backend
        self._job_id = job.id
        self._attempts: Mapping[int, LogOffsets] = {}
        self._after: str | None = None
        self._files: dict[str, ShippedFile] = {}
        self._ends: dict[tuple[str, int], int] = {}
        self._starts: dict[int, dict[str, int]] = {}
        self._came: dict[str, int] = {}
        self._has_holes = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def has_holes(self) -> bool:
        """True if output is missing: offsets, which count what is there, differ from earlier ones."""
        return self._has_holes

    def close(self) -> None:
        """Nothing is held open."""

    def refresh(self) -> bool:
        """Read what was shipped since the last time; return whether there is anything by now."""
        parts, self._after = self._backend.logs.shipped(self._job_id, self._after)
        if any(part.attempt not in self._attempts for part in parts):
            found = self._backend.attempts(self._job_id)
            # Output of an attempt may have been shipped before it is recorded where it starts.
            self._attempts = {each.attempt: each.offsets for each in found if each.has_offsets}
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
            self._has_holes = True
        if part.offset + len(part.data) > expected:  # else it came twice
            file.append(part.data[max(0, expected - part.offset) :])
            self._ends[key] = part.offset + len(part.data)
            self._came[part.file] = len(self._came) and max(self._came.values()) + 1

    def size(self, name: str) -> int:
        """Return the bytes that were shipped of a file."""
        return self._files[name].layout().end if name in self._files else 0

    def changed_at(self, name: str) -> int:
        """Return a number that is higher for files that were shipped later."""
        return self._came.get(name, 0)

    @contextmanager
    def read(self, name: str) -> Iterator[ShippedFile | None]:
        """Open a file; None if nothing was shipped of it."""
        yield self._files.get(name)

    def span(self, attempt: int) -> tuple[LogOffsets, LogOffsets | None]:
        """Return where the output of an attempt starts, and where that of the next one does."""
        later = [number for number in sorted(self._starts) if number > attempt]
        return self._start(attempt), self._start(later[0]) if later else None

    def _start(self, attempt: int) -> LogOffsets:
        starts = self._starts.get(attempt)
        if starts is None:
            starts = {name: self.size(name) for name in OFFSET_FIELDS}
        return LogOffsets(**{field: starts.get(name, 0) for name, field in OFFSET_FIELDS.items()})

    def has_end_of(self, attempt: int) -> bool:
        """Return whether all that an attempt wrote was shipped: its last event comes last."""
        events = self._files.get(EVENTS)
        end = rb'"event": "finished", "attempt": %d\b' % attempt
        return (
            events is not None and re.search(end, events.read_all()[-_SEARCHED_BYTES:]) is not None
        )


def _missing(name: str, count: int) -> bytes:
    if name == EVENTS:
        return b'{"event": "not_shipped", "bytes": %d}\n' % count
    text = f"[jobq: {count:,} bytes were not shipped: they are in the file where the job ran]\n"
    return text.encode()
