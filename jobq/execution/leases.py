"""Leases: renewed in time, and given up before another supervisor may take over.

While the database does not answer, nothing can be renewed: the attempts go on for most of a lease,
and are ended then, so that no other supervisor runs them at the same time.
"""

import asyncio
from collections.abc import Callable, Collection
from datetime import datetime, timedelta

from jobq.backends.outage import Outage
from jobq.clock import steady_time
from jobq.errors import (
    DatabaseAwayError,
    DatabaseLockedError,
    DatabaseUnavailableError,
    DatabaseUnreachableError,
)
from jobq.execution.events import EventSender
from jobq.execution.slots import Slots
from jobq.jobs.outcome import StopReason
from jobq.models import AttemptKey, Claim, Held
from jobq.queue import JobQueue, backend_of

RENEWAL_SHARE = 1 / 3
"""The share of a lease after which it is renewed."""

BRIEF_LOCK_S = 3.0
"""Seconds for which another program may keep the database locked before that is reported."""

END_SHARE = 0.8
"""The share of a lease after which attempts are ended if it can't be renewed: the last call to a
silent server, and the end of the processes, must fit into the rest."""


class Leases:
    """The leases of a supervisor's attempts."""

    def __init__(
        self,
        queue: JobQueue,
        owner: str,
        slots: Slots,
        events: EventSender,
        *,
        announce: Callable[[], None],
        wake: Callable[[], None],
    ) -> None:
        """``announce`` registers the supervisor again; ``wake``: the database answers again."""
        self._backend = backend_of(queue)
        self._owner = owner
        self._seconds = queue.settings.lease
        self._slots = slots
        self._runs = slots.runs
        self._events = events
        self._announce = announce
        self._wake = wake
        self._outage = Outage(events.message)
        self._reconnecting: asyncio.Task[None] | None = None
        self._renewed_at = 0.0
        self._locked_since: float | None = None

    def begin(self) -> None:
        """Count from here on: what is claimed next is leased from then."""
        self._renewed_at = steady_time()

    # -- renewing --------------------------------------------------------------------------

    @property
    def duration(self) -> timedelta:
        """The length of a lease."""
        return timedelta(seconds=self._seconds)

    @property
    def is_renewal_due(self) -> bool:
        """True if the last renewal was long ago."""
        return steady_time() - self._renewed_at > self._seconds * RENEWAL_SHARE

    @property
    def seconds_left(self) -> float:
        """Seconds for which the attempts may go on if their leases are not renewed."""
        return max(0.0, self._renewed_at + END_SHARE * self._seconds - steady_time())

    def renew(self, now: datetime) -> bool:
        """Renew all leases. What was lost is ended before its result could count.

        Returns:
            Whether claims were given back that can be claimed again.
        """
        asked_at = steady_time()
        held = self._backend.heartbeat(self._owner, self.duration, now)
        self._cancel(held)
        keys = {item.key for item in held}
        self._slots.keep_only(keys)
        self._end_lost(keys)
        unknown = keys - self._slots.keys
        self._give_back(unknown, now)
        if all(each.id != self._owner for each in self._backend.supervisors.all()):
            self._announce()  # a server may have lost what it was told last
        self._renewed_at = asked_at
        return bool(unknown)

    def stop_cancelled(self) -> None:
        """Stop the attempts whose jobs were cancelled.

        Raises:
            DatabaseError: there is no answer.
        """
        self._cancel(self._backend.cancel_requests(self._owner))

    def _cancel(self, held: Collection[Held]) -> None:
        self._slots.cancel({item.key for item in held if item.cancel_requested})

    def _end_lost(self, held: Collection[AttemptKey]) -> None:
        for key, run in list(self._runs.by_key.items()):
            if key not in held and not run.ended:
                self._events.message(
                    f"job {key.job_id}: attempt {key.attempt} was taken over: ending it here"
                )
                self._runs.end_at_once(run, StopReason.LOST)

    def _give_back(self, keys: Collection[AttemptKey], now: datetime) -> None:
        """Give back attempts that are held and not known here: the answer to a claim was lost."""
        if keys:
            jobs = self._backend.get([key.job_id for key in keys])
            claims = [Claim(jobs[key.job_id], key.attempt, self._owner) for key in keys]
            self._backend.unclaim(claims, now)

    # -- while the database does not answer --------------------------------------------------

    @property
    def error(self) -> DatabaseUnavailableError | None:
        """Why the database can't be used just now; None if nothing is known against it."""
        return self._outage.error

    @property
    def is_reconnecting(self) -> bool:
        """True while nothing is asked of a database that does not answer."""
        return self._reconnecting is not None

    def on_answer(self) -> None:
        """Note that the database could be used."""
        self._locked_since = None
        self._outage.over()

    def on_outage(self, error: DatabaseUnavailableError) -> None:
        """Note that the database could not be used; if it does not answer, wait until it does."""
        if isinstance(error, DatabaseLockedError) and self._outage.error is None:
            self._locked_since = self._locked_since or steady_time()
            if steady_time() - self._locked_since < BRIEF_LOCK_S:  # others write, too
                return
        self._outage.met(error)
        if isinstance(error, DatabaseAwayError) and self._reconnecting is None:
            self._reconnecting = asyncio.create_task(self._reconnect())
            asyncio.get_running_loop().call_later(self.seconds_left, self.end_unrenewed)

    async def _reconnect(self) -> None:
        await self._outage.answered(self._backend.change_counter)
        self._reconnecting = None
        self._wake()

    def end_unrenewed(self) -> None:
        """End attempts whose leases could not be renewed, before others may take them over.

        A server that does not run lets no one take over: leases are renewed soon after it is
        back, and others only take what was not renewed for the whole length of a lease then.
        """
        is_cut_off = isinstance(self._outage.error, DatabaseUnreachableError)
        if not is_cut_off or self.seconds_left:
            return
        for key, run in list(self._runs.by_key.items()):
            if not run.ended and run.stopped is not StopReason.CUT_OFF:
                self._events.message(
                    f"job {key.job_id}: its lease can't be renewed: ending it here"
                )
                self._runs.end_at_once(run, StopReason.CUT_OFF)
