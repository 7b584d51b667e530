"""Threads between the event loop and the jobs: several that read, one that writes.

Nothing blocks the loop. The writer takes all that waits and does it in one transaction with a
savepoint for each, since a commit costs a flush of the disk, however much it holds. On Redis there
is no flush to share, and the verbs of a group are only rehearsed until it ends: there it does one
after the other.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

from jobq.errors import DatabaseError, DatabaseUnavailableError
from jobq.queue import JobQueue, backend_of

T = TypeVar("T")

MAX_WAITING = 256
"""Reads, and writes, that may wait; further ones are refused."""

REQUEST_WAIT_S = 5.0
"""Longest time for which a request waits for the locks of others, or for an answer of Redis."""

WRITE_BATCH_SIZE = 64
"""Writes in one transaction: the first one waits for all of them."""


class ServerBusyError(DatabaseUnavailableError):
    """More waits than can be done soon."""


class _Task(NamedTuple):
    call: Callable[[], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class _Threads:
    """Threads that take tasks, up to ``batch_size`` at a time. They die with the process."""

    def __init__(
        self,
        name: str,
        count: int,
        run: Callable[[Sequence[_Task]], None],
        prepare: Callable[[], None],
        batch_size: int = 1,
    ) -> None:
        self._run = run
        self._prepare = prepare
        self._batch_size = batch_size
        self._tasks: deque[_Task] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._loop, name=f"{name}-{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, call: Callable[[], T]) -> "asyncio.Future[T]":
        loop = asyncio.get_running_loop()
        task = _Task(call, loop.create_future(), loop)
        with self._changed:
            if len(self._tasks) >= MAX_WAITING:
                raise ServerBusyError("the server is busy: try again in a second")
            self._tasks.append(task)
            self._changed.notify()
        return task.future

    def close(self, until: float) -> None:
        """Finish what waits, and end the threads, until this time of the monotonic clock."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _loop(self) -> None:
        while True:
            with self._changed:
                while not self._tasks:
                    if self._closed:
                        return
                    self._changed.wait()
                size = min(len(self._tasks), self._batch_size)
                batch = [self._tasks.popleft() for _ in range(size)]
            self._prepare()
            self._run(batch)


class Work:
    """The work of requests on the jobs of one queue."""

    def __init__(self, queue: JobQueue, threads: int) -> None:
        self.on_written: Callable[[], None] = lambda: None
        """Called after each write: who watches for changes need not wait for the next look."""
        self._backend = backend_of(queue)
        self._readers = _Threads("read", threads, self._run_each, self._limit_waits)
        self._keeper = _Threads("maintain", 1, self._run_each, self._limit_waits)
        self._watcher = _Threads("watch", 1, self._run_each, self._limit_waits)
        grouped = not self._backend.spans_hosts
        self._writer = _Threads(
            "write",
            1,
            self._run_grouped if grouped else self._run_each,
            self._limit_waits,
            WRITE_BATCH_SIZE if grouped else 1,
        )

    async def read(self, call: Callable[[], T]) -> T:
        """Run what only reads, in one of several threads.

        Raises:
            ServerBusyError: too much waits already.
        """
        return await self._readers.submit(call)

    async def write(self, call: Callable[[], T]) -> T:
        """Run what changes jobs, in the one thread that does; it takes effect before this returns.

        It goes on if the caller is gone: a client that has left can't know how far it came.

        Raises:
            ServerBusyError: too much waits already.
        """
        try:
            return await asyncio.shield(self._writer.submit(call))
        finally:
            self.on_written()

    async def maintain(self, call: Callable[[], T]) -> T:
        """Run what no request waits for, in a thread of its own."""
        return await self._keeper.submit(call)

    async def watch(self, call: Callable[[], T]) -> T:
        """Run a look for changes, in a thread of its own.

        SQLite counts the changes of all other connections, and each thread has one: counts of
        several threads do not compare.
        """
        return await self._watcher.submit(call)

    def close(self, timeout: float) -> None:
        """Let writes that wait take effect, and end the threads, in this time at most.

        The queue is closed next, which no thread may be using then.
        """
        until = time.monotonic() + timeout
        for threads in (self._writer, self._keeper, self._watcher, self._readers):
            threads.close(until)

    def _limit_waits(self) -> None:
        """Limit the waits of a thread, each time anew: its connection may be another one by now."""
        with suppress(DatabaseError):  # which the call that follows meets as well
            self._backend.limit_waits(REQUEST_WAIT_S)

    def _run_each(self, tasks: Sequence[_Task]) -> None:
        for task in tasks:
            _answer(task, *_outcome(task.call))

    def _run_grouped(self, tasks: Sequence[_Task]) -> None:
        if len(tasks) == 1:
            self._run_each(tasks)
            return
        outcomes: list[tuple[Any, BaseException | None]] = []
        try:
            with self._backend.group():
                outcomes.extend(_outcome(partial(self._in_group, task.call)) for task in tasks)
        except BaseException as error:  # noqa: BLE001 - handed to those who wait
            outcomes = [(None, error)] * len(tasks)  # none of it took effect
        for task, outcome in zip(tasks, outcomes, strict=True):
            _answer(task, *outcome)

    def _in_group(self, call: Callable[[], T]) -> T:
        """Run one of a group; what fails leaves no trace of its own in it."""
        with self._backend.group():
            return call()


def _outcome(call: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    try:
        return call(), None
    except BaseException as error:  # noqa: BLE001 - handed to the one who waits
        return None, error


def _answer(task: _Task, result: Any, error: BaseException | None) -> None:
    def settle() -> None:
        if task.future.done():  # the request was cancelled
            return
        if error is None:
            task.future.set_result(result)
        else:
            task.future.set_exception(error)

    if not task.loop.is_closed():
        task.loop.call_soon_threadsafe(settle)
