"""Leases: what could be taken over is ended before, and what could not goes on."""

import asyncio
import json
from datetime import datetime, timedelta

import pytest

from jobq import Attempt, JobStatus
from jobq.errors import DatabaseStoppedError, DatabaseUnreachableError
from jobq.execution.options import WorkOptions
from jobq.execution.supervisor import Supervisor
from tests.support.runs import claim
from tests.support.supervisor import Host
from tests.support.supervisor import host as host  # noqa: PLC0414 - a fixture


@pytest.mark.slow
@pytest.mark.slow
def test_what_others_may_take_over_is_ended_before_they_can(host: Host) -> None:
    job = host.shell("echo $$ >> up; touch written; [ $(wc -l < up) = 2 ] || exec sleep 600")
    attempts: list[Attempt] = []

    async def disturb(_: Supervisor) -> None:
        await host.until("written")
        host.server.away = DatabaseUnreachableError("nobody answers")
        assert host.is_running()
        await host.until_said("its lease can't be renewed")
        attempts.extend(host.backend.attempts(job.id))
        while host.is_running():  # noqa: ASYNC110 - a process that is killed takes a moment to go
            await asyncio.sleep(0.01)
        host.server.away = None

    host.work(disturb)
    assert host.outcomes(job) == ["released", "completed"]
    log = host.queue.logs.path(job.id) / "events.jsonl"
    events = [json.loads(line) for line in log.read_text().splitlines()]
    (ended_at,) = [each["time"] for each in events if each["event"] == "stopping"]
    assert datetime.fromisoformat(ended_at) < attempts[0].lease_until


@pytest.mark.slow
@pytest.mark.slow
def test_what_nobody_can_take_over_goes_on(host: Host) -> None:
    job = host.shell("touch up; until [ -e go ]; do sleep 0.01; done")

    async def disturb(supervisor: Supervisor) -> None:
        await host.until("up")
        host.server.away = DatabaseStoppedError("refused")
        while supervisor._leases.seconds_left:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        (host.folder / "go").touch()
        while not supervisor._outbox.results:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        host.server.away = None

    host.work(disturb)
    assert host.outcomes(job) == ["completed"]


def test_what_is_held_and_not_known_here_is_given_back(host: Host) -> None:
    """As after a claim whose answer was lost."""
    job = host.shell("true")
    supervisor = Supervisor(host.queue, WorkOptions(slots=1))
    (run,) = claim(host.queue, owner=supervisor.id)

    async def renew() -> tuple[bool, bool]:
        now = host.backend.now()
        return supervisor._leases.renew(now), supervisor._leases.renew(now)

    supervisor._started_at = host.backend.now()
    assert run.key.job_id == job.id
    assert asyncio.run(renew()) == (True, False)
    assert host.queue.get(job.id).status is JobStatus.PENDING
    assert supervisor.id in {each.id for each in host.backend.supervisors.all()}  # it was missing


def test_a_renewal_is_due_after_a_third_of_the_lease(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("jobq.execution.leases.steady_time", lambda: now[0])
    leases = Supervisor(host.queue, WorkOptions(slots=1))._leases
    leases.begin()
    assert leases.duration == timedelta(seconds=6)
    for seconds, due, left in ((0, False, 4.8), (1.9, False, 2.9), (2.1, True, 2.7), (9, True, 0)):
        now[0] = 100 + seconds
        assert leases.is_renewal_due is due
        assert leases.seconds_left == pytest.approx(left)
