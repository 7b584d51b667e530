"""What children are given, and what is taken back from them: with a real fork server."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from jobq.backends.base import ClaimRequest
from jobq.children import ChildPool
from jobq.clock import utcnow
from jobq.config import job_environment
from jobq.endings import Exit
from jobq.models import Outcome
from jobq.processes import SUPERVISOR_MARK
from jobq.queue import JobQueue, owner_id
from jobq.runs import Run

WORKER = """
import time
from pathlib import Path
from pydantic import BaseModel
from jobq import JobWorker


class Patient(JobWorker):
    job_type = "patient"

    class Args(BaseModel):
        wait: bool = False

    def run(self, args, job):
        with open("ran", "a") as file:
            file.write(f"{job.id}\\n")
        while args.wait and not Path("go").exists():
            time.sleep(0.01)
"""


class Told:
    """Notes what becomes of runs."""

    def __init__(self) -> None:
        self.back: list[Run] = []
        self.ended: list[Run] = []
        self.outcomes: set[Outcome] = set()

    def on_begin(self, run: Run) -> None: ...

    def on_born(self, run: Run) -> None: ...

    def on_types(self, types: list[str], errors: list[str]) -> None: ...

    def on_back(self, runs: list[Run]) -> None:
        self.back += runs

    def on_exit(self, run: Run, end: Exit) -> None:
        self.ended.append(run)
        self.outcomes.add(end.outcome)


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def claimed(queue: JobQueue, owner: str, most: int) -> Sequence[Run]:
    request = ClaimRequest(owner=owner, limit=most, lease=timedelta(seconds=60))
    claims = queue.backend.claim(request, utcnow())
    return [Run(claim, queue.logs, queue.settings.redactor) for claim in claims]


def test_what_was_given_and_taken_back_many_times_runs_once_and_where_it_was_given_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child skips what was taken back: all of it, however much that was while it was at one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobq.toml").touch()
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "patient.py").write_text(WORKER)

    def ran() -> list[int]:
        path = tmp_path / "ran"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    async def give_and_take(queue: JobQueue) -> None:
        told, owner = Told(), owner_id("here")
        long, *others = claimed(queue, owner, 61)
        environment = {**job_environment(queue.settings), SUPERVISOR_MARK: owner}
        children = ChildPool(queue.settings, environment, told)
        children.open()
        try:
            children.start(long)
            children.send()
            await until(ran)
            for _ in range(7):
                given = [run for run in others if children.follow(run)]
                children.take_back()
                assert told.back == given
                told.back.clear()
            following = [run for run in others if children.follow(run)]
            children.send()
            (tmp_path / "go").touch()
            await until(lambda: len(told.ended) > len(following))
            for run in others[len(following) :]:
                children.start(run)
            children.send()
            await until(lambda: len(told.ended) == 61)
        finally:
            children.close()
        assert told.outcomes == {Outcome.COMPLETED}

    with JobQueue.open(tmp_path / "jobq.toml") as queue:
        queue.add("patient", {"wait": True})
        queue.add_many([{"type": "patient"}] * 60)
        asyncio.run(give_and_take(queue))
    assert sorted(ran()) == list(range(1, 62))
