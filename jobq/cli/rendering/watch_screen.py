"""``jobq list --watch``: the jobs as they change; a live table, or elsewhere a line a change."""

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
from jobq.cli.rendering.job_text import describe, time_of
from jobq.cli.rendering.live_table import Look, Row, plain_cut, table, totals
from jobq.cli.rendering.output import cut, inert, is_terminal, note, print_jsonl, styled
from jobq.clock import utcnow
from jobq.diagnostics.eta import PastRuns, remaining
from jobq.errors import DatabaseAwayError
from jobq.models import FINISHED, UNFINISHED, Job, JobFilter, JobStatus
from jobq.queue import JobQueue
from jobq.redaction import ShownJob
from jobq.serializers import job_document

BEAT = 0.25
"""Seconds between two looks at whether anything has changed, and so between two pictures."""

CLOCK = 1.0
"""Seconds after which times are drawn anew, though nothing has changed."""

COSTLY = 10.0
"""A look at many jobs is followed by a pause of so many times its length."""

_WAITING = (JobStatus.RETRYING, JobStatus.PENDING, JobStatus.SCHEDULED, JobStatus.BLOCKED)


def watch(
    queue: JobQueue, wanted: JobFilter, *, color: bool, draws: bool, as_jsonl: bool = False
) -> None:
    """Show jobs as they change, until Ctrl-C, or q on a terminal; ``draws``: one that is not dumb."""
    if as_jsonl or not (draws and is_terminal()):
        _tell_changes(queue, wanted, as_jsonl=as_jsonl)
    else:
        with FullScreen() as screen:
            _draw(queue, wanted, screen, color=color)


# -- what is shown ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The jobs that there is most to see of."""

    jobs: Sequence[ShownJob]
    counts: Mapping[JobStatus, int] | None  # None: of such a selection they are not known
    slots: int  # of the supervisors that take jobs
    supervisors: int


def snapshot(queue: JobQueue, wanted: JobFilter, rows: int) -> Snapshot:
    """Running jobs first, then those that wait and those that ended last, half of the rest each."""

    def some(statuses: Iterable[JobStatus], limit: int, *, newest: bool = False) -> list[Job]:
        chosen = frozenset(statuses) & (wanted.statuses or frozenset(JobStatus))
        if limit <= 0 or not chosen:
            return []
        return queue.find(replace(wanted, statuses=chosen), limit=limit, newest=newest)

    running = some([JobStatus.RUNNING], rows)
    room = rows - len(running)
    waiting: list[Job] = []
    for status in _WAITING:
        waiting += some([status], room - len(waiting))
    ended = some(FINISHED, room, newest=True)
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
    shown: Snapshot, past: PastRuns | None, now: datetime, look: Look, height: int
) -> list[str]:
    """The whole picture: totals, and a line for each job; never higher or wider than it may be."""
    rows = [
        Row(job, left_of(job, past, now)) if job.status is JobStatus.RUNNING else Row(job)
        for job in shown.jobs
    ]
    head = _headline(shown, now, look)
    lines = table(rows, now, look) or ["No job matches."]
    return [*head, "", *lines][:height]


def left_of(job: Job, past: PastRuns | None, now: datetime) -> float | None:
    """Seconds that a running job is likely to take yet."""
    typical = None if past is None else past.typical(job)
    return remaining(job.started_at, job.progress, typical, now)


def _headline(shown: Snapshot, now: datetime, look: Look) -> list[str]:
    parts = [] if shown.counts is None else [totals(shown.counts)]
    parts.append(f"{shown.slots} slots" if shown.supervisors else "no worker: jobq work")
    clock = f"{now.astimezone():%H:%M:%S}"
    left = plain_cut(" · ".join(parts), look.width - len(clock) - 2)
    return [
        styled(cut(left, max(0, look.width - len(clock) - 1)), "bold", color=look.color)
        + f" {clock}"
    ]


# -- on a terminal ---------------------------------------------------------------------------


def _draw(queue: JobQueue, wanted: JobFilter, screen: "FullScreen", *, color: bool) -> None:
    picture, outage, next_try = _Picture(queue, wanted, screen, color=color), Outage(), 0.0
    picture.refresh()
    while screen.key(BEAT) not in ("q", "Q"):
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
    """What is on the screen, and when that has to change."""

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
        self._drawn_at, self._next_look = 0.0, 0.0

    def refresh(self) -> None:
        """Look whether anything has changed, and draw it."""
        columns, lines = shutil.get_terminal_size()
        now = time.monotonic()
        version = self._queue.change_counter()
        changed = version != self._seen and now >= self._next_look
        if self._shown is None or self._screen.resized or changed:
            self._shown = snapshot(self._queue, self._wanted, max(1, lines - 3))
            self._seen = version
            self._next_look = now + COSTLY * (time.monotonic() - now)
            self._drawn_at = 0.0
        if now - self._drawn_at >= CLOCK:
            look = Look(columns, self._color)
            self._lines = frame(self._shown, self._past, utcnow(), look, lines)
            self._screen.draw(self._lines)
            self._drawn_at = now

    def say(self, message: str) -> None:
        """Put a message in place of the totals, above what was there last."""
        columns, _ = shutil.get_terminal_size()
        self._screen.draw([plain_cut(inert(message), columns), *self._lines[1:]])
        self._drawn_at = 0.0


class FullScreen:
    """The terminal's other screen, with its cursor hidden; whatever was there comes back."""

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
        except BaseException:  # a signal, just now
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
        """Show these lines and nothing else; at once, on terminals that can."""
        if lines == self._last and not self.resized:
            return
        self._last, self.resized = lines, False
        # Each line is erased before it is written: after a full one that would cut its last cell.
        body = "\r\n".join(f"\x1b[K{line}" for line in lines[:-1])
        last = f"\r\n\x1b[J{lines[-1]}" if body else f"\x1b[J{lines[-1]}"
        self._write(f"\x1b[?2026h\x1b[H{body}{last}\x1b[?2026l")

    def key(self, seconds: float) -> str:
        """A key that was pressed within so many seconds; nothing if none was."""
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
        """Ctrl-Z: the shell is to find its terminal as it was."""
        del number, at
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()
        self.resized = True


def terminate(number: int, at: FrameType | None) -> None:
    """Leave as a signal would have it, but by way of every `finally`."""
    del at
    raise SystemExit(128 + number)


# -- where nothing can be drawn --------------------------------------------------------------


class Changes:
    """What has become of jobs since the last look."""

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

    def look(self) -> list[Job]:
        """The jobs whose status has changed, or that were tried again, in order of their ids."""
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
    """A change as one line, without the time."""
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


def _tell_changes(queue: JobQueue, wanted: JobFilter, *, as_jsonl: bool) -> None:
    outage = Outage(note)
    seen = queue.change_counter()
    changes = Changes(queue, wanted)
    note(f"Watching {len(changes)} unfinished jobs; Ctrl-C ends it.")
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        while True:
            time.sleep(BEAT)
            if (version := outage.until_answered(queue.change_counter)) != seen:
                seen, began = version, time.monotonic()
                _print_changes(queue, outage.until_answered(changes.look), as_jsonl=as_jsonl)
                time.sleep(COSTLY * (time.monotonic() - began))
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
