"""Followers of log files: one reader for each file, however many streams follow it.

A reader asks for the size of its file, more often while that grows. A stream reads from its own
offset, in pieces that end with a whole character, as its socket has room. Offsets are those of
`LogFile`: they count every byte that was ever written, so that a stream can be resumed anywhere.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, TypeVar

from jobq.errors import JobqError
from jobq.logs.directory import EVENTS, LOG, STDERR, STDOUT, JobLog
from jobq.logs.file import LogFile
from jobq.logs.remote import RemoteLog, ShippedFile, wrote
from jobq.models import FINISHED, Job
from jobq.queue import JobQueue
from jobq.web.changes import Changes, Item, Seen
from jobq.web.feeds import Feed, Part, SharedReads
from jobq.web.frames import event
from jobq.web.work import Work

FILES = {"stdout": STDOUT, "stderr": STDERR, "log": LOG, "events": EVENTS}
"""The files of a job by their names in topics."""

MIN_INTERVAL_S = 0.1
MAX_INTERVAL_S = 1.0
"""Time between two looks at a file: shorter while it grows."""

PIECE_BYTES = 1 << 16
REMOTE_END_TIMEOUT_S = 10.0
"""Time to wait for the last output from another host after a job has ended."""

_UNKNOWN = -1

T = TypeVar("T")


class Place(NamedTuple):
    """An offset in a file; ``log``: in which, since the next attempt may run on another host."""

    log: int
    offset: int


class Piece(NamedTuple):
    """A piece of a log, as events."""

    frames: list[bytes]
    place: Place
    more: bool
    over: bool = False


class FollowedLog:
    """One file of a job, for all streams that follow it."""

    def __init__(self, queue: JobQueue, work: Work, job_id: int, name: str) -> None:
        self._queue = queue
        self._work = work
        self._job_id = job_id
        self._file = FILES[name]
        self.topic = f"log/{job_id}/{name}"
        self._job: Job | None = None
        self.is_gone = False
        self._ended_at: float | None = None
        self._log: JobLog | RemoteLog | None = None
        self._attempt = 0
        self.number = 0  # of the log, counted
        self.is_partial = False
        self._start = 0  # of the attempt, in a log that took the place of another one
        self._size = 0
        self._is_complete = False
        self._lock = threading.Lock()
        self._is_closed = False
        self.interval = MIN_INTERVAL_S
        self.next_look = 0.0
        self.notified: set[Callable[[], None]] = set()
        self._reads: SharedReads[Place, Piece] = SharedReads(self._read)

    # -- in the loop -----------------------------------------------------------------------

    def on_state(self, item: Item, seen: Seen) -> None:  # noqa: ARG002 - as all watchers
        """Take note of the job, and look at the file soon."""
        self._job, self.is_gone = seen.value, seen.value is None
        self.interval, self.next_look = MIN_INTERVAL_S, 0.0
        if self.is_gone:
            self.notify()

    def notify(self) -> None:
        """Let all streams read on."""
        self._reads.forget()
        for notify in list(self.notified):
            notify()

    async def piece(self, place: Place) -> Piece:
        """Return what comes behind a place."""
        piece = await self._reads.get(place)
        if piece.place.offset < place.offset:
            self._reads.forget()  # they are of the file as it was before it was truncated
        return piece

    async def _read(self, place: Place) -> Piece:
        return await self._work.read(lambda: self._locked(lambda: self._piece(place)))

    # -- in a thread -----------------------------------------------------------------------

    def look(self) -> bool:
        """Return whether there is something new: output, or the end of it."""
        try:
            return self._locked(self._look)
        except (JobqError, OSError):
            return False  # at the next look

    def close(self) -> None:
        """Let go of the files, now or when the thread that reads them is done."""
        self._is_closed = True
        if self._lock.acquire(blocking=False):
            self._release()

    def _locked(self, call: Callable[[], T]) -> T:
        self._lock.acquire()
        try:
            return call()
        finally:
            self._release()

    def _release(self) -> None:
        log = self._log
        if self._is_closed and log is not None:
            self._log = None
            log.close()
        self._lock.release()

    def _look(self) -> bool:
        job = self._job
        if job is None or self._is_closed:
            return False
        self._find_log(job)
        before = self._size, self._is_complete, self.number
        has_ended = job.status in FINISHED  # before the size: nothing is written after it
        self._size = 0 if self._log is None else self._log.size(self._file)
        self._ended_at = (self._ended_at or time.monotonic()) if has_ended else None
        self._is_complete = has_ended and self._has_all(job)
        return before != (self._size, self._is_complete, self.number)

    def _find_log(self, job: Job) -> None:
        """Open the log, which moves when another host takes the next attempt, or refresh it."""
        if isinstance(self._log, RemoteLog):
            self._log.refresh()
        if self._log is not None and job.attempts == self._attempt:
            return
        if not self._queue.ships_logs:
            self._log = self._log or self._queue.logs.open(job)
            return
        found = self._queue.open_log(job)
        if found is None:
            return
        if isinstance(found, RemoteLog) and isinstance(self._log, RemoteLog):
            self._attempt = job.attempts
        elif self._log is None or isinstance(found, RemoteLog) is not isinstance(
            self._log, RemoteLog
        ):
            self._continue_in(found, job)
        else:
            found.close()
            self._attempt = self._attempt_in(self._log, job)

    def _continue_in(self, log: JobLog | RemoteLog, job: Job) -> None:
        if self._log is not None:
            self._start = self._start_in(log, job)
            self._log.close()
            self.number += 1
        elif isinstance(log, RemoteLog) and log.has_holes:
            self.is_partial = (
                True  # offsets count what is left: those of an earlier reader are others
            )
            self.number += 1
        self._log, self._attempt = log, self._attempt_in(log, job)

    def _attempt_in(self, log: JobLog | RemoteLog, job: Job) -> int:
        """Return the attempt that a log is of; that a local one has it may only show later."""
        known = isinstance(log, RemoteLog) or wrote(log, job.attempts)
        return job.attempts if known else _UNKNOWN

    def _start_in(self, log: JobLog | RemoteLog, job: Job) -> int:
        field = next(name for name, file in FILES.items() if file == self._file)
        if isinstance(log, RemoteLog):
            return int(getattr(log.span(job.attempts)[0], field))
        attempts = self._queue.attempts(job.id)
        return int(getattr(attempts[-1].offsets, field)) if attempts else 0

    def _has_all(self, job: Job) -> bool:
        """Return whether all output of a job that has ended is here."""
        if not self._queue.ships_logs or not job.attempts or isinstance(self._log, JobLog):
            return True
        if self._log is not None and self._log.has_end_of(job.attempts):
            return True
        return time.monotonic() > (self._ended_at or 0.0) + REMOTE_END_TIMEOUT_S

    def _piece(self, place: Place) -> Piece:
        if self.is_gone:
            frames = [self._reset(0, "pruned")] if place.offset else []
            return Piece([*frames, self._end("deleted")], place, more=False, over=True)
        if place.log != self.number:
            start = Place(self.number, self._start)
            frames = [self._reset(self._start, "trimmed")] if place.offset else []
            return Piece(frames, start, more=True)
        is_complete = self._is_complete
        try:
            piece = self._next(place, is_complete=is_complete)
        except OSError:  # something else is in its place
            piece = None
        if piece is None and is_complete:
            return Piece([self._end("ended")], place, more=False, over=True)
        return piece or Piece([], place, more=False)

    def _next(self, place: Place, *, is_complete: bool) -> Piece | None:
        """Return the next piece; None if there is none yet."""
        if self._log is None:
            return None
        size = self._log.size(self._file)
        if size < place.offset:
            size = self._log.size(self._file)  # its gap may have been noted in between
        if size < place.offset:
            return self._moved(0)
        with self._log.read(self._file) as file:
            if file is None:
                return None
            gap = file.layout().gap
            if gap is not None and gap.start < place.offset < gap.end:
                return self._moved(gap.end)
            return self._text(file, place.offset, None if is_complete else size)

    def _text(
        self, file: LogFile | ShippedFile, offset: int, growing_from: int | None
    ) -> Piece | None:
        """Return the next piece of a file; ``growing_from``: its size, unless it is complete."""
        data, behind = file.read(offset, PIECE_BYTES)
        if not data:
            return None
        is_plain = behind == offset + len(data)
        if not is_plain and isinstance(file, ShippedFile):  # it keeps what was shipped last
            return self._moved(behind - len(data))
        if is_plain:
            whole = whole_characters(data)
            if not whole and behind == growing_from:
                return None  # the rest of the character is yet to come
            if whole and (len(data) == PIECE_BYTES or growing_from is not None):
                data, behind = whole, offset + len(whole)
        text = data.decode("utf-8", "replace")
        document = {"topic": self.topic, "from": offset, "to": behind, "text": text}
        return Piece([event("log", document)], Place(self.number, behind), more=True)

    def _moved(self, offset: int) -> Piece:
        return Piece([self._reset(offset, "trimmed")], Place(self.number, offset), more=True)

    def _reset(self, offset: int, reason: str) -> bytes:
        return event("reset", {"topic": self.topic, "from": offset, "reason": reason})

    def _end(self, reason: str) -> bytes:
        return event("end", {"topic": self.topic, "reason": reason})


def whole_characters(data: bytes) -> bytes:
    """Return data without the beginning of a character of UTF-8 at its end."""
    for length in range(1, min(3, len(data)) + 1):
        byte = data[-length]
        if byte >= 0xC0:  # the first of a character: is that whole?
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data[:-length] if needed > length else data
        if byte < 0x80:
            break
    return data


class Followers:
    """All log files that are followed, and the looks at them."""

    def __init__(self, queue: JobQueue, work: Work, changes: Changes) -> None:
        self._queue = queue
        self._work = work
        self._changes = changes
        self._logs: dict[tuple[int, str], FollowedLog] = {}
        self._task: asyncio.Task[None] | None = None

    def follow(self, job_id: int, name: str, notify: Callable[[], None]) -> FollowedLog:
        """Return a file; ``notify`` is called when there may be more."""
        log = self._logs.get((job_id, name))
        if log is None:
            log = self._logs[job_id, name] = FollowedLog(self._queue, self._work, job_id, name)
            self._changes.watch([Item("ids", job_id)], log)
        log.notified.add(notify)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        return log

    def leave(self, job_id: int, name: str, notify: Callable[[], None]) -> None:
        """Call a function no more."""
        log = self._logs.get((job_id, name))
        if log is None:
            return
        log.notified.discard(notify)
        if not log.notified:
            del self._logs[job_id, name]
            self._changes.unwatch([Item("ids", job_id)], log)
            log.close()

    async def _run(self) -> None:
        while self._logs:
            now = time.monotonic()
            due = [log for log in self._logs.values() if log.next_look <= now]
            if due:
                with suppress(JobqError):  # the server is busy: at the next look
                    await self._look(due)
            await asyncio.sleep(MIN_INTERVAL_S)
        self._task = None

    async def _look(self, due: list[FollowedLog]) -> None:
        grown = set(await self._work.read(lambda: [log for log in due if log.look()]))
        now = time.monotonic()
        for log in due:
            longer = min(2 * log.interval, MAX_INTERVAL_S)
            log.interval = MIN_INTERVAL_S if log in grown else longer
            log.next_look = now + log.interval
            if log in grown:
                log.notify()


class LogFeed(Feed):
    """A log file, as one stream follows it."""

    def __init__(self, followers: Followers, job_id: int, name: str, offset: int) -> None:
        self.topic = f"log/{job_id}/{name}"
        self._followers = followers
        self._job_id = job_id
        self._name = name
        self._offset = offset

    async def start(self, position: object, notify: Callable[[], None]) -> None:
        """Begin at an offset: the last one sent, or that of the topic."""
        if position is not None and (type(position) is not int or not 0 <= position < 1 << 62):
            raise ValueError("no offset")
        self._notify = notify
        self._log = self._followers.follow(self._job_id, self._name, notify)
        offset = self._offset if position is None else position
        is_foreign = offset > 0 and self._log.is_partial
        self._place = Place(_UNKNOWN if is_foreign else self._log.number, offset)

    async def read(self) -> Part:
        """Return the next piece of the log."""
        piece = await self._log.piece(self._place)
        self._place = piece.place
        return Part(piece.frames, piece.more, piece.over)

    def position(self) -> int:
        """Return the offset behind what was sent."""
        return self._place.offset

    def stop(self) -> None:
        """Follow no more."""
        self._followers.leave(self._job_id, self._name, self._notify)
