"""The watcher: it looks for changes once for all streams, and reads what they watch.

It asks for the change counter, never while nobody watches, and then reads the union of what is
watched. What differs is made into an event once, and handed to all who watch it. So the cost goes
with what is watched, not with the number of clients or the traffic.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, Protocol

from jobq.errors import JobqError
from jobq.queue import JobQueue
from jobq.web.problems import print_bug
from jobq.web.work import Work

POLL_INTERVAL_S = 0.25
"""Time between two looks at the change counter."""

MIN_INTERVAL_S = 0.05
"""Time between two looks, however often something is written."""

RETRY_INTERVAL_S = 1.0
"""Time until the next look where the backend does not answer."""

REST_FACTOR = 10
"""A look is followed by a pause of this many times its length."""

MAX_ITEMS_READ = 5000
"""Items that one look reads; the next one reads on."""


class Item(NamedTuple):
    """Something that is watched: a kind of state, and which of that kind."""

    kind: str
    key: Any = None


class Seen(NamedTuple):
    """The state of an item as it was last read."""

    value: Any
    event: bytes


class StateKind(ABC):
    """A kind of state: how to read it, and the event that says what it is."""

    name: str
    is_document = False
    """True if there is one of it, which is a topic by the name of the kind."""

    max_age_s: float | None = None
    """Read again after this time, though no change is known: for what depends on the clock."""

    @abstractmethod
    def read(self, queue: JobQueue, keys: Collection[Any]) -> Mapping[Any, Any]:
        """Return the state of each of these keys; equal values are equal states."""

    @abstractmethod
    def event(self, queue: JobQueue, key: Any, value: Any) -> bytes:
        """Return the event of a state, as it is sent."""


class Watcher(Protocol):
    """One that watches items."""

    def on_state(self, item: Item, seen: Seen) -> None:
        """Take note of the state of an item."""


class Changes:
    """The looks for changes, and all who wait for them."""

    def __init__(self, queue: JobQueue, work: Work) -> None:
        self._queue = queue
        self._work = work
        self._kinds: dict[str, StateKind] = {}
        self._watchers: dict[Item, set[Watcher]] = {}
        self._listeners: dict[Callable[[], None], None] = {}
        self._seen: dict[Item, Seen] = {}
        self._due: dict[Item, None] = {}  # in this order
        self._read_at: dict[str, float] = {}
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def add(self, kind: StateKind) -> None:
        """Know a kind of state."""
        self._kinds[kind.name] = kind

    def documents(self) -> set[str]:
        """Return the kinds that are topics by their names."""
        return {name for name, kind in self._kinds.items() if kind.is_document}

    # -- who watches -----------------------------------------------------------------------

    def watch(self, items: Iterable[Item], watcher: Watcher) -> None:
        """Tell a watcher the state of items, now and whenever it changes."""
        for item in items:
            self._watchers.setdefault(item, set()).add(watcher)
            seen = self._seen.get(item)
            if seen is not None:
                watcher.on_state(item, seen)
            else:
                self._due[item] = None
        self._start()

    def unwatch(self, items: Iterable[Item], watcher: Watcher) -> None:
        """Stop telling a watcher of items."""
        for item in items:
            watchers = self._watchers.get(item, set())
            watchers.discard(watcher)
            if not watchers:
                self._watchers.pop(item, None)
                self._seen.pop(item, None)
                self._due.pop(item, None)

    def listen(self, listener: Callable[[], None]) -> None:
        """Call a function after each change."""
        self._listeners[listener] = None
        self._start()

    def unlisten(self, listener: Callable[[], None]) -> None:
        """Stop calling a function."""
        self._listeners.pop(listener, None)

    def wake(self) -> None:
        """Look now, rather than at the next interval: something has changed."""
        self._woken.set()

    def _start(self) -> None:
        self.wake()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Stop looking."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    # -- looking ---------------------------------------------------------------------------

    async def _run(self) -> None:
        counter: int | None = None
        while self._watchers or self._listeners:
            self._woken.clear()
            try:
                before, counter = counter, await self._work.watch(self._queue.change_counter)
                rest = max(MIN_INTERVAL_S, await self._look(changed=counter != before))
            except (JobqError, OSError):
                counter, rest = None, RETRY_INTERVAL_S  # requests say what is wrong
            except Exception as error:  # noqa: BLE001 - the next look may do better
                print_bug(error, "looking for changes")
                counter, rest = None, RETRY_INTERVAL_S
            await asyncio.sleep(rest)
            if not self._due:
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, POLL_INTERVAL_S - rest)):
                        await self._woken.wait()
        self._task = None

    async def _look(self, *, changed: bool) -> float:
        """Read what may have changed, tell those who watch, and return the pause that follows."""
        now = time.monotonic()
        if changed:
            self._due.update(dict.fromkeys(self._watchers))
            for listener in list(self._listeners):
                listener()
        aged = {name for name, kind in self._kinds.items() if self._is_aged(kind, now)}
        if aged:
            self._due.update(dict.fromkeys(item for item in self._watchers if item.kind in aged))
        if not self._due:
            return 0.0
        wanted = list(self._due)[:MAX_ITEMS_READ]
        found, seconds = await self._work.watch(partial(self._read, wanted, dict(self._seen)))
        for item in wanted:
            self._due.pop(item, None)
            self._read_at[item.kind] = now
        for item, seen in found:
            self._tell(item, seen)
        return REST_FACTOR * seconds

    def _is_aged(self, kind: StateKind, now: float) -> bool:
        age = now - self._read_at.get(kind.name, now)
        return kind.max_age_s is not None and age >= kind.max_age_s

    def _read(
        self, wanted: Collection[Item], seen: Mapping[Item, Seen]
    ) -> tuple[list[tuple[Item, Seen]], float]:
        """Return what differs of these items, and how long that took; in a thread."""
        started = time.perf_counter()
        keys: dict[str, list[Any]] = {}
        for item in wanted:
            keys.setdefault(item.kind, []).append(item.key)
        found: list[tuple[Item, Seen]] = []
        for name, of_kind in keys.items():
            kind = self._kinds[name]
            for key, value in kind.read(self._queue, of_kind).items():
                item = Item(name, key)
                known = seen.get(item)
                if known is None or known.value != value:
                    found.append((item, Seen(value, kind.event(self._queue, key, value))))
        return found, time.perf_counter() - started

    def _tell(self, item: Item, seen: Seen) -> None:
        watchers = self._watchers.get(item)
        if watchers:
            self._seen[item] = seen
            for watcher in list(watchers):
                watcher.on_state(item, seen)
