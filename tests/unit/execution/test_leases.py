"""Leases: what could be taken over is ended before, and what could not goes on."""

import asyncio
import json
from datetime import datetime

import pytest

from jobq import Attempt
from jobq.errors import DatabaseStoppedError, DatabaseUnreachableError
from jobq.execution.supervisor import Supervisor
from tests.support.supervisor import Host
from tests.support.supervisor import host as host  # noqa: PLC0414 - a fixture


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
