"""What a supervisor has claimed and not begun, and how much that should be.

Where jobs are short, to ask the database for each of them would take longer than to run it. So more
are claimed than there are slots for: as many as are worth a moment. What has to wait for longer,
because those before it turn out to be long, is given back.
"""

from collections import deque
from collections.abc import Collection, Iterator

from jobq.execution.run import Run
from jobq.models import AttemptKey

WORTH = 0.010
"""Seconds of work to have in hand."""

MOST = 100
"""Runs in hand for each slot, at most."""

PATIENCE = 0.05
"""Seconds after which a run that was not begun is given back."""

_MEMORY = 0.8


class PrefetchSize:
    """How many runs to claim ahead: none at first, and more for as long as runs are short."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._typical = WORTH  # seconds that a run takes
        self._most = 0

    @property
    def ahead(self) -> int:
        """How many to have in hand."""
        return min(self._most, int(WORTH * self._slots / self._typical))

    def ended(self, seconds: float) -> None:
        """A run took so long. One long run counts at once, and is forgotten only by and by."""
        self._typical = max(seconds, _MEMORY * self._typical + (1 - _MEMORY) * seconds)

    def grow(self) -> None:
        """Those in hand are used up: more may be claimed the next time."""
        self._most = min(2 * self._most + self._slots, MOST * self._slots)

    def stumble(self) -> None:
        """Some had to be given back: begin anew."""
        self._most = 0


class Prefetched:
    """The runs in hand: in line for a slot, or with a child that is still at another."""

    def __init__(self) -> None:
        self._line: deque[Run] = deque()
        self._following: dict[AttemptKey, Run] = {}

    def __len__(self) -> int:
        return len(self._line) + len(self._following)

    def __iter__(self) -> Iterator[Run]:
        yield from self._following.values()
        yield from self._line

    @property
    def waiting(self) -> int:
        """How many are in line for a slot."""
        return len(self._line)

    @property
    def first(self) -> Run | None:
        """The first one in line."""
        return self._line[0] if self._line else None

    def add(self, run: Run) -> None:
        """Put a run at the end of the line."""
        self._line.append(run)

    def take(self) -> Run:
        """Take the first one out of the line."""
        return self._line.popleft()

    def follow(self) -> None:
        """The first one in line is with a child now."""
        run = self._line.popleft()
        self._following[run.key] = run

    def begun(self, run: Run) -> None:
        """A run that was with a child is under way."""
        self._following.pop(run.key, None)

    def put_back(self, runs: Collection[Run]) -> None:
        """These are not with a child any more, nor under way: they are the first in line."""
        for run in runs:
            self._following.pop(run.key, None)
        self._line.extendleft(reversed(list(runs)))

    def drop(self, keys: Collection[AttemptKey]) -> list[Run]:
        """Take these out of the line, as far as they are in it."""
        dropped = [run for run in self._line if run.key in keys]
        if dropped:
            self._line = deque(run for run in self._line if run.key not in keys)
        return dropped

    def overdue(self, now: float) -> set[AttemptKey]:
        """Those that have waited for too long."""
        return {run.key for run in self if now - run.held_since > PATIENCE}
