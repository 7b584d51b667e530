"""Outcomes: from the end of a process, or of a worker's `run`, to the job's next status. Pure."""

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from signal import Signals
from typing import Any

from jobq.config.settings import RetryPolicy
from jobq.jobs.retry import NextStep, after_failure, timed_out
from jobq.models import AttemptResult, Claim, JobStatus, Outcome, Usage

MIN_SNOOZE_S = 1.0
"""Shortest snooze: a job that asks what it waits for without a pause would take a slot for itself."""


class StopReason(StrEnum):
    """The reason for which jobq ended an attempt that would have gone on."""

    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    SHUTDOWN = "shutdown"
    LOST = "lost"  # another supervisor has the job now
    CUT_OFF = "cut off"  # another one may take it: the lease could not be renewed


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """The end of an attempt, as reported by its process or by the worker's `run`."""

    outcome: Outcome
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None
    frame: str | None = None  # where a worker's own code raised: a file and a function
    reason: str | None = None  # of a worker that cancels its own job
    result: Any = None
    retryable: bool = True
    delay: float | None = None  # of a retry or a snooze, in seconds, where one was asked for
    usage: Usage | None = None


def signal_name(number: int) -> str:
    """Return the name of a signal, as SIGKILL for 9."""
    try:
        return Signals(number).name
    except ValueError:
        return f"signal {number}"


def exit_of_process(status: int, usage: Usage | None, last_words: str = "") -> Exit:
    """Return the end of a command, from its wait status; ``last_words`` are added to a failure."""
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


def attempt_result(
    claim: Claim,
    end: Exit,
    stopped: StopReason | None,
    *,
    now: datetime,
    policy: RetryPolicy,
    chance: float,
) -> AttemptResult:
    """Return how an attempt ends, and which status its job gets."""
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
        reason=end.reason if stopped is None else None,
        result=end.result if outcome is Outcome.COMPLETED else None,
        usage=end.usage,
        ended_at=now,
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
            wake = now + timedelta(seconds=max(end.delay or 0, MIN_SNOOZE_S))
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
