"""The contract of `AsyncJobQueue`, on every backend: the verbs of `JobQueue`, awaited."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from jobq import AsyncJobQueue, Claim, JobFilter, JobQueue, JobStatus, NotFound
from jobq.backends.base import Backend
from jobq.config.settings import Settings
from tests.support.queues import TRUE

Play = Callable[[Callable[[AsyncJobQueue], Coroutine[Any, Any, None]]], None]


@pytest.fixture
def play(open_backend: Callable[[], Backend], tmp_path: Path) -> Play:
    """Run a coroutine function with a queue."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncJobQueue]:
        settings = Settings(
            path=None, database=tmp_path / "jobq.db", log_dir=tmp_path / "logs", concurrency=1
        )
        async with AsyncJobQueue(JobQueue(settings, open_backend())) as queue:
            yield queue

    def run(scene: Callable[[AsyncJobQueue], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            async with opened() as queue:
                await scene(queue)

        asyncio.run(main())

    return run


def test_a_job_is_added_claimed_and_completed(play: Play) -> None:
    async def scene(queue: AsyncJobQueue) -> None:
        job = await queue.add("shell", TRUE, priority="high")
        assert [each.id for each in await queue.find(status="pending")] == [job.id]
        assert [each.id async for each in queue.each(JobFilter())] == [job.id]
        async for claim in queue.claims(owner="me", wait=0.01):
            assert await queue.heartbeat(claim)
            assert await queue.complete(claim.job.id, {"n": 1}, owner="me")
        assert (await queue.wait(job.id, timeout=5)).result == {"n": 1}
        assert (await queue.totals())["completed"] == 1

    play(scene)


def test_errors_are_those_of_the_verbs(play: Play) -> None:
    async def scene(queue: AsyncJobQueue) -> None:
        with pytest.raises(NotFound, match="no job 7"):
            await queue.get(7)
        job = await queue.add("shell", TRUE)
        with pytest.raises(TimeoutError):
            await queue.wait(job.id, timeout=0.01)

    play(scene)


def test_many_calls_run_while_others_wait(play: Play) -> None:
    async def scene(queue: AsyncJobQueue) -> None:
        waiting = [asyncio.create_task(queue.claim(owner=f"w{n}", wait=30)) for n in range(12)]
        jobs = await asyncio.gather(*(queue.add("shell", TRUE) for _ in range(12)))
        claims = await asyncio.gather(*waiting)
        assert {claim.job.id for claim in claims if claim} == {job.id for job in jobs}

    play(scene)


def test_a_claim_that_nobody_awaits_any_more_is_given_back(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim_many = JobQueue.claim_many

    def late(queue: JobQueue, *args: Any, **options: Any) -> list[Claim]:
        time.sleep(0.2)
        return claim_many(queue, *args, **options)

    monkeypatch.setattr(JobQueue, "claim_many", late)

    async def scene(queue: AsyncJobQueue) -> None:
        job = await queue.add("shell", TRUE)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.claim(owner="me", wait=30), 0.05)
        await queue.close()  # waits for the call
        (attempt,) = queue.blocking.attempts(job.id)
        assert attempt.error == "given back by its worker"
        assert queue.blocking.get(job.id).status is JobStatus.PENDING

    play(scene)


def test_what_waits_ends_when_the_queue_is_closed(play: Play) -> None:
    began = time.monotonic()

    async def scene(queue: AsyncJobQueue) -> None:
        job = await queue.add("shell", TRUE)
        calls = [
            asyncio.create_task(queue.claim("other", owner="me", wait=60)),
            asyncio.create_task(queue.wait(job.id)),
        ]
        await asyncio.sleep(0.1)
        await queue.close()
        none, error = await asyncio.gather(*calls, return_exceptions=True)
        assert none is None
        assert isinstance(error, TimeoutError)

    play(scene)
    assert time.monotonic() - began < 30
