"""Triage: failed jobs in groups of one kind each, for the shell, the HTTP API and the page alike."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from jobq.backends.base import Backend
from jobq.backends.messages import FailureFigures
from jobq.config.settings import Settings
from jobq.errors import NotFound, UsageError, WrongState
from jobq.models import Job, JobFilter, JobStatus

if TYPE_CHECKING:
    from jobq.jobs.failure_group import FailureGroup

SIGN_BATCH_SIZE = 1000
"""Failed jobs of older versions that get their signatures in one transaction."""

MAX_SIGNED_BY_READER = 10_000
"""Failed jobs that a read gives their signatures at most; `jobq work` does the others."""

DEFAULT_LIMIT = 50
"""Groups that are returned where no limit is given."""

SIGNATURE_CHARS = 8
_HEX_DIGITS = frozenset("0123456789abcdef")
_READ_BATCH_SIZE = 1000
_FAILED = frozenset({JobStatus.FAILED})


class Triage:
    """Groups of failures, and which jobs are in one."""

    settings: Settings
    _backend: Backend

    def failures(
        self, *, since: datetime | None = None, limit: int | None = DEFAULT_LIMIT
    ) -> "list[FailureGroup]":
        """Return the failed jobs in groups, those with most jobs first.

        With ``since``, only groups with a failure since then; the figures are of the whole group.
        """
        self._sign_some()
        now = self._backend.now()
        return self._shown_groups(self._backend.failures.groups(now, since=since, limit=limit))

    def failure_group(self, signature: str) -> "FailureGroup":
        """Return the group of a signature, or of the only one that begins so.

        Raises:
            NotFound: no failed job has it.
            UsageError: it is no signature, or several begin so.
        """
        wanted = _checked(signature)
        self._sign_some()
        found = self._backend.failures.groups(self._backend.now(), limit=3, prefix=wanted)
        if not found:
            raise NotFound(f"no failed job has signature {wanted}: see `jobq triage`")
        if len(found) > 1:
            names = ", ".join(each.signature for each in found)
            raise UsageError(f"signature {wanted}: several begin so, such as {names}: give more")
        return self._shown_groups(found)[0]

    def signature(self, prefix: str) -> str:
        """Return the only signature of failed jobs that begins so; a whole one is returned as it is.

        Raises:
            NotFound: no failed job has it.
            UsageError: it is no signature, or several begin so.
        """
        wanted = _checked(prefix)
        if len(wanted) < SIGNATURE_CHARS:
            return self.failure_group(wanted).signature
        self._sign_some()
        return wanted

    def group_ids(
        self,
        signature: str,
        *,
        statuses: frozenset[JobStatus] = _FAILED,
        expected: int | None = None,
    ) -> list[int]:
        """Return the ids of the jobs whose last failure has this signature, in ascending order.

        Those that failed for good, unless other ``statuses`` are given, such as ``retrying``.

        Raises:
            WrongState: there are more than ``expected``, the number that a preview has shown.
        """
        ids = [job.id for job in self._each_of(signature, statuses)]
        if expected is not None and len(ids) > expected:
            raise WrongState(
                f"the group {signature} has grown from {expected} to {len(ids)} jobs: "
                "nothing was changed; look at it again"
            )
        return ids

    def group_errors(self, signature: str) -> Counter[str]:
        """Return the distinct errors of a group, without secrets, and the number of jobs of each."""
        shown = map(self.settings.redactor.job, self._each_of(signature, _FAILED))
        return Counter(job.error or "" for job in shown)

    def is_new_failure(self, job: Job) -> bool:
        """Return whether a failed job is the first of its signature among those that are kept."""
        if job.signature is None or job.finished_at is None:
            return False
        now = self._backend.now()
        found = self._backend.failures.groups(now, prefix=job.signature, limit=1)
        return bool(found) and job.finished_at <= found[0].first

    def sign_failures(self, *, after: int = 0) -> int | None:
        """Give up to `SIGN_BATCH_SIZE` failed jobs of older versions their signatures.

        Return the id to go on ``after``; None if no failed job lacks one.
        """
        found = self._backend.failures.unsigned(after=after, limit=SIGN_BATCH_SIZE)
        if not found:
            return None
        from jobq.jobs.signature import signature_of_job  # `add` does without

        redaction = self.settings.redactor.of
        self._backend.failures.sign(
            {
                job.id: signature_of_job(job, outcome, job.error, redaction(job.args, job.tags))
                for job, outcome in found
            }
        )
        return found[-1][0].id

    def _sign_some(self) -> None:
        after = self.sign_failures()
        for _ in range(1, MAX_SIGNED_BY_READER // SIGN_BATCH_SIZE):
            if after is None:
                return
            after = self.sign_failures(after=after)

    def _each_of(self, signature: str, statuses: frozenset[JobStatus]) -> Iterator[Job]:
        wanted = JobFilter(signature=signature, statuses=statuses)
        while batch := self._backend.find(wanted, limit=_READ_BATCH_SIZE):
            yield from batch
            wanted = replace(wanted, after_id=batch[-1].id)

    def _shown_groups(self, found: Sequence[FailureFigures]) -> "list[FailureGroup]":
        from jobq.jobs.failure_group import shown_group  # `add` does without

        jobs = self._backend.get([each.sample[0] for each in found])
        pairs = [(each, jobs[each.sample[0]]) for each in found if each.sample[0] in jobs]
        return [shown_group(each, self.settings.redactor.job(job)) for each, job in pairs]


def _checked(signature: str) -> str:
    wanted = signature.strip().lower()
    if not (set(wanted) <= _HEX_DIGITS and 0 < len(wanted) <= SIGNATURE_CHARS):
        raise UsageError(f"signature {signature!r:.80}: give its first characters, e.g. 3fa9")
    return wanted
