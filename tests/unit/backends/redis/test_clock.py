"""The clock of the server, and hosts whose clock is wrong."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time

from jobq import JobQueue
from jobq.errors import (
    WrongState,
)
from jobq.models import JobStatus, Outcome
from jobq.queue import backend_of, recovery_of
from jobq.recovery import ExpiredLeases
from jobq.transfer.migrate import require_idle
from jobq.units import Rate
from tests.contract.driver import LEASE, NOON, Jobs, new_job
from tests.contract.test_supervisors import supervisor
from tests.support.project import wait_until
from tests.unit.backends.redis.servers import TAG, Open


def test_the_clock_of_the_server_counts_and_that_of_a_host_does_no_harm(
    open_on: Open, redis_url: str
) -> None:
    now = datetime.now(UTC)
    jobs = Jobs(lambda: open_on(redis_url, clock="server"))
    (inserted,) = jobs.insert(new_job())
    assert jobs.claim(1)[0].job.created_at == inserted.at
    jobs.now = NOON + timedelta(days=3650)
    job_id = jobs.add(run_at=now + timedelta(hours=1))
    assert jobs.status(job_id) is JobStatus.SCHEDULED  # a time that a user named is what it is
    assert jobs.claimed() == []
    claim = jobs.start(jobs.add())
    (attempt,) = jobs.backend.attempts(claim.job.id)
    soon = timedelta(seconds=20)
    assert now <= claim.job.created_at <= attempt.started_at < now + soon
    assert attempt.lease_until == attempt.started_at + LEASE
    lost = jobs.ending(claim, JobStatus.PENDING, outcome=Outcome.LOST)
    assert jobs.backend.end([lost], jobs.now, lease_before=jobs.now) == [False]
    assert jobs.end(claim, JobStatus.RETRYING)  # a minute from what this host takes for now
    run_at = jobs.get(claim.job.id).run_at
    assert run_at is not None
    assert now + timedelta(seconds=60) <= run_at < now + timedelta(seconds=60) + soon


@pytest.mark.parametrize("wrong", [timedelta(hours=-1), timedelta(hours=1)])
def test_a_host_whose_clock_is_wrong_goes_by_that_of_the_server(
    redis_url: str, tmp_path: Path, wrong: timedelta
) -> None:
    (tmp_path / "jobq.toml").write_text(f'backend = "{redis_url}"\n[lease]\nseconds = 0.05\n')
    soon, now = timedelta(seconds=20), datetime.now(UTC)
    with freeze_time(now + wrong, tick=True), JobQueue.open(tmp_path / "jobq.toml") as queue:
        run_at = queue.add("shell", {"argv": ["true"]}, delay="30m").run_at
        assert run_at is not None
        assert now <= run_at - timedelta(minutes=30) < now + soon
        job = queue.add("shell", {"argv": ["true"]})
        assert queue.claim(owner="another host")
        expired = ExpiredLeases(recovery_of(queue), queue.settings.lease)
        wait_until(lambda: expired.rescue(queue.now()))
        assert queue.get(job.id).status is not JobStatus.RUNNING
        backend_of(queue).supervisors.register(
            supervisor(Jobs(lambda: backend_of(queue)), "other:1:one")
        )
        assert now <= backend_of(queue).supervisors.all()[0].heartbeat_at < now + soon
        with pytest.raises(WrongState, match="other:1:one"):
            require_idle(backend_of(queue), "here")


def test_times_that_a_group_answers_with_are_those_that_are_stored(
    open_on: Open, redis_url: str
) -> None:
    jobs = Jobs(lambda: open_on(redis_url, clock="server"))
    with jobs.backend.group():
        (inserted,) = jobs.insert(new_job())
        (claim,) = jobs.claim(1)
    assert claim.job.created_at == inserted.at == jobs.get(inserted.id).created_at
    assert claim.key.started_at == jobs.backend.attempts(inserted.id)[0].started_at
    assert jobs.end(claim)


def test_a_group_does_not_set_the_clock_back(open_on: Open, redis_url: str) -> None:
    backend = open_on(redis_url, clock="server")
    jobs = Jobs(lambda: backend)
    with backend.group():
        jobs.insert(new_job())
        begun = backend.now()
        wait_until(lambda: datetime.now(UTC) - begun > timedelta(seconds=0.1))
        jobs.insert(new_job())
    assert backend.now() - begun > timedelta(seconds=0.1)


def test_starts_that_no_longer_count_for_a_rate_are_forgotten(jobs: Jobs, client: Any) -> None:
    jobs.limit("lane", rate=Rate(2, 10.0))
    jobs.insert(*[new_job(queue="lane")] * 20)
    for _ in range(5):
        assert len(jobs.claim(9)) == 2
        jobs.later(10)
    assert client.zcard(f"{TAG}rt:lane") == 2
