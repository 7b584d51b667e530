"""A choice of many jobs: those that people look for first."""

import heapq
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

from jobq.models import Job, JobFilter, JobStatus
from jobq.queue import JobQueue

_MAX_WAITING_READ = 2000
"""Waiting jobs among which the next ones are looked for: the oldest."""


def overview(queue: JobQueue, wanted: JobFilter, limit: int) -> list[Job]:
    """Return jobs that run, the last ones that failed, the next ones to run, and the newest others.

    Each group has a part of the ``limit`` at least, and is listed with the newest job last.
    """

    def newest(status: JobStatus, most: int) -> list[Job]:
        if wanted.statuses is not None and status not in wanted.statuses:
            return []
        one = replace(wanted, statuses=frozenset({status}))
        return queue.find(one, limit=most, newest=True)[::-1]

    groups = [
        newest(JobStatus.RUNNING, limit // 2),
        newest(JobStatus.FAILED, limit // 5),
        _next(queue, wanted, limit // 5),
    ]
    chosen = {job.id: job for group in groups for job in group}
    others = [job for job in queue.find(wanted, limit=limit, newest=True) if job.id not in chosen]
    groups.append(others[: limit - len(chosen)][::-1])
    return [job for group in groups for job in group]


def _next(queue: JobQueue, wanted: JobFilter, most: int) -> Iterable[Job]:
    """Return the pending jobs that are claimed first."""
    if wanted.statuses is not None and JobStatus.PENDING not in wanted.statuses:
        return []
    pending = queue.each(replace(wanted, statuses=frozenset({JobStatus.PENDING})))
    oldest = islice(pending, _MAX_WAITING_READ)
    return heapq.nsmallest(most, oldest, key=lambda job: (-job.priority, job.id))
