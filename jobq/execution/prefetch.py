"""Prefetching: jobs claimed before a slot is free, and how many of them to claim.

Where jobs are short, asking the database for each takes longer than running it. So more are
claimed than there are free slots: as many as run within a moment. Those that wait longer, because
the jobs before them turn out to be long, are given back.
"""

from collections import deque
from collections.abc import Collection, Iterator

from jobq.execution.run import Run
from jobq.models import AttemptKey

PREFETCH_S = 0.010
"""Seconds of work to prefetch."""

MAX_PREFETCH_PER_SLOT = 100

MAX_WAIT_S = 0.05
"""Seconds after which a run that was not begun is given back."""

_MEMORY = 0.8  # the share of the former estimate that is kept after a run


class PrefetchSize:
    """The number of runs to prefetch: none at first, and more for as long as runs are short."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._run_s = PREFETCH_S  # the estimate of what a run takes
        self._limit = 0

    @property
    def target(self) -> int:
        """The number of runs to have prefetched."""
        return min(self._limit, int(PREFETCH_S * self._slots / self._run_s))

    def note_run(self, seconds: float) -> None:
        """Note how long a run took. A long one counts in full, and is forgotten step by step."""
        self._run_s = max(seconds, _MEMORY * self._run_s + (1 - _MEMORY) * seconds)

    def grow(self) -> None:
        """Raise the limit: everything prefetched is used up."""
        self._limit = min(2 * self._limit + self._slots, MAX_PREFETCH_PER_SLOT * self._slots)

    def reset(self) -> None:
        """Begin again with none: some runs had to be given back."""
        self._limit = 0


class Prefetched:
    """The prefetched runs: those that wait for a slot, and those with a child that is busy."""

    def __init__(self) -> None:
        self._waiting: deque[Run] = deque()
        self._with_child: dict[AttemptKey, Run] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._with_child)

    def __iter__(self) -> Iterator[Run]:
        yield from self._with_child.values()
        yield from self._waiting

    @property
    def keys(self) -> set[AttemptKey]:
        """The keys of all prefetched runs."""
        return {run.key for run in self}

    @property
    def waiting(self) -> int:
        """The number of runs that wait for a slot."""
        return len(self._waiting)

    @property
    def first(self) -> Run | None:
        """The first run that waits for a slot."""
        return self._waiting[0] if self._waiting else None

    def add(self, run: Run) -> None:
        """Add a run behind those that wait."""
        self._waiting.append(run)

    def take(self) -> Run:
        """Remove the first run that waits, to start it."""
        return self._waiting.popleft()

    def follow(self) -> None:
        """Note that the first run that waits is with a child now, behind another run."""
        run = self._waiting.popleft()
        self._with_child[run.key] = run

    def begun(self, run: Run) -> None:
        """Remove a run that was with a child, and is under way now."""
        self._with_child.pop(run.key, None)

    def put_back(self, runs: Collection[Run]) -> None:
        """Put runs that are neither with a child any more nor under way before those that wait."""
        for run in runs:
            self._with_child.pop(run.key, None)
        self._waiting.extendleft(reversed(list(runs)))

    def drop(self, keys: Collection[AttemptKey]) -> list[Run]:
        """Remove those of these runs that wait for a slot, and return them."""
        dropped = [run for run in self._waiting if run.key in keys]
        if dropped:
            self._waiting = deque(run for run in self._waiting if run.key not in keys)
        return dropped

    def overdue(self, now: float) -> set[AttemptKey]:
        """Return the keys of the runs that have waited for too long."""
        return {run.key for run in self if now - run.held_since > MAX_WAIT_S}
