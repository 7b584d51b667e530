"""The feed of jobs that ended.

A job is recorded after its process has ended, and stands at the time when that ended. So it may come
to stand before what was read already: each read begins some time earlier, and passes over what it
has seen. That is why a client that resumes may get some jobs twice.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from jobq.backends.base import MIN_CLOCK_ERROR
from jobq.backends.lists import EndedJob, Order, Position
from jobq.models import JobFilter
from jobq.queue import JobQueue, backend_of
from jobq.web.changes import Changes
from jobq.web.feeds import Feed, Part, SharedReads
from jobq.web.frames import event
from jobq.web.schemas import light_document
from jobq.web.states import light_jobs
from jobq.web.work import Work

OVERLAP = timedelta(seconds=60)
"""Time before a position that is read again, for jobs recorded late."""

MAX_OVERLAP_JOBS = 2000
"""Jobs that are read again: where many end, each is soon recorded."""

RESUME_JOBS = 200
"""Jobs before the position of a client that it may get again."""

BATCH_SIZE = 200

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Place:
    """A place in the feed: the ends seen last, in order. Those before the first are not read again."""

    __slots__ = ("ends", "seen", "start")

    def __init__(self, start: Position, ends: Iterable[Position]) -> None:
        self.start = start
        self.ends = tuple(ends)
        self.seen = frozenset(self.ends)

    @property
    def last(self) -> Position:
        """The end that was seen last."""
        return self.ends[-1] if self.ends else self.start

    def after(self, new: Iterable[EndedJob]) -> "Place":
        """Return the place behind some more ends."""
        ends = sorted([*self.ends, *(each.position for each in new)], key=_order)
        earliest = _time(ends[-1]) - OVERLAP
        first = max(0, len(ends) - MAX_OVERLAP_JOBS)
        while _time(ends[first]) < earliest:
            first += 1
        while first and _time(ends[first - 1]) == _time(ends[first]):
            first -= 1  # the order of jobs that ended at the same moment is the backend's own
        start = Position(0, _time(ends[first])) if first else self.start
        return Place(start, ends[first:])


class EndedPart(NamedTuple):
    """Jobs that ended, as events."""

    frames: list[bytes]
    place: Place
    more: bool


class EndedJobs:
    """The jobs of a query that end, for all streams that follow it."""

    def __init__(self, queue: JobQueue, work: Work, topic: str, jobs: JobFilter) -> None:
        self._queue = queue
        self._work = work
        self._topic = topic
        self._jobs = jobs
        self._latest: Place | None = None
        self._reads: SharedReads[Place, EndedPart] = SharedReads(self._read)
        self.notified: set[Callable[[], None]] = set()

    def on_change(self) -> None:
        """Let all streams read on."""
        self._reads.forget()
        for notify in list(self.notified):
            notify()

    async def place(self, position: Position | None) -> Place:
        """Return the place of a position; with None, the end."""
        if position is None and self._latest is not None and self.notified:
            return self._latest
        return await self._work.read(partial(self._place, position))

    async def part(self, place: Place) -> EndedPart:
        """Return what comes behind a place."""
        part = await self._reads.get(place)
        return part if part.more else part._replace(place=self._join(part.place))

    def _join(self, place: Place) -> Place:
        """Return the place that others have, too, if they have seen the same."""
        latest = self._latest
        if latest is None or _order(place.last) > _order(latest.last):
            self._latest = place
        elif latest is not place and latest.last == place.last:
            start = _order(place.start)
            if all(end in place.seen for end in latest.ends if _order(end) > start):
                return latest
        return place

    async def _read(self, place: Place) -> EndedPart:
        return await self._work.read(partial(self._read_now, place))

    # -- in a thread -----------------------------------------------------------------------

    def _place(self, position: Position | None) -> Place:
        """Return where to begin: at the end, all ends so far count as seen; else some come again."""
        at = Position(0, self._queue.now()) if position is None else position
        lists = backend_of(self._queue).lists
        page = lists.page(
            JobFilter(ended_since=_time(at) - OVERLAP),
            order=Order.ENDED,
            after=None if position is None else position,
            limit=RESUME_JOBS,
        )
        ends = [Position(job.id, job.finished_at) for job in reversed(page.jobs)]
        is_all = page.complete or not ends
        start = Position(0, _time(at) - OVERLAP if is_all else _time(ends[0]))
        return Place(start, ends if position is None else ())

    def _read_now(self, place: Place) -> EndedPart:
        lists = backend_of(self._queue).lists
        before = self._queue.now() + MIN_CLOCK_ERROR
        limit = len(place.ends) + BATCH_SIZE
        found = lists.ended_after(place.start, before, limit)
        new = [end for end in found if end.position not in place.seen][:BATCH_SIZE]
        if not new:
            return EndedPart([], place, more=False)
        jobs = light_jobs(self._queue, self._jobs, [end.id for end in new])
        frames = [
            event(
                "ended",
                {**light_document(self._queue.shown(jobs[end.id])), "topic": self._topic},
            )
            for end in new
            if end.id in jobs
        ]
        return EndedPart(frames, place.after(new), more=len(found) == limit)


class EndedTopics:
    """All topics of jobs that end, as far as they are followed."""

    def __init__(self, queue: JobQueue, work: Work, changes: Changes) -> None:
        self._queue = queue
        self._work = work
        self._changes = changes
        self._of: dict[str, EndedJobs] = {}

    def follow(self, topic: str, jobs: JobFilter, notify: Callable[[], None]) -> EndedJobs:
        """Return the jobs of a topic that end; ``notify`` is called when there may be more."""
        ended = self._of.get(topic)
        if ended is None:
            ended = self._of[topic] = EndedJobs(self._queue, self._work, topic, jobs)
            self._changes.listen(ended.on_change)
        ended.notified.add(notify)
        return ended

    def leave(self, topic: str, notify: Callable[[], None]) -> None:
        """Call a function no more."""
        ended = self._of.get(topic)
        if ended is None:
            return
        ended.notified.discard(notify)
        if not ended.notified:
            del self._of[topic]
            self._changes.unlisten(ended.on_change)


class EndedFeed(Feed):
    """The jobs of a query that end, as one stream follows them."""

    def __init__(self, topics: EndedTopics, query: str, jobs: JobFilter) -> None:
        self.topic = f"ended:{query}"
        self._topics = topics
        self._jobs = jobs

    async def start(self, position: Any, notify: Callable[[], None]) -> None:
        """Begin behind a position, or now."""
        at = None if position is None else _parse(position)
        self._notify = notify
        self._ended = self._topics.follow(self.topic, self._jobs, notify)
        try:
            self._place = await self._ended.place(at)
        except BaseException:
            self.stop()
            raise

    async def read(self) -> Part:
        """Return the jobs that ended since."""
        part = await self._ended.part(self._place)
        self._place = part.place
        return Part(part.frames, part.more)

    def position(self) -> Any:
        """Return the end seen last: microseconds since 1970, and the id."""
        last = self._place.last
        return [(_time(last) - _EPOCH) // _MICROSECOND, last.id]

    def stop(self) -> None:
        """Follow no more."""
        self._topics.leave(self.topic, self._notify)


def _parse(position: Any) -> Position:
    micros, job_id = position
    if type(micros) is not int or type(job_id) is not int or not 0 <= job_id < 1 << 63:
        raise TypeError("no position")
    if not 0 <= micros < 1 << 52:  # some 140 years
        raise ValueError("no time")
    return Position(job_id, _EPOCH + micros * _MICROSECOND)


def _time(end: Position) -> datetime:
    assert end.at is not None
    return end.at


def _order(end: Position) -> tuple[datetime, int]:
    return _time(end), end.id
