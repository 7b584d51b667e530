"""`AsyncJobQueue`: the verbs of `JobQueue`, to be awaited.

Each verb is that of `JobQueue`, run in a thread: the event loop never waits for the database. None
is written a second time, and each has the signature that it has there.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    suppress,
)
from contextvars import copy_context
from functools import partial, wraps
from itertools import islice
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from jobq.abandonment import set_check
from jobq.config.settings import Settings
from jobq.errors import JobqError
from jobq.logs.directory import JobLogs
from jobq.models import Claim
from jobq.queue import JobQueue

MAX_CALLS = 8
"""Calls that run at a time: each thread has a connection of its own."""

MAX_WAITS = 64
"""Calls that wait for jobs at a time. They have threads of their own, and hold up no others."""

P = ParamSpec("P")
R = TypeVar("R")


class _Verb(Generic[P, R]):
    """A verb as a coroutine function; with ``waits``, one that may wait for something to happen."""

    def __init__(self, verb: Callable[Concatenate[JobQueue, P], R], *, waits: bool = False) -> None:
        self._verb = verb
        self._waits = waits

    def __get__(self, queue: "AsyncJobQueue", owner: type) -> Callable[P, Coroutine[Any, Any, R]]:
        @wraps(self._verb)
        async def verb(*args: P.args, **options: P.kwargs) -> R:
            return await queue.call(self._verb, *args, **options)

        @wraps(self._verb)
        async def waiting_verb(*args: P.args, **options: P.kwargs) -> R:
            call = partial(self._verb, queue.blocking, *args, **options)
            return await queue.wait_in_thread(call)

        return waiting_verb if self._waits else verb


class _Stream(Generic[P, R]):
    """A verb that yields, as one to iterate over with ``async for``."""

    def __init__(self, verb: Callable[Concatenate[JobQueue, P], Iterator[R]]) -> None:
        self._verb = verb

    def __get__(self, queue: "AsyncJobQueue", owner: type) -> Callable[P, AsyncIterator[R]]:
        @wraps(self._verb)
        async def verb(*args: P.args, **options: P.kwargs) -> AsyncIterator[R]:
            items = self._verb(queue.blocking, *args, **options)
            while found := await queue.wait_in_thread(lambda: list(islice(items, 1))):
                yield found[0]

        return verb


class _Block(Generic[P, R]):
    """A verb for a ``with`` block, as one for ``async with``."""

    def __init__(self, verb: Callable[Concatenate[JobQueue, P], AbstractContextManager[R]]) -> None:
        self._verb = verb

    def __get__(
        self, queue: "AsyncJobQueue", owner: type
    ) -> Callable[P, AbstractAsyncContextManager[R]]:
        @wraps(self._verb)
        @asynccontextmanager
        async def verb(*args: P.args, **options: P.kwargs) -> AsyncIterator[R]:
            block = self._verb(queue.blocking, *args, **options)
            value = await queue.wait_in_thread(block.__enter__)
            try:
                yield value
            except BaseException as error:
                leave = partial(block.__exit__, type(error), error, error.__traceback__)
                if not await queue.wait_in_thread(leave):
                    raise
            else:
                await queue.wait_in_thread(partial(block.__exit__, None, None, None))

        return verb


class AsyncJobQueue:
    """The jobs of one database, for programs with an event loop."""

    def __init__(self, queue: JobQueue) -> None:
        """``queue`` is closed with this one."""
        self.blocking = queue
        """The `JobQueue` itself, whose verbs are not awaited."""
        self._calls = ThreadPoolExecutor(MAX_CALLS, thread_name_prefix="jobq-call")
        self._waits = ThreadPoolExecutor(MAX_WAITS, thread_name_prefix="jobq-wait")
        self._closed = False

    @classmethod
    async def open(cls, path: str | Path | None = None) -> Self:
        """Open the queue that the nearest jobq.toml, or the one at ``path``, describes.

        Raises:
            ConfigError: the file is wrong.
            DatabaseError: the database can't be used.
        """
        return cls(await asyncio.to_thread(JobQueue.open, path))

    @classmethod
    async def from_settings(cls, settings: Settings) -> Self:
        """Open the queue that these settings describe."""
        return cls(await asyncio.to_thread(JobQueue.from_settings, settings))

    async def close(self) -> None:
        """Let go of the database, once the calls that run have ended; those that wait end now."""
        self._closed = True
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        for threads in (self._waits, self._calls):
            threads.shutdown(cancel_futures=True)
        self.blocking.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def settings(self) -> Settings:
        """The settings from jobq.toml and the environment."""
        return self.blocking.settings

    @property
    def logs(self) -> JobLogs:
        """The directory of all logs."""
        return self.blocking.logs

    @property
    def ships_logs(self) -> bool:
        """True if hosts may lack each other's log files, so that output is shipped."""
        return self.blocking.ships_logs

    add = _Verb(JobQueue.add)
    add_many = _Verb(JobQueue.add_many)
    add_once = _Verb(JobQueue.add_once)
    apply_configured_queues = _Verb(JobQueue.apply_configured_queues)
    attempts = _Verb(JobQueue.attempts)
    cancel = _Verb(JobQueue.cancel)
    cancel_many = _Verb(JobQueue.cancel_many)
    change_counter = _Verb(JobQueue.change_counter)
    claim = _Verb(JobQueue.claim, waits=True)
    claim_many = _Verb(JobQueue.claim_many, waits=True)
    claim_job = _Verb(JobQueue.claim_job)
    claimed = _Verb(JobQueue.claimed)
    claims = _Stream(JobQueue.claims)
    complete = _Verb(JobQueue.complete)
    counts = _Verb(JobQueue.counts)
    counts_by_queue = _Verb(JobQueue.counts_by_queue)
    create_queue = _Verb(JobQueue.create_queue)
    delete = _Verb(JobQueue.delete)
    delete_queue = _Verb(JobQueue.delete_queue)
    descendants = _Verb(JobQueue.descendants)
    each = _Stream(JobQueue.each)
    existing = _Verb(JobQueue.existing)
    fail = _Verb(JobQueue.fail)
    failure_group = _Verb(JobQueue.failure_group)
    failures = _Verb(JobQueue.failures)
    find = _Verb(JobQueue.find)
    get = _Verb(JobQueue.get)
    get_many = _Verb(JobQueue.get_many)
    group_errors = _Verb(JobQueue.group_errors)
    group_ids = _Verb(JobQueue.group_ids)
    heartbeat = _Verb(JobQueue.heartbeat)
    hold_store = _Verb(JobQueue.hold_store)
    insert = _Verb(JobQueue.insert)
    insert_claimed = _Verb(JobQueue.insert_claimed)
    is_new_failure = _Verb(JobQueue.is_new_failure)
    job_type = _Verb(JobQueue.job_type)
    leave_stop_signal = _Verb(JobQueue.leave_stop_signal)
    now = _Verb(JobQueue.now)
    open_log = _Verb(JobQueue.open_log)
    page = _Verb(JobQueue.page)
    pause = _Verb(JobQueue.pause)
    plan = _Verb(JobQueue.plan)
    progress = _Verb(JobQueue.progress)
    prunable = _Verb(JobQueue.prunable)
    prune = _Verb(JobQueue.prune)
    queue = _Verb(JobQueue.queue)
    queues = _Verb(JobQueue.queues)
    release = _Verb(JobQueue.release)
    resume = _Verb(JobQueue.resume)
    retry = _Verb(JobQueue.retry)
    retry_many = _Verb(JobQueue.retry_many)
    set_queue = _Verb(JobQueue.set_queue)
    shown = _Verb(JobQueue.shown)
    sign_failures = _Verb(JobQueue.sign_failures)
    signature = _Verb(JobQueue.signature)
    supervisors = _Verb(JobQueue.supervisors)
    total = _Verb(JobQueue.total)
    totals = _Verb(JobQueue.totals)
    wait = _Verb(JobQueue.wait, waits=True)
    wait_all = _Verb(JobQueue.wait_all, waits=True)
    workers = _Block(JobQueue.workers)

    async def call(
        self, verb: Callable[Concatenate[JobQueue, P], R], *args: P.args, **options: P.kwargs
    ) -> R:
        """Call a function with the `JobQueue` and these arguments, in a thread."""
        return await self._in(self._calls, partial(verb, self.blocking, *args, **options))

    async def wait_in_thread(self, call: Callable[[], R]) -> R:
        """Call what may wait for jobs. If the caller is cancelled, it ends within a second or so."""
        return await self._in(self._waits, call)

    async def _in(self, threads: ThreadPoolExecutor, call: Callable[[], R]) -> R:
        abandoned = threading.Event()
        context = copy_context()
        context.run(set_check, lambda: self._closed or abandoned.is_set())
        future = threads.submit(context.run, call)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            abandoned.set()
            future.add_done_callback(self._give_back)
            raise

    def _give_back(self, call: "Future[Any]") -> None:
        """Give back what an abandoned call has claimed: otherwise, it would wait for its lease."""
        if call.cancelled() or call.exception():
            return
        found = call.result()
        for claim in found if isinstance(found, list) else [found]:
            if isinstance(claim, Claim):
                with suppress(JobqError):
                    self.blocking.release(claim)
