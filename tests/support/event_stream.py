"""Readers of event streams: of a real server, and of the application in this process."""

import asyncio
import json
import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import httpx2
from starlette.types import Message

PATH = "/api/v1/events"
TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Event:
    """An event as a client gets it."""

    name: str
    data: Any
    id: str | None  # the last one so far


class Parser:
    """The parser of a stream, as the specification has it: lines end with CR, LF or both."""

    def __init__(self) -> None:
        self.last_id: str | None = None
        self.raw = b""
        self.comments: list[str] = []
        self._rest = ""

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield the events that are complete."""
        self.raw += data
        text = (self._rest.encode() + data).decode()
        *blocks, self._rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n\n")
        for block in blocks:
            fields: dict[str, str] = {}
            for line in block.split("\n"):
                name, _, value = line.partition(":")
                if name:
                    assert name not in fields
                    fields[name] = value.removeprefix(" ")
                else:
                    self.comments.append(value.strip())
            self.last_id = fields.get("id", self.last_id)
            assert fields.keys() <= {"id", "event", "data", "retry"}
            if "data" in fields:
                yield Event(fields["event"], json.loads(fields["data"]), self.last_id)


class Reader:
    """Events that arrive one after the other."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.parser = Parser()
        self._chunks = chunks
        self._ready: list[Event] = []

    def next(self) -> Event:
        """Return the next event.

        Raises:
            StopIteration: the stream has ended.
        """
        deadline = time.monotonic() + TIMEOUT_S
        while not self._ready:
            assert time.monotonic() < deadline, "only pings"
            self._ready += self.parser.feed(next(self._chunks))
        return self._ready.pop(0)

    def until(self, name: str, wanted: Callable[[Any], object] = lambda _: True) -> Event:
        """Return the next event of this name whose data is wanted."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            event = self.next()
            if event.name == name and wanted(event.data):
                return event
            assert time.monotonic() < deadline, event


class RemoteStream(Reader):
    """A stream of a real server."""

    def __init__(self, client: httpx2.Client, *watches: str, last_id: str | None = None) -> None:
        headers = {} if last_id is None else {"Last-Event-ID": last_id}
        request = client.build_request(
            "GET", PATH, params=[("watch", each) for each in watches], headers=headers
        )
        self.answer = client.send(request, stream=True)
        assert self.answer.status_code == 200, self.answer.read()
        super().__init__(self.answer.iter_raw())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.answer.close()


class LocalStream(Reader):
    """A stream of an application in this process, which runs in the loop of a test client."""

    def __init__(self, app: Any, token: str, *watches: str, last_id: str | None = None) -> None:
        query = httpx2.QueryParams([("watch", each) for each in watches])
        headers = [(b"host", b"127.0.0.1:5627"), (b"authorization", f"Bearer {token}".encode())]
        if last_id is not None:
            headers.append((b"last-event-id", last_id.encode()))
        self._scope = {
            "type": "http", "method": "GET", "path": PATH, "raw_path": PATH.encode(),
            "query_string": str(query).encode(), "headers": headers, "scheme": "http",
            "http_version": "1.1", "root_path": "", "client": ("127.0.0.1", 1), "server": None,
            "asgi": {"version": "3.0", "spec_version": "2.4"},
        }  # fmt: skip
        self._app = app
        self._sent: queue.Queue[Message] = queue.Queue()
        self._portal = app.client.portal
        self._task = self._portal.start_task_soon(self._run)
        start = self._sent.get(timeout=TIMEOUT_S)
        self.status = start["status"]
        super().__init__(self._bodies())

    async def _run(self) -> None:
        self._gone = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        is_read = False

        async def receive() -> Message:
            nonlocal is_read
            if is_read:
                await self._gone.wait()
                return {"type": "http.disconnect"}
            is_read = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            await self._room.wait()
            self._sent.put(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self._gone.set()

        await self._app.app(self._scope, receive, send)

    def block(self) -> None:
        """Take nothing any more, as a socket that is full."""
        self._portal.call(self._room.clear)

    def unblock(self) -> None:
        """Take everything again."""
        self._portal.call(self._room.set)

    def _bodies(self) -> Iterator[bytes]:
        while True:
            message = self._sent.get(timeout=TIMEOUT_S)
            yield message["body"]
            if not message.get("more_body"):
                return

    def close(self) -> None:
        """Leave, as a client does that closes its connection."""
        self._portal.call(self._gone.set)
        self._task.result(TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
