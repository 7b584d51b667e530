"""Prepared jobs put into a backend, in batches, with the queues that they are the first to use."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from jobq.backends.base import Backend
from jobq.errors import NotFound
from jobq.jobs.prepare import PreparedJobs
from jobq.jobs.queue_limits import UNUSED_DEFAULT
from jobq.limits import listed
from jobq.logs.directory import STDIN, JobLogs
from jobq.models import Inserted, Job, JobStatus, NewJob, Parent, Queue

T = TypeVar("T")


def insert(
    prepared: PreparedJobs,
    backend: Backend,
    logs: JobLogs,
    now: datetime,
    stdin: Path | None = None,
) -> list[Inserted]:
    """Insert jobs, parents before children, and return what became of each, in the order given.

    ``stdin`` is a file of `JobLogs.spool`, moved to the log directory of the first job if that is
    new.

    Raises:
        NotFound: a parent does not exist; nothing is added.
    """
    new = prepared.jobs
    require_parents(new, backend)
    done: dict[int, Inserted] = {}
    for places in batches(prepared.order, backend.batch_size):
        batch = [_placed(new[place], places, done) for place in places]
        names = {job.queue for job in batch}
        unused = [queue for queue in prepared.unused_queues if queue.name in names]
        with backend.group() if unused or stdin is not None else nullcontext():
            create_unused(unused, backend)
            inserted = backend.insert(batch, now)
            if stdin is not None and inserted[0].created:
                added = as_added(batch[0], inserted[0].id, inserted[0].at or now)
                with logs.create(added) as log:
                    log.adopt(stdin, STDIN)
        done.update(zip(places, inserted, strict=True))
    if any(job.parents for job in new):
        # One batch only, so that adding never waits for someone else's backlog.
        backend.settle_dependents(now)
    return [done[place] for place in range(len(new))]


def create_unused(queues: Iterable[Queue], backend: Backend) -> None:
    """Create queues of jobq.toml, but for those that have been used meanwhile."""
    wanted = {queue.name: queue for queue in queues}
    if not wanted:
        return
    stored = {queue.name: queue for queue in backend.queues(wanted)}
    unused = [q for q in wanted.values() if stored.get(q.name) in (None, UNUSED_DEFAULT)]
    if unused:
        backend.put_queues(unused)


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield a sequence in parts of up to ``size``."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def require_parents(new: Sequence[NewJob], backend: Backend) -> None:
    """Refuse unknown parents before the first batch is added."""
    ids = {ref.id for job in new for ref in job.parents if ref.id is not None}
    missing = ids - backend.get(ids).keys() if ids else set()
    if missing:
        raise NotFound(f"no job {listed(sorted(missing))} to wait for: see `jobq list`")


def _placed(job: NewJob, places: Sequence[int], done: Mapping[int, Inserted]) -> NewJob:
    """Return the job with each parent's place in the whole made its place in this batch, or id."""
    if not any(ref.index is not None for ref in job.parents):
        return job
    refs = []
    for ref in job.parents:
        if ref.index is None:
            refs.append(ref)
        elif ref.index in done:
            refs.append(replace(ref, index=None, id=done[ref.index].id))
        else:
            refs.append(replace(ref, index=places.index(ref.index)))
    return replace(job, parents=tuple(refs))


def as_added(job: NewJob, job_id: int, now: datetime) -> Job:
    """Return a new job without parents as it is stored: no other process can have changed it."""
    later = job.run_at is not None and job.run_at > now
    return Job(
        id=job_id,
        type=job.type,
        name=job.name,
        status=JobStatus.SCHEDULED if later else JobStatus.PENDING,
        queue=job.queue,
        priority=job.priority,
        args=job.args,
        tags=job.tags,
        unique_key=job.unique_key,
        added_by=job.added_by,
        max_retries=job.max_retries,
        retry_base=job.retry_base,
        timeout=job.timeout,
        created_at=now,
        run_at=job.run_at,
    )


def planned(job: NewJob, now: datetime) -> Job:
    """Return a job that is not stored yet, its id 0, with those parents that are stored."""
    parents = tuple(Parent(ref.id, ref.condition) for ref in job.parents if ref.id is not None)
    found = replace(as_added(job, 0, now), parents=parents)
    return replace(found, status=JobStatus.BLOCKED) if job.parents else found
