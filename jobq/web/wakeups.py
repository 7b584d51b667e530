"""Wake-ups of long polls and event streams: one listener for all, opened by the first of them."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress

from jobq.backends.base import Listener
from jobq.errors import DatabaseError
from jobq.queue import JobQueue, backend_of
from jobq.web.work import Work


class Wakeups:
    """Announcements by the backend that there may be work."""

    def __init__(self, queue: JobQueue, work: Work) -> None:
        self.on_woken: Callable[[], None] = lambda: None
        """Called with each announcement: who watches for changes need not wait for the next look."""
        self._registry = backend_of(queue).supervisors
        self._work = work
        self._name = f"serve-{os.getpid()}-{os.urandom(4).hex()}"
        self._listener: Listener | None = None
        self._opening = asyncio.Lock()
        self._next = asyncio.Event()

    async def next(self) -> asyncio.Event:
        """Return the event that the next wake-up sets; take it before a look at the jobs.

        Raises:
            DatabaseError: the backend can't be listened to.
        """
        await self.open()
        return self._next

    async def open(self) -> None:
        """Listen, if that has not begun yet.

        Raises:
            DatabaseError: the backend can't be listened to.
        """
        if self._listener is None:
            async with self._opening:
                if self._listener is None:
                    await self._listen()

    async def _listen(self) -> None:
        listener = await self._work.read(lambda: self._registry.listen(self._name))
        asyncio.get_running_loop().add_reader(listener.fileno(), self._wake)
        self._listener = listener

    def _wake(self) -> None:
        if self._listener is not None:
            self._listener.drain()
        woken, self._next = self._next, asyncio.Event()
        woken.set()
        self.on_woken()

    async def close(self) -> None:
        """Stop listening, and leave no trace: a server that ended is no dead supervisor."""
        listener, self._listener = self._listener, None
        if listener is not None:
            asyncio.get_running_loop().remove_reader(listener.fileno())
            listener.close()
            with suppress(DatabaseError):
                await self._work.maintain(lambda: self._registry.unregister([self._name]))
