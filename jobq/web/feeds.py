"""Feeds: what a stream must not miss. Each stream has a position in them, and reads from there on."""

import asyncio
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from typing import Any, Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MAX_READS_KEPT = 8


class Part(NamedTuple):
    """What comes next in a feed."""

    frames: list[bytes]
    more: bool  # there may be more by now
    over: bool = False  # nothing will follow


class Feed(ABC):
    """A feed, as one stream follows it."""

    topic: str
    """As it is named in events and ids: without a position."""

    @abstractmethod
    async def start(self, position: Any, notify: Callable[[], None]) -> None:
        """Begin behind a position that a client has sent, or anew with None.

        ``notify`` is called when there may be more.

        Raises:
            ValueError, TypeError: it is no position in this feed.
        """

    @abstractmethod
    async def read(self) -> Part:
        """Return what comes next, and move on behind it."""

    @abstractmethod
    def position(self) -> Any:
        """Return the position, as JSON."""

    @abstractmethod
    def stop(self) -> None:
        """Follow no more."""


class SharedReads(Generic[K, V]):
    """The latest reads of a feed, so that streams that have come as far share one.

    A stream that is behind finds its own read here no more, and reads alone, as its socket has room.
    """

    def __init__(self, read: Callable[[K], Awaitable[V]]) -> None:
        self._read = read
        self._reads: OrderedDict[K, asyncio.Future[V]] = OrderedDict()

    async def get(self, place: K) -> V:
        """Return what comes behind a place."""
        read = self._reads.get(place)
        if read is None:
            read = asyncio.ensure_future(self._read(place))
            read.add_done_callback(_retrieved)
            self._reads[place] = read
            if len(self._reads) > MAX_READS_KEPT:
                self._reads.popitem(last=False)
        try:
            return await asyncio.shield(read)
        except Exception:
            self.forget()
            raise

    def forget(self) -> None:
        """Read anew: there is more than these reads found."""
        self._reads.clear()


def _retrieved(read: "asyncio.Future[Any]") -> None:
    with suppress(asyncio.CancelledError):
        read.exception()  # those who wait for it have it; there may be none left
