"""A supervisor in this process, with a database that fails where it is told to."""

import asyncio
from datetime import datetime
from pathlib import Path

import pytest

from jobq import JobQueue, JobStatus
from jobq.errors import DatabaseLockedError
from jobq.supervisor import Supervisor, WorkOptions


def test_what_was_claimed_in_a_transaction_that_failed_is_claimed_and_run_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobq.toml").touch()
    with JobQueue.open(tmp_path / "jobq.toml") as queue:
        job = queue.add("shell", {"argv": ["true"]})
        next_due = queue.backend.next_due
        failures = [DatabaseLockedError("locked")]

        def fails_once(now: datetime) -> datetime | None:
            if failures:
                raise failures.pop()
            return next_due(now)

        monkeypatch.setattr(queue.backend, "next_due", fails_once)
        asyncio.run(Supervisor(queue, WorkOptions(slots=1, drain=True)).run())
        assert queue.get(job.id).status is JobStatus.COMPLETED
