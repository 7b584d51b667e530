"""Retries: whether and when a job that failed runs again. Pure: randomness is passed in."""

from datetime import datetime, timedelta
from typing import NamedTuple

from jobq.config.settings import RetryPolicy
from jobq.jobs.spec import RUN_TAG
from jobq.models import AttemptKey, AttemptResult, Job, JobStatus, Outcome, Retried, RetryEffect
from jobq.units import format_duration

MAX_BACKOFF_S = 3600.0
"""Backoff doubles up to here."""


class NextStep(NamedTuple):
    """The status of a job after an attempt that did not complete it."""

    status: JobStatus
    run_at: datetime | None
    failures: int
    crashes: int


def backoff(base: float, n: int) -> float:
    """Return the seconds before the n-th retry: ``min(base * 2 ** (n - 1), 3600)``."""
    return min(base * 2.0 ** min(n - 1, 60), MAX_BACKOFF_S)


def jittered(delay: float, jitter: float, chance: float) -> float:
    """Return the delay moved by up to ``jitter`` of itself; ``chance``, 0 to 1, selects where."""
    return delay * (1 + jitter * (2 * chance - 1))


def after_failure(
    job: Job,
    *,
    now: datetime,
    policy: RetryPolicy,
    chance: float,
    crashed: bool = False,
    retryable: bool = True,
    delay: float | None = None,
) -> NextStep:
    """Return the step after an attempt that failed, timed out or crashed: retrying, or failed.

    ``delay`` (seconds) replaces the backoff where the worker asked for one.
    """
    failures, crashes = job.failures + 1, job.crashes + crashed
    if not retryable or failures > job.max_retries or crashes >= policy.max_crashes:
        return NextStep(JobStatus.FAILED, None, failures, crashes)
    if delay is None:
        delay = jittered(backoff(job.retry_base, failures), policy.jitter, chance)
    return NextStep(JobStatus.RETRYING, now + timedelta(seconds=delay), failures, crashes)


def after_loss(job: Job, policy: RetryPolicy) -> NextStep:
    """Return the step after a supervisor died: pending at once, up to the crash limit."""
    crashes = job.crashes + 1
    status = JobStatus.FAILED if crashes >= policy.max_crashes else JobStatus.PENDING
    return NextStep(status, None, job.failures, crashes)


def lost_result(
    job: Job, key: AttemptKey, policy: RetryPolicy, why: str, *, begun: bool = True
) -> AttemptResult:
    """Return how an attempt ends that has no owner any more; ``begun``: it had been started.

    A job of `jobq run` fails: its caller is gone, and must not find it run again later.
    """
    step = after_loss(job, policy)
    if job.cancel_requested:
        step = NextStep(JobStatus.CANCELLED, None, job.failures, job.crashes)
    elif RUN_TAG in job.tags:
        step = NextStep(JobStatus.FAILED, None, job.failures, job.crashes + begun)
        done = "it may have run" if begun else "it did not start"
        why = f"its `jobq run` was killed: {done}"
    elif not begun:
        step = NextStep(JobStatus.PENDING, None, job.failures, job.crashes)
    return AttemptResult(
        key=key,
        outcome=Outcome.RELEASED
        if step.status is JobStatus.PENDING and not begun
        else Outcome.LOST,
        status=step.status,
        failures=step.failures,
        crashes=step.crashes,
        run_at=step.run_at,
        error=why,
    )


def is_overdue(job: Job, now: datetime) -> bool:
    """Return whether the attempt that runs has exceeded its job's time limit."""
    if not job.timeout or job.started_at is None:
        return False
    return (now - job.started_at).total_seconds() > job.timeout


def overdue_result(
    job: Job, key: AttemptKey, policy: RetryPolicy, now: datetime, chance: float
) -> AttemptResult:
    """Return how an attempt ends that exceeded its job's time limit, where its owner did not end it."""
    step = after_failure(job, now=now, policy=policy, chance=chance)
    if job.cancel_requested:
        step = NextStep(JobStatus.CANCELLED, None, job.failures, job.crashes)
    return AttemptResult(
        key=key,
        outcome=Outcome.TIMED_OUT,
        status=step.status,
        failures=step.failures,
        crashes=step.crashes,
        run_at=step.run_at,
        error=timed_out(job.timeout or 0),
    )


def timed_out(timeout: float) -> str:
    """Return the error of an attempt that exceeded its timeout, in seconds."""
    return f"timed out after {format_duration(timeout)}"


def retry_refusal(retried: Retried, status: JobStatus | None) -> str:
    """Return why a job, now in this status, was not retried, in one line."""
    match retried.effect:
        case RetryEffect.IMPOSSIBLE:
            return (
                f"job {retried.id} waits for job {retried.because}, which did not end as it "
                f"must: retry {retried.because}, and this one comes back with it"
            )
        case RetryEffect.KEY_TAKEN:
            return f"job {retried.because} holds the unique key of job {retried.id} now"
        case RetryEffect.MISSING:
            return f"no job {retried.id}"
        case _:
            return f"job {retried.id} is {status}: only failed, cancelled and retrying jobs are retried"
