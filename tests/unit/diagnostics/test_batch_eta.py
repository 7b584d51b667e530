"""The time that a batch may still take."""

from dataclasses import replace
from datetime import timedelta

import pytest

from jobq import Job, JobQueue, JobStatus
from jobq.diagnostics.batch_eta import about_left, batch_remaining
from jobq.models import Progress
from tests.support.queues import NOON


@pytest.fixture
def job(queue: JobQueue) -> Job:
    return replace(queue.add("shell", {"argv": ["true"]}), run_at=None)


def done(job: Job, seconds: float) -> Job:
    start = NOON - timedelta(hours=1)
    return replace(
        job, status=JobStatus.COMPLETED, started_at=start,
        finished_at=start + timedelta(seconds=seconds),
    )  # fmt: skip


def running(job: Job, seconds: float, progress: Progress | None = None) -> Job:
    since = NOON - timedelta(seconds=seconds)
    return replace(job, status=JobStatus.RUNNING, started_at=since, progress=progress)


def test_what_waits_lasts_as_long_as_what_has_completed(job: Job) -> None:
    jobs = [done(job, 50), done(job, 70), running(job, 20), running(job, 40), *[job] * 4]
    assert batch_remaining(jobs, NOON) == (40 + 20 + 4 * 60) / 2


def test_progress_and_types_count(job: Job) -> None:
    other = replace(job, type="other")
    jobs = [done(job, 10), done(other, 100), running(job, 30, Progress(1, 4, None)), other]
    assert batch_remaining(jobs, NOON) == 90 + 100


def test_a_start_time_is_waited_for(job: Job) -> None:
    later = replace(job, status=JobStatus.SCHEDULED, run_at=NOON + timedelta(hours=2))
    assert batch_remaining([done(job, 1), running(job, 0), later], NOON) == 7200


def test_nothing_is_made_up(job: Job) -> None:
    assert batch_remaining([running(job, 5), job], NOON) is None  # none has completed
    assert batch_remaining([done(job, 5), job], NOON) is None  # none runs
    assert batch_remaining([done(job, 5)], NOON) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1 s"),
        (80, "80 s"),
        (720, "12 min"),
        (3600, "60 min"),
        (7200, "2 h"),
        (300_000, "3 days"),
    ],
)
def test_an_estimate_is_rounded(seconds: float, text: str) -> None:
    assert about_left(seconds) == f"about {text} left"
