"""What children are given, and what is taken back from them: with a real fork server."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from jobq.backends.messages import ClaimRequest
from jobq.clock import utcnow
from jobq.config.environment import SUPERVISOR_VAR, job_environment
from jobq.execution.children.pool import ChildPool
from jobq.execution.pool import Pool
from jobq.execution.run import Run
from jobq.jobs.outcome import Exit
from jobq.models import Outcome
from jobq.queue import JobQueue, backend_of
from jobq.recovery import owner_id

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
        self.short: list[Run] = []
        self.reasons: set[str] = set()
        self.ended: list[Run] = []
        self.outcomes: set[Outcome] = set()

    def on_begin(self, run: Run) -> None: ...

    def on_born(self, run: Run) -> None: ...

    def on_back(self, runs: list[Run]) -> None:
        self.back += runs

    def on_shortage(self, runs: list[Run], reason: str) -> None:
        self.short += runs
        self.reasons.add(reason)

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
    claims = backend_of(queue).claim(request, utcnow())
    return [Run(claim, queue.logs, queue.settings.redactor) for claim in claims]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobQueue]:
    """A queue of jobs of which the first waits for a file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobq.toml").touch()
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "patient.py").write_text(WORKER)
    with JobQueue.open(tmp_path / "jobq.toml") as queue:
        queue.add("patient", {"wait": True})
        queue.add_many([{"type": "patient"}] * 60)
        yield queue


def ran() -> list[int]:
    path = Path("ran")
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def descriptors_of(pid: int) -> set[int]:
    return {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}


def let_go() -> None:
    Path("go").touch()


async def scene(
    queue: JobQueue, act: Callable[[ChildPool, Told, Run, list[Run]], Awaitable[None]]
) -> Told:
    """Do something while a child is at the long job."""
    told, owner = Told(), owner_id("here")
    long, *others = claimed(queue, owner, 61)
    environment = {**job_environment(queue.settings), SUPERVISOR_VAR: owner}
    children = ChildPool(queue.settings, environment, told, lambda *_: None)
    children.open()
    try:
        children.start(long)
        given = [run for run in others[:3] if children.follow(run)]
        children.take_back()  # the child is not there yet: what it is to begin with stays its own
        assert told.back == given
        told.back.clear()
        await until(ran)
        await act(children, told, long, others)
    finally:
        children.close()
    return told


def test_what_was_given_and_taken_back_many_times_runs_once_and_where_it_was_given_last(
    project: JobQueue,
) -> None:
    """A child skips what was taken back: all of it, however much that was while it was at one."""

    async def give_and_take(children: ChildPool, told: Told, long: Run, others: list[Run]) -> None:
        for _ in range(7):
            given = [run for run in others if children.follow(run)]
            children.take_back()
            assert told.back == given
            told.back.clear()
        following = [run for run in others if children.follow(run)]
        children.send()
        let_go()
        await until(lambda: len(told.ended) > len(following))
        for run in others[len(following) :]:
            children.start(run)
        children.send()
        await until(lambda: len(told.ended) == 61)
        assert told.ended[0] is long

    told = asyncio.run(scene(project, give_and_take))
    assert told.outcomes == {Outcome.COMPLETED}
    assert sorted(ran()) == list(range(1, 62))


def test_what_a_child_gets_to_too_late_is_not_begun(
    project: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By then, the lease may have run out, and somebody else have it."""
    monkeypatch.setattr("jobq.execution.children.pool._START_SHARE", 0.0)

    async def wait_long(children: ChildPool, told: Told, long: Run, others: list[Run]) -> None:
        following = [run for run in others[:3] if children.follow(run)]
        children.send()
        let_go()
        await until(lambda: len(told.back) + len(told.ended) == 1 + len(following))
        assert (told.ended, told.back) == ([long], following)

    asyncio.run(scene(project, wait_long))
    assert ran() == [1]


def test_a_child_that_has_had_its_share_of_jobs_is_replaced(
    project: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that runs jobs for weeks would grow."""
    monkeypatch.setattr("jobq.execution.children.pool._MAX_JOBS_PER_CHILD", 20)

    async def use_up(children: ChildPool, told: Told, long: Run, others: list[Run]) -> None:
        following = [run for run in others if children.follow(run)]
        assert len(following) == 20 - 1 - 3  # those that were taken back count, too
        children.send()
        let_go()
        await until(lambda: len(told.ended) == 1 + len(following))
        first = long.pid
        assert first is not None
        assert {run.pid for run in told.ended} == {first}
        await until(lambda: not psutil.pid_exists(first))
        next_one = others[len(following)]
        children.start(next_one)
        children.send()
        await until(lambda: told.ended[-1] is next_one)

    told = asyncio.run(scene(project, use_up))
    assert told.outcomes == {Outcome.COMPLETED}


def test_once_the_rest_is_taken_back_it_is_known_what_the_child_is_at(project: JobQueue) -> None:
    async def go_on_unnoticed(
        children: ChildPool, told: Told, long: Run, others: list[Run]
    ) -> None:
        assert children.follow(others[0])
        children.send()
        let_go()
        deadline = time.monotonic() + 20
        while len(ran()) < 2:  # the loop hears nothing of it
            assert time.monotonic() < deadline
        children.take_back()
        assert told.ended[:1] == [long]
        assert told.back == []
        await until(lambda: told.ended == [long, others[0]])

    asyncio.run(scene(project, go_on_unnoticed))


def test_a_child_that_is_killed_takes_down_what_it_was_at_and_nothing_else(
    project: JobQueue,
) -> None:
    async def kill(children: ChildPool, told: Told, long: Run, others: list[Run]) -> None:
        following = [run for run in others[:3] if children.follow(run)]
        children.send()
        await until(lambda: long.pid)
        os.kill(long.pid or 0, signal.SIGKILL)
        await until(lambda: told.ended)
        assert (told.ended, told.back) == ([long], following)
        for run in following:
            children.start(run)
        children.send()
        await until(lambda: len(told.ended) == 1 + len(following))

    told = asyncio.run(scene(project, kill))
    assert told.outcomes == {Outcome.CRASHED, Outcome.COMPLETED}
    assert sorted(ran()) == [1, 2, 3, 4]


async def limit_files(server: psutil.Process, free: int) -> Callable[[], None]:
    """Leave a process room for so many descriptors; return what undoes it."""
    limits = server.rlimit(psutil.RLIMIT_NOFILE)
    taken = descriptors_of(server.pid)
    numbers = [number for number in range(1000) if number not in taken]
    server.rlimit(psutil.RLIMIT_NOFILE, (numbers[free], limits[1]))
    return lambda: server.rlimit(psutil.RLIMIT_NOFILE, limits) and None


def server_of(run: Run) -> psutil.Process:
    server = psutil.Process(run.pid).parent()
    assert server is not None
    return server


@pytest.mark.parametrize("free", [0, 1, 2])
def test_a_run_whose_child_finds_no_room_is_taken_back_and_others_go_on(
    project: JobQueue, free: int
) -> None:
    """Room for both descriptors that a child is asked for with and not for a pipe, or for less."""

    async def without_room(children: ChildPool, told: Told, long: Run, others: list[Run]) -> None:
        await until(lambda: long.pid)
        server = server_of(long)
        before = server.num_fds()
        undo = await limit_files(server, free)
        children.start(others[0])
        assert children.follow(others[1])
        children.send()
        await until(lambda: told.short)
        assert set(told.short) <= set(others[:2])
        assert others[0] in told.short
        assert told.ended == []
        assert server.num_fds() == before
        undo()
        for run in told.short:
            children.start(run)
        children.send()
        await until(lambda: set(told.ended) >= set(told.short))
        let_go()
        await until(lambda: set(told.ended) == {long, *others[:2]})

    told = asyncio.run(scene(project, without_room))
    assert told.outcomes == {Outcome.COMPLETED}
    assert told.reasons == {
        "Too many open files: close some files, or raise their limit (ulimit -n)"
    }
    assert sorted(ran()) == [1, 2, 3]


async def with_silent_server(long: Run) -> psutil.Process:
    await until(lambda: long.pid)
    server = server_of(long)
    server.suspend()
    await until(lambda: server.status() == psutil.STATUS_STOPPED)
    return server


def test_an_idle_child_takes_the_run_of_one_that_is_not_there_yet(project: JobQueue) -> None:
    async def adopt(children: ChildPool, told: Told, long: Run, others: list[Run]) -> None:
        server = await with_silent_server(long)
        children.start(others[0])
        children.send()
        let_go()
        await until(lambda: told.ended == [long, others[0]])
        assert others[0].pid == long.pid
        server.resume()
        children.start(others[1])
        children.start(others[2])  # for which the child that was too late may be there
        children.send()
        await until(lambda: len(told.ended) == 4)

    told = asyncio.run(scene(project, adopt))
    assert told.outcomes == {Outcome.COMPLETED}
    assert sorted(ran()) == [1, 2, 3, 4]


def test_a_run_can_be_withdrawn_until_its_child_begins_it(project: JobQueue) -> None:
    async def withdraw(children: ChildPool, told: Told, long: Run, others: list[Run]) -> None:
        assert not children.withdraw(long)
        server = await with_silent_server(long)
        children.start(others[0])
        assert children.follow(others[1])
        children.send()
        assert children.withdraw(others[0])
        assert not children.withdraw(others[0])
        back = set(told.back)
        server.resume()
        let_go()
        await until(lambda: told.ended)
        for run in {others[1], others[2]} & (back | {others[2]}):
            children.start(run)
        children.send()
        await until(lambda: {others[1], others[2]} <= set(told.ended))

    asyncio.run(scene(project, withdraw))
    assert sorted(ran()) == [1, 3, 4]


def test_a_fork_server_that_does_not_answer_is_replaced_once_its_children_are_done(
    project: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobq.execution.children.silence.SILENCE_S", 0.2)
    told, owner = Told(), owner_id("here")
    long, short, *_ = claimed(project, owner, 10)
    said: list[str] = []
    pool = Pool(project.settings, owner, told, lambda *_: None, on_message=said.append)

    async def act() -> None:
        pool.open()
        pool.start(long)
        pool.send()
        await until(ran)
        server = await with_silent_server(long)
        pool.start(short)
        pool.send()
        await until(lambda: told.back == [short])
        assert len(said) == 1
        assert "has not answered for" in said[0]
        pool.start(short)
        pool.send()
        await until(lambda: told.ended == [short])
        assert server_of(short) != server
        assert server.is_running()
        let_go()
        await until(lambda: told.ended == [short, long])
        assert told.outcomes == {Outcome.COMPLETED}
        await until(lambda: not psutil.pid_exists(server.pid))
        pool.close()

    asyncio.run(act())
    assert len(said) == 1


@pytest.mark.parametrize("is_replaced", [False, True], ids=["not yet", "replaced"])
def test_a_child_that_dies_is_noticed_although_its_fork_server_tells_nothing(
    project: JobQueue, monkeypatch: pytest.MonkeyPatch, is_replaced: bool
) -> None:
    monkeypatch.setattr("jobq.execution.children.silence.SILENCE_S", 0.2)
    told, owner = Told(), owner_id("here")
    long, short, *_ = claimed(project, owner, 10)
    pool = Pool(project.settings, owner, told, lambda *_: None)

    async def act() -> None:
        pool.open()
        pool.start(long)
        pool.send()
        await until(ran)
        await with_silent_server(long)
        if is_replaced:
            pool.start(short)
            await until(lambda: told.back == [short])
        os.kill(long.pid or 0, signal.SIGKILL)
        await until(lambda: told.ended)
        pool.close()

    asyncio.run(act())
    assert (told.ended, told.outcomes) == ([long], {Outcome.CRASHED})
