"""Requests to stop: drain, release, kill."""

import pytest

from jobq import JobStatus
from jobq.errors import DatabaseUnreachableError
from jobq.execution.shutdown import Stop
from jobq.execution.supervisor import Supervisor
from tests.support.supervisor import Host
from tests.support.supervisor import host as host  # noqa: PLC0414 - a fixture


def test_who_is_told_to_leave_at_once_does_although_nobody_answers(host: Host) -> None:
    job = host.shell("touch up; exec sleep 600")

    async def disturb(supervisor: Supervisor) -> None:
        await host.until("up")
        host.server.away = DatabaseUnreachableError("nobody answers")
        while supervisor.request_stop() is not Stop.KILL:
            pass

    with pytest.raises(DatabaseUnreachableError):
        host.work(disturb)
    assert host.backend.get([job.id])[job.id].status is JobStatus.RUNNING  # for who comes next
