"""Sizes of measurements: whole, for ten minutes, or for one."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import Project
from benchmarks.history import filled

if TYPE_CHECKING:
    from benchmarks.workers import Noops


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The sizes of one scale. ``rounds`` are those of short actions, ``long_rounds`` those of seconds."""

    rounds: int
    long_rounds: int
    import_rows: int
    shell_jobs: int
    python_jobs: int
    slow_peers: bool  # celery and rq, which take long
    waits: int
    idle_seconds: float
    memory_jobs: int
    finished: int
    scheduled: int
    writers: int
    writing_seconds: float
    log_bytes: int
    redis_added: int
    redis_waiting: int
    redis_counted: int


WHOLE = Scale(
    rounds=15,
    long_rounds=3,
    import_rows=1_000_000,
    shell_jobs=2_000,
    python_jobs=20_000,
    slow_peers=True,
    waits=300,
    idle_seconds=20,
    memory_jobs=200_000,
    finished=1_000_000,
    scheduled=100_000,
    writers=64,
    writing_seconds=5,
    log_bytes=10**9,
    redis_added=10_000,
    redis_waiting=1_000_000,
    redis_counted=5_000,
)
FULL = replace(WHOLE, import_rows=300_000, python_jobs=6_000, memory_jobs=20_000, writing_seconds=4)
QUICK = Scale(
    rounds=5,
    long_rounds=1,
    import_rows=30_000,
    shell_jobs=500,
    python_jobs=3_000,
    slow_peers=False,
    waits=100,
    idle_seconds=4,
    memory_jobs=3_000,
    finished=100_000,
    scheduled=10_000,
    writers=16,
    writing_seconds=1,
    log_bytes=10**8,
    redis_added=2_000,
    redis_waiting=20_000,
    redis_counted=1_000,
)


@dataclass(slots=True)
class Bench:
    """A run of the suite: its sizes, a working folder, and what several rows share."""

    scale: Scale
    folder: Path
    noops: "Noops | None" = field(default=None)  # measured once, for several rows
    _big: Project | None = field(default=None)

    def project(self, name: str) -> Project:
        """Create a new project."""
        return Project(self.folder / name)

    def big(self) -> Project:
        """Return the project with a long history, created on first use."""
        if self._big is None:
            self._big = self.project("big")
            filled(self._big, self.scale.finished, self.scale.scheduled)
        return self._big
