"""Lists of jobs in pages, and the jobs that ended since: each reads a limited number of rows."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from jobq.limits import DROPPED_KEY
from jobq.models import FINISHED, Job, JobFilter, JobStatus

MAX_LIGHT_ARGS_BYTES = 16 * 1024
"""As JSON, of the arguments that a light row has."""

DROPPED_ARGS = {DROPPED_KEY: f"the arguments: more than {MAX_LIGHT_ARGS_BYTES:,} bytes"}
"""The object in place of larger ones."""

MAX_ROWS_READ = 20_000
"""Rows that a page reads at most, unless told otherwise."""

BATCH_GROWTH = 4
"""Growth of the batches in which a page reads rows: the first is enough for most pages."""

MAX_BATCH_ROWS = 1000


class Order(StrEnum):
    """The orders that an index answers."""

    NEWEST = "-id"
    OLDEST = "id"
    ENDED = "-finished"  # only jobs that have ended, the last one first


class Position(NamedTuple):
    """A place in a list: that of a job, whether it still exists or not."""

    id: int
    at: datetime | None = None  # of its end, in lists by end


class Page(NamedTuple):
    """A part of a list of jobs. Its rows are light: see `JobLists.page`."""

    jobs: list[Job]
    last: Position | None  # the last row read: continue after it
    complete: bool  # nothing follows
    read: int  # rows, whether they match or not


class EndedJob(NamedTuple):
    """The end of a job, as feeds and counters need it."""

    id: int
    at: datetime
    status: JobStatus
    type: str
    queue: str
    waited: (
        float | None
    )  # seconds from being added to the start of the last attempt; None: no start
    ran: float | None  # seconds of the last attempt

    @property
    def position(self) -> Position:
        """The place to go on after."""
        return Position(self.id, self.at)


class Batch(NamedTuple):
    """Rows of a list, and those of them that match."""

    places: list[Position]  # in order
    matching: dict[int, Job]


class JobLists(ABC):
    """Lists of jobs, for screens."""

    @abstractmethod
    def page(
        self,
        jobs: JobFilter,
        *,
        order: Order = Order.NEWEST,
        after: Position | None = None,
        limit: int,
        max_rows: int = MAX_ROWS_READ,
    ) -> Page:
        """Return up to ``limit`` matching jobs; read up to ``max_rows`` rows to find them.

        The rows are light: without results, and with `DROPPED_ARGS` in place of arguments over
        `MAX_LIGHT_ARGS_BYTES`. In the order by end, jobs that ended at the
        same moment come in an order of the backend's own.

        Raises:
            ValueError: the filter searches text: that is for those who know what is secret.
        """

    @abstractmethod
    def ended_after(self, after: Position, before: datetime, limit: int) -> list[EndedJob]:
        """Return up to ``limit`` jobs that ended after a position and before then, the first first.

        A job ends when its process does, which may be recorded later: a job may still come to stand
        before a position that was read up to the present.
        """


def read_page(
    read: Callable[[Position | None, int], Batch],
    after: Position | None,
    limit: int,
    max_rows: int,
) -> Page:
    """Return a page, read in batches: ``read`` returns up to so many rows behind a position."""
    found: list[Job] = []
    rows, last, size = 0, after, limit + 1
    while True:
        size = min(size, max_rows - rows, MAX_BATCH_ROWS)
        places, matching = read(last, size)
        for place in places:
            if len(found) == limit:
                return Page(found, last, complete=False, read=rows)
            rows, last = rows + 1, place
            if place.id in matching:
                found.append(matching[place.id])
        if len(places) < size or rows >= max_rows:
            return Page(found, last, complete=len(places) < size, read=rows)
        size *= BATCH_GROWTH


def is_empty(jobs: JobFilter, order: Order) -> bool:
    """Return whether no job can be in a list: unfinished ones are not in the order by end."""
    statuses = jobs.statuses
    return order is Order.ENDED and statuses is not None and not statuses & FINISHED


def require_no_text(jobs: JobFilter) -> None:
    """Refuse a filter that searches text: a match would reveal what is secret.

    Raises:
        ValueError: it does.
    """
    if jobs.text is not None:
        raise ValueError("backends do not search text: see `JobReader.page`")
