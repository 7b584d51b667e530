"""The contract: a clock that was ahead puts nothing off once it has been set back."""

from datetime import timedelta

import pytest

from jobq.models import JobStatus
from tests.contract.driver import NOON, Jobs

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
ODD = timedelta(hours=1, microseconds=123_457)  # clocks show no whole milliseconds


@pytest.mark.parametrize("status", [JobStatus.RETRYING, JobStatus.SCHEDULED])
def test_a_retry_and_a_snooze_wait_as_long_as_they_were_to(jobs: Jobs, status: JobStatus) -> None:
    claim = jobs.start(jobs.add())
    jobs.now = NOON + ODD
    jobs.end(claim, status, run_at=jobs.now + 10 * MINUTE)
    jobs.now = NOON + MINUTE
    assert jobs.backend.correct_waits(jobs.now) == 1
    job = jobs.get(claim.job.id)
    assert (job.status, job.run_at) == (status, jobs.now + 10 * MINUTE)
    jobs.later(599)
    assert jobs.claimed() == []
    jobs.later(1)
    assert jobs.claimed() == [claim.job.id]


def test_a_job_with_a_delay_too(jobs: Jobs) -> None:
    jobs.now = NOON + ODD
    job_id = jobs.add(run_at=jobs.now + 90 * MINUTE)
    jobs.now = NOON
    assert jobs.backend.correct_waits(jobs.now) == 1
    assert jobs.get(job_id).run_at == NOON + 90 * MINUTE
    assert jobs.get(job_id).created_at == NOON


def test_a_time_of_day_stays(jobs: Jobs) -> None:
    jobs.now = NOON + ODD
    job_id = jobs.add(run_at=NOON + 3 * HOUR)
    jobs.now = NOON
    assert jobs.backend.correct_waits(jobs.now) == 0
    assert jobs.get(job_id).run_at == NOON + 3 * HOUR


def test_nothing_is_corrected_twice(jobs: Jobs) -> None:
    jobs.now = NOON + ODD
    claim = jobs.start(jobs.add(name="retry"))
    jobs.end(claim, JobStatus.RETRYING, run_at=jobs.now + 5 * HOUR)
    delayed = jobs.add(run_at=jobs.now + 5 * HOUR)
    jobs.now = NOON
    assert jobs.backend.correct_waits(jobs.now) == 2
    for minutes in (0, 1, 30, 90):
        jobs.now = NOON + minutes * MINUTE
        assert jobs.backend.correct_waits(jobs.now) == 0
    for job_id in (claim.job.id, delayed):
        assert jobs.get(job_id).run_at == NOON + 5 * HOUR
    (attempt,) = jobs.backend.attempts(claim.job.id)
    assert attempt.ended_at == NOON


def test_where_no_clock_was_ahead_nothing_changes(jobs: Jobs) -> None:
    ids = [jobs.put(status) for status in JobStatus]
    delayed = jobs.add(run_at=jobs.now + HOUR)
    before = jobs.backend.get([*ids, delayed])
    for seconds in (-59, 0, 30):
        assert jobs.backend.correct_waits(NOON + timedelta(seconds=seconds)) == 0
    assert jobs.backend.get([*ids, delayed]) == before
    assert list(jobs.backend.flaws(thorough=True)) == []
