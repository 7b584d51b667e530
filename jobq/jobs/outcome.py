"""What the end of a process, or of a worker's `run`, means for the job. Pure."""

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from signal import Signals
from typing import Any

from jobq.config.settings import RetryPolicy
from jobq.jobs.retry import NextStep, after_failure
from jobq.models import AttemptResult, Claim, JobStatus, Outcome, Usage
from jobq.units import format_duration


class StopReason(StrEnum):
    """Why jobq ended an attempt that would have gone on."""

    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    SHUTDOWN = "shutdown"
    LOST = "lost"  # somebody else has the job now
    CUT_OFF = "cut off"  # somebody else might: the lease could not be renewed


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How an attempt came to its end, as its process or the worker's `run` tells."""

    outcome: Outcome
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None
    result: Any = None
    retryable: bool = True
    delay: float | None = None  # of a retry or a snooze, in seconds, where one was asked for
    usage: Usage | None = None


def signal_name(number: int) -> str:
    """SIGKILL for 9, and so on."""
    try:
        return Signals(number).name
    except ValueError:
        return f"signal {number}"


def exit_of_process(status: int, usage: Usage | None, last_words: str = "") -> Exit:
    """The end of a command, from what `wait` tells; ``last_words`` go with a failure."""
    code = os.waitstatus_to_exitcode(status)
    words = f": {last_words}" if last_words else ""
    if code < 0:
        return Exit(
            outcome=Outcome.CRASHED,
            signal=-code,
            error=f"killed by {signal_name(-code)}{words}",
            usage=usage,
        )
    if code:
        return Exit(
            outcome=Outcome.FAILED, exit_code=code, error=f"exit code {code}{words}", usage=usage
        )
    return Exit(outcome=Outcome.COMPLETED, exit_code=0, usage=usage)


def timed_out(timeout: float) -> str:
    """What is said of an attempt that has exceeded its limit."""
    return f"timed out after {format_duration(timeout)}"


def ending_of(
    claim: Claim,
    end: Exit,
    stopped: StopReason | None,
    *,
    now: datetime,
    policy: RetryPolicy,
    chance: float,
) -> AttemptResult:
    """How an attempt ends, and where its job goes."""
    outcome, error = end.outcome, end.error
    if stopped is StopReason.TIMEOUT:
        outcome = Outcome.TIMED_OUT
        error = timed_out(claim.job.timeout or 0)
    elif stopped is StopReason.CANCELLED:
        outcome, error = Outcome.CANCELLED, None
    elif stopped is StopReason.SHUTDOWN:
        outcome, error = Outcome.RELEASED, "given back at shutdown"
    elif stopped is StopReason.CUT_OFF:
        outcome, error = Outcome.RELEASED, "given back: its lease could not be renewed"
    step = _next_step(claim, outcome, end, now=now, policy=policy, chance=chance)
    return AttemptResult(
        key=claim.key,
        outcome=outcome,
        status=step.status,
        failures=step.failures,
        crashes=step.crashes,
        run_at=step.run_at,
        exit_code=end.exit_code,
        signal=end.signal,
        error=error,
        result=end.result if outcome is Outcome.COMPLETED else None,
        usage=end.usage,
    )


def _next_step(
    claim: Claim,
    outcome: Outcome,
    end: Exit,
    *,
    now: datetime,
    policy: RetryPolicy,
    chance: float,
) -> NextStep:
    job = claim.job
    match outcome:
        case Outcome.COMPLETED:
            return NextStep(JobStatus.COMPLETED, None, job.failures, job.crashes)
        case Outcome.CANCELLED:
            return NextStep(JobStatus.CANCELLED, None, job.failures, job.crashes)
        case Outcome.RELEASED:
            return NextStep(JobStatus.PENDING, None, job.failures, job.crashes)
        case Outcome.SNOOZED:
            wake = now + timedelta(seconds=end.delay or 0)
            return NextStep(JobStatus.SCHEDULED, wake, job.failures, job.crashes)
        case _:
            return after_failure(
                job,
                now=now,
                policy=policy,
                chance=chance,
                crashed=outcome is Outcome.CRASHED,
                retryable=end.retryable,
                delay=end.delay,
            )
