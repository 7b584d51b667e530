from datetime import timedelta

import pytest

from jobq import JobQueue
from jobq.backends.base import ClaimRequest
from jobq.clock import utcnow
from jobq.metrics import Percentiles, collect, percentiles, stats_document, type_figures
from jobq.models import Ending, JobStatus, Outcome


@pytest.mark.parametrize(
    ("values", "p50", "p95"),
    [
        ([3.0], 3.0, 3.0),
        ([4.0, 1.0], 1.0, 4.0),
        ([float(n) for n in range(100, 0, -1)], 50.0, 95.0),
        ([float(n) for n in range(20)], 9.0, 18.0),
    ],
)
def test_percentiles_are_by_nearest_rank(values: list[float], p50: float, p95: float) -> None:
    assert percentiles(values) == Percentiles(p50, p95)


def test_figures_of_a_type() -> None:
    figures = type_figures("shell", [(1.0, 10.0), (2.0, 20.0), (3.0, 30.0)])
    assert figures.completed == 3
    assert figures.wait == Percentiles(2.0, 3.0)
    assert figures.run == Percentiles(20.0, 30.0)


def test_a_queue_without_jobs(queue: JobQueue) -> None:
    stats = collect(queue, utcnow())
    assert set(stats.counts) == set(JobStatus)
    assert not any(stats.counts.values())
    assert (stats.types, stats.supervisors, stats.log_bytes) == ([], [], 0)
    assert stats.throughput.last_day == 0
    assert stats_document(stats)["queues"][0]["name"] == "default"


def test_jobs_count_in_the_hour_and_the_day_that_they_completed_in(queue: JobQueue) -> None:
    now = utcnow()
    for ago in (timedelta(minutes=30), timedelta(hours=2), timedelta(hours=25)):
        job = queue.add("shell", {"argv": ["true"]})
        started = now - ago
        queue.backend.claim(
            ClaimRequest(owner="test", limit=1, lease=timedelta(minutes=1), ids=[job.id]), started
        )
        ending = Ending(
            job_id=job.id,
            attempt=1,
            outcome=Outcome.COMPLETED,
            status=JobStatus.COMPLETED,
            failures=0,
            crashes=0,
        )
        assert queue.backend.end([ending], started + timedelta(seconds=4)) == [True]
    stats = collect(queue, now)
    assert (stats.throughput.last_hour, stats.throughput.last_day) == (1, 2)
    (figures,) = stats.types
    assert figures.completed == 2
    assert (figures.run.p50, figures.run.p95) == pytest.approx((4.0, 4.0))
    assert stats.counts[JobStatus.COMPLETED] == 3


def test_logs_are_measured(queue: JobQueue) -> None:
    import os

    with queue.logs.create(1) as log:
        descriptor = log.append("stdout.log")
        os.write(descriptor, b"x" * 10_000)
        os.close(descriptor)
    assert collect(queue, utcnow()).log_bytes >= 10_000
