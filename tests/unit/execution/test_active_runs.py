"""What is under way in a supervisor is looked after, whatever its loop has to wait for."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from jobq import JobQueue
from jobq.backends.messages import ClaimRequest
from jobq.clock import utcnow
from jobq.execution.active_runs import ActiveRuns
from jobq.execution.events import EventSender
from jobq.execution.outbox import Outbox
from jobq.execution.run import Run
from jobq.logs.directory import STDOUT
from jobq.queue import backend_of
from jobq.system.resources import SpareFiles
from tests.support.project import wait_until

LIMIT = 100_000


def run_of(queue: JobQueue) -> Run:
    """A run of a command of which nothing has been started yet."""
    job = queue.add("shell", {"argv": ["true"]})
    request = ClaimRequest(owner="one", limit=1, lease=timedelta(seconds=30), ids=[job.id])
    (claim,) = backend_of(queue).claim(request, utcnow())
    return Run(claim, queue.logs, queue.settings.redactor)


def test_a_loud_run_is_trimmed_while_the_loop_stands_still(tmp_path: Path) -> None:
    (tmp_path / "jobq.toml").write_text("")
    with JobQueue.open(tmp_path / "jobq.toml") as queue:
        run = run_of(queue)
        running = ActiveRuns(
            replace(queue.settings, log_max_bytes=LIMIT),
            Outbox(),
            EventSender(lambda _: None),
            take_back=lambda: None,
            withdraw=lambda _: False,
            record_soon=lambda: None,
            shipper=None,
            spare=SpareFiles(),
        )

        async def stand_still() -> None:
            running.begin(run)
            path = queue.logs.path(run.key[0]) / STDOUT
            run.open()
            path.write_bytes(b"loud\n" * LIMIT)
            wait_until(lambda: bool(run.trimmed))  # noted once it is done
            assert path.stat().st_blocks * 512 < 2 * LIMIT

        asyncio.run(stand_still())
        assert list(run.trimmed) == [STDOUT]
        running.by_key.clear()
        running.close()
        run.close()
