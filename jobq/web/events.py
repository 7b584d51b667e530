"""`EventStream`: the server-sent events of one client."""

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from jobq.web.problems import print_bug
from jobq.web.unsent import Unsent

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class EventStream(Response):
    """The events of one client, as an answer that lasts.

    The task of the request waits for the client to leave; a second one runs only while there is
    something to send. sse-starlette 3.7 runs four for each stream and polls for the shutdown, and
    FastAPI's own streams ignored it. A client that takes nothing is dropped by `ApiProtocol`:
    nothing can be sent to it, not even that.
    """

    media_type = "text/event-stream"

    def __init__(self, on_close: Callable[["EventStream"], None]) -> None:
        self.status_code, self.background = 200, None
        self.init_headers(HEADERS)
        self.unsent = Unsent(self._wake)
        self._on_close = on_close
        self._bye: bytes | None = None
        self._send: Send | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_sending = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as ASGI has it
        """Send events until the client leaves, or is told to."""
        try:
            start: dict[str, Any] = {"status": self.status_code, "headers": self.raw_headers}
            await send({"type": "http.response.start", **start})
            self._send = send
            self._wake()
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            self.close()

    def end(self, bye: bytes) -> None:
        """Send a last event and end the stream, now or as soon as the socket has room."""
        self._bye = bye
        if self._task is not None and not self._is_sending:  # it reads
            self._task.cancel()
            self._task = None
        self._wake()

    def close(self) -> None:
        """Forget the client."""
        self._send = None
        if self._task is not None:
            self._task.cancel()
        self._on_close(self)

    def _wake(self) -> None:
        if self._task is None and self._send is not None:
            self._task = asyncio.get_running_loop().create_task(self._pump(self._send))

    async def _pump(self, send: Send) -> None:
        try:
            while chunk := self._bye or await self.unsent.next():
                is_last, self._is_sending = chunk is self._bye, True
                await send({"type": "http.response.body", "body": chunk, "more_body": not is_last})
                self._is_sending = False
                if is_last:
                    self._send = None
                    return
        except Exception as error:  # noqa: BLE001 - the client may connect again
            print_bug(error, "an event stream")
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._is_sending = False
            if self._task is asyncio.current_task():
                self._task = None
