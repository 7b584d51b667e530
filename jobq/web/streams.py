"""All event streams of a server: how many there are, their pings, and their ends."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial

from jobq.clock import utcnow
from jobq.errors import DatabaseError, JobqError
from jobq.queue import JobQueue
from jobq.units import format_moment
from jobq.web.caller import Caller
from jobq.web.changes import Changes
from jobq.web.ended import EndedTopics
from jobq.web.events import EventStream
from jobq.web.follow import Followers
from jobq.web.frames import event, parse_id
from jobq.web.problems import Problem, print_bug
from jobq.web.states import kinds_of_jobs
from jobq.web.tokens import TokenStore
from jobq.web.topics import Topics, Watched, key_of
from jobq.web.wakeups import Wakeups
from jobq.web.work import Work

PING_INTERVAL_S = 15.0
"""Time between two pings, and between two looks at the tokens of streams."""

RETRY_AFTER_S = 5
"""Time after which a client that found no room may try again."""

MAX_RECONNECT_S = 3
"""Time within which clients come back after a shutdown: not all at the same moment."""


class Streams:
    """The open streams, and what they share."""

    def __init__(self, queue: JobQueue, work: Work, tokens: TokenStore, wakeups: Wakeups) -> None:
        self._queue = queue
        self._work = work
        self._tokens = tokens
        self._limit = queue.settings.serve.max_streams
        self._callers: dict[EventStream, Caller] = {}
        self._watched: dict[EventStream, Watched] = {}
        self._is_leaving = False
        self.changes = Changes(queue, work)
        self._wakeups = wakeups
        work.on_written = wakeups.on_woken = self.changes.wake
        for kind in kinds_of_jobs():
            self.changes.add(kind)
        ended = EndedTopics(queue, work, self.changes)
        self._topics = Topics(self.changes, ended, Followers(queue, work, self.changes))

    @property
    def count(self) -> int:
        """The number of open streams."""
        return len(self._callers)

    # -- one stream ------------------------------------------------------------------------

    async def check(self, watches: Sequence[str]) -> None:
        """Check topics, and open nothing.

        Raises:
            Problem: one is wrong: 422.
        """
        await self._work.read(lambda: self._topics.parse(watches, self._queue.now()))

    async def open(
        self, caller: Caller, watches: Sequence[str], last_event_id: str | None
    ) -> EventStream:
        """Return a stream of these topics, which goes on behind the last event that a client has.

        Raises:
            Problem: a topic is wrong (422), the id is (400), or there is no room (503).
        """
        self._require_room()
        positions = {} if last_event_id is None else parse_id(last_event_id)
        stream = EventStream(self._forget)
        self._callers[stream] = caller
        try:
            now, watched = await self._work.read(lambda: self._parse(watches))
            with suppress(DatabaseError, OSError):  # changes are looked for without, a little later
                await self._wakeups.open()
            self._watched[stream] = watched
            for feed in watched.feeds:
                key = key_of(feed)
                try:
                    await feed.start(positions.get(key), partial(stream.unsent.note, key))
                except (ValueError, TypeError):
                    detail = f"Last-Event-ID has no position in {feed.topic!r:.80}"
                    raise Problem(400, "event_id_invalid", detail) from None
                stream.unsent.feeds[key] = feed
            stream.unsent.begin(self._hello(caller, now))
            self.changes.watch(watched.items, stream.unsent)
        except BaseException:
            self._forget(stream)
            raise
        if self._is_leaving:
            stream.end(_bye("shutdown"))
        return stream

    def _require_room(self) -> None:
        why = "the server shuts down" if self._is_leaving else ""
        if self.count >= self._limit:
            why = f"there are {self._limit:,} streams: more are not served ([serve] max_streams)"
        if why:
            headers = {"Retry-After": str(RETRY_AFTER_S)}
            raise Problem(503, "no_room", why, headers=headers)

    def _parse(self, watches: Sequence[str]) -> tuple[datetime, Watched]:
        now = self._queue.now()
        return now, self._topics.parse(watches, now)

    def _hello(self, caller: Caller, now: datetime) -> bytes:
        document = {"now": format_moment(now), "expires_at": format_moment(caller.expires_at)}
        return event("hello", document)

    def _forget(self, stream: EventStream) -> None:
        self._callers.pop(stream, None)
        watched = self._watched.pop(stream, None)
        if watched is not None:
            self.changes.unwatch(watched.items, stream.unsent)
        stream.unsent.close()

    # -- all of them -----------------------------------------------------------------------

    async def tend(self, leaving: asyncio.Event) -> None:
        """Ping all streams, and end those whose tokens are no more; all when the server leaves."""
        while not leaving.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(PING_INTERVAL_S):
                    await leaving.wait()
            if not leaving.is_set():
                try:
                    await self.ping()
                except (JobqError, OSError):
                    pass  # the server is busy: at the next ping
                except Exception as error:  # noqa: BLE001 - the next ping may do better
                    print_bug(error, "event streams")
        self.end_all()

    async def ping(self) -> None:
        """Ping the streams with valid tokens, and end the others."""
        known = {caller.jti: caller for caller in self._callers.values()}
        valid = await self._work.read(
            lambda: {jti for jti, caller in known.items() if self._is_valid(caller)}
        )
        for stream, caller in list(self._callers.items()):
            if caller.jti in valid or caller.jti not in known:
                stream.unsent.ping()
            else:
                stream.end(_bye("token"))

    def _is_valid(self, caller: Caller) -> bool:
        token = self._tokens.kept(caller.jti)
        return token == caller.token and not token.is_expired(utcnow())

    def end_all(self) -> None:
        """Say goodbye to all clients, and serve no more."""
        self._is_leaving = True
        for stream in list(self._callers):
            stream.end(_bye("shutdown"))


def _bye(reason: str) -> bytes:
    retry_after = round(random.uniform(1, MAX_RECONNECT_S), 1) if reason == "shutdown" else None  # noqa: S311 - spreads the load
    return event("bye", {"reason": reason, "retry_after": retry_after})
