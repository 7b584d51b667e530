"""What has to be done from time to time, whoever does it: rescue, dependents, upkeep."""

import time
from collections.abc import Collection
from datetime import datetime, timedelta

from jobq.models import Attempt, Job
from jobq.processes import ProcessTree
from jobq.queue import JobQueue

UPKEEP = timedelta(minutes=5)


class Scheduler:
    """One supervisor's share of it. Any number may do it at once: each step takes effect once."""

    def __init__(self, queue: JobQueue, owner: str) -> None:
        self._queue = queue
        self._owner = owner
        self._upkeep_at: datetime | None = None
        self._leases: dict[tuple[int, int], tuple[datetime, float]] = {}

    def tick(self, now: datetime, own: Collection[int]) -> bool:
        """Do what is due; whether there may be new work. ``own`` jobs are not to be rescued."""
        backend = self._queue.backend
        worked = self.rescue_dead() + self.rescue_expired(now, own) > 0
        worked = backend.settle_dependents(now) or worked
        if self._upkeep_at is None or not abs(now - self._upkeep_at) < UPKEEP:
            self._upkeep_at = now
            backend.maintain()
        return worked

    def rescue_dead(self) -> int:
        """Give back the jobs of supervisors that are known to be dead; how many."""
        backend = self._queue.backend
        there = [info.id for info in backend.supervisors() if info.id != self._owner]
        dead = backend.dead(there)
        if not dead:
            return 0
        lost = [pair for pair in backend.open_attempts() if pair[1].supervisor in dead]
        _kill(lost)
        rescued = self._queue.rescue(lost, lease_before=None)
        backend.unregister(dead)
        return rescued

    def rescue_expired(self, now: datetime, own: Collection[int]) -> int:
        """Give back the jobs whose lease ran out, as on a machine that is gone; how many.

        A lease that looks old may only mean that the clock was set: so it must also have stood
        still for as long as leases last, by a clock that nobody sets.
        """
        expired: list[tuple[Job, Attempt]] = []
        seen: dict[tuple[int, int], tuple[datetime, float]] = {}
        for job, attempt in self._queue.backend.open_attempts():
            if job.id in own:
                continue
            key = (job.id, attempt.attempt)
            lease, since = self._leases.get(key, (None, 0.0))
            if lease != attempt.lease_until:
                since = time.monotonic()
            seen[key] = (attempt.lease_until, since)
            still = time.monotonic() - since
            if attempt.lease_until < now and still >= self._queue.settings.lease:
                expired.append((job, attempt))
        self._leases = seen
        _kill(expired)
        return self._queue.rescue(expired, lease_before=now)


def _kill(attempts: Collection[tuple[Job, Attempt]]) -> None:
    """End what still runs here of attempts that nobody holds: before they run again."""
    for job, attempt in attempts:
        ProcessTree(
            attempt.supervisor, job.id, attempt.attempt, attempt.pid, attempt.pid_started
        ).kill()
