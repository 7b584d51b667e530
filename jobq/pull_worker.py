"""The verbs of a `JobQueue` for pull workers: programs that take jobs without `jobq work`."""

import os
import select
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from jobq.backends.base import Backend, Listener
from jobq.backends.messages import ClaimRequest
from jobq.config.settings import Settings
from jobq.errors import NotFound, UsageError
from jobq.jobs.validation import (
    checked_id,
    checked_json,
    checked_number,
    checked_owner,
    checked_shape,
)
from jobq.logs.directory import JobLogs
from jobq.models import AttemptResult, Claim, JobStatus, Outcome, Progress
from jobq.units import Duration, checked_amount, parse_duration

if TYPE_CHECKING:
    from jobq.recovery import Recovery

RECOVERY_INTERVAL_S = 1.0
"""Time between two looks of one `JobQueue` for jobs whose owner is dead, when it claims."""

CLAIM_WAIT_S = 3600.0
"""Longest single wait (s) of `claims` where it waits for ever."""

MIN_WAIT_S = 0.01
"""Shortest wait for a job that is due, but in a queue that gives none."""


class PullWorker:
    """Claims, and reports on attempts by their owners."""

    settings: Settings
    logs: JobLogs
    _backend: Backend
    _recovery_due: float = 0.0  # by the steady clock

    def claim(
        self,
        queue: str | None = None,
        *,
        owner: str,
        types: Collection[str] | None = None,
        lease: Duration | None = None,
        wait: Duration = 0,
    ) -> Claim | None:
        """Take the next job for a worker of your own; None if there is none.

        With ``wait``, one that comes within this time is taken as well. Renew the lease with
        `heartbeat` before it runs out, and end the attempt with `complete`, `fail` or `release`:
        otherwise the job is given to another worker. Jobs whose owner is dead, or let its lease
        run out, are given back first: no supervisor is needed for that.
        """
        queues = None if queue is None else [queue]
        claims = self.claim_many(queues, owner=owner, limit=1, types=types, lease=lease, wait=wait)
        return claims[0] if claims else None

    def claim_many(
        self,
        queues: Collection[str] | None = None,
        *,
        owner: str,
        limit: int,
        types: Collection[str] | None = None,
        lease: Duration | None = None,
        wait: Duration = 0,
    ) -> list[Claim]:
        """Take up to ``limit`` jobs, as `claim` does; with ``wait``, wait for the first of them."""
        checked_owner(owner)
        checked_number("limit", limit, 0)
        _require_names("queue", queues)
        _require_names("type", types)
        request = ClaimRequest(
            owner=owner, limit=limit, lease=self._lease(lease), queues=queues, types=types
        )
        deadline = time.monotonic() + parse_duration(wait)
        claims = self._claim_recovered(request)
        if claims or time.monotonic() >= deadline:
            return claims
        from jobq.abandonment import is_abandoned  # `add` does without

        with self._wakeups() as listener:
            while not claims and (left := deadline - time.monotonic()) > 0:
                if is_abandoned():
                    break
                claims = self._claim_recovered(request)
                if not claims:
                    self._sleep(listener, left)
        return claims

    def claims(
        self,
        queue: str | None = None,
        *,
        owner: str,
        types: Collection[str] | None = None,
        lease: Duration | None = None,
        wait: Duration | None = None,
    ) -> Iterator[Claim]:
        """Yield one job after the other, as `claim` takes them, until none comes within ``wait``.

        Without ``wait``, for ever. End each attempt before the next one: the iterator ends none.
        """
        patience = CLAIM_WAIT_S if wait is None else wait
        while True:
            claim = self.claim(queue, owner=owner, types=types, lease=lease, wait=patience)
            if claim is not None:
                yield claim
            elif wait is not None:
                return

    def _claim_recovered(self, request: ClaimRequest) -> list[Claim]:
        self._recover_regularly(request.owner)
        return self._backend.claim(request, self._backend.now())

    @contextmanager
    def _wakeups(self) -> Iterator[Listener]:
        """Listen under a name of its own: the owner is not dead when this ends."""
        name = f"wait-{os.urandom(8).hex()}"
        listener = self._backend.supervisors.listen(name)
        try:
            yield listener
        finally:
            listener.close()
            self._backend.supervisors.unregister([name])

    def _sleep(self, listener: Listener, seconds: float) -> None:
        """Wait for a wake-up, the next job that becomes due, or the next recovery."""
        now = self._backend.now()
        due = self._backend.next_due(now)
        if due is not None:
            seconds = min(seconds, max(MIN_WAIT_S, (due - now).total_seconds()))
        if select.select([listener], [], [], min(seconds, RECOVERY_INTERVAL_S))[0]:
            listener.drain()

    def claimed(self, job_id: int, *, owner: str) -> Claim | None:
        """Return the attempt of a job that this owner holds; None if it holds none.

        Raises:
            NotFound: there is no such job.
        """
        checked_owner(owner)
        job = self._backend.get([checked_id("id", job_id)]).get(job_id)
        if job is None:
            raise NotFound(f"no job {job_id}: see `jobq list`")
        if job.status is not JobStatus.RUNNING:
            return None
        claim = Claim(job, job.attempts, owner)
        return claim if self._is_owned(claim) else None

    def _is_owned(self, claim: Claim) -> bool:
        """Return whether an attempt is its owner's: one that read the job may have lost it since."""
        return any(
            (attempt.key, attempt.supervisor) == (claim.key, claim.owner)
            for attempt in self._backend.attempts(claim.job.id)
        )

    def _claim_of(self, claim: Claim | int, owner: str | None) -> Claim | None:
        if isinstance(claim, Claim):
            return claim
        if owner is None:
            raise UsageError(f"job {claim}: give its owner, too, or the claim that you got")
        return self.claimed(claim, owner=owner)

    def heartbeat(
        self, claim: Claim | int, lease: Duration | None = None, *, owner: str | None = None
    ) -> bool:
        """Renew the owner's leases. False: the attempt is lost or to be cancelled: stop working.

        An attempt is named by its claim, here and below, or by its job's id and its owner.

        Raises:
            NotFound: there is no job of this id.
        """
        held = self._claim_of(claim, owner)
        if held is None:
            return False
        from jobq.jobs.retry import is_overdue  # `add` does without

        if is_overdue(held.job, self._backend.now()):
            self._recovery().end_overdue(self._backend.now())
        renewed = self._backend.heartbeat(held.owner, self._lease(lease), self._backend.now())
        return any(each.key == held.key and not each.cancel_requested for each in renewed)

    def progress(
        self,
        claim: Claim | int,
        done: float,
        total: float | None = None,
        message: str | None = None,
        *,
        owner: str | None = None,
    ) -> bool:
        """Note how far an attempt has come. False: it was lost.

        Raises:
            UsageError: a number is negative, endless or absurdly large.
            NotFound: there is no job of this id.
        """
        if message is not None:
            checked_shape("message", message)
        done = checked_amount("done", done)
        total = None if total is None else checked_amount("total", total)
        held = self._claim_of(claim, owner)
        noted = Progress(done, total, message).bounded()
        return held is not None and self._backend.progress(held.key, noted)

    def complete(self, claim: Claim | int, result: Any = None, *, owner: str | None = None) -> bool:
        """End an attempt well. False: it was lost, and this changed nothing.

        A result of more than a megabyte is not kept: a note is, in its place.

        Raises:
            UsageError: JSON can't hold the result.
            NotFound: there is no job of this id.
        """
        checked_json("result", result)
        held = self._claim_of(claim, owner)
        return held is not None and self._end(
            AttemptResult(
                key=held.key,
                outcome=Outcome.COMPLETED,
                status=JobStatus.COMPLETED,
                failures=held.job.failures,
                crashes=held.job.crashes,
                result=result,
            )
        )

    def fail(
        self, claim: Claim | int, error: str, *, retry: bool = True, owner: str | None = None
    ) -> bool:
        """End an attempt badly. False: it was lost, and this changed nothing.

        Raises:
            NotFound: there is no job of this id.
        """
        checked_shape("error", error)
        held = self._claim_of(claim, owner)
        return held is not None and self._fail(held, error, retryable=retry)

    def _fail(self, claim: Claim, error: str, *, retryable: bool) -> bool:
        from random import random  # `add` does without, as it does without the rules of retries

        from jobq.jobs.retry import after_failure
        from jobq.jobs.signature import signed

        step = after_failure(
            claim.job,
            now=self._backend.now(),
            policy=self.settings.retry,
            chance=random(),  # noqa: S311 - jitter, not a secret
            retryable=retryable,
        )
        result = AttemptResult(
            key=claim.key,
            outcome=Outcome.FAILED,
            status=step.status,
            failures=step.failures,
            crashes=step.crashes,
            run_at=step.run_at,
            error=error,
        )
        hide = self.settings.redactor.of(claim.job.args, claim.job.tags)
        return self._end(signed(result, claim.job, hide))

    def release(self, claim: Claim | int, *, owner: str | None = None) -> bool:
        """Give a job back as if it had not been tried. False: it was lost, and this changed nothing.

        The attempt costs no retry; the job is pending again.

        Raises:
            NotFound: there is no job of this id.
        """
        held = self._claim_of(claim, owner)
        return held is not None and self._end(
            AttemptResult(
                key=held.key,
                outcome=Outcome.RELEASED,
                status=JobStatus.PENDING,
                failures=held.job.failures,
                crashes=held.job.crashes,
                error="given back by its worker",
            )
        )

    def _recover(self, own: str | None = None) -> int:
        """End what dead owners left or exceeded its time limit, and return how many.

        ``own`` is an owner that is known to live.
        """
        recovery, now = self._recovery(), self._backend.now()
        recovered = recovery.end_overdue(now) + recovery.rescue_dead(own)
        return recovered + recovery.rescue_unrenewed(now)

    def _recovery(self) -> "Recovery":
        from jobq.recovery import Recovery  # `add` does without

        return Recovery(self._backend, self.logs, self.settings.retry)

    def _recover_regularly(self, own: str) -> None:
        """Recover at most once a second, since a worker may claim thousands of jobs in one."""
        if time.monotonic() >= self._recovery_due:
            self._recovery_due = time.monotonic() + RECOVERY_INTERVAL_S
            self._recover(own)

    def _lease(self, lease: Duration | None) -> timedelta:
        return timedelta(seconds=parse_duration(self.settings.lease if lease is None else lease))

    def _end(self, result: AttemptResult) -> bool:
        now = self._backend.now()
        (took_effect,) = self._backend.end([result], now)
        while self._backend.settle_dependents(now):
            pass  # there may be no supervisor to do so
        return took_effect


def _require_names(what: str, names: Collection[str] | None) -> None:
    if isinstance(names, str):
        raise UsageError(f"{what} {names!r:.80}: expected a list of names")
    for name in names or ():
        checked_shape(what, name)
