"""The screen of ``jobq list --watch``: a live table; in a pipe, a line per change."""

import os
import select
import shutil
import signal
import sys
import termios
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from types import FrameType
from typing import Any, Self

from jobq.backends.outage import Outage
from jobq.cli.rendering.job_text import time_of
from jobq.cli.rendering.live_table import Canvas, Row, plain_cut, table, totals
from jobq.cli.rendering.output import cut, is_terminal, note, print_jsonl, styled
from jobq.clock import utcnow
from jobq.describe import describe
from jobq.diagnostics.eta import PastRuns, remaining
from jobq.errors import DatabaseAwayError
from jobq.inert import inert
from jobq.models import FINISHED, UNFINISHED, Job, JobFilter, JobStatus
from jobq.queue import JobQueue
from jobq.redaction import ShownJob
from jobq.serializers import job_document

POLL_INTERVAL_S = 0.25
"""Polling interval (s) for changes, and so the shortest time between two pictures."""

REDRAW_INTERVAL_S = 1.0
"""Interval (s) at which times are drawn again though nothing has changed."""

PAUSE_FACTOR = 10.0
"""The pause after reading jobs, as a multiple of the time that reading took."""

_WAITING = (JobStatus.RETRYING, JobStatus.PENDING, JobStatus.SCHEDULED, JobStatus.BLOCKED)


def watch(
    queue: JobQueue, wanted: JobFilter, *, color: bool, draws: bool, as_jsonl: bool = False
) -> None:
    """Show jobs as they change, until Ctrl-C, or q on a terminal that is not dumb (``draws``)."""
    queue.hold_store()
    if as_jsonl or not (draws and is_terminal()):
        _print_all_changes(queue, wanted, as_jsonl=as_jsonl)
    else:
        with FullScreen() as screen:
            _draw(queue, wanted, screen, color=color)


# -- the picture ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The jobs to show, with the counts of all."""

    jobs: Sequence[ShownJob]
    counts: Mapping[JobStatus, int] | None  # None: unknown for such a selection
    slots: int  # of supervisors that take jobs
    supervisors: int


def snapshot(queue: JobQueue, wanted: JobFilter, rows: int) -> Snapshot:
    """Return running jobs first; waiting and last ended ones share the remaining rows."""

    def some(statuses: Iterable[JobStatus], limit: int, order: str = "id") -> list[Job]:
        chosen = frozenset(statuses) & (wanted.statuses or frozenset(JobStatus))
        if limit <= 0 or not chosen:
            return []
        return queue.page(replace(wanted, statuses=chosen), order=order, limit=limit).jobs

    running = some([JobStatus.RUNNING], rows)
    room = rows - len(running)
    waiting: list[Job] = []
    for status in _WAITING:
        waiting += some([status], room - len(waiting))
    ended = some(FINISHED, room, "-finished")
    ended = ended[: max(room // 2, room - len(waiting))]
    waiting = waiting[: room - len(ended)]
    there = [each for each in queue.supervisors() if each.takes_jobs]
    return Snapshot(
        [queue.shown(job) for job in (*ended[::-1], *running, *waiting)],
        _counts(queue, wanted),
        sum(each.slots for each in there),
        len(there),
    )


def _counts(queue: JobQueue, wanted: JobFilter) -> Mapping[JobStatus, int] | None:
    if wanted == JobFilter():
        return queue.counts()
    if wanted == JobFilter(queue=wanted.queue):
        return queue.counts_by_queue().get(wanted.queue or "", {})
    return None


def frame(
    shown: Snapshot, past: PastRuns | None, now: datetime, on: Canvas, height: int
) -> list[str]:
    """Return the whole picture, totals and a line per job, within the canvas and the height."""
    rows = [
        Row(job, left_of(job, past, now)) if job.status is JobStatus.RUNNING else Row(job)
        for job in shown.jobs
    ]
    head = _headline(shown, now, on)
    lines = table(rows, now, on) or ["No job matches."]
    return [*head, "", *lines][:height]


def left_of(job: Job, past: PastRuns | None, now: datetime) -> float | None:
    """Return the seconds that a running job probably has left."""
    typical = None if past is None else past.typical(job)
    return remaining(job.started_at, job.progress, typical, now)


def _headline(shown: Snapshot, now: datetime, on: Canvas) -> list[str]:
    parts = [] if shown.counts is None else [totals(shown.counts)]
    parts.append(f"{shown.slots} slots" if shown.supervisors else "no supervisor: jobq work")
    clock = f"{now.astimezone():%H:%M:%S}"
    left = plain_cut(" · ".join(parts), on.width - len(clock) - 2)
    return [
        styled(cut(left, max(0, on.width - len(clock) - 1)), "bold", color=on.color) + f" {clock}"
    ]


# -- on a terminal ---------------------------------------------------------------------------


def _draw(queue: JobQueue, wanted: JobFilter, screen: "FullScreen", *, color: bool) -> None:
    picture, outage, next_try = _Picture(queue, wanted, screen, color=color), Outage(), 0.0
    picture.refresh()
    while screen.key(POLL_INTERVAL_S) not in ("q", "Q"):
        if time.monotonic() < next_try:
            continue
        try:
            picture.refresh()
            outage.over()
        except DatabaseAwayError as error:
            outage.met(error)
            picture.say(str(error))
            next_try = time.monotonic() + outage.next_pause()


class _Picture:
    """The picture on the screen, redrawn when something changes."""

    def __init__(
        self, queue: JobQueue, wanted: JobFilter, screen: "FullScreen", *, color: bool
    ) -> None:
        self._queue = queue
        self._wanted = wanted
        self._screen = screen
        self._color = color
        self._past = PastRuns(queue)
        self._seen: int | None = None
        self._shown: Snapshot | None = None
        self._lines: list[str] = []
        self._drawn_at, self._next_read = 0.0, 0.0

    def refresh(self) -> None:
        """Draw the picture again if anything has changed."""
        columns, lines = shutil.get_terminal_size()
        now = time.monotonic()
        version = self._queue.change_counter()
        changed = version != self._seen and now >= self._next_read
        if self._shown is None or self._screen.resized or changed:
            self._shown = snapshot(self._queue, self._wanted, max(1, lines - 3))
            self._seen = version
            self._next_read = now + PAUSE_FACTOR * (time.monotonic() - now)
            self._drawn_at = 0.0
        if now - self._drawn_at >= REDRAW_INTERVAL_S:
            on = Canvas(columns, self._color)
            self._lines = frame(self._shown, self._past, utcnow(), on, lines)
            self._screen.draw(self._lines)
            self._drawn_at = now

    def say(self, message: str) -> None:
        """Put a message in place of the totals, above the last picture."""
        columns, _ = shutil.get_terminal_size()
        self._screen.draw([plain_cut(inert(message), columns), *self._lines[1:]])
        self._drawn_at = 0.0


class FullScreen:
    """The terminal's alternate screen, with the cursor hidden; restored on exit."""

    def __init__(self) -> None:
        self.resized = False
        self._before: list[Any] | None = None
        self._handlers: dict[int, Any] = {}
        self._woken, self._wake = -1, -1
        self._last: list[str] = []

    def __enter__(self) -> Self:
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number, handler in (
            (signal.SIGWINCH, self._on_resize),
            (signal.SIGTSTP, self._on_suspend),
            (signal.SIGTERM, terminate),
            (signal.SIGHUP, terminate),
        ):
            self._handlers[number] = signal.signal(number, handler)
        self._wakeup_before = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        try:
            self._take()
        except BaseException:  # a signal arrived
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._give_back()
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.signal(signal.SIGINT, interrupt)
        os.close(self._woken)
        os.close(self._wake)

    def draw(self, lines: list[str]) -> None:
        """Show these lines and nothing else; in one step, on terminals that can."""
        if lines == self._last and not self.resized:
            return
        self._last, self.resized = lines, False
        # Erase each line before writing it: erasing after a full line would cut its last cell.
        body = "\r\n".join(f"\x1b[K{line}" for line in lines[:-1])
        last = f"\r\n\x1b[J{lines[-1]}" if body else f"\x1b[J{lines[-1]}"
        self._write(f"\x1b[?2026h\x1b[H{body}{last}\x1b[?2026l")

    def key(self, seconds: float) -> str:
        """Return a key that is pressed within ``seconds``, or an empty text."""
        readable: list[int] = [self._woken]
        if self._before is not None:
            readable.append(sys.stdin.fileno())
        ready, _, _ = select.select(readable, [], [], seconds)
        if self._woken in ready:
            with suppress(BlockingIOError):
                os.read(self._woken, 1024)
        if len(readable) > 1 and readable[1] in ready:
            return os.read(readable[1], 1).decode("ascii", "replace")
        return ""

    def _take(self) -> None:
        if sys.stdin is not None and sys.stdin.isatty():
            self._before = termios.tcgetattr(sys.stdin)
            raw = termios.tcgetattr(sys.stdin)
            raw[3] &= ~(termios.ICANON | termios.ECHO)
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, raw)
        self._write("\x1b[?1049h\x1b[?25l\x1b[?7l")
        self._last = []

    def _give_back(self) -> None:
        with suppress(OSError):  # the terminal may be gone
            self._write("\x1b[?7h\x1b[?25h\x1b[?1049l")
        if self._before is not None:
            with suppress(termios.error):
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)
            self._before = None

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def _on_resize(self, number: int, at: FrameType | None) -> None:
        del number, at
        self.resized = True

    def _on_suspend(self, number: int, at: FrameType | None) -> None:
        """Restore the terminal for the shell on Ctrl-Z."""
        del number, at
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()
        self.resized = True


def terminate(number: int, at: FrameType | None) -> None:
    """Exit with the code of a signal, but run every `finally`."""
    del at
    raise SystemExit(128 + number)


# -- without a terminal ----------------------------------------------------------------------


class Changes:
    """Changes of jobs since the last call."""

    def __init__(self, queue: JobQueue, wanted: JobFilter) -> None:
        self._queue = queue
        self._statuses = wanted.statuses
        self._wanted = replace(wanted, statuses=None)
        newest = queue.find(self._wanted, limit=1, newest=True)
        self._last = newest[0].id if newest else 0
        self._known = {job.id: (job.status, job.attempts) for job in self._unfinished()}

    def __len__(self) -> int:
        return len(self._known)

    def _unfinished(self) -> Iterable[Job]:
        return self._queue.each(replace(self._wanted, statuses=UNFINISHED))

    def take(self) -> list[Job]:
        """Return the jobs with a new status or a new attempt, in order of their ids."""
        open_now = {job.id: job for job in self._unfinished()}
        new = {job.id: job for job in self._queue.each(self._page())}
        gone = self._queue.existing([job_id for job_id in self._known if job_id not in open_now])
        now = {**gone, **open_now, **new}
        changed = [
            job
            for job_id, job in sorted(now.items())
            if self._known.get(job_id) != (job.status, job.attempts)
        ]
        self._known = {job.id: (job.status, job.attempts) for job in open_now.values()}
        self._known |= {
            j.id: (j.status, j.attempts) for j in new.values() if j.status in UNFINISHED
        }
        self._last = max([self._last, *new])
        return [job for job in changed if self._statuses is None or job.status in self._statuses]

    def _page(self) -> JobFilter:
        return replace(self._wanted, after_id=self._last)


def change_line(job: ShownJob, now: datetime) -> str:
    """Return a change as one line, without the time."""
    detail = ""
    if job.status in (JobStatus.COMPLETED, JobStatus.FAILED):
        detail = f" in {time_of(job, now)}"
    elif job.status in (JobStatus.SCHEDULED, JobStatus.RETRYING, JobStatus.BLOCKED):
        detail = f", {time_of(job, now)}"
    elif job.status is JobStatus.RUNNING and job.attempts > 1:
        detail = f" (attempt {job.attempts})"
    why = job.reason if job.status is JobStatus.CANCELLED else job.error
    if why and job.status in (JobStatus.FAILED, JobStatus.RETRYING, JobStatus.CANCELLED):
        detail += f" ({inert(why)})"
    return f"job {job.id} {job.status}{detail}: {inert(job.name or describe(job))}"


def _print_all_changes(queue: JobQueue, wanted: JobFilter, *, as_jsonl: bool) -> None:
    outage = Outage(note)
    seen = queue.change_counter()
    changes = Changes(queue, wanted)
    note(f"Watching {len(changes)} unfinished jobs; press Ctrl-C to stop.")
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        while True:
            time.sleep(POLL_INTERVAL_S)
            if (version := outage.until_answered(queue.change_counter)) != seen:
                seen, began = version, time.monotonic()
                _print_changes(queue, outage.until_answered(changes.take), as_jsonl=as_jsonl)
                time.sleep(PAUSE_FACTOR * (time.monotonic() - began))
    finally:
        signal.signal(signal.SIGTERM, before)


def _print_changes(queue: JobQueue, jobs: Sequence[Job], *, as_jsonl: bool) -> None:
    now = utcnow()
    shown = map(queue.shown, jobs)
    if as_jsonl:
        print_jsonl(job_document(job, queue.logs.path(job.id)) for job in shown)
    else:
        for job in shown:
            print(f"{now.astimezone():%H:%M:%S} {change_line(job, now)}")
    sys.stdout.flush()
