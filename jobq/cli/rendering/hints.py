"""Hints on stderr about jobs that wait for something that will not come by itself.

No command fails for want of a hint: where the server stops answering, there is none.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress

from jobq.cli.rendering.output import count_of, note, note_paused
from jobq.diagnostics.waiting import without_owner
from jobq.errors import DatabaseAwayError
from jobq.models import FINISHED, Job, JobStatus
from jobq.queue import JobQueue

_LATER = frozenset({JobStatus.SCHEDULED, JobStatus.RETRYING})


def hint_no_supervisor(queue: JobQueue, jobs: Sequence[Job], *, until_ended: bool = False) -> None:
    """Print a hint if jobs are ready and no supervisor is running.

    ``until_ended``: also about jobs that will have to wait for one before they have ended.
    """
    with suppress(DatabaseAwayError):
        waiting = _without_supervisor(queue, jobs, until_ended=until_ended)
        if waiting and until_ended and queue.settings.autostart:
            from jobq.cli.autostart import autostart  # only where it is wanted

            autostart(queue)
        elif waiting:
            if not until_ended:  # only some of those that wait may be shown
                waiting = max(waiting, queue.counts().get(JobStatus.PENDING, 0))
            verb = "waits" if waiting == 1 else "wait"
            note(f"{count_of(waiting)} {verb}, and no supervisor is running: jobq work")


def _without_supervisor(queue: JobQueue, jobs: Sequence[Job], *, until_ended: bool) -> int:
    """Return how many jobs wait for a supervisor."""
    unfinished = [job for job in jobs if job.status not in FINISHED]
    if not unfinished or any(each.takes_jobs for each in queue.supervisors()):
        return 0
    running = {job.id for job in unfinished if job.status is JobStatus.RUNNING}
    lost = running & without_owner(queue) if running else set()
    now = queue.now()
    return sum(
        job.id in lost
        or job.status is JobStatus.PENDING
        or (job.status in _LATER and job.run_at is not None and job.run_at <= now)
        or (until_ended and job.id not in running)
        for job in unfinished
    )


def hint_paused(queue: JobQueue, jobs: Iterable[Job]) -> None:
    """Print a hint for each paused queue that unfinished jobs wait in."""
    waiting: dict[str, int] = {}
    for job in jobs:
        if job.status not in FINISHED and job.status is not JobStatus.RUNNING:
            waiting[job.queue] = waiting.get(job.queue, 0) + 1
    with suppress(DatabaseAwayError):
        for name, count in waiting.items():
            if queue.queue(name).paused:
                note_paused(name, count)
