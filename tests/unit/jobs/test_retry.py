from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobq.config.settings import RetryPolicy
from jobq.jobs.retry import MAX_BACKOFF_S, after_failure, after_loss, backoff, jittered, lost_result
from jobq.models import AttemptKey, Job, JobStatus, Outcome

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
KEY = AttemptKey(1, 1, NOON)
POLICY = RetryPolicy(jitter=0.0, max_crashes=3)

JOB = Job(
    id=1, type="shell", name=None, status=JobStatus.RUNNING, queue="default", priority=5, args={},
    tags={}, unique_key=None, parents=(), unmet_parents=0, added_by=None, attempts=1, failures=0,
    crashes=0, max_retries=2, retry_base=10.0, timeout=None, created_at=NOON, run_at=None,
    started_at=NOON, finished_at=None, cancel_requested=False, cancelled_by=None, progress=None,
    exit_code=None, signal=None, error=None, reason=None, result=None,
)  # fmt: skip


def test_the_delay_doubles_up_to_an_hour() -> None:
    assert [backoff(10, n) for n in (1, 2, 3, 4)] == [10, 20, 40, 80]
    assert backoff(10, 10) == backoff(10, 10**6) == MAX_BACKOFF_S == 3600
    assert backoff(0, 5) == 0


@given(st.floats(0, 1e6), st.integers(1, 10**6))
def test_a_later_retry_never_waits_less(base: float, n: int) -> None:
    assert 0 <= backoff(base, n) <= backoff(base, n + 1) <= MAX_BACKOFF_S


@given(st.floats(0, 3600), st.floats(0, 1), st.floats(0, 1))
def test_jitter_moves_a_delay_by_no_more_than_its_share(
    delay: float, jitter: float, chance: float
) -> None:
    assert abs(jittered(delay, jitter, chance) - delay) <= delay * jitter + 1e-9


def test_jitter_reaches_both_ends() -> None:
    assert [jittered(100, 0.1, chance) for chance in (0, 0.5, 1)] == pytest.approx([90, 100, 110])


def test_a_failed_job_is_retried_until_its_retries_are_used_up() -> None:
    job, delays = JOB, []
    while (
        step := after_failure(job, now=NOON, policy=POLICY, chance=0.5)
    ).status is JobStatus.RETRYING:
        assert step.run_at is not None
        delays.append(step.run_at - NOON)
        job = replace(job, failures=step.failures)
    assert delays == [timedelta(seconds=10), timedelta(seconds=20)]
    assert (step.status, step.failures, step.run_at) == (JobStatus.FAILED, 3, None)


def test_without_retries_the_first_failure_is_the_last() -> None:
    step = after_failure(replace(JOB, max_retries=0), now=NOON, policy=POLICY, chance=0.5)
    assert step.status is JobStatus.FAILED


def test_a_failure_that_is_permanent_is_not_retried() -> None:
    step = after_failure(JOB, now=NOON, policy=POLICY, chance=0.5, retryable=False)
    assert (step.status, step.failures) == (JobStatus.FAILED, 1)


def test_a_delay_that_was_asked_for_is_taken_as_it_is() -> None:
    step = after_failure(JOB, now=NOON, policy=RetryPolicy(jitter=1.0), chance=1.0, delay=7200.0)
    assert step.run_at == NOON + timedelta(hours=2)


def test_a_job_that_crashes_again_and_again_is_given_up_whatever_its_retries() -> None:
    job, steps = replace(JOB, max_retries=100), []
    for _ in range(3):
        step = after_failure(job, now=NOON, policy=POLICY, chance=0.5, crashed=True)
        job = replace(job, failures=step.failures, crashes=step.crashes)
        steps.append(step.status)
    assert steps == [JobStatus.RETRYING, JobStatus.RETRYING, JobStatus.FAILED]


def test_failures_between_do_not_hide_crashes_and_are_none() -> None:
    job = replace(JOB, max_retries=100, crashes=2)
    step = after_failure(job, now=NOON, policy=POLICY, chance=0.5)
    assert (step.status, step.crashes) == (JobStatus.RETRYING, 2)


def test_a_lost_attempt_costs_no_retry_and_runs_again_at_once_up_to_the_crash_limit() -> None:
    job, steps = replace(JOB, max_retries=0), []
    for _ in range(3):
        step = after_loss(job, POLICY)
        job = replace(job, crashes=step.crashes)
        steps.append((step.status, step.run_at, step.failures))
    again = (JobStatus.PENDING, None, 0)
    assert steps == [again, again, (JobStatus.FAILED, None, 0)]


def test_a_lost_attempt_of_a_job_that_was_to_stop_ends_it() -> None:
    result = lost_result(replace(JOB, cancel_requested=True), KEY, POLICY, "its supervisor died")
    assert (result.status, result.outcome) == (JobStatus.CANCELLED, Outcome.LOST)
    result = lost_result(JOB, KEY, POLICY, "its supervisor died")
    assert (result.status, result.error) == (JobStatus.PENDING, "its supervisor died")
