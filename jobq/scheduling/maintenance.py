"""Maintenance by each supervisor's loop: rescue, dependents, schedules, retention and upkeep."""

import time
from collections.abc import Callable, Collection
from datetime import datetime, timedelta

from jobq.models import Attempt, Job
from jobq.queue import JobQueue, backend_of, recovery_of
from jobq.recovery import ExpiredLeases
from jobq.scheduling.retention import Expiry

UPKEEP_INTERVAL = timedelta(minutes=5)

SETTLE_LIMIT_S = 0.2
"""Longest time spent on dependents in one pass; a parent may have 100,000 of them."""


class Scheduler:
    """The maintenance of one supervisor. Any number may run: each step takes effect once."""

    def __init__(
        self,
        queue: JobQueue,
        owner: str,
        on_rescued: Callable[[Job], None] = lambda _: None,
        *,
        fires: bool = True,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Take the queue and the supervisor's id.

        Args:
            queue: the queue to maintain.
            owner: the supervisor's id.
            on_rescued: called with each job whose lost attempt was ended here.
            fires: add the jobs of schedules, too.
            tell: called with a line for each schedule that fails, and each log that stays.
        """
        self._queue = queue
        self._owner = owner
        self._on_rescued = on_rescued
        self._fires = fires
        self._tell = tell
        self._ticked_at: datetime | None = None
        self._fired_at: datetime | None = None
        self._upkeep_at: datetime | None = None
        self._unsigned_after: int | None = None
        self._recovery = recovery_of(queue)
        self._expired = ExpiredLeases(self._recovery, queue.settings.lease)
        self._expiry = Expiry(queue, tell)

    def tick(self, now: datetime, own: Collection[int]) -> bool:
        """Do what is due; return true if there may be new work. ``own`` jobs are not rescued."""
        backend = backend_of(self._queue)
        rescued = self._recovery.end_overdue(now, self._on_rescued)
        rescued += self._recovery.rescue_dead(self._owner, self._on_rescued)
        rescued += self._expired.rescue(now, own, self._on_rescued)
        if self._fires and (self._ticked_at is None or now < self._ticked_at):
            backend.correct_waits(now)  # the clock was set back, or may have been
        self._ticked_at = now
        worked = self.settle(now) or rescued > 0
        worked = self.fire_schedules(now) or worked
        self._expiry.step(now)
        if self._upkeep_at is None or not abs(now - self._upkeep_at) < UPKEEP_INTERVAL:
            self._upkeep_at = now
            backend.maintain()
            self._unsigned_after = 0
        self._sign_failures()
        return worked

    def _sign_failures(self) -> None:
        """Sign one batch of the failed jobs of older versions; the next one in the next pass."""
        if self._unsigned_after is not None:
            self._unsigned_after = self._queue.sign_failures(after=self._unsigned_after)

    def rescue_unrenewed(self, now: datetime) -> int:
        """Give back the jobs whose pull workers let their leases run out, and return how many."""
        return self._recovery.rescue_unrenewed(now, self._on_rescued)

    def unrenewed(self, now: datetime, own: Collection[int]) -> list[tuple[Job, Attempt]]:
        """Return the attempts of others whose leases run out soon: see `ExpiredLeases`."""
        return self._expired.unrenewed(now, own)

    def settle(self, now: datetime) -> bool:
        """Settle dependents for at most `SETTLE_LIMIT_S`; return true if there are more."""
        until = time.monotonic() + SETTLE_LIMIT_S
        while more := backend_of(self._queue).settle_dependents(now):
            if time.monotonic() >= until:
                break
        return more

    def next_tick(self) -> datetime | None:
        """Return when the next schedule is due; None if none is, or if this one does not fire."""
        return backend_of(self._queue).schedules.next_tick() if self._fires else None

    def fire_schedules(self, now: datetime) -> bool:
        """Add the jobs of due schedules; return true if any were added."""
        set_back = self._fired_at is None or now < self._fired_at
        self._fired_at = now
        first = self.next_tick()
        if first is None or (first > now and not set_back):
            return False
        from jobq.scheduling.schedules import Schedules  # only where there are any

        schedules = Schedules(self._queue)
        if set_back:
            schedules.aim(now)
        firings = schedules.fire_due(now)
        for firing in firings:
            if firing.error is not None:
                self._tell(f"schedule {firing.schedule.name}: no job added: {firing.error}")
        return any(firing.fired for firing in firings)

    def close(self) -> None:
        """Finish what was begun: logs of deleted jobs are not left behind."""
        self._expiry.close()

    def doubt_leases(self) -> None:
        """Start measuring leases anew: while the database takes no writes, none can be renewed."""
        self._expired.forget()
