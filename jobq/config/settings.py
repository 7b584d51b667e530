"""The settings, with a default for each."""

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jobq.models import Queue
from jobq.redaction import Redactor
from jobq.units import Rate

DEFAULT_LOG_MAX_BYTES = 100 << 20
MIN_LOG_MAX_BYTES = 64 << 10
"""With less, head and tail of a log are too short to be useful."""

DEFAULT_REQUEST_RATE = Rate(100, 1.0)

CAPTURED_VARIABLES = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR",
    "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PYENV_VERSION", "XDG_*", "DISPLAY",
)  # fmt: skip
_WILDCARDS = frozenset("*?[")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """The seconds that an attempt may take, by priority band and by job type; 0: no limit."""

    low: float = 180.0
    normal: float = 300.0
    high: float = 600.0
    critical: float = 600.0
    types: Mapping[str, float] = field(default_factory=dict)

    def of_priority(self, priority: int) -> float:
        """Return the timeout of a priority's band."""
        seconds: float = getattr(self, priority_band(priority))
        return seconds


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The settings of all retries."""

    jitter: float = 0.1  # a delay is stretched or shrunk by up to this share of itself
    max_crashes: int = 3  # that many send a job to the dead letter queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """The defaults of `jobq prune`, and how long supervisors keep jobs that have ended."""

    older_than: float = 30 * 86400.0
    keep_last: int = 0
    completed: float = 0.0  # seconds from the end of such a job; 0: until it is pruned
    failed: float = 0.0
    cancelled: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve:
    """The settings of `jobq serve`."""

    host: str = "127.0.0.1"
    port: int = 5627  # JOBQ on a telephone; 0: any free one
    socket: Path | None = None  # a Unix socket to listen on as well
    public_url: str = ""  # where clients reach it, if not at host and port
    hosts: tuple[str, ...] = ()  # further names that clients may use in the Host header
    trusted_proxies: tuple[str, ...] = ()  # addresses that may set X-Forwarded-*
    tls_cert: Path | None = None
    tls_key: Path | None = None
    submit: tuple[str, ...] = ()  # patterns of job types that may be added
    submit_env: tuple[str, ...] = ()  # variables that an added command may set
    submit_cwd: tuple[Path, ...] = ()  # directories in and below which it may run
    threads: int = 4  # that read; one more writes
    max_streams: int = 2000
    rate: Rate = DEFAULT_REQUEST_RATE  # requests of one token; twice as many may come in a burst
    session: float = 12 * 3600.0  # seconds that a login lasts
    page: bool = True  # serve the web page, too
    read_only: bool = False  # refuse every change


SQLITE = "sqlite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings from jobq.toml and environment variables, or their defaults."""

    path: Path | None  # the file it was read from
    database: Path
    log_dir: Path
    concurrency: int
    backend: str = SQLITE  # or the address of a Redis server
    autostart: bool = False  # a command that adds jobs starts a supervisor where none is running
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
    log_max_bytes: int = DEFAULT_LOG_MAX_BYTES  # a job's log files together; 0: no limit
    min_free: int | None = None  # bytes; None: by the size of the disk; 0: none
    ship_max_bytes: int = 64 << 10  # of a job's output, shipped for other hosts; 0: nothing
    ship_ttl: float = 3600.0  # seconds for which it is kept
    env_capture: tuple[str, ...] = CAPTURED_VARIABLES
    redactor: Redactor = field(default_factory=Redactor)  # of what is shown about jobs
    on_finish: tuple[tuple[str, ...], ...] = ()  # commands to run when a job has ended
    serve: Serve = field(default_factory=Serve)

    @property
    def backend_shown(self) -> str:
        """The backend as people may see it: without the password."""
        if self.backend == SQLITE:
            return SQLITE
        from jobq.config.redis_url import parse_url  # SQLite does not need it

        return parse_url(self.backend).shown

    @property
    def serve_dir(self) -> Path:
        """The directory of `jobq serve`: its key, tokens, login codes and audit log."""
        return self.database.parent / "serve"

    def captured(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the variables that a shell job takes over from the shell it is added in.

        What is no name of a variable, such as that of a function of bash, is left out.
        """
        patterns = [each for each in self.env_capture if _WILDCARDS.intersection(each)]
        return {
            name: value
            for name, value in environ.items()
            if name in self.env_capture
            or (is_variable(name) and any(fnmatch.fnmatchcase(name, each) for each in patterns))
        }


def is_variable(name: str) -> bool:
    """Return whether a name is one that any shell takes: letters, digits and underscores."""
    return name.isascii() and name.isidentifier()


def priority_band(priority: int) -> str:
    """Return the name of a priority's band: low 0-3, normal 4-6, high 7-8, critical 9."""
    if priority <= 3:
        return "low"
    if priority <= 6:
        return "normal"
    return "high" if priority <= 8 else "critical"
