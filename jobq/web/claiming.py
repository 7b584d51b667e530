"""Claims over HTTP: long polls that take turns, and answers that can be asked for again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from jobq.backends.messages import ClaimRequest
from jobq.models import Claim
from jobq.queue import JobQueue, backend_of
from jobq.system.disk_space import shortage
from jobq.web.problems import Problem
from jobq.web.uploads import begin_log, disk_short
from jobq.web.wakeups import Wakeups
from jobq.web.work import Work

POLL_INTERVAL_S = 1.0
"""Time between two looks for jobs without a wake-up."""

MIN_POLL_S = 0.01
"""Shortest time between two looks, for a job that is due but in a queue that gives none."""

REPLAY_S = 120.0
"""Time for which an answer can be asked for again by its key."""

MAX_REPLAYS = 10_000


class Taken(NamedTuple):
    """What one look gave: claims, or else the time until waiting alone makes a job claimable."""

    claims: list[Claim]
    due_in: float | None


def claim_now(queue: JobQueue, wanted: ClaimRequest) -> Taken:
    """Claim jobs, make their log directories, and note where their output starts.

    Raises:
        Problem: a disk is short of room: 503.
        OSError: a directory can't be made; nothing is claimed.
    """
    backend = backend_of(queue)
    now = backend.now()
    if (short := shortage(queue.settings)) is not None:
        raise disk_short(short)
    claims = backend.claim(wanted, now)
    if not claims:
        due = backend.next_due(now)
        return Taken([], None if due is None else (due - now).total_seconds())
    try:
        starts = [begin_log(queue.logs, claim) for claim in claims]
    except OSError:
        backend.unclaim(claims, now)
        raise
    backend.started([each for each in starts if any(each.offsets)])
    return Taken(claims, None)


class Claiming:
    """The claims that requests wait for.

    Of those that want the same, one at a time looks for jobs: a new job does not make a hundred
    workers ask for it.
    """

    def __init__(self, queue: JobQueue, work: Work, wakeups: Wakeups) -> None:
        self._queue = queue
        self._work = work
        self.wakeups = wakeups
        self.replays = Replays()
        self._turns: WeakValueDictionary[Any, asyncio.Lock] = WeakValueDictionary()

    async def take(
        self, wanted: ClaimRequest, wait: float, stop: "asyncio.Future[Any]"
    ) -> list[Claim]:
        """Return claims as soon as there are any; none after ``wait`` seconds, or once stopped."""
        if wait <= 0:
            return (await self._look(wanted)).claims
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        kind = (_sorted(wanted.queues), _sorted(wanted.types))
        turn = self._turns.setdefault(kind, asyncio.Lock())
        if not await _before(turn.acquire(), stop, wait):
            return []
        try:
            while True:
                woken = await self.wakeups.next()
                claims, due_in = await self._look(wanted)
                left = deadline - loop.time()
                if claims or left <= 0 or stop.done():
                    return claims
                due_in = left if due_in is None else max(due_in, MIN_POLL_S)
                await _before(woken.wait(), stop, min(left, due_in, POLL_INTERVAL_S))
        finally:
            turn.release()

    async def _look(self, wanted: ClaimRequest) -> Taken:
        """Claim; give back at once what no one waits for any more."""
        taken = asyncio.ensure_future(self._work.write(partial(claim_now, self._queue, wanted)))
        try:
            return await asyncio.shield(taken)
        except asyncio.CancelledError:
            with suppress(Exception):
                await self.give_back((await taken).claims)
            raise

    async def give_back(self, claims: Sequence[Claim]) -> None:
        """Undo claims that were never answered."""
        backend = backend_of(self._queue)
        if claims:
            await self._work.write(lambda: backend.unclaim(claims, backend.now()))


def _sorted(names: Any) -> tuple[str, ...] | None:
    return None if names is None else tuple(sorted(names))


async def _before(awaitable: Awaitable[Any], stop: "asyncio.Future[Any]", seconds: float) -> bool:
    """Wait for something until it is done, stopped, or the time is over; return if it is done."""
    task = asyncio.ensure_future(awaitable)
    try:
        await asyncio.wait({task, stop}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return task.done()
    finally:
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


class _Replay(NamedTuple):
    digest: str
    expires: float  # loop time
    answer: "asyncio.Future[Any]"


class Replays:
    """Answers by their keys, for two minutes: a client that got none asks again."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], _Replay] = {}

    async def once(
        self, key: tuple[str, str], digest: str, make: Callable[[], Awaitable[Any]]
    ) -> tuple[Any, bool]:
        """Return the answer of a key, and whether it was made before. None is not kept.

        Raises:
            Problem: the key stands for another request: 422.
        """
        now = asyncio.get_running_loop().time()
        self._forget(now)
        while (known := self._kept.get(key)) is not None:
            if known.digest != digest:
                raise Problem(422, "key_reused", "the Idempotency-Key is that of another request")
            answer = await asyncio.shield(known.answer)
            if answer is not None:
                return answer, True
            self._kept.pop(key, None)
        made = asyncio.ensure_future(make())
        self._kept[key] = _Replay(digest, now + REPLAY_S, made)
        try:
            answer = await made
        except BaseException:
            self._kept.pop(key, None)
            raise
        if answer is None:
            self._kept.pop(key, None)
        return answer, False

    def _forget(self, now: float) -> None:
        """Drop the oldest: they are in the order in which they expire."""
        for key, kept in list(self._kept.items()):
            if kept.expires > now and len(self._kept) < MAX_REPLAYS:
                break
            del self._kept[key]
