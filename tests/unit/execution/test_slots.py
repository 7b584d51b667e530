"""Slots: how many jobs are claimed, when they start, and which of them go back."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from jobq import JobQueue
from jobq.execution.events import EventSender
from jobq.execution.hooks import Hooks
from jobq.execution.options import WorkOptions
from jobq.execution.outbox import Outbox
from jobq.execution.prefetch import MAX_WAIT_S
from jobq.execution.slots import Slots
from jobq.jobs.outcome import StopReason
from jobq.models import Claim, Outcome
from jobq.queue import backend_of
from tests.support.runs import claim, until

OWNER = "here:1:me"


class Scene:
    """Slots, and what they have called."""

    def __init__(self, queue: JobQueue, slots: int = 2, max_jobs: int | None = None) -> None:
        self.queue = queue
        self.outbox = Outbox()
        self.woken = 0
        self.may_start = True
        self.slots = Slots(
            queue,
            OWNER,
            WorkOptions(slots=slots, max_jobs=max_jobs),
            self.outbox,
            Hooks(queue.settings, queue.logs, backend_of(queue).get, lambda _: None),
            EventSender(lambda _: None),
            wake=self.wake,
            may_start=lambda: self.may_start,
            on_types=lambda *_: None,
        )

    def wake(self) -> None:
        self.woken += 1

    def claims(self, count: int, *argv: str) -> list[Claim]:
        self.queue.add_many([{"type": "shell", "args": {"argv": list(argv)}}] * count)
        return [run.claim for run in claim(self.queue, count, OWNER)]

    def play(self, act: Callable[[], Awaitable[None]]) -> None:
        """Do something with SIGCHLD as the supervisor has it."""

        async def run() -> None:
            from signal import SIGCHLD

            asyncio.get_running_loop().add_signal_handler(SIGCHLD, self.slots.reap)
            try:
                await act()
            finally:
                self.slots.runs.close()

        asyncio.run(run())


@pytest.fixture
def scene(queue: JobQueue) -> Scene:
    return Scene(queue)


def test_there_is_room_for_as_many_as_there_are_slots_and_jobs_left(queue: JobQueue) -> None:
    assert Scene(queue, slots=3).slots.room() == (3, 0)
    assert Scene(queue, slots=3, max_jobs=2).slots.room() == (2, 0)
    assert Scene(queue, slots=3).slots.jobs_left is None
    assert Scene(queue, slots=3, max_jobs=2).slots.jobs_left == 2


def test_no_more_run_than_there_are_slots_and_each_end_makes_room(scene: Scene) -> None:
    async def act() -> None:
        scene.slots.take(scene.claims(5, "true"))
        assert scene.slots.room() == (0, 0)
        scene.slots.fill()
        assert len(scene.slots.runs) == 2
        await until(lambda: len(scene.outbox.results) + len(scene.outbox.report().unstarted) == 5)
        assert scene.slots.is_empty

    scene.play(act)
    assert {result.outcome for result in scene.outbox.results} == {Outcome.COMPLETED}
    assert scene.woken > 0


def test_nothing_starts_while_its_claim_may_be_lost(scene: Scene) -> None:
    async def act() -> None:
        scene.may_start = False
        scene.slots.take(scene.claims(1, "true"))
        scene.slots.fill()
        assert len(scene.slots.runs) == 0
        assert scene.woken == 1  # to renew it

    scene.play(act)


def test_what_waits_for_long_is_given_back_and_may_be_claimed_again(queue: JobQueue) -> None:
    scene = Scene(queue, slots=1, max_jobs=2)

    async def act() -> None:
        claims = scene.claims(2, "sleep", "600")
        scene.slots.take(claims)
        assert scene.slots.jobs_left == 0
        scene.slots.fill()
        await asyncio.sleep(MAX_WAIT_S)
        await until(lambda: scene.outbox.report().unstarted == [claims[1]])
        assert scene.slots.jobs_left == 1
        assert list(scene.slots.runs.by_key) == [claims[0].key]
        assert scene.slots.keys == {each.key for each in claims}  # until it is recorded

    scene.play(act)


def test_a_drain_gives_back_all_that_waits_and_claims_no_more(scene: Scene) -> None:
    async def act() -> None:
        claims = scene.claims(3, "sleep", "600")
        scene.slots.take(claims)
        scene.slots.fill()
        scene.slots.drain()
        assert scene.outbox.report().unstarted == claims[2:]
        assert scene.slots.room() == (0, 0)
        assert len(scene.slots.runs) == 2

    scene.play(act)


def test_a_release_stops_what_runs_and_what_begins_later(queue: JobQueue) -> None:
    scene = Scene(queue, slots=2)

    async def act() -> None:
        scene.slots.take(scene.claims(1, "sleep", "600"))
        scene.slots.fill()
        scene.slots.release(StopReason.SHUTDOWN)
        scene.slots.take(scene.claims(1, "sleep", "600"))
        scene.slots.fill()
        await until(lambda: len(scene.outbox.results) == 2)

    scene.play(act)
    assert {result.outcome for result in scene.outbox.results} == {Outcome.RELEASED}


def test_a_cancelled_job_is_stopped_if_it_runs_and_given_back_if_it_waits(scene: Scene) -> None:
    async def act() -> None:
        claims = scene.claims(4, "sleep", "600")
        scene.slots.take(claims)
        scene.slots.fill()
        scene.slots.cancel({claims[0].key, claims[3].key})
        assert scene.outbox.report().unstarted == [claims[3]]
        await until(lambda: scene.outbox.results)
        (result,) = scene.outbox.results
        assert (result.key, result.outcome) == (claims[0].key, Outcome.CANCELLED)

    scene.play(act)


def test_what_is_not_held_any_more_is_dropped_without_a_word(scene: Scene) -> None:
    async def act() -> None:
        claims = scene.claims(4, "sleep", "600")
        scene.slots.take(claims)
        scene.slots.fill()
        scene.slots.keep_only({each.key for each in claims[:3]})
        assert scene.slots.keys == {each.key for each in claims[:3]}
        assert not scene.outbox

    scene.play(act)
