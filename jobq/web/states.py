"""The kinds of state that streams may watch: jobs by id, lists from above an id, and whole documents."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jobq.backends.lists import Order
from jobq.models import Job, JobFilter, JobStatus, JsonObject
from jobq.queue import JobQueue
from jobq.web.changes import StateKind
from jobq.web.frames import event
from jobq.web.schemas import job_document, light_document

MAX_NEWER = 1000
HEAD_TIME_S = 0.06


class Whole(StateKind):
    """A document that is sent whole when it differs."""

    is_document = True

    def __init__(
        self, name: str, read: Callable[[JobQueue], JsonObject], max_age_s: float | None = None
    ) -> None:
        self.name = name
        self.max_age_s = max_age_s
        self._document = read

    def read(self, queue: JobQueue, keys: Collection[Any]) -> Mapping[Any, Any]:
        """Return the document, under each key: there is one."""
        document = self._document(queue)
        return dict.fromkeys(keys, document)

    def event(self, queue: JobQueue, key: Any, value: Any) -> bytes:  # noqa: ARG002 - as all kinds
        """Return the event of the document."""
        return event(self.name, value)


class LightJobs(StateKind):
    """Jobs as lists have them, by id; None once a job is gone."""

    name = "ids"

    def read(self, queue: JobQueue, keys: Collection[int]) -> Mapping[int, Job | None]:
        """Return the jobs without what may be large."""
        return {**dict.fromkeys(keys), **light_jobs(queue, JobFilter(), keys)}

    def event(self, queue: JobQueue, key: int, value: Job | None) -> bytes:
        """Return the event of a job."""
        return _gone(key) if value is None else event("job", light_document(queue.shown(value)))


class FullJobs(StateKind):
    """Jobs with all that is shown of them, by id; None once a job is gone."""

    name = "job"

    def read(self, queue: JobQueue, keys: Collection[int]) -> Mapping[int, Job | None]:
        """Return the jobs."""
        return {**dict.fromkeys(keys), **queue.existing(keys)}

    def event(self, queue: JobQueue, key: int, value: Job | None) -> bytes:
        """Return the event of a job."""
        return _gone(key) if value is None else event("job", job_document(queue.shown(value)))


@dataclass(frozen=True, slots=True)
class HeadOf:
    """The part of a list above an id."""

    query: str
    above: int
    jobs: JobFilter = field(compare=False)


class Heads(StateKind):
    """The number of jobs that match a filter and came after an id."""

    name = "head"

    def read(self, queue: JobQueue, keys: Collection[HeadOf]) -> Mapping[HeadOf, int]:
        """Return how many there are above each id, as far as can be counted soon."""
        return {key: self._newer(queue, key) for key in keys}

    def _newer(self, queue: JobQueue, head: HeadOf) -> int:
        above = max(head.above, head.jobs.after_id or 0)
        wanted = replace(head.jobs, after_id=above)
        page = queue.page(wanted, order=Order.OLDEST, limit=MAX_NEWER, within=HEAD_TIME_S)
        return len(page.jobs)

    def event(self, queue: JobQueue, key: HeadOf, value: int) -> bytes:  # noqa: ARG002 - as all kinds
        """Return the event of a number."""
        return event("head", {"topic": f"head:{key.query}", "above": key.above, "newer": value})


def light_jobs(queue: JobQueue, jobs: JobFilter, ids: Collection[int]) -> dict[int, Job]:
    """Return those of these jobs that match a filter, without what may be large."""
    if jobs.ids is not None:
        ids = set(ids) & set(jobs.ids)
    found: dict[int, Job] = {}
    for batch in _batches(sorted(ids)):
        page = queue.page(
            replace(jobs, ids=tuple(batch)),
            order=Order.OLDEST,
            limit=len(batch),
            max_rows=len(batch),
        )
        found.update((job.id, job) for job in page.jobs)
    return found


def _batches(ids: list[int], size: int = 500) -> list[list[int]]:
    return [ids[start : start + size] for start in range(0, len(ids), size)]


def _gone(job_id: int) -> bytes:
    return event("gone", {"id": job_id})


def counts_document(queue: JobQueue) -> JsonObject:
    """Return the number of jobs in each status: of all, and by queue."""
    by_queue = queue.counts_by_queue()
    totals = dict.fromkeys((status.value for status in JobStatus), 0)
    for counts in by_queue.values():
        for status, number in counts.items():
            totals[status.value] += number
    return {"counts": totals, "queues": {name: _named(by_queue[name]) for name in sorted(by_queue)}}


def _named(counts: Mapping[JobStatus, int]) -> JsonObject:
    return {status.value: number for status, number in counts.items()}


def kinds_of_jobs() -> list[StateKind]:
    """Return the kinds that are about jobs; routers add the documents that they answer with."""
    return [Whole("counts", counts_document), LightJobs(), FullJobs(), Heads()]
