"""The settings of a queue, with a default for each."""

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jobq.models import Queue, RetryPolicy, priority_band
from jobq.redaction import Redactor

DEFAULT_MAX_BYTES = 100 << 20
LEAST_MAX_BYTES = 64 << 10
"""Below that, head and tail of a log would be too short to be of use."""

DEFAULT_CAPTURE = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR",
    "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PYENV_VERSION", "XDG_*", "DISPLAY",
)  # fmt: skip
_WILDCARDS = frozenset("*?[")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds an attempt may take, by priority band and by job type; 0 is no limit."""

    low: float = 180.0
    normal: float = 300.0
    high: float = 600.0
    critical: float = 600.0
    types: Mapping[str, float] = field(default_factory=dict)

    def of_priority(self, priority: int) -> float:
        """The timeout of a priority's band."""
        seconds: float = getattr(self, priority_band(priority))
        return seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What `jobq prune` keeps when it is not told, and for how long supervisors keep jobs."""

    older_than: float = 30 * 86400.0
    keep_last: int = 0
    completed: float = 0.0  # seconds from the end of such a job; 0: until it is pruned
    failed: float = 0.0
    cancelled: float = 0.0


SQLITE = "sqlite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What jobq.toml and the variables say, with a default for all that they do not."""

    path: Path | None  # the file it was read from
    database: Path
    log_dir: Path
    concurrency: int
    backend: str = SQLITE  # or the address of a Redis server
    worker_paths: tuple[Path, ...] = ()
    import_timeout: float = 60.0  # seconds that the import of one worker file may take
    max_retries: int = 3
    retry_base: float = 10.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    timeouts: Timeouts = field(default_factory=Timeouts)
    retention: Retention = field(default_factory=Retention)
    lease: float = 30.0  # seconds
    grace: float = 10.0  # seconds between SIGTERM and SIGKILL
    queues: Mapping[str, Queue] = field(default_factory=dict)
    log_max_bytes: int = DEFAULT_MAX_BYTES  # a job's log files together; 0: no limit
    min_free: int | None = None  # bytes; None: by the size of the disk; 0: none
    ship_max_bytes: int = 64 << 10  # of a job's output, for other machines; 0: none of it
    ship_ttl: float = 3600.0  # seconds for which it is kept for them
    env_capture: tuple[str, ...] = DEFAULT_CAPTURE
    redactor: Redactor = field(default_factory=Redactor)  # of what is shown of jobs
    on_finish: tuple[tuple[str, ...], ...] = ()  # commands to run when a job has ended

    @property
    def backend_shown(self) -> str:
        """The backend, for people: without the password."""
        if self.backend == SQLITE:
            return SQLITE
        from jobq.config.redis_url import parse_url  # only those who use it need it

        return parse_url(self.backend).shown

    def captured(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The variables that a shell job keeps from the shell it was added in."""
        patterns = [each for each in self.env_capture if _WILDCARDS.intersection(each)]
        return {
            name: value
            for name, value in environ.items()
            if name in self.env_capture
            or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        }
