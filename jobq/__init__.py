"""A durable job runner for the workstation: one SQLite table, one log directory per job.

The names are imported when they are used: the command has to be there for an early Ctrl-C before
all that it needs is.
"""

TYPE_CHECKING = False  # type checkers know it by its name; `typing` takes 5 ms
if TYPE_CHECKING:
    from jobq.async_queue import AsyncJobQueue
    from jobq.backends.lists import Page, Position
    from jobq.errors import (
        ArgsError,
        ConfigError,
        DatabaseError,
        JobqError,
        KeyReusedError,
        NotFound,
        UsageError,
        WorkerLoadError,
        WrongState,
    )
    from jobq.job_types.function import job_type
    from jobq.job_types.worker import (
        Cancelled,
        JobContext,
        JobWorker,
        Permanent,
        RetryAfter,
        Snooze,
    )
    from jobq.jobs.spec import JobSpec
    from jobq.models import (
        Attempt,
        Claim,
        Condition,
        Job,
        JobFilter,
        JobStatus,
        Progress,
        Queue,
        TextSearch,
    )
    from jobq.query import format_query, parse_query
    from jobq.queue import JobQueue
    from jobq.units import Rate, format_size, parse_duration, parse_since, parse_size

__all__ = [
    "ArgsError",
    "AsyncJobQueue",
    "Attempt",
    "Cancelled",
    "Claim",
    "Condition",
    "ConfigError",
    "DatabaseError",
    "Job",
    "JobContext",
    "JobFilter",
    "JobQueue",
    "JobSpec",
    "JobStatus",
    "JobWorker",
    "JobqError",
    "KeyReusedError",
    "NotFound",
    "Page",
    "Permanent",
    "Position",
    "Progress",
    "Queue",
    "Rate",
    "RetryAfter",
    "Snooze",
    "TextSearch",
    "UsageError",
    "WorkerLoadError",
    "WrongState",
    "format_query",
    "format_size",
    "job_type",
    "parse_duration",
    "parse_query",
    "parse_since",
    "parse_size",
]

_MODULES = {
    "jobq.async_queue": ("AsyncJobQueue",),
    "jobq.backends.lists": ("Page", "Position"),
    "jobq.errors": (
        "ArgsError",
        "ConfigError",
        "DatabaseError",
        "JobqError",
        "KeyReusedError",
        "NotFound",
        "UsageError",
        "WorkerLoadError",
        "WrongState",
    ),
    "jobq.job_types.function": ("job_type",),
    "jobq.job_types.worker": (
        "Cancelled",
        "JobContext",
        "JobWorker",
        "Permanent",
        "RetryAfter",
        "Snooze",
    ),
    "jobq.jobs.spec": ("JobSpec",),
    "jobq.models": (
        "Attempt",
        "Claim",
        "Condition",
        "Job",
        "JobFilter",
        "JobStatus",
        "Progress",
        "Queue",
        "TextSearch",
    ),
    "jobq.query": ("format_query", "parse_query"),
    "jobq.queue": ("JobQueue",),
    "jobq.units": ("Rate", "format_size", "parse_duration", "parse_since", "parse_size"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


if not TYPE_CHECKING:  # to a type checker, every name would seem to be there

    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module  # 2 ms

        value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
