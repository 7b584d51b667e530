"""Types as users of the library see them, with mypy --strict, which is in our own settings, too."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from jobq.jobs.spec import JobSpec
from jobq.models import JobFilter, Queue
from jobq.options import FilterFields, JobOptions, QueueLimits
from tests.support.paths import ROOT

ACCEPTED = """
from datetime import timedelta
from jobq import AsyncJobQueue, Claim, Job, JobContext, JobQueue

def plain(queue: JobQueue, job: JobContext) -> list[Job]:
    added = queue.add("shell", {"argv": ["true"]}, priority=3, delay=timedelta(minutes=5))
    queue.create_queue("q", max_concurrent=2, rate="10/min")
    job.add("shell", {}, tags={"a": "b"})
    for claim in queue.claims(owner="me", wait=0):
        queue.complete(claim.job.id, owner=claim.owner)
    with queue.workers(4) as supervisor:
        print(supervisor.id, queue.prune(older_than="30d", queue="q"))
    return [added, *queue.find(status="failed", limit=5, tags={"a": "b"})]

async def awaited(queue: AsyncJobQueue) -> tuple[Job, Claim | None, bool, dict[str, int]]:
    job: Job = await queue.add("shell", None, priority=3)
    async for claim in queue.claims(owner="me", wait=0):
        print(claim.job.id)
    async with queue.workers(4) as supervisor:
        print(supervisor.id)
    claimed = await queue.claim(owner="me", wait=3)
    return job, claimed, await queue.complete(7, owner="me"), await queue.totals()
"""

REFUSED = """
from jobq import AsyncJobQueue, JobContext, JobQueue

async def wrong(queue: JobQueue, awaited: AsyncJobQueue, job: JobContext) -> None:
    queue.add("shell", {}, prio=3)
    queue.add("shell", {}, tags=["a"])
    queue.find(statu="failed")
    queue.create_queue("q", limit=3)
    queue.prune(older=3)
    job.add("shell", {}, prio=3)
    await awaited.add("shell", {}, prio=3)
    await awaited.claim()
    text: str = await awaited.get(7)
"""
"""Each line of the function is wrong."""


@pytest.mark.slow
def test_mypy_accepts_what_is_right_and_refuses_what_is_wrong(tmp_path: Path) -> None:
    for name, text in (("accepted", ACCEPTED), ("refused", REFUSED)):
        (tmp_path / f"{name}.py").write_text(text.lstrip())
    done = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--no-error-summary",
            tmp_path / "accepted.py", tmp_path / "refused.py",
        ],
        cwd=ROOT, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert not [line for line in errors if "accepted.py" in line], done.stdout
    refused = {int(line.split(":")[1]) for line in errors}
    first, last = 4, len(REFUSED.strip().splitlines())
    assert refused == set(range(first, last + 1)), done.stdout


def test_options_have_the_fields_of_what_they_describe() -> None:
    for options, described, others in (
        (JobOptions, JobSpec, {"type", "args"}),
        (QueueLimits, Queue, {"name"}),
        (FilterFields, JobFilter, {"statuses"}),
    ):
        fields = {each.name for each in dataclasses.fields(described)}
        assert set(options.__annotations__) == fields - others
