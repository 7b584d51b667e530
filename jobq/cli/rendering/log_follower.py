"""Shows a job's output as it is written, made harmless for the terminal."""

import codecs
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TextIO

from jobq.backends.outage import Outage
from jobq.cli.rendering.ansi import AnsiFilter
from jobq.cli.rendering.output import note
from jobq.errors import DatabaseAwayError
from jobq.job_types import shell
from jobq.logs.directory import LOG, OFFSET_FIELDS, STDERR, STDOUT, JobLog
from jobq.logs.remote import RemoteLog, wrote
from jobq.models import FINISHED, Job, JobStatus, LogOffsets
from jobq.queue import JobQueue
from jobq.redaction import ShownJob

BEAT = 0.05
"""Seconds between two looks at files that may have grown."""

SHIPPED_BEAT = 0.2
"""Seconds between two looks at what came from another machine."""

LATEST = 10.0
"""Seconds after the end of a job in which the last of its output comes from there, if it does."""

_UNKNOWN = -1
_BLOCK = 1 << 16
_BLOCKS_AT_ONCE = 16
_LONGEST_ESCAPE = 32
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


def exit_code(job: Job) -> int:
    """The exit code that stands for how a job ended: a command's own, or 0 and 1."""
    if job.status is JobStatus.COMPLETED:
        return 0
    if job.type == shell.JOB_TYPE:
        if job.signal is not None:
            return 128 + job.signal
        if job.exit_code:
            return job.exit_code
    return 1


class Cleaner:
    """Makes a stream of bytes harmless, whatever the blocks that it comes in; unless it is ``raw``.

    It is, where nothing can be harmed: in a pipe, the bytes are as the job wrote them.
    """

    def __init__(self, *, raw: bool, color: bool) -> None:
        self._raw = raw
        self._looks = AnsiFilter(color=color)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._kept = ""

    def feed(self, data: bytes, *, final: bool = False) -> str:
        """What can be shown so far. An escape sequence or line end cut in two waits for its rest."""
        text = self._kept + self._decoder.decode(data, final)
        cut = len(text)
        if not final:
            escape = text.rfind("\x1b", max(0, cut - _LONGEST_ESCAPE))
            if escape >= 0 and "m" not in text[escape:]:
                cut = escape
            elif text.endswith("\r"):
                cut -= 1
        self._kept = text[cut:]
        return self._looks.shown(text[:cut].replace("\r\n", "\n").replace("\r", "\n"))

    def write(self, data: bytes, to: TextIO, *, final: bool = False) -> None:
        """Show what can be shown so far."""
        if self._raw:
            to.flush()
            to.buffer.write(data)
            to.buffer.flush()
        else:
            to.write(self.feed(data, final=final))
            to.flush()


@dataclass(slots=True)
class _Stream:
    name: str
    to: TextIO
    dim: bool
    cleaner: Cleaner
    at: int
    changed: int = 0
    pending: bytes = field(default=b"")


class Follower:
    """The streams of one job, shown from a point on."""

    def __init__(
        self,
        queue: JobQueue,
        job_id: int,
        *,
        names: Sequence[str] = (STDOUT, STDERR, LOG),
        raw: bool = False,
        color: bool = True,
        split: bool = False,
        offsets: dict[str, int] | None = None,
        log: JobLog | RemoteLog | None = None,
        attempt: int = 0,
    ) -> None:
        """With ``split``, what the job wrote to stderr goes to stderr.

        ``log`` is the one that the ``offsets`` are of, if it is open, as of that attempt.

        What does not go to a terminal is shown as it is, as with ``raw``.
        """
        self._queue = queue
        self._job_id = job_id
        self._log, self._attempt = log, attempt
        self._next_look = 0.0
        terminal = sys.stdout.isatty()
        self._streams = []
        for name in names:
            to = sys.stderr if split and name == STDERR else sys.stdout
            stream = _Stream(
                name=name,
                to=to,
                dim=name != STDOUT and terminal and color and len(names) > 1,
                cleaner=Cleaner(raw=raw or not to.isatty(), color=color),
                at=(offsets or {}).get(name, 0),
            )
            self._streams.append(stream)

    def pump(self, *, final: bool = False) -> bool:
        """Show what has been written since the last time; whether there was anything."""
        if self._log is None:
            self._log = self._queue.logs.open(self._job_id)
            if self._log is None:
                return False
        grown = [stream for stream in self._streams if self._grew(self._log, stream)]
        for stream in sorted(grown, key=lambda stream: stream.changed):
            self._show(self._log, stream)
        for stream in self._streams:
            if final or (stream.pending and stream not in grown):
                self._write(stream, stream.pending, final=final)
                stream.pending = b""
        return bool(grown)

    def look(self, job: Job) -> None:
        """Find the log, which is elsewhere once another machine tries the job; see what came of it.

        Raises:
            DatabaseError: that can't be seen.
        """
        same = job.attempts == self._attempt
        if self._log is not None and same and not self._came:
            return
        if self._queue.ships_logs and time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + SHIPPED_BEAT
        if self._came is not None:
            self._came.refresh()
        if self._came is None or not same:
            found = self._queue.open_log(job)
            if isinstance(found, RemoteLog) and self._came is not None:
                self._attempt = job.attempts
            elif found is not None:
                self._go_on_with(found, job)

    def _go_on_with(self, log: JobLog | RemoteLog, job: Job) -> None:
        """From where the job's attempt begins in it, if what was shown before is somewhere else."""
        if self._log is not None and isinstance(log, RemoteLog) is not (self._came is not None):
            start = self._start_in(log, job)
            if start is None:
                log.close()
                return
            for stream in self._streams:
                stream.at = getattr(start, OFFSET_FIELDS[stream.name])
        self.close()
        self._log = log
        self._attempt = job.attempts
        if isinstance(log, JobLog) and self._queue.ships_logs and not wrote(log, job.attempts):
            self._attempt = _UNKNOWN  # it may run elsewhere

    def _start_in(self, log: JobLog | RemoteLog, job: Job) -> LogOffsets | None:
        """None: that is not known yet."""
        if isinstance(log, RemoteLog):
            return log.span(job.attempts)[0]
        attempt = self._queue.attempts(job.id)[-1]
        return None if attempt.pid is None else attempt.offsets

    @property
    def _came(self) -> RemoteLog | None:
        return self._log if isinstance(self._log, RemoteLog) else None

    def has_all(self, job: Job) -> bool:
        """Whether nothing more is to be expected of a job that has ended."""
        return self._came is None or self._came.has_end_of(job.attempts)

    def close(self) -> None:
        """Let go of the log directory."""
        if self._log is not None:
            self._log.close()

    def _grew(self, log: JobLog | RemoteLog, stream: _Stream) -> bool:
        with suppress(OSError):
            stream.changed = log.changed_at(stream.name)
            return log.size(stream.name) > stream.at
        return False

    def _show(self, log: JobLog | RemoteLog, stream: _Stream) -> None:
        """Whole lines at once; the rest of a line when nothing has come for a beat."""
        with log.read(stream.name) as file:
            if file is None:
                return
            # A portion at a time: the loop that calls this has more to do.
            for _ in range(_BLOCKS_AT_ONCE):
                data, stream.at = file.read(stream.at, _BLOCK)
                if not data:
                    break
                data = stream.pending + data
                whole = data.rfind(b"\n") + 1 or (len(data) if len(data) > _BLOCK else 0)
                stream.pending = data[whole:]
                self._write(stream, data[:whole])

    def _write(self, stream: _Stream, data: bytes, *, final: bool = False) -> None:
        if not data and not final:
            return
        if stream.dim and data:
            stream.to.write(_DIM)
        stream.cleaner.write(data, stream.to, final=final)
        if stream.dim and data:
            stream.to.write(_PLAIN)
            stream.to.flush()


def follow(queue: JobQueue, follower: Follower, job_id: int) -> Job:
    """Show a job's output until it has ended, across retries; the job as it ended."""
    outage, next_look, ended = Outage(note), 0.0, None
    seen, job = None, outage.until_answered(lambda: queue.get(job_id))
    try:
        while True:
            try:
                if time.monotonic() >= next_look:
                    changes = queue.change_counter()
                    if changes != seen:
                        seen, job = changes, queue.get(job_id)
                    follower.look(job)
                    outage.over()
            except DatabaseAwayError as error:
                outage.met(error)
                next_look = time.monotonic() + outage.next_pause()
            grew = follower.pump(final=job.status in FINISHED)
            if job.status in FINISHED:
                ended = ended or time.monotonic()
                late = time.monotonic() > ended + LATEST
                if not grew and (late or follower.has_all(job)):
                    return job
            time.sleep(BEAT)
    finally:
        follower.close()


def follow_job(queue: JobQueue, job_id: int, *, color: bool) -> int:
    """Follow a job that was just added; its exit code."""
    if not any(each.takes_jobs for each in queue.supervisors()) and sys.stderr.isatty():
        note("No worker is running: `jobq work` in another terminal starts it.")
    job = follow(queue, Follower(queue, job_id, split=True, color=color), job_id)
    tell_failure(queue.shown(job))
    return exit_code(job)


def tell_failure(job: ShownJob) -> None:
    """One line about a job that did not complete."""
    if job.status is not JobStatus.COMPLETED:
        why = job.error if job.status is JobStatus.FAILED else job.reason
        note(f"jobq: job {job.id} {job.status}" + (f": {why}" if why else ""))


def show_part(
    log: JobLog | RemoteLog,
    name: str,
    lines: int | None,
    span: tuple[int, int | None],
    *,
    raw: bool,
    color: bool,
) -> int:
    """Show the last lines of a stretch of one file; the offset at which it ended."""
    start, end = span
    with log.read(name) as file:
        if file is None:
            return start
        size = file.layout().end
        end = size if end is None else min(end, size)
        at = file.last_lines(lines, min(start, end), end)
        cleaner = Cleaner(raw=raw or not sys.stdout.isatty(), color=color)
        while at < end:
            data, at = file.read(at, min(_BLOCK, end - at))
            if not data:
                break
            cleaner.write(data, sys.stdout, final=at >= end)
        return max(at, end)
