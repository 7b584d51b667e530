"""The pool: which runs become commands, which go to children, and which can't be started."""

import asyncio
from dataclasses import replace

import pytest

from jobq import JobQueue
from jobq.execution.pool import Pool
from jobq.models import Outcome
from tests.support.runs import Noted, claim, claim_shell, until


def test_a_log_directory_that_can_not_be_used_fails_the_attempt(queue: JobQueue) -> None:
    run = claim_shell(queue, "true")
    folder = queue.logs.path(run.claim.job.id)
    folder.parent.mkdir(parents=True)
    folder.write_text("a file in its place")
    noted = Noted()
    Pool(queue.settings, "here:1:me", noted, lambda *_: None).start(run)
    ((ended, end),) = noted.ends
    assert noted.begun == [ended] == [run]
    assert end.outcome is Outcome.FAILED
    assert end.retryable
    assert end.error == f"the log directory can't be used: {folder}: Not a directory"


def test_a_command_runs_without_any_child_and_follows_none(queue: JobQueue) -> None:
    noted = Noted()
    pool = Pool(queue.settings, "here:1:me", noted, lambda *_: None)
    run = claim_shell(queue, "true")
    assert not pool.follow(run)

    async def start() -> None:
        pool.start(run)
        while not noted.ends:
            pool.reap()
            await asyncio.sleep(0.005)

    asyncio.run(asyncio.wait_for(start(), 20))
    assert noted.ends[0][1].outcome is Outcome.COMPLETED


def test_without_a_fork_server_what_is_for_a_child_is_taken_back(queue: JobQueue) -> None:
    queue.add("cleanup", {})
    (run,) = claim(queue)
    noted = Noted()
    pool = Pool(queue.settings, "here:1:me", noted, lambda *_: None)

    async def start() -> None:
        pool.start(run)
        await until(lambda: noted.short)

    asyncio.run(start())
    assert noted.short == [(run, "the process that runs workers can't be started")]
    assert noted.ends == []


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_place_in_which_no_job_can_have_its_logs_is_no_fault_of_a_job(
    queue: JobQueue, attempt: int
) -> None:
    run = claim_shell(queue, "true")
    if attempt > 1:
        run.claim = replace(run.claim, attempt=attempt)
    queue.logs.make_root()
    (queue.logs.root / "jobs").write_text("a file in the place of all log directories")
    noted = Noted()
    Pool(queue.settings, "here:1:me", noted, lambda *_: None).start(run)
    assert noted.ends == []
    ((_, reason),) = noted.short
    assert reason == (
        f"{queue.logs.root}/jobs: Not a directory: logs are kept in {queue.logs.root}: "
        "make it a directory that you can write to"
    )
