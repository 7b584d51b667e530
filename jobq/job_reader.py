"""The reads of a `JobQueue`: jobs, their history and logs, the supervisors that run them."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from jobq.backends.base import Backend
from jobq.backends.lists import MAX_ROWS_READ, Order, Page, Position
from jobq.config.settings import Settings
from jobq.errors import NotFound, UsageError
from jobq.jobs.spec import parse_statuses
from jobq.jobs.validation import checked_filter, checked_id, checked_ids, checked_number
from jobq.limits import listed
from jobq.logs.directory import JobLogs
from jobq.models import FINISHED, Attempt, Job, JobFilter, JobStatus, SupervisorInfo
from jobq.redaction import ShownJob
from jobq.units import Duration, parse_duration

if TYPE_CHECKING:
    from typing import Unpack

    from jobq.jobs.search import SearchedPages
    from jobq.logs.directory import JobLog
    from jobq.logs.remote import RemoteLog
    from jobq.options import FilterFields

READ_BATCH_SIZE = 1000
"""Jobs read at a time, where there may be very many."""

_POLL_INTERVAL_S = 0.05  # of `wait_all`


class JobReader:
    """Reading: nothing here changes a job."""

    settings: Settings
    logs: JobLogs
    _backend: Backend

    # -- jobs ------------------------------------------------------------------------------

    def get(self, job_id: int) -> Job:
        """Return a job as it is now.

        Raises:
            NotFound: there is no such job.
        """
        return self.get_many([job_id])[0]

    def get_many(self, ids: Sequence[int]) -> list[Job]:
        """Return these jobs, in this order.

        Raises:
            NotFound: one of them does not exist.
        """
        jobs = self.existing(ids)
        missing = [job_id for job_id in ids if job_id not in jobs]
        if missing:
            raise NotFound(f"no job {listed(missing)}: see `jobq list`")
        return [jobs[job_id] for job_id in ids]

    def existing(self, ids: Collection[int]) -> dict[int, Job]:
        """Return those of these jobs that exist, by id."""
        checked_ids(ids)
        return self._backend.get(ids)

    def find(
        self,
        jobs: JobFilter | None = None,
        /,
        *,
        status: str | JobStatus | Iterable[str | JobStatus] | None = None,
        limit: int | None = None,
        newest: bool = False,
        **narrow: "Unpack[FilterFields]",
    ) -> list[Job]:
        """Return the jobs that match a filter, or the fields of one, in ascending order of id.

        With ``newest``, the last ones, in descending order.

        Raises:
            UsageError: there is no such status, or another field can't be meant.
        """
        wanted = checked_filter(_narrowed(jobs, status, narrow), limit)
        if wanted.text is not None:
            return list(islice(self._searched(wanted, newest=newest), limit))
        return self._backend.find(wanted, limit=limit, newest=newest)

    def each(self, jobs: JobFilter) -> Iterator[Job]:
        """Yield all matching jobs, read in batches, so that no read lasts long."""
        checked_filter(jobs)
        if jobs.text is not None:
            yield from self._searched(jobs, newest=False)
            return
        after = jobs.after_id
        while batch := self._backend.find(replace(jobs, after_id=after), limit=READ_BATCH_SIZE):
            yield from batch
            after = batch[-1].id

    def page(
        self,
        jobs: JobFilter | None = None,
        /,
        *,
        status: str | JobStatus | Iterable[str | JobStatus] | None = None,
        order: Order | str = Order.NEWEST,
        after: Position | None = None,
        limit: int = 50,
        max_rows: int = MAX_ROWS_READ,
        within: Duration | None = None,
        **narrow: "Unpack[FilterFields]",
    ) -> Page:
        """Return a page of the jobs that match a filter, or the fields of one.

        ``order`` is ``-id``, ``id`` or ``-finished``; ``after`` is the ``last`` of an earlier page.
        A page ends with ``limit`` jobs, ``max_rows`` rows read, or the time that reading may take:
        ``complete`` tells whether more may follow. Its jobs have no results, and a note in place
        of large arguments; these also come without the secrets that they have in other texts.

        Raises:
            UsageError: there is no such status or order.
        """
        checked_number("max_rows", max_rows, 1)
        wanted = checked_filter(_narrowed(jobs, status, narrow), limit)
        pages = self._pages(wanted, _order(order))
        seconds = None if within is None else parse_duration(within)
        return pages.read(after, limit=limit, max_rows=max_rows, seconds=seconds)

    def _searched(self, jobs: JobFilter, *, newest: bool) -> Iterator[Job]:
        """Yield the jobs that have the texts of a filter, read whole."""
        pages = self._pages(jobs, Order.NEWEST if newest else Order.OLDEST)
        part = Page([], None, complete=False, read=0)
        while not part.complete:
            part = pages.read(part.last, limit=READ_BATCH_SIZE, max_rows=READ_BATCH_SIZE)
            found = self._backend.get([job.id for job in part.jobs])
            yield from (found[job.id] for job in part.jobs if job.id in found)

    def _pages(self, jobs: JobFilter, order: Order) -> "SearchedPages":
        from jobq.jobs.search import SearchedPages  # `add` does without

        backend = self._backend
        return SearchedPages(backend.lists, jobs, order, self.settings.redactor, backend.get)

    def total(self, jobs: JobFilter) -> int | None:
        """Count the jobs that match a filter; None if its conditions are not counted.

        Counted are queues and statuses.
        """
        if jobs != JobFilter(queue=jobs.queue, statuses=jobs.statuses):
            return None
        return sum(
            number
            for queue, counts in self.counts_by_queue().items()
            for status, number in counts.items()
            if jobs.queue in (None, queue) and (jobs.statuses is None or status in jobs.statuses)
        )

    def counts(self) -> dict[JobStatus, int]:
        """Count the jobs in each status; every status is there."""
        totals = dict.fromkeys(JobStatus, 0)
        for counts in self.counts_by_queue().values():
            for status, number in counts.items():
                totals[status] += number
        return totals

    def totals(self) -> dict[str, int]:
        """Return how many jobs were ever ``added``, ``completed``, ``failed`` and ``recovered``.

        Deleted ones count, too. Failed: out of retries. Recovered: their worker died, or let its
        lease run out; counted each time.
        """
        return self._backend.stats.totals()

    def counts_by_queue(self) -> dict[str, dict[JobStatus, int]]:
        """Count the jobs of each queue in each status; what has no jobs is left out."""
        return self._backend.counts()

    def descendants(self, ids: Collection[int]) -> list[int]:
        """Return the unfinished jobs that wait, directly or not, for any of these."""
        checked_ids(ids)
        return self._backend.descendants(ids)

    def attempts(self, job_id: int) -> list[Attempt]:
        """Return the history of a job, the first attempt first."""
        return self._backend.attempts(checked_id("id", job_id))

    def shown(self, job: Job) -> ShownJob:
        """Return a job without its secrets, as people, hooks and logs may see it."""
        return self.settings.redactor.job(job)

    # -- logs ------------------------------------------------------------------------------

    @property
    def ships_logs(self) -> bool:
        """True if hosts may lack each other's log files, so that output is shipped."""
        return self._backend.logs.ships

    def open_log(self, job: Job, attempt: int | None = None) -> "JobLog | RemoteLog | None":
        """Open the log of a job: its directory here, or what another host has shipped of it.

        ``attempt`` counts in place of the last one. None: there is nothing yet.
        """
        from jobq.logs.remote import open_log  # `add` does without

        return open_log(self.logs, self._backend, job, attempt)

    # -- changes ---------------------------------------------------------------------------

    def now(self) -> datetime:
        """Return the time by the clock that counts: on Redis, the server's.

        Raises:
            DatabaseError: there is no answer, and there has not been one before.
        """
        return self._backend.now()

    def change_counter(self) -> int:
        """Return a number that differs from the last one if anything may have changed."""
        return self._backend.change_counter()

    def hold_store(self) -> None:
        """Raise a DatabaseError, from here on, once the store was emptied or replaced."""
        self._backend.hold_store()

    def wait(self, job_id: int, timeout: Duration | None = None) -> Job:
        """Wait until a job has ended, and return it as it ended.

        Raises:
            NotFound: there is no such job.
            TimeoutError: it has not ended in time.
        """
        return self.wait_all([job_id], timeout)[0]

    def wait_all(
        self,
        ids: Sequence[int],
        timeout: Duration | None = None,
        *,
        tell: Callable[[str], None] = lambda _: None,
        on_change: Callable[[Sequence[Job]], None] = lambda _: None,
    ) -> list[Job]:
        """Wait until all these jobs have ended, and return them as they ended.

        Waiting goes on while no server answers; ``tell`` is called with a message about it.
        ``on_change`` is called with the jobs at first, and when any job has changed.

        Raises:
            NotFound: there is no such job, or another one has its number by now.
            TimeoutError: they have not ended in time.
            DatabaseAwayError: no server answered when the time was over.
        """
        from jobq.abandonment import is_abandoned  # `add` does without
        from jobq.backends.outage import Outage

        deadline = None if timeout is None else time.monotonic() + parse_duration(timeout)
        outage = Outage(tell)
        seen, added_at = None, None
        while True:
            version = outage.until_answered(self.change_counter, deadline)
            if version != seen:
                jobs = outage.until_answered(lambda: self.get_many(ids), deadline)
                seen, added_at = version, _require_same(jobs, added_at)
                on_change(jobs)
                if all(job.status in FINISHED for job in jobs):
                    return jobs
            if is_abandoned() or (deadline is not None and time.monotonic() >= deadline):
                left = [job.id for job in jobs if job.status not in FINISHED]
                raise TimeoutError(f"not ended in time: {listed(left)}")
            time.sleep(_POLL_INTERVAL_S)

    # -- supervisors -----------------------------------------------------------------------

    def supervisors(self) -> list[SupervisorInfo]:
        """Return the supervisors that are alive, as far as is known."""
        from jobq import recovery  # `add` does without

        registered = self._backend.supervisors.all()
        dead = recovery.dead(self._backend, registered)
        return [supervisor for supervisor in registered if supervisor.id not in dead]


def _narrowed(
    jobs: JobFilter | None,
    status: str | JobStatus | Iterable[str | JobStatus] | None,
    fields: Mapping[str, Any],
) -> JobFilter:
    if status is not None:
        fields = {**fields, "statuses": parse_statuses(status)}
    return replace(jobs or JobFilter(), **fields)


def _order(name: Order | str) -> Order:
    try:
        return Order(name)
    except ValueError:
        raise UsageError(f"no order {name!r}: give one of {', '.join(Order)}") from None


def _require_same(jobs: Sequence[Job], added_at: list[datetime] | None) -> list[datetime]:
    """Return when jobs were added.

    Raises:
        NotFound: one was added at another time than before: the store has lost data since.
    """
    now = [job.created_at for job in jobs]
    for job, before, after in zip(jobs, added_at or now, now, strict=True):
        if before != after:
            raise NotFound(
                f"job {job.id} is gone, and another one has its number: the queue has lost its "
                "last changes: see `jobq list`"
            )
    return now
