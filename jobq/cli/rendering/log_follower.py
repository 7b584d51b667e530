"""Follower of a job's log: shows output as it is written, safe for the terminal."""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TextIO

from jobq.backends.outage import Outage
from jobq.cli.rendering import streams
from jobq.cli.rendering.cleaner import ERASE_LINE, NEW_LINE, Cleaner
from jobq.cli.rendering.hints import hint_no_supervisor
from jobq.cli.rendering.output import note
from jobq.errors import DatabaseAwayError
from jobq.job_types import shell
from jobq.logs.directory import LOG, OFFSET_FIELDS, STDERR, STDOUT, JobLog
from jobq.logs.remote import RemoteLog, wrote
from jobq.models import FINISHED, Job, JobStatus, LogOffsets
from jobq.queue import JobQueue
from jobq.redaction import ShownJob
from jobq.units import format_duration

POLL_INTERVAL_S = 0.05
"""Polling interval (s) for log files that may have grown."""

REMOTE_POLL_INTERVAL_S = 0.2
"""Polling interval (s) for output that another host ships."""

REMOTE_END_TIMEOUT_S = 10.0
"""Seconds to wait for the last output from another host after a job has ended."""

_UNKNOWN = -1
_BLOCK_BYTES = 1 << 16
_MAX_BLOCKS = 16  # read from one file in one call
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


CANCELLED_EXIT_CODE = 130
"""The exit code for a job that was cancelled, whichever signal that took: that of Ctrl-C."""


def exit_code(job: Job) -> int:
    """Return the exit code for the end of a job: a command's own, else 0 or 1."""
    if job.status is JobStatus.COMPLETED:
        return 0
    if job.status is JobStatus.CANCELLED:
        return CANCELLED_EXIT_CODE
    if job.type == shell.JOB_TYPE:
        if job.signal is not None:
            return 128 + job.signal
        if job.exit_code:
            return job.exit_code
    return 1


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
    """The streams of one job, shown from given offsets on."""

    def __init__(
        self,
        queue: JobQueue,
        job: Job,
        *,
        names: Sequence[str] = (STDOUT, STDERR, LOG),
        raw: bool = False,
        color: bool = True,
        split: bool = False,
        offsets: dict[str, int] | None = None,
        log: JobLog | RemoteLog | None = None,
        attempt: int = 0,
    ) -> None:
        """With ``split``, send the job's stderr to stderr.

        ``log`` is the open log that the ``offsets`` belong to, as of that attempt. Output that does
        not go to a terminal is raw in any case.
        """
        self._queue = queue
        self._logs = Outage(note).until_answered(queue.logs.pinned)
        self._job = job
        self._log, self._attempt = log, attempt
        self._next_poll = 0.0
        terminal = sys.stdout.isatty()
        self._streams = []
        for name in names:
            to = sys.stderr if split and name == STDERR else sys.stdout
            stream = _Stream(
                name=name,
                to=to,
                dim=name != STDOUT and terminal and color and len(names) > 1,
                cleaner=_live_cleaner(to, raw=raw, color=color),
                at=(offsets or {}).get(name, 0),
            )
            self._streams.append(stream)

    def pump(self, *, final: bool = False) -> bool:
        """Show what has been written since the last call. Return whether there was anything."""
        if self._log is None:
            self._log = self._logs.open(self._job)
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

    def refresh(self, job: Job) -> None:
        """Find the log, which moves when another host takes the next attempt, and refresh it.

        Raises:
            DatabaseError: the database can't be read.
        """
        same = job.attempts == self._attempt
        if self._log is not None and same and not self._remote:
            return
        if self._queue.ships_logs and time.monotonic() < self._next_poll:
            return
        self._next_poll = time.monotonic() + REMOTE_POLL_INTERVAL_S
        if self._remote is not None:
            self._remote.refresh()
        if self._remote is None or not same:
            found = self._queue.open_log(job)
            if isinstance(found, RemoteLog) and self._remote is not None:
                self._attempt = job.attempts
            elif found is not None:
                self._continue_in(found, job)

    def _continue_in(self, log: JobLog | RemoteLog, job: Job) -> None:
        """Continue in this log; from the start of the attempt, if it is another one."""
        if self._log is not None and isinstance(log, RemoteLog) is not (self._remote is not None):
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
        """Return where the attempt starts in the log; None if that is not known yet."""
        if isinstance(log, RemoteLog):
            return log.span(job.attempts)[0]
        attempt = self._queue.attempts(job.id)[-1]
        return attempt.offsets if attempt.has_offsets else None

    @property
    def _remote(self) -> RemoteLog | None:
        return self._log if isinstance(self._log, RemoteLog) else None

    def has_all(self, job: Job) -> bool:
        """Return whether all output of a job that has ended is here."""
        return self._remote is None or self._remote.has_end_of(job.attempts)

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()

    def _grew(self, log: JobLog | RemoteLog, stream: _Stream) -> bool:
        try:
            stream.changed = log.changed_at(stream.name)
            size = log.size(stream.name)
            if size < stream.at:  # or its gap was noted in between
                size = log.size(stream.name)
        except OSError:
            return False
        if size < stream.at:
            self._restart(stream)
        return size > stream.at

    def _restart(self, stream: _Stream) -> None:
        """Continue at the beginning of a file that was truncated, as by logrotate's copytruncate."""
        self._write(stream, stream.pending, final=True)
        stream.at, stream.pending = 0, b""
        note(f"{stream.name} of job {self._job.id} was truncated: continuing with what is new")

    def _show(self, log: JobLog | RemoteLog, stream: _Stream) -> None:
        """Show whole lines; the rest of a line waits until nothing more comes."""
        with log.read(stream.name) as file:
            if file is None:
                return
            # A few blocks per call: the loop that calls this has more to do.
            for _ in range(_MAX_BLOCKS):
                data, stream.at = file.read(stream.at, _BLOCK_BYTES)
                if not data:
                    break
                data = stream.pending + data
                ends = data.rfind(b"\n"), data.rfind(b"\r")
                whole = max(ends) + 1 or (len(data) if len(data) > _BLOCK_BYTES else 0)
                stream.pending = data[whole:]
                self._write(stream, data[:whole])

    def _write(self, stream: _Stream, data: bytes, *, final: bool = False) -> None:
        if not data and not final:
            return
        if data and stream.to.isatty():
            for other in self._streams:
                if other is not stream:
                    stream.to.write(other.cleaner.leave_line())
        if stream.dim and data:
            stream.to.write(_DIM)
        stream.cleaner.write(data, stream.to, final=final)
        if stream.dim and data:
            stream.to.write(_PLAIN)
            stream.to.flush()


def _live_cleaner(to: TextIO, *, raw: bool, color: bool) -> Cleaner:
    """Return the filter for output that is shown as it comes."""
    if raw or not to.isatty():
        return Cleaner(raw=True, color=color)
    draws = os.environ.get("TERM") != "dumb"
    width = os.get_terminal_size(to.fileno()).columns - 1
    return Cleaner(
        raw=False,
        color=color,
        rewrite=ERASE_LINE if draws else NEW_LINE,
        width=width if draws and width > 0 else None,
    )


def follow(queue: JobQueue, follower: Follower, job_id: int) -> Job:
    """Show a job's output until it has ended, across retries. Return the job as it ended."""
    outage, next_poll, ended, told = Outage(note), 0.0, None, 0
    seen, job = None, outage.until_answered(lambda: queue.get(job_id))
    try:
        while True:
            try:
                if time.monotonic() >= next_poll:
                    changes = queue.change_counter()
                    if changes != seen:
                        seen, job = changes, queue.get(job_id)
                    follower.refresh(job)
                    outage.over()
            except DatabaseAwayError as error:
                outage.met(error)
                next_poll = time.monotonic() + outage.next_pause()
            grew = follower.pump(final=job.status in FINISHED)
            if job.status in FINISHED:
                ended = ended or time.monotonic()
                late = time.monotonic() > ended + REMOTE_END_TIMEOUT_S
                if not grew and (late or follower.has_all(job)):
                    return job
            elif not grew and job.status is JobStatus.RETRYING and job.attempts > told:
                told = job.attempts
                _note_retry(queue, job)
            time.sleep(POLL_INTERVAL_S)
    finally:
        follower.close()


def _note_retry(queue: JobQueue, job: Job) -> None:
    """Say on a terminal why nothing more comes for now; stderr in a pipe is the job's alone."""
    if sys.stderr.isatty() and job.run_at is not None:
        wait = max((job.run_at - queue.now()).total_seconds(), 0.0)
        why = queue.shown(job).error
        note(
            f"jobq: attempt {job.attempts} of job {job.id} failed{f' ({why})' if why else ''}: "
            f"retry in {format_duration(wait)}"
        )


def follow_job(queue: JobQueue, job_id: int, *, color: bool) -> int:
    """Follow a job that was just added. Return its exit code."""
    queue.hold_store()
    hint_no_supervisor(queue, [queue.get(job_id)], until_ended=True)
    streams.go_on_without_output(unread=False)
    job = follow(queue, Follower(queue, queue.get(job_id), split=True, color=color), job_id)
    tell_failure(queue.shown(job))
    return exit_code(job)


def tell_failure(job: ShownJob) -> None:
    """Print a line about a job that did not complete."""
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
    """Show the last lines of a span of one file. Return the offset at which it ended."""
    start, end = span
    with log.read(name) as file:
        if file is None:
            return start
        size = file.layout().end
        end = size if end is None else min(end, size)
        at = file.last_lines(lines, min(start, end), end)
        cleaner = Cleaner(raw=raw or not sys.stdout.isatty(), color=color)
        while at < end:
            data, at = file.read(at, min(_BLOCK_BYTES, end - at))
            if not data:
                break
            cleaner.write(data, sys.stdout, final=at >= end)
        return max(at, end)
