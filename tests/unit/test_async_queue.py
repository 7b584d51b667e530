"""`AsyncJobQueue` as a whole: all verbs of `JobQueue`, and workers in a block."""

import asyncio
import inspect
from pathlib import Path

from jobq import AsyncJobQueue, JobQueue, JobStatus

NOT_AWAITED = {"registry"}
"""It loads worker files, as `job_type` does."""

OWN = {"blocking", "call", "wait_in_thread"}


def public(names: list[str]) -> set[str]:
    return {name for name in names if not name.startswith("_")}


def test_it_has_every_verb_of_the_queue(queue: JobQueue) -> None:
    opened = AsyncJobQueue(queue)
    assert public(dir(opened)) - OWN == public([*dir(queue), *vars(queue)]) - NOT_AWAITED


def test_signatures_and_docs_are_those_of_the_queue(queue: JobQueue) -> None:
    opened = AsyncJobQueue(queue)
    for name in ("add", "claims", "find", "workers"):
        verb, original = getattr(opened, name), getattr(JobQueue, name)
        assert inspect.signature(verb) == inspect.signature(original)
        assert verb.__doc__ == original.__doc__


def test_workers_run_in_a_block_of_a_program_with_an_event_loop(project: Path) -> None:
    async def main() -> None:
        async with await AsyncJobQueue.open(project / "jobq.toml") as queue:
            job = await queue.add("shell", {"argv": ["true"]})
            async with queue.workers(1) as supervisor:
                assert supervisor.slots == 1
                assert (await queue.wait(job.id, timeout=20)).status is JobStatus.COMPLETED

    asyncio.run(main())
