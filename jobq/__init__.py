"""A durable job runner for the workstation: one SQLite table, one log directory per job."""

from jobq.errors import (
    ArgsError,
    ConfigError,
    DatabaseError,
    JobqError,
    NotFound,
    UsageError,
    WorkerLoadError,
    WrongState,
)
from jobq.job_types.worker import Cancelled, JobContext, JobWorker, Permanent, RetryAfter, Snooze
from jobq.jobs.spec import JobSpec
from jobq.models import Attempt, Claim, Condition, Job, JobFilter, JobStatus, Progress, Queue
from jobq.queue import JobQueue
from jobq.units import Rate, format_size, parse_duration, parse_since, parse_size

__all__ = [
    "ArgsError",
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
    "NotFound",
    "Permanent",
    "Progress",
    "Queue",
    "Rate",
    "RetryAfter",
    "Snooze",
    "UsageError",
    "WorkerLoadError",
    "WrongState",
    "format_size",
    "parse_duration",
    "parse_since",
    "parse_size",
]
