from datetime import timedelta

import pytest

from jobq import JobQueue
from jobq.backends.messages import ClaimRequest
from jobq.clock import utcnow
from jobq.diagnostics.stats import Percentiles, collect, figures, percentiles, stats_document
from jobq.models import AttemptResult, Ended, JobStatus, Outcome, SupervisorInfo
from jobq.queue import backend_of


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


def test_figures_of_jobs_that_ended() -> None:
    sample = [Ended("shell", "default", True, float(n), 10.0 * n) for n in (1, 2, 3)]
    found = figures(3, 1, sample)
    assert (found.completed, found.failed, found.success_rate) == (3, 1, 0.75)
    assert found.wait == Percentiles(2.0, 3.0)
    assert found.run == Percentiles(20.0, 30.0)


def test_a_clock_that_was_set_back_makes_no_span_negative() -> None:
    found = figures(1, 0, [Ended("shell", "default", True, -3600.0, -3597.0)])
    assert (found.wait, found.run) == (Percentiles(0.0, 0.0), Percentiles(0.0, 0.0))


def test_figures_where_nothing_completed() -> None:
    found = figures(0, 1, [])
    assert (found.success_rate, found.wait, found.run) == (0.0, None, None)


def test_a_queue_without_jobs(queue: JobQueue) -> None:
    stats = collect(queue, utcnow())
    assert set(stats.counts) == set(JobStatus)
    assert not any(stats.counts.values())
    assert (stats.types, stats.by_queue, stats.supervisors, stats.log_bytes) == ({}, {}, [], 0)
    assert (stats.success_rate, stats.oldest_waiting) == (None, None)
    assert stats_document(stats)["queues"][0]["wait"] is None
    assert stats.throughput.last_day == 0
    assert stats_document(stats)["queues"][0]["name"] == "default"


def test_jobs_count_in_the_hour_and_the_day_that_they_completed_in(queue: JobQueue) -> None:
    now = utcnow()
    for ago in (timedelta(minutes=30), timedelta(hours=2), timedelta(hours=25)):
        job = queue.add("shell", {"argv": ["true"]})
        started = now - ago
        (claim,) = backend_of(queue).claim(
            ClaimRequest(owner="test", limit=1, lease=timedelta(minutes=1), ids=[job.id]), started
        )
        ending = AttemptResult(
            key=claim.key,
            outcome=Outcome.COMPLETED,
            status=JobStatus.COMPLETED,
            failures=0,
            crashes=0,
        )
        assert backend_of(queue).end([ending], started + timedelta(seconds=4)) == [True]
    stats = collect(queue, now)
    assert (stats.throughput.last_hour, stats.throughput.last_day) == (1, 2)
    for groups, name in ((stats.types, "shell"), (stats.by_queue, "default")):
        found = groups[name]
        assert (found.completed, found.success_rate) == (2, 1.0)
        assert found.run is not None
        assert (found.run.p50, found.run.p95) == pytest.approx((4.0, 4.0))
    assert stats.counts[JobStatus.COMPLETED] == 3


def test_logs_are_measured(queue: JobQueue) -> None:
    import os

    with queue.logs.create(queue.add("shell", {"argv": ["true"]})) as log:
        descriptor = log.append("stdout.log")
        os.write(descriptor, b"x" * 10_000)
        os.close(descriptor)
    assert collect(queue, utcnow()).log_bytes >= 10_000


def test_the_oldest_job_that_waits(queue: JobQueue) -> None:
    queue.add("shell", {"argv": ["true"]}, delay=timedelta(hours=1))
    oldest = queue.add("shell", {"argv": ["true"]}, name="old")
    queue.add("shell", {"argv": ["true"]})
    document = stats_document(collect(queue, utcnow() + timedelta(minutes=2)))
    assert document["oldest_waiting"]["id"] == oldest.id
    assert document["oldest_waiting"]["waiting"] == pytest.approx(120, abs=5)


def test_the_load_of_a_supervisor(queue: JobQueue) -> None:
    now = utcnow()
    info = SupervisorInfo(
        id="somewhere:1:abc", host="somewhere", boot_id="boot", pid=1, slots=4, queues=None,
        types=("shell",), started_at=now, heartbeat_at=now,
    )  # fmt: skip
    backend_of(queue).supervisors.register(info)
    queue.add("shell", {"argv": ["true"]})
    assert queue.claim(owner=info.id)
    (supervisor,) = stats_document(collect(queue, now + timedelta(seconds=7)))["supervisors"]
    assert (supervisor["running"], supervisor["load"]) == (1, 0.25)
    assert supervisor["heartbeat_age"] == pytest.approx(7)
