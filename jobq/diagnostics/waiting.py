"""Running jobs that nothing runs any more."""

from jobq.queue import JobQueue, backend_of


def without_owner(queue: JobQueue) -> set[int]:
    """Return the running jobs whose supervisor died, or whose lease has expired."""
    backend, now = backend_of(queue), queue.now()
    running = backend.open_attempts()
    dead = backend.supervisors.dead({attempt.supervisor for _, attempt in running})
    return {
        job.id
        for job, attempt in running
        if attempt.supervisor in dead or attempt.lease_until < now
    }
