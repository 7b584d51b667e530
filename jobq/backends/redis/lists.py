"""Lists of jobs on Redis: the scripts read the indexes, which have the order of ids or of ends."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from jobq.backends.lists import (
    DROPPED_ARGS,
    MAX_LIGHT_ARGS_BYTES,
    MAX_ROWS_READ,
    Batch,
    EndedJob,
    JobLists,
    Order,
    Page,
    Position,
    is_empty,
    read_page,
    require_no_text,
)
from jobq.backends.redis import rows
from jobq.backends.redis.connection import RedisConnection
from jobq.backends.redis.rows import given, ids_of, to_micros, to_moment
from jobq.backends.text import encode
from jobq.models import FINISHED, Job, JobFilter, JobStatus


class RedisLists(JobLists):
    """Pages of jobs, read in batches."""

    def __init__(self, db: RedisConnection) -> None:
        self._db = db

    def page(
        self,
        jobs: JobFilter,
        *,
        order: Order = Order.NEWEST,
        after: Position | None = None,
        limit: int,
        max_rows: int = MAX_ROWS_READ,
    ) -> Page:
        wanted = narrowed(jobs, newest=order is not Order.OLDEST)
        if is_empty(jobs, order):
            return Page([], after, complete=True, read=0)
        wanted |= {"max_args": MAX_LIGHT_ARGS_BYTES, "dropped": DROPPED_ARGS}
        if order is Order.ENDED:
            wanted |= {"by_end": True}
        if jobs.parent is not None:
            wanted |= {"parent": str(jobs.parent)}

        def read(last: Position | None, number: int) -> Batch:
            where = wanted | {"limit": number}
            if order is not Order.ENDED and jobs.ids is not None:
                where |= {"ids": _next_of(jobs.ids, last, number, newest=order is Order.NEWEST)}
            elif last is not None and order is Order.ENDED and last.at is not None:
                where |= {"after_at": to_micros(last.at), "after_id": str(last.id)}
            elif last is not None and order is not Order.ENDED:
                where |= {"after": str(_further(last.id, wanted.get("after"), order))}
            places, found = self._db.read("page", **where)
            matching = (job for job in map(rows.to_job, found) if matches(job, jobs))
            return Batch(
                [Position(int(job_id), at and to_moment(at)) for job_id, at in places],
                {job.id: job for job in matching},
            )

        return read_page(read, after, limit, max_rows)

    def ended_after(self, after: Position, before: datetime, limit: int) -> list[EndedJob]:
        wanted: dict[str, Any] = {"before": to_micros(before), "limit": limit}
        if after.at is not None:
            wanted |= {"after_at": to_micros(after.at), "after_id": str(after.id)}
        return [_to_ended_job(row) for row in self._db.read("ended_after", **wanted)]


def _further(first: int, second: str | None, order: Order) -> int:
    """Return the one of two ids that comes later in an order."""
    if second is None:
        return first
    return (max if order is Order.OLDEST else min)(first, int(second))


def _next_of(ids: Sequence[int], after: Position | None, number: int, *, newest: bool) -> list[str]:
    """Return the next of these ids behind a position, in order."""
    among = sorted(set(ids), reverse=newest)
    if after is not None:
        among = [each for each in among if (each < after.id if newest else each > after.id)]
    return ids_of(among)[:number]


def _to_ended_job(row: Sequence[Any]) -> EndedJob:
    job_id, at, status, head, started_at = row
    _, queue, created, job_type = head.split(b"|", 3)
    return EndedJob(
        id=int(job_id),
        at=to_moment(int(at)),
        status=JobStatus(status.decode()),
        type=job_type.decode(),
        queue=queue.decode(),
        waited=None if started_at is None else (int(started_at) - int(created)) / 1e6,
        ran=None if started_at is None else (int(at) - int(started_at)) / 1e6,
    )


def find(db: RedisConnection, jobs: JobFilter, limit: int, *, newest: bool) -> Iterator[Job]:
    """Yield matching jobs by id, of which ``limit`` will be taken: see `Backend.find`."""
    if jobs.ids is not None:
        among: list[Job] = []
        for batch in rows.batches(ids_of(set(jobs.ids))):
            among += map(rows.to_job, db.read("get", ids=batch))
        among.sort(key=lambda job: job.id, reverse=newest)
        yield from (job for job in among if matches(job, jobs))
        return
    narrow = narrowed(jobs, newest=newest)
    narrows = jobs.parent is not None or narrow.keys() & _NARROWING
    batch_size = rows.BATCH_SIZE if narrows else min(limit, rows.BATCH_SIZE)
    after: str | None = narrow.pop("after", None)
    while True:
        wanted = (
            narrow
            | given(after=after)
            | {"batch_size": batch_size, "limit": min(limit, batch_size)}
        )
        last, found = db.read("find", **wanted)
        yield from (job for job in map(rows.to_job, found) if matches(job, jobs))
        if last is None:
            return
        after = last.decode()


_NARROWING = {
    "queue",
    "type",
    "signature",
    "since",
    "before",
    "finished_before",
    "ended_since",
    "parts",
}
"""Conditions for which more rows are read than match."""


def narrowed(jobs: JobFilter, *, newest: bool) -> dict[str, Any]:
    """Return the part of a filter that `matches` in read.lua can check.

    Raises:
        ValueError: the filter searches text.
    """
    require_no_text(jobs)
    statuses = JobStatus if jobs.statuses is None else jobs.statuses
    if jobs.finished_before is not None or jobs.ended_since is not None:
        statuses = FINISHED & frozenset(statuses)
    first, last = (jobs.before_id, jobs.after_id) if newest else (jobs.after_id, jobs.before_id)
    return given(
        statuses=sorted(statuses),
        newest=newest or None,
        queue=jobs.queue,
        type=jobs.type,
        signature=jobs.signature,
        since=jobs.since and to_micros(jobs.since),
        before=jobs.until and to_micros(jobs.until),
        finished_before=jobs.finished_before and to_micros(jobs.finished_before),
        ended_since=jobs.ended_since and to_micros(jobs.ended_since),
        after=None if first is None else str(first),
        stop=last,
        parts=_parts_of_record(jobs) or None,
    )


def _parts_of_record(jobs: JobFilter) -> list[str]:
    """Return texts that the record of a matching job has: others are not sent here to be read."""
    parts = [f"{encode(tag)}:{encode(value)}" for tag, value in jobs.tags.items()]
    if jobs.added_by is not None:
        parts.append(f"}},{jobs.added_by},")  # it comes after the object of the tags
    return parts


def matches(job: Job, jobs: JobFilter) -> bool:
    """Return whether a job matches: for conditions that no script checks, and jobs named by id."""
    return (
        all(job.tags.get(tag) == value for tag, value in jobs.tags.items())
        and (jobs.ids is None or job.id in jobs.ids)
        and (jobs.statuses is None or job.status in jobs.statuses)
        and (jobs.queue is None or job.queue == jobs.queue)
        and (jobs.type is None or job.type == jobs.type)
        and (jobs.signature is None or job.signature == jobs.signature)
        and (jobs.parent is None or any(parent.id == jobs.parent for parent in job.parents))
        and (jobs.added_by is None or job.added_by == jobs.added_by)
        and (jobs.after_id is None or job.id > jobs.after_id)
        and (jobs.before_id is None or job.id < jobs.before_id)
        and _is_within(job.created_at, jobs.since, jobs.until)
        and _is_within(job.finished_at, jobs.ended_since, jobs.finished_before)
    )


def _is_within(at: datetime | None, since: datetime | None, before: datetime | None) -> bool:
    if at is None:
        return since is None and before is None
    return (since is None or at >= since) and (before is None or at < before)
