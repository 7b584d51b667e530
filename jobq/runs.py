"""One attempt that is under way: its files, its processes, and what it says."""

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from jobq import descendants, progress
from jobq.clock import utcnow
from jobq.endings import StopReason
from jobq.logs import STDERR, JobLog, append_line, event_line
from jobq.models import Claim, LogOffsets, Progress, Started
from jobq.processes import ProcessTree
from jobq.redaction import Redaction
from jobq.trimming import SETTING, Trimmed, compact

_LAST_WORDS_BYTES = 4096
_LAST_WORDS_CHARACTERS = 300


@dataclass(slots=True, eq=False)
class Run:
    """One attempt that is under way."""

    claim: Claim
    log: JobLog
    offsets: LogOffsets
    events: int  # a descriptor of events.jsonl
    hide: Redaction  # what is not to be in it
    pid: int | None = None
    pid_started: int | None = None
    stopped: StopReason | None = None
    ended: bool = False  # its processes are gone; what is left is to record it
    kill_at: float = 0.0  # loop time at which a stopped run is killed
    timers: list[asyncio.TimerHandle] = field(default_factory=list)
    crashed: bool = False
    descendants: dict[int, int] = field(default_factory=dict)  # pid and start time of who was seen
    stored: dict[int, int] = field(default_factory=dict)  # of those, for who comes after us
    progress: Progress | None = None
    trimmed: dict[str, int] = field(default_factory=dict)  # bytes dropped, by file

    @property
    def key(self) -> tuple[int, int]:
        """What names the attempt."""
        return self.claim.job.id, self.claim.attempt

    def tree(self) -> ProcessTree:
        """Its processes: those in its group; if it is stopped or crashed, those that left it, too."""
        return ProcessTree(
            self.claim.owner,
            self.claim.job.id,
            self.claim.attempt,
            self.pid,
            self.pid_started,
            beyond_group=self.stopped is not None or self.crashed,
            descendants=self.descendants,
        )

    def look(self, living: Mapping[int, tuple[int, int]] | None = None) -> None:
        """Remember who descends from its process; on disk, too, should this process be killed."""
        self.tree().look(living)
        if not self.descendants.items() <= self.stored.items():
            self.stored = dict(self.descendants)
            descendants.write(self.log, self.claim.attempt, self.stored)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its processes: whom nobody has seen is lost when its parent ends."""
        self.look()
        self.tree().signal(number)

    def kill(self) -> None:
        """End its processes."""
        self.look()
        self.tree().kill()

    def started(self) -> Started:
        """What the backend is told once the process runs."""
        assert self.pid is not None
        return Started(
            job_id=self.claim.job.id,
            attempt=self.claim.attempt,
            pid=self.pid,
            pid_started=self.pid_started,
            offsets=self.offsets,
        )

    def event(self, name: str, at: datetime, **details: Any) -> None:
        """Append to events.jsonl. A full disk loses the event, not the job."""
        with suppress(OSError):
            shown = self.hide.value(details)
            append_line(self.events, event_line(name, at, self.claim.attempt, **shown))

    def note_trimmed(self, trimmed: Trimmed) -> None:
        """Something was dropped from one of its logs: said once here, and at the end how much."""
        if trimmed.name not in self.trimmed:
            self.event("log_trimmed", utcnow(), file=trimmed.name, setting=SETTING)
        self.trimmed[trimmed.name] = trimmed.dropped

    def tidy(self) -> None:
        """Make ordinary files of trimmed logs, once its processes are gone."""
        with suppress(OSError):  # a full disk: they stay as they are, and can be read so
            compact(self.log)
            events = self.log.append_events()
            os.close(self.events)
            self.events = events
        for name, dropped in self.trimmed.items():
            self.event("log_trimmed", utcnow(), file=name, setting=SETTING, dropped=dropped)

    def read_progress(self) -> Progress | None:
        """New progress, if the job has made any since the last look."""
        latest = progress.read(self.log.descriptor)
        if latest is None or latest == self.progress:
            return None
        self.progress = latest
        return latest

    def close(self) -> None:
        """Let go of timers and files."""
        for timer in self.timers:
            timer.cancel()
        if self.stored:
            descendants.remove(self.log, self.claim.attempt)
        os.close(self.events)
        self.log.close()


def last_words(run: Run) -> str:
    """The last line of this attempt's stderr, which mostly says what went wrong."""
    lines: list[str] = []
    with suppress(OSError), run.log.read(STDERR) as file:
        if file is None:
            return ""
        at = max(run.offsets.stderr, file.layout().end - _LAST_WORDS_BYTES)
        lines = file.read(at, _LAST_WORDS_BYTES)[0].decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip()[:_LAST_WORDS_CHARACTERS] if lines else ""
