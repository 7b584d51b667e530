"""What is new for one client: no queue, but the latest state of each item, and positions in feeds."""

import asyncio
from collections.abc import Callable, Hashable
from typing import Any

from jobq.errors import JobqError
from jobq.web.changes import Item, Seen
from jobq.web.feeds import Feed
from jobq.web.frames import PING, RETRY, with_id

RETRY_INTERVAL_S = 1.0
"""Time until a feed is read again where the backend does not answer."""


class Unsent:
    """The events that a client has not been sent yet, made as its socket has room."""

    def __init__(self, on_new: Callable[[], None]) -> None:
        self._on_new = on_new
        self.feeds: dict[str, Feed] = {}
        self._new: dict[Hashable, bytes] = {}
        self._due: dict[str, None] = {}  # feeds in which there may be more
        self._positions: dict[str, Any] = {}
        self._sent_positions: dict[str, Any] = {}

    def begin(self, hello: bytes) -> None:
        """Send the first event, with the positions from which feeds are read."""
        self._positions = {key: feed.position() for key, feed in self.feeds.items()}
        self._due = dict.fromkeys(self.feeds)
        self.put("hello", RETRY + (self._with_id(hello) if self.feeds else hello))

    def put(self, key: Hashable, event: bytes) -> None:
        """Send an event, in the place of an earlier one of this key that was not sent yet."""
        self._new[key] = event
        self._on_new()

    def on_state(self, item: Item, seen: Seen) -> None:
        """Send the state of an item."""
        self.put(item, seen.event)

    def note(self, key: str) -> None:
        """Read a feed: there may be more in it."""
        if key in self.feeds:
            self._due[key] = None
            self._on_new()

    def ping(self) -> None:
        """Send a comment, so that no proxy takes the connection for dead."""
        has_moved = self._positions != self._sent_positions
        self.put("ping", self._with_id(PING) if has_moved else PING)

    def close(self) -> None:
        """Follow no feed any more."""
        while self.feeds:
            self.feeds.popitem()[1].stop()

    async def next(self) -> bytes:
        """Return what is to be sent next; nothing once nothing is new."""
        while self._new or self._due:
            if self._new:
                chunk = b"".join(self._new.values())
                self._new.clear()
                return chunk
            key = next(iter(self._due))
            del self._due[key]
            feed = self.feeds.get(key)
            if feed is not None and (chunk := await self._read(key, feed)):
                return chunk
        return b""

    async def _read(self, key: str, feed: Feed) -> bytes:
        """Return what is new in a feed."""
        try:
            part = await feed.read()
        except (JobqError, OSError):
            asyncio.get_running_loop().call_later(RETRY_INTERVAL_S, self.note, key)
            return b""
        self._positions[key] = feed.position()
        if part.more:
            self._due[key] = None
        if part.over:
            self.feeds.pop(key, None)
            feed.stop()
        if not part.frames:
            return b""
        *frames, last = part.frames
        return b"".join([*frames, self._with_id(last)])

    def _with_id(self, frame: bytes) -> bytes:
        self._sent_positions = dict(self._positions)
        return with_id(frame, self._positions)
