"""The connection to a child: tasks, tokens and reports, with this process in the child's place."""

import asyncio
import json
import socket
from collections.abc import Callable, Iterator

import pytest

from jobq import JobQueue
from jobq.execution.children.connection import ChildConnection
from jobq.execution.run import Run
from tests.support.runs import claim


class Ends:
    """Both ends of a connection."""

    def __init__(self) -> None:
        ours, self.tasks = socket.socketpair()
        tokens, taken_back = socket.socketpair()
        ours.setblocking(False)
        self.tokens = socket.socket(fileno=socket.dup(taken_back.fileno()))
        self.tokens.setblocking(False)
        self.ours = ChildConnection(ours, tokens, taken_back)

    def tasks_sent(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.tasks.recv(1 << 20).splitlines()]

    def close(self) -> None:
        for each in (
            self.tasks,
            self.tokens,
            self.ours.tasks,
            self.ours.tokens,
            self.ours.taken_back,
        ):
            each.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    opened = Ends()
    yield opened
    opened.close()


@pytest.fixture
def runs(queue: JobQueue) -> list[Run]:
    queue.add_many([{"type": "cleanup"}] * 3)
    return list(claim(queue, 3))


def in_loop(call: Callable[[], object]) -> None:
    async def run() -> None:
        call()

    asyncio.run(run())


def test_tasks_arrive_in_order_each_with_a_token(ends: Ends, runs: list[Run]) -> None:
    assert not ends.ours.runs
    ends.ours.give(runs[0], None)
    ends.ours.give(runs[1], 12.5)
    assert ends.ours.run is runs[0]
    in_loop(ends.ours.send)
    tasks = ends.tasks_sent()
    assert [task["id"] for task in tasks] == [run.key.job_id for run in runs[:2]]
    assert [task["start_by"] for task in tasks] == [None, 12.5]
    assert list(ends.tokens.recv(10)) == [task["token"] for task in tasks] == [0, 1]


def test_what_the_child_has_no_token_of_is_taken_back(ends: Ends, runs: list[Run]) -> None:
    for run in runs:
        ends.ours.give(run, None)
    in_loop(ends.ours.send)
    assert ends.tokens.recv(1) == b"\0"  # the child begins the first one
    assert ends.ours.take_back(keep=ends.ours.runs[0]) == runs[1:]
    assert [run for _, run in ends.ours.runs] == runs[:1]
    assert ends.ours.take_back(keep=ends.ours.runs[0]) == []


def test_what_counts_as_begun_is_left_to_a_child_that_has_not_come_to_it(
    ends: Ends, runs: list[Run]
) -> None:
    for run in runs[:2]:
        ends.ours.give(run, None)
    in_loop(ends.ours.send)
    assert ends.ours.take_back(keep=ends.ours.runs[0]) == runs[1:2]
    assert ends.tokens.recv(10) == b"\0"


def test_reports_are_read_as_far_as_they_are_complete(ends: Ends) -> None:
    with pytest.raises(BlockingIOError):
        ends.ours.read()
    ends.tasks.sendall(b'{"a": 1}\n{"b"')
    assert ends.ours.read() == [{"a": 1}]
    ends.tasks.sendall(b": 2}\n")
    assert ends.ours.read() == [{"b": 2}]
    ends.tasks.close()
    with pytest.raises(EOFError):
        ends.ours.read()


def test_a_child_that_reads_nothing_holds_up_nothing(ends: Ends, runs: list[Run]) -> None:
    async def play() -> None:
        large = runs[0].claim.job.args
        assert isinstance(large, dict)
        large["padding"] = "x" * 5_000_000
        ends.ours.give(runs[0], None)
        ends.ours.send()  # returns, though there is no room for all of it
        ends.tasks.setblocking(False)
        received = b""
        while not received.endswith(b"\n"):
            await asyncio.sleep(0)
            try:
                received += ends.tasks.recv(1 << 20)
            except BlockingIOError:
                continue
        assert json.loads(received)["args"] == large

    asyncio.run(asyncio.wait_for(play(), 20))


def test_to_hang_up_takes_back_what_was_not_even_sent(ends: Ends, runs: list[Run]) -> None:
    for run in runs[:2]:
        ends.ours.give(run, None)

    def hang_up() -> None:
        assert ends.ours.hang_up(keep=None) == runs[:2]
        assert not ends.ours.is_open
        ends.ours.send()

    in_loop(hang_up)
    assert ends.tasks.recv(10) == b""
