"""The verbs of a `JobQueue` for pull workers: programs that take jobs without `jobq work`."""

import time
from collections.abc import Collection
from datetime import timedelta
from typing import Any

from jobq.backends.base import Backend
from jobq.backends.messages import ClaimRequest
from jobq.config.settings import Settings
from jobq.jobs.spec import Duration
from jobq.jobs.validation import checked_json
from jobq.logs.directory import JobLogs
from jobq.models import AttemptResult, Claim, JobStatus, Outcome, Progress
from jobq.units import parse_duration

RECOVERY_INTERVAL_S = 1.0
"""Time between two looks of one `JobQueue` for jobs whose owner is dead, when it claims."""


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
    ) -> Claim | None:
        """Take the next job for a worker of your own; None if there is none.

        Renew the lease with `heartbeat` before it runs out, and end the attempt with `complete`
        or `fail`: otherwise the job is given to another worker. Jobs whose owner is dead, or let
        its lease run out, are given back first: no supervisor is needed for that.
        """
        self._recover_regularly(owner)
        return self._claim(
            ClaimRequest(
                owner=owner,
                limit=1,
                lease=self._lease(lease),
                queues=None if queue is None else [queue],
                types=types,
            )
        )

    def heartbeat(self, claim: Claim, lease: Duration | None = None) -> bool:
        """Renew the owner's leases. False: the attempt is lost or to be cancelled: stop working."""
        return any(
            held.key == claim.key and not held.cancel_requested
            for held in self._backend.heartbeat(
                claim.owner, self._lease(lease), self._backend.now()
            )
        )

    def progress(
        self, claim: Claim, done: float, total: float | None = None, message: str | None = None
    ) -> bool:
        """Note how far an attempt has come. False: it was lost."""
        return self._backend.progress(claim.key, Progress(done, total, message).bounded())

    def complete(self, claim: Claim, result: Any = None) -> bool:
        """End an attempt well. False: it was lost, and this changed nothing.

        A result of more than a megabyte is not kept: a note is, in its place.

        Raises:
            UsageError: JSON can't hold the result.
        """
        checked_json("result", result)
        return self._end(
            AttemptResult(
                key=claim.key,
                outcome=Outcome.COMPLETED,
                status=JobStatus.COMPLETED,
                failures=claim.job.failures,
                crashes=claim.job.crashes,
                result=result,
            )
        )

    def fail(self, claim: Claim, error: str, *, retry: bool = True) -> bool:
        """End an attempt badly. False: it was lost, and this changed nothing."""
        from random import random  # `add` does without, as it does without the rules of retries

        from jobq.jobs.retry import after_failure

        step = after_failure(
            claim.job,
            now=self._backend.now(),
            policy=self.settings.retry,
            chance=random(),  # noqa: S311 - jitter, not a secret
            retryable=retry,
        )
        return self._end(
            AttemptResult(
                key=claim.key,
                outcome=Outcome.FAILED,
                status=step.status,
                failures=step.failures,
                crashes=step.crashes,
                run_at=step.run_at,
                error=error,
            )
        )

    def _recover(self, own: str | None = None) -> int:
        """Give back the jobs that dead owners left, and return how many; ``own`` is known to live."""
        from jobq.recovery import Recovery  # `add` does without

        recovery = Recovery(self._backend, self.logs, self.settings.retry)
        now = self._backend.now()
        return recovery.rescue_dead(own) + recovery.rescue_unrenewed(now)

    def _recover_regularly(self, own: str) -> None:
        """Recover at most once a second, since a worker may claim thousands of jobs in one."""
        if time.monotonic() >= self._recovery_due:
            self._recovery_due = time.monotonic() + RECOVERY_INTERVAL_S
            self._recover(own)

    def _claim(self, request: ClaimRequest) -> Claim | None:
        claims = self._backend.claim(request, self._backend.now())
        return claims[0] if claims else None

    def _lease(self, lease: Duration | None) -> timedelta:
        return timedelta(seconds=parse_duration(self.settings.lease if lease is None else lease))

    def _end(self, result: AttemptResult) -> bool:
        now = self._backend.now()
        (took_effect,) = self._backend.end([result], now)
        while self._backend.settle_dependents(now):
            pass  # there may be no supervisor to do so
        return took_effect
