"""One attempt that is under way: its files, its processes, and its progress."""

import asyncio
import errno
import os
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from signal import Signals
from typing import Any

from jobq.clock import utcnow
from jobq.execution.stack_signal import STACK_SIGNAL
from jobq.job_types.shell import JOB_TYPE as SHELL
from jobq.jobs.outcome import StopReason
from jobq.jobs.retry import timed_out
from jobq.logs import descendants, progress
from jobq.logs.directory import STDERR, STOP_SIGNAL, JobLog, JobLogs, append_line, event_line
from jobq.logs.events import start_lines
from jobq.logs.owner import Owner
from jobq.logs.truncation import SETTING, Trimmed, compact
from jobq.models import AttemptKey, Claim, LogOffsets, Progress, Started
from jobq.redaction import Redaction, Redactor
from jobq.system.processes import ProcessTree, send_signal, signal_group
from jobq.system.resources import SpareFiles

_LAST_WORDS_BYTES = 16384
_FAULT = re.compile(r"^Fatal Python error: ([^\n]+)\n.*?^  File ([^\n]+)", re.MULTILINE | re.DOTALL)
_LAST_WORDS_CHARACTERS = 300


@dataclass(slots=True, eq=False)
class Run:
    """One attempt that is under way, or about to be.

    Its files are opened when they are needed: a child makes those of a short run by itself.
    """

    claim: Claim
    logs: JobLogs
    redactor: Redactor
    key: AttemptKey = field(init=False)
    owner: Owner = field(init=False)  # of its directory
    offsets: LogOffsets = field(default_factory=LogOffsets)
    pid: int | None = None
    pid_started: int | None = None
    held_since: float = 0.0  # loop times
    begun: float = 0.0
    ended_at: datetime | None = None  # by this host's clock
    watched: bool = False  # it has lasted long enough to be worth it
    stopped: StopReason | None = None
    ended: bool = False  # its processes are gone; what is left is to record it
    kill_at: float = 0.0  # loop time at which a stopped run is killed
    timers: list[asyncio.TimerHandle] = field(default_factory=list)
    crashed: bool = False
    detached: bool = False  # its child goes on with others: that process is not its own any more
    recorded: bool = False  # its end is: the job may be deleted
    end_noted: bool = False  # its child has noted in its events that it completed
    unread_progress: bool = True  # there may be some
    written: int | None = None  # bytes in its log files; None: not known
    lost: int = 0  # bytes of output that its disk did not take
    c_lost: bool = False  # C code has lost some as well, and does not tell how much
    took: float | None = None  # seconds, once it has ended; a child measures its own
    descendants: dict[int, int] = field(default_factory=dict)  # pids and start times, once seen
    stored: dict[int, int] = field(default_factory=dict)  # those of them that are on disk
    progress: Progress | None = None
    trimmed: dict[str, int] = field(default_factory=dict)  # bytes dropped, by file
    spare: SpareFiles = field(default_factory=SpareFiles)
    _opening: threading.Lock = field(
        default_factory=threading.Lock
    )  # for the size limiter's thread
    _log: JobLog | None = None
    _events: int | None = None  # a descriptor of events.jsonl
    _hide: Redaction | None = None

    def __post_init__(self) -> None:
        self.key = self.claim.key
        self.owner = self.logs.owner(self.claim.job)

    @property
    def is_command(self) -> bool:
        """True if it is a process of its own, rather than a child's work."""
        return self.claim.job.type == SHELL

    @property
    def added(self) -> datetime | None:
        """The time at which its job was added; None if that has been noted with an earlier attempt."""
        return self.claim.job.created_at if self.claim.attempt == 1 else None

    @property
    def log(self) -> JobLog:
        """Its directory, which is made if it is not there; but not again once it may be pruned.

        Raises:
            OSError: it can't be made or used.
        """
        with self._opening:
            if self._log is None:
                self._log = self._open_directory()
                self._log.hold()
            return self._log

    def _open_directory(self) -> JobLog:
        if not (self.recorded or self.stopped is StopReason.LOST):
            return self.logs.create(self.owner)
        if (found := self.logs.open(self.owner)) is None:
            path = str(self.logs.path(self.claim.job.id))
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return found

    @property
    def hide(self) -> Redaction:
        """The redaction of everything that is shown of it."""
        if self._hide is None:
            self._hide = self.redactor.of(self.claim.job.args, self.claim.job.tags)
        return self._hide

    def open(self) -> None:
        """Make its directory.

        Raises:
            OSError: as `log` does.
        """
        _ = self.log

    def open_again(self) -> None:
        """Clear away what an earlier attempt left, and note where the output of this one starts.

        Raises:
            OSError: as `log` does.
        """
        for name in (progress.FILE, STOP_SIGNAL):  # neither is meant for this attempt
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self.log.descriptor)
        with suppress(OSError):  # a full disk
            compact(self.log)  # where the supervisor of the last attempt could not
        self.log.hold()
        self.offsets = self.log.offsets()

    def tree(self) -> ProcessTree:
        """Return its processes: its group, and what left that if it is stopped or has crashed."""
        return ProcessTree(
            self.claim.owner,
            self.claim.job.id,
            self.claim.attempt,
            None if self.detached else self.pid,
            self.pid_started,
            beyond_group=self.stopped is not None or self.crashed,
            descendants=self.descendants,
        )

    def has_processes(self) -> bool:
        """Return whether any of its processes is left, as far as is known."""
        return self.spare.call(lambda: self.tree().exists(), otherwise=True)

    def note_descendants(self, living: Mapping[int, tuple[int, int]] | None = None) -> None:
        """Remember what descends from its process; on disk too, in case this process is killed."""
        self.spare.call(lambda: self.tree().note_descendants(living), otherwise=False)
        if not self.descendants.items() <= self.stored.items():
            with suppress(OSError):
                descendants.write(self.log, self.claim.attempt, self.descendants)
                self.stored = dict(self.descendants)

    def signal(self, number: Signals) -> None:
        """Send a signal to its processes, after noting them: some may lose their parents by it."""
        self.note_descendants()
        if not self.spare.call(lambda: self._signal_tree(number), otherwise=False):
            self._signal_group(number)

    def note_stack(self) -> None:
        """Have its worker's stack written to its stderr, if it is one: it has exceeded its timeout."""
        if self.is_command or self.pid is None or self.detached or STACK_SIGNAL is None:
            return
        limit = timed_out(self.claim.job.timeout or 0)
        with suppress(OSError):
            descriptor = self.log.append(STDERR)
            os.write(descriptor, f"jobq: {limit}; innermost call first:\n".encode())
            os.close(descriptor)
            send_signal(self.pid, self.pid_started, STACK_SIGNAL)

    def stop_signal(self) -> Signals:
        """Return the signal that asks it to stop: SIGTERM, or what `jobq cancel` left for a command."""
        if self.is_command and self.stopped is StopReason.CANCELLED:
            with suppress(OSError, KeyError):
                descriptor = self.log.open(STOP_SIGNAL, os.O_RDONLY)
                try:
                    return Signals[os.read(descriptor, 16).decode("ascii", "replace")]
                finally:
                    os.close(descriptor)
        return Signals.SIGTERM

    def kill(self) -> None:
        """End its processes."""
        self.note_descendants()
        if not self.spare.call(self._kill_tree, otherwise=False):
            self._signal_group(Signals.SIGKILL)

    def _signal_tree(self, number: Signals) -> bool:
        self.tree().signal(number)
        return True

    def _kill_tree(self) -> bool:
        self.tree().kill()
        return True

    def _signal_group(self, number: Signals) -> None:
        if self.pid is not None and not self.detached:
            signal_group(self.pid, self.pid_started, number)

    def started(self) -> Started:
        """Return what is recorded of its process."""
        assert self.pid is not None
        return Started(
            key=self.key,
            pid=self.pid,
            pid_started=self.pid_started,
            offsets=self.offsets,
        )

    def event(self, name: str, at: datetime, **details: Any) -> None:
        """Append to events.jsonl. A full disk loses the event, not the job."""
        shown = self.hide.value(details, prose=True)
        self._append_events(event_line(name, at, self.claim.attempt, **shown))

    def note_start(self, at: datetime) -> None:
        """Append its start to events.jsonl, as `event` does."""
        shown = self.hide.value({"pid": self.pid, "supervisor": self.claim.owner}, prose=True)
        self._append_events(start_lines(self.added, at, self.claim.attempt, **shown))

    def _append_events(self, lines: bytes) -> None:
        with suppress(OSError):
            log = self.log
            with self._opening:
                if self._events is None:
                    self._events = log.append_events()
            append_line(self._events, lines)

    def note_trimmed(self, trimmed: Trimmed) -> None:
        """Note that one of its logs was trimmed: once as an event here, and at the end how much."""
        if trimmed.name not in self.trimmed:
            self.event("log_trimmed", utcnow(), file=trimmed.name, setting=SETTING)
        self.trimmed[trimmed.name] = trimmed.dropped

    def tidy(self) -> None:
        """Make ordinary files of trimmed logs, once its processes are gone."""
        with suppress(OSError):  # a full disk: they stay as they are, and can be read like that
            compact(self.log)
            if self._events is not None:  # it may be another file now
                os.close(self._events)
                self._events = None
        for name, dropped in self.trimmed.items():
            self.event("log_trimmed", utcnow(), file=name, setting=SETTING, dropped=dropped)

    def read_progress(self) -> Progress | None:
        """Return new progress; None if the job has made none since the last call."""
        latest = None
        with suppress(OSError):
            latest = progress.read(self.log.descriptor)
        if latest is None or latest == self.progress:
            return None
        self.progress = latest
        return latest

    def close(self) -> None:
        """Let go of timers and files."""
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()
        if self.stored:
            descendants.remove(self.log, self.claim.attempt)
        if self._events is not None:
            os.close(self._events)
            self._events = None
        if self._log is not None:
            self._log.close()
            self._log = None


def last_words(run: Run) -> str:
    """Return the last line of this attempt's stderr, which usually names what went wrong."""
    text = ""
    with suppress(OSError), run.log.read(STDERR) as file:
        if file is None:
            return ""
        at = max(run.offsets.stderr, file.layout().end - _LAST_WORDS_BYTES)
        text = file.read(at, _LAST_WORDS_BYTES)[0].decode("utf-8", "replace").strip()
    if fault := _FAULT.search(text):
        text = f"{fault[1].lower()} at {fault[2]}"
    return text.rpartition("\n")[2].strip()[:_LAST_WORDS_CHARACTERS]
