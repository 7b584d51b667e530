"""A proxy on loopback that disturbs the connections through it, on command."""

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from tests.support.redis_server import LOOPBACK, free_port

_BLOCK = 65536
_STEPS = 5  # of the loop, until what was accepted or aborted is closed


class TcpProxy:
    """Passes on everything that comes to its port, until disturbed; with ``tls``, clients use TLS."""

    def __init__(self, target: int, *, tls: ssl.SSLContext | None = None) -> None:
        self._target = target
        self._tls = tls
        self._delay = 0.0
        self._doomed = b""
        self._rewrite: Callable[[bytes], bytes] = lambda block: block
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._requests, self._answers = asyncio.Event(), asyncio.Event()
        self.port = 0
        self.heal()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- what can be told ------------------------------------------------------------------

    def heal(self) -> None:
        """Pass everything on, what was held back included."""
        self._call(self._heal())

    def cut(self) -> None:
        """End all connections; others may follow."""
        self._call(self._cut())

    def refuse(self) -> None:
        """End all connections, and accept no others."""
        self._call(self._refuse())

    def black_hole(self) -> None:
        """Pass nothing on, either way, and end nothing, like a cable that was pulled."""
        self._call(self._hold(self._requests, self._answers))

    def swallow_replies(self) -> None:
        """Pass on requests, and no answers."""
        self._call(self._hold(self._answers))

    def lose_answer_to(self, request: bytes) -> None:
        """Once, pass on a request in which these bytes are, and cut its connection at the answer."""
        self._doomed = request

    def delay(self, seconds: float) -> None:
        """Pass everything on with a delay."""
        self._delay = seconds

    def rewrite_replies(self, rewrite: Callable[[bytes], bytes]) -> None:
        """Replace an answer of the server."""
        self._rewrite = rewrite

    def close(self) -> None:
        """End everything."""
        self._call(self._refuse())
        self._call(self._drain())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # -- in the thread of the loop -----------------------------------------------------------

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _heal(self) -> None:
        self._requests.set()
        self._answers.set()
        while self._server is None:
            port = self.port or free_port()
            with suppress(OSError):  # somebody else was quicker
                self._server = await asyncio.start_server(
                    self._serve, LOOPBACK, port, ssl=self._tls
                )
                self.port = port

    async def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _refuse(self) -> None:
        if self._server is not None:
            # What was accepted gets its transport first: a server that is closed in between loses it.
            for listening in self._server.sockets:
                self._loop.remove_reader(listening.fileno())
            for _ in range(_STEPS):
                await asyncio.sleep(0)
            self._server.close()
            self._server = None
        await self._cut()

    async def _hold(self, *gates: asyncio.Event) -> None:
        for gate in gates:
            gate.clear()

    async def _drain(self) -> None:
        for _ in range(_STEPS):  # a connection that was just accepted becomes a task first
            await asyncio.sleep(0)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        with suppress(OSError, asyncio.CancelledError):
            await self._connect(reader, writer)
        self._writers.discard(writer)
        self._tasks.discard(task)
        writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._requests.wait()
        answers, onward = await asyncio.open_connection(LOOPBACK, self._target)
        ends = asyncio.Event()  # with its next answer
        ways = [
            asyncio.create_task(self._pass_requests(reader, onward, ends)),
            asyncio.create_task(self._pass_answers(answers, writer, ends)),
        ]
        try:  # one way ended is both ended: nobody here half-closes
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            onward.transport.abort()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pass_requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: asyncio.Event
    ) -> None:
        async for block in self._blocks(reader, self._requests):
            if self._doomed and self._doomed in block:
                self._doomed = b""
                ends.set()
            writer.write(block)
            await writer.drain()

    async def _pass_answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: asyncio.Event
    ) -> None:
        async for block in self._blocks(reader, self._answers):
            if ends.is_set():
                return
            writer.write(self._rewrite(block))
            await writer.drain()

    async def _blocks(
        self, reader: asyncio.StreamReader, gate: asyncio.Event
    ) -> AsyncIterator[bytes]:
        while block := await reader.read(_BLOCK):
            if self._delay:
                await asyncio.sleep(self._delay)
            await gate.wait()
            yield block
