"""`Figures`: how jobs ended, by minute, for `/stats` and `/metrics`.

Every job that has ended is read once, from the index by end, and counted in memory: what asks for
figures reads no jobs. Spans are kept as counts of narrow ranges, so that a percentile costs little
and is within 5 % of the exact one.
"""

import math
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from jobq.backends.lists import EndedJob, JobLists, Position
from jobq.models import JobStatus

KEPT = timedelta(hours=24)
"""The minutes that are kept."""

OVERLAP = timedelta(seconds=30)
"""How far back a look reads again.

A job ends when its process does, and is recorded a little later: behind what was read by then.
"""

MAX_REMEMBERED = 50_000
"""Ends that are remembered, to count them once; with more in the overlap, it becomes shorter."""

BATCH_SIZE = 1000
PAST_STEP = timedelta(minutes=10)
"""The past is counted in parts of this length, the last one first."""

MIN_UPDATE_INTERVAL = timedelta(seconds=1)

MAX_LABELS = 200
OTHER = "other"
"""The queue or type in place of those beyond `MAX_LABELS`."""

_MINUTE_S = 60
_SHORTEST_S = 0.001
_RANGE_GROWTH = 1.1


class Labels:
    """The names that have figures of their own: the first `MAX_LABELS`."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def of(self, name: str) -> str:
        """Return a name, or `OTHER` if there are too many already."""
        if name in self._known:
            return name
        if len(self._known) >= MAX_LABELS:
            return OTHER
        self._known.add(name)
        return name


class Kind(NamedTuple):
    """What figures are kept of."""

    queue: str
    type: str


@dataclass(slots=True)
class Tally:
    """Jobs that ended, and how long those that completed waited and ran."""

    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    wait: Counter[int] = field(default_factory=Counter)  # by range: see `percentile`
    run: Counter[int] = field(default_factory=Counter)

    def add(self, ended: EndedJob) -> None:
        """Count a job."""
        if ended.status is JobStatus.CANCELLED:
            self.cancelled += 1
        elif ended.status is JobStatus.FAILED:
            self.failed += 1
        else:
            self.completed += 1
            self.wait[_range_of(ended.waited or 0.0)] += 1
            self.run[_range_of(ended.ran or 0.0)] += 1

    def merge(self, other: "Tally") -> None:
        """Count the jobs of another tally, too."""
        self.completed += other.completed
        self.failed += other.failed
        self.cancelled += other.cancelled
        self.wait.update(other.wait)
        self.run.update(other.run)

    @property
    def success_rate(self) -> float | None:
        """The completed, as a share of those that completed or failed."""
        ended = self.completed + self.failed
        return self.completed / ended if ended else None


def _range_of(seconds: float) -> int:
    if seconds <= _SHORTEST_S:  # a clock that was set back makes no span negative
        return 0
    return round(math.log(seconds / _SHORTEST_S, _RANGE_GROWTH))


def percentile(spans: Counter[int], share: float) -> float | None:
    """Return the seconds within which a share of the spans is, by nearest rank."""
    rank = math.ceil(share * spans.total())
    for number in sorted(spans):
        rank -= spans[number]
        if rank <= 0:
            return float(f"{_SHORTEST_S * _RANGE_GROWTH**number:.3g}")
    return None


class _Look(NamedTuple):
    at: datetime
    read_to: datetime


class Figures:
    """The jobs that ended in the last 24 hours, by minute, queue and type."""

    def __init__(
        self,
        lists: JobLists,
        now: datetime,
        on_end: Callable[[Kind, EndedJob], None] = lambda *_: None,
    ) -> None:
        """Take the jobs, the time from which on ends are counted, and what else counts them.

        ``on_end`` is not called for those that ended before that.
        """
        self._lists = lists
        self._on_end = on_end
        self._lock = threading.Lock()  # of what follows
        self._minutes: defaultdict[int, dict[Kind, Tally]] = defaultdict(dict)
        self._looks = deque([_Look(now, now)])
        self._counted: set[tuple[int, datetime]] = set()  # in the overlap
        self._queues, self._types = Labels(), Labels()
        self._past_from = now  # all that ended since then is counted
        self._past_place: Position | None = None  # in the part that is being counted

    # -- counting --------------------------------------------------------------------------

    def update(self, now: datetime) -> None:
        """Count the jobs that have ended since the last time, unless that was a moment ago.

        Raises:
            DatabaseError: they can't be read; the next call counts them.
        """
        with self._lock:
            if timedelta(0) <= now - self._looks[-1].at < MIN_UPDATE_INTERVAL:
                return
            while len(self._looks) > 1 and self._looks[1].at <= now - OVERLAP:
                self._looks.popleft()
            self._shorten_overlap()
            start = self._looks[0].read_to
            for ended in self._ended(start, now):
                if (ended.id, ended.at) not in self._counted:
                    self._counted.add((ended.id, ended.at))
                    self._on_end(self._count(ended), ended)
            # never back, even if the clock is: what was counted there is not remembered
            self._looks.append(_Look(now, max(now, self._looks[-1].read_to)))
            self._forget(start, now)

    def _shorten_overlap(self) -> None:
        """Begin later where more jobs ended than can be remembered."""
        while len(self._looks) > 1 and len(self._counted) > MAX_REMEMBERED:
            self._looks.popleft()
            self._forget_before(self._looks[0].read_to)

    def _forget(self, start: datetime, now: datetime) -> None:
        self._forget_before(start)
        oldest = _minute_of(now - KEPT)
        for minute in [each for each in self._minutes if each < oldest]:
            del self._minutes[minute]

    def _forget_before(self, start: datetime) -> None:
        self._counted = {key for key in self._counted if key[1] >= start}

    def count_past(self, now: datetime) -> bool:
        """Count up to `BATCH_SIZE` jobs that ended before the first update; return if more may be.

        Raises:
            DatabaseError: they can't be read; the next call goes on.
        """
        start = max(self._past_from - PAST_STEP, now - KEPT)
        place = self._past_place or Position(0, start)
        batch = self._lists.ended_after(place, self._past_from, BATCH_SIZE)
        with self._lock:
            for ended in batch:
                self._count(ended)
        if len(batch) == BATCH_SIZE:
            self._past_place = batch[-1].position
        else:
            self._past_from, self._past_place = min(start, self._past_from), None
        return not self.reaches(now - KEPT)

    def _ended(self, start: datetime, end: datetime) -> Iterator[EndedJob]:
        place = Position(0, start)
        while batch := self._lists.ended_after(place, end, BATCH_SIZE):
            yield from batch
            if len(batch) < BATCH_SIZE:
                return
            place = batch[-1].position

    def _count(self, ended: EndedJob) -> Kind:
        kind = Kind(self._queues.of(ended.queue), self._types.of(ended.type))
        self._minutes[_minute_of(ended.at)].setdefault(kind, Tally()).add(ended)
        return kind

    # -- reading ---------------------------------------------------------------------------

    def reaches(self, since: datetime) -> bool:
        """Return whether all that ended since then is counted."""
        return self._past_from <= since

    def tallies(self, since: datetime) -> dict[Kind, Tally]:
        """Return what ended since the minute of a time, by kind."""
        with self._lock:
            found: defaultdict[Kind, Tally] = defaultdict(Tally)
            for minute, kinds in self._minutes.items():
                if minute >= _minute_of(since):
                    for kind, tally in kinds.items():
                        found[kind].merge(tally)
            return dict(found)

    def series(
        self, since: datetime, now: datetime, wanted: Callable[[Kind], bool]
    ) -> list[tuple[datetime, Tally]]:
        """Return what ended in each minute from a time until now, of the wanted kinds."""
        with self._lock:
            found = []
            for minute in range(_minute_of(since), _minute_of(now) + 1):
                kinds = self._minutes.get(minute, {})
                of_minute = merged(tally for kind, tally in kinds.items() if wanted(kind))
                at = datetime.fromtimestamp(minute * _MINUTE_S, now.tzinfo)
                found.append((at, of_minute))
            return found


def merged(tallies: Iterable[Tally]) -> Tally:
    """Return the sum of tallies."""
    total = Tally()
    for each in tallies:
        total.merge(each)
    return total


def _minute_of(at: datetime) -> int:
    return int(at.timestamp() // _MINUTE_S)
