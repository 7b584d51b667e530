"""Short texts about a job."""

from datetime import datetime

from jobq.jobs.outcome import signal_name
from jobq.models import FINISHED, Job, JobStatus, Progress
from jobq.redaction import ShownJob
from jobq.units import format_elapsed


def time_of(job: Job, now: datetime) -> str:
    """Return how long a job waits, runs or took, or what it waits for, by its status."""
    match job.status:
        case JobStatus.BLOCKED:
            first = [str(parent.id) for parent in job.parents[:3]]
            more = "…" if len(job.parents) > 3 else ""
            return f"after {', '.join(first)}{more}"
        case JobStatus.SCHEDULED | JobStatus.RETRYING if job.run_at:
            return f"in {format_elapsed(now, job.run_at)}" if job.run_at > now else "due"
        case JobStatus.PENDING:
            return format_elapsed(job.created_at, now)
        case JobStatus.RUNNING:
            return (
                "stopping" if job.cancel_requested else format_elapsed(job.started_at or now, now)
            )
        case JobStatus.COMPLETED | JobStatus.FAILED | JobStatus.CANCELLED if (
            job.started_at and job.finished_at and not _ended_waiting(job)
        ):
            return format_elapsed(job.started_at, job.finished_at)
    return ""


def _ended_waiting(job: Job) -> bool:
    """Return whether a job was cancelled after its last attempt: that had failed, or was given back."""
    return job.status is JobStatus.CANCELLED and job.error is not None


def attempts_of(job: Job) -> str:
    """Return the number of attempts; until the job has ended, also of how many at most."""
    if job.status in FINISHED:
        return str(job.attempts)
    uncounted = job.attempts - job.failures - (job.status is JobStatus.RUNNING)
    return f"{job.attempts}/{uncounted + job.max_retries + 1}"


def progress_of(job: Job) -> str:
    """Return the progress of a job: a completed one is at its total, whatever it reported last."""
    progress = job.progress
    if progress is not None and job.status is JobStatus.COMPLETED:
        progress = progress._replace(done=progress.total or progress.done)
    return percent(progress)


def percent(progress: Progress | None) -> str:
    """Return progress in a few characters: ``40%``, or ``12`` if the total is unknown."""
    if progress is None:
        return ""
    if not progress.total or progress.total < 0:
        return f"{progress.done:g}"
    return f"{min(100.0, 100 * progress.done / progress.total):.0f}%"


def exit_of(exit_code: int | None, number: int | None) -> str:
    """Return how a process ended: ``exit code 3`` or ``SIGKILL``."""
    if number is not None:
        return signal_name(number)
    return "" if exit_code is None else f"exit code {exit_code}"


def is_or_was(status: JobStatus) -> str:
    """Return a status as the end of a sentence about a job: ``failed``, ``was cancelled``."""
    if status is JobStatus.CANCELLED:
        return f"was {status}"
    return str(status) if status in FINISHED else f"is {status}"


def outcome_of(job: ShownJob) -> str:
    """Return in one line why a job that has ended did not complete."""
    why = job.reason if job.status is JobStatus.CANCELLED else job.error
    why = why or exit_of(job.exit_code, job.signal)
    return f"job {job.id} {is_or_was(job.status)}{f': {why}' if why else ''}"
