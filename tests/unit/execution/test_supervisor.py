"""A supervisor in this process, with a database that fails where it is told to."""

import asyncio
from datetime import datetime
from pathlib import Path

import pytest

from jobq import JobQueue, JobStatus
from jobq.errors import (
    DatabaseLockedError,
    DatabaseUnreachableError,
)
from jobq.execution.options import WorkOptions
from jobq.execution.supervisor import Supervisor
from jobq.queue import backend_of
from tests.support.supervisor import Host
from tests.support.supervisor import host as host  # noqa: PLC0414 - a fixture


def test_what_ends_while_nobody_answers_is_recorded_afterwards(host: Host) -> None:
    job = host.shell("touch up; until [ -e go ]; do sleep 0.01; done; touch done")

    async def disturb(_: Supervisor) -> None:
        await host.until("up")
        host.server.away = DatabaseUnreachableError("nobody answers")
        (host.folder / "go").touch()
        await host.until("done")
        await host.until_said("nobody answers")
        host.server.away = None

    host.work(disturb)
    assert host.outcomes(job) == ["completed"]
    assert host.finished == [job.id]
    assert host.said == [
        "nobody answers (trying again until it works)",
        "the database can be reached again",
    ]


def test_what_was_claimed_in_a_transaction_that_failed_is_claimed_and_run_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobq.toml").touch()
    with JobQueue.open(tmp_path / "jobq.toml") as queue:
        job = queue.add("shell", {"argv": ["true"]})
        next_due = backend_of(queue).next_due
        failures = [DatabaseLockedError("locked")]

        def fails_once(now: datetime) -> datetime | None:
            if failures:
                raise failures.pop()
            return next_due(now)

        monkeypatch.setattr(backend_of(queue), "next_due", fails_once)
        asyncio.run(Supervisor(queue, WorkOptions(slots=1, drain=True)).run())
        assert queue.get(job.id).status is JobStatus.COMPLETED
