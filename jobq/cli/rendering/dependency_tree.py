"""The tree of the jobs that one job waits for, and of those that wait for it."""

from collections.abc import Iterator, Mapping, Sequence

from jobq.describe import describe
from jobq.limits import bounded_text
from jobq.models import Job, JobFilter
from jobq.queue import JobQueue

MAX_TREE_JOBS = 30
"""Most jobs in a tree; those nearest to the job come first."""

_MAX_NAME_CHARS = 60


def tree_of(queue: JobQueue, job: Job) -> list[str]:
    """Return the lines of a job's tree; none for a job without relatives.

    A job with several parents is drawn below each of them, its own children once.
    """
    jobs, complete = _relatives(queue, job)
    if len(jobs) == 1:
        return []
    children: dict[int, list[int]] = {job_id: [] for job_id in jobs}
    for each in jobs.values():
        for parent in each.parents:
            if parent.id in jobs:
                children[parent.id].append(each.id)
    below = {child for of_parent in children.values() for child in of_parent}
    texts = {each.id: _text(queue, each, is_it=each.id == job.id) for each in jobs.values()}
    drawn: set[int] = set()
    lines: list[str] = []
    for root in sorted(jobs.keys() - below):
        lines += _branch(root, children, texts, drawn)
    return lines if complete else [*lines, "…"]


def _relatives(queue: JobQueue, job: Job) -> tuple[dict[int, Job], bool]:
    """Return a job with its ancestors and descendants, and whether these are all."""
    found = {job.id: job}
    up, down = [job], [job]
    while (up or down) and len(found) < MAX_TREE_JOBS:
        wanted = {parent.id for each in up for parent in each.parents[:MAX_TREE_JOBS]}
        up = list(queue.existing(wanted - found.keys()).values())
        down = [
            child
            for each in down[:MAX_TREE_JOBS]
            for child in queue.find(JobFilter(parent=each.id), limit=MAX_TREE_JOBS)
            if child.id not in found
        ]
        found |= {each.id: each for each in (*up, *down)}
    kept = dict(list(found.items())[:MAX_TREE_JOBS])
    return kept, len(kept) == len(found) and not (up or down)


def _text(queue: JobQueue, job: Job, *, is_it: bool) -> str:
    shown = queue.shown(job)
    name = bounded_text(shown.name or describe(shown), _MAX_NAME_CHARS)
    return f"{job.id} {job.status}  {name}{'  (this job)' if is_it else ''}"


def _branch(
    job_id: int,
    children: Mapping[int, Sequence[int]],
    texts: Mapping[int, str],
    drawn: set[int],
) -> Iterator[str]:
    """Yield the lines of a job and of what waits for it."""
    yield texts[job_id]
    if job_id in drawn:
        return
    drawn.add(job_id)
    below = sorted(children[job_id])
    for child in below:
        is_last = child == below[-1]
        head, *rest = _branch(child, children, texts, drawn)
        yield ("└─ " if is_last else "├─ ") + head
        yield from (("   " if is_last else "│  ") + line for line in rest)
