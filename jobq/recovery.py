"""Recovery from dead supervisors: what they left running is killed, and their jobs given back."""

import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from jobq.backends.base import Backend
from jobq.config.settings import RetryPolicy
from jobq.jobs.retry import is_overdue, lost_result, overdue_result
from jobq.jobs.signature import signed
from jobq.jobs.spec import RUN_TAG
from jobq.logs import descendants
from jobq.logs.directory import STDOUT, JobLogs
from jobq.models import UNFINISHED, Attempt, Job, JobFilter, SupervisorInfo

if TYPE_CHECKING:
    from jobq.system.processes import ProcessTree

MIN_SLEEP_S = 2.0
"""A gap of this length between two looks for leases is a sign of having been kept waiting."""

OnLost = Callable[[Job], None]
"""Called with each job, as it was, whose attempt was ended here."""


def owner_id(host: str) -> str:
    """Return an id for a supervisor of this process that no other one has."""
    return f"{host}:{os.getpid()}:{os.urandom(4).hex()}"


def is_supervisor(owner: str) -> bool:
    """Return whether an owner's id was made by `owner_id`: a pull worker names itself."""
    return _OWNER_ID.fullmatch(owner) is not None


_OWNER_ID = re.compile(r"(?!http:).+:\d+:[0-9a-f]{8}", re.DOTALL)  # http: see jobq.web.claim_token


def dead(backend: Backend, supervisors: Sequence[SupervisorInfo]) -> set[str]:
    """Return the ids of those that can't be alive: their lock is free, or the host was rebooted.

    Where hosts share a server, two may have the same name: there, only the locks count.
    """
    if not supervisors:
        return set()
    from jobq.system.processes import boot_id, host_name  # psutil: 15 ms that few calls need

    host, boot = host_name(), boot_id()
    before = [info for info in supervisors if info.host == host and info.boot_id != boot]
    restarted = set() if backend.spans_hosts else {info.id for info in before}
    return restarted | backend.supervisors.dead([info.id for info in supervisors])


@dataclass(frozen=True, slots=True)
class Recovery:
    """Recovery of the attempts that dead supervisors, or those without a lease, left open."""

    backend: Backend
    logs: JobLogs
    policy: RetryPolicy

    def rescue_dead(self, own: str | None = None, on_lost: OnLost = lambda _: None) -> int:
        """Give back the jobs of supervisors known to be dead, and return how many.

        ``own`` is the id of the supervisor that asks.
        """
        registered = [info for info in self.backend.supervisors.all() if info.id != own]
        gone = dead(self.backend, registered)
        if not gone:
            return 0
        lost = [pair for pair in self.backend.open_attempts() if pair[1].supervisor in gone]
        self.kill(lost)
        _kill_hooks(gone)
        if self.backend.spans_hosts:
            _kill_marked(gone)
        rescued = self.release(lost, lease_before=None, on_lost=on_lost)
        # Those of a `jobq run` take no other jobs. One may have died before it could claim its own.
        rescued += self._cancel_owned([info.id for info in registered if info.queues == ()], gone)
        self.backend.supervisors.unregister(gone)
        return rescued

    def rescue_unrenewed(self, now: datetime, on_lost: OnLost = lambda _: None) -> int:
        """Give back the jobs whose pull workers let their leases run out, and return how many.

        Those of supervisors are left to `rescue_dead` and `ExpiredLeases`: a supervisor that lives
        renews its leases, though it may have to wait for the database until it can.
        """
        expired = [pair for pair in self.backend.open_attempts() if pair[1].lease_until < now]
        if not expired:
            return 0
        supervisors = {info.id for info in self.backend.supervisors.all()}
        lost = [pair for pair in expired if pair[1].supervisor not in supervisors]
        return self.release(lost, lease_before=now, on_lost=on_lost)

    def end_overdue(self, now: datetime, on_ended: OnLost = lambda _: None) -> int:
        """End the attempts of pull workers that exceeded their time limits, and return how many.

        Those of supervisors are left to them: they end the processes as well.
        """
        overdue = [
            (job, attempt)
            for job, attempt in self.backend.open_attempts()
            if is_overdue(job, now) and not is_supervisor(attempt.supervisor)
        ]
        if not overdue:
            return 0
        from random import random  # few calls need it

        results = [
            signed(overdue_result(job, attempt.key, self.policy, now, random()), job)  # noqa: S311
            for job, attempt in overdue
        ]
        took_effect = self.backend.end(results, now)
        for (job, _), ended in zip(overdue, took_effect, strict=True):
            if ended:
                on_ended(job)
        return sum(took_effect)

    def _cancel_owned(self, owners: Collection[str], gone: Collection[str]) -> int:
        """Cancel the waiting jobs of those owners that are gone, and return how many."""
        now, effects = self.backend.now(), 0
        for owner in set(owners) & set(gone):
            owned = JobFilter(tags={RUN_TAG: owner}, statuses=UNFINISHED)
            ids = [job.id for job in self.backend.find(owned, limit=None)]
            if ids:
                reason = "its `jobq run` was killed before it started"
                effects += len(self.backend.cancel(ids, reason, now))
        return effects

    def release(
        self,
        attempts: Iterable[tuple[Job, Attempt]],
        *,
        lease_before: datetime | None,
        on_lost: OnLost = lambda _: None,
    ) -> int:
        """End attempts without an owner, so that their jobs run again, and return how many.

        With ``lease_before``, only those whose lease ran out before then. An attempt that had not
        been started does not count as a crash of its job.
        """
        lost = list(attempts)
        if not lost:
            return 0
        logs = self.logs.pinned()
        # Of a lease that ran out: another machine of the same name has files of its own.
        elsewhere = self.backend.spans_hosts and lease_before is not None
        results = [
            signed(
                lost_result(
                    job,
                    attempt.key,
                    self.policy,
                    f"its supervisor {attempt.supervisor} died or lost its lease",
                    begun=elsewhere or _was_begun(logs, job, attempt),
                ),
                job,
            )
            for job, attempt in lost
        ]
        self._compact_logs(lost)
        ended = self.backend.end(results, self.backend.now(), lease_before=lease_before)
        for (job, _), took_effect in zip(lost, ended, strict=True):
            if took_effect:
                on_lost(job)
        return sum(ended)

    def kill(self, lost: Sequence[tuple[Job, Attempt]]) -> None:
        """Kill what still runs here of attempts without an owner, before they run again.

        A pid means something only on the host, and in the boot, that it was given in.
        """
        if not lost:
            return
        from jobq.system.processes import ProcessTree, boot_id, host_name, kill_all, kill_workers

        logs = self.logs.pinned()
        host, boot = host_name(), boot_id()
        here = {
            info.id
            for info in self.backend.supervisors.all()
            if (info.host, info.boot_id) == (host, boot)
        }
        kill_all(
            [
                tree_left(logs, job, attempt)
                if attempt.supervisor in here
                else ProcessTree(attempt.supervisor, job.id, attempt.attempt)
                for job, attempt in lost
            ]
        )
        for job, attempt in lost:
            with suppress(OSError):
                if log := logs.open(job):
                    with log:
                        descendants.remove(log, attempt.attempt)
        for owner in here & {attempt.supervisor for _, attempt in lost}:
            kill_workers(owner)  # one may have been handed an attempt without its pid on record

    def _compact_logs(self, lost: Collection[tuple[Job, Attempt]]) -> None:
        """Make ordinary files of the logs that dead supervisors had truncated."""
        from jobq.logs.truncation import compact  # ctypes, which few calls need

        logs = self.logs.pinned()
        for job, _ in lost:
            with suppress(OSError):  # a full disk: the next attempt tries again
                if log := logs.open(job):
                    with log:
                        compact(log)


class ExpiredLeases:
    """Recovery of jobs whose lease ran out, as on a host that is gone.

    A lease that looks old may only mean that the clock was set: so it must also have stood still
    for as long as leases last, by a clock that is never set.
    """

    def __init__(self, recovery: Recovery, lease: float) -> None:
        """``lease`` is how long one lasts, in seconds."""
        self._recovery = recovery
        self._lease = lease
        self._seen: dict[tuple[int, int], tuple[datetime, float]] = {}
        self._looked_at = time.monotonic()

    def rescue(
        self, now: datetime, own: Collection[int] = (), on_lost: OnLost = lambda _: None
    ) -> int:
        """Give back the jobs whose lease ran out, but for ``own`` ones, and return how many."""
        if time.monotonic() - self._looked_at > max(MIN_SLEEP_S, self._lease / 2):
            self.forget()  # what kept this process waiting may have kept owners from renewing
        self._looked_at = time.monotonic()
        expired: list[tuple[Job, Attempt]] = []
        seen: dict[tuple[int, int], tuple[datetime, float]] = {}
        for job, attempt in self._recovery.backend.open_attempts():
            if job.id in own:
                continue
            key = (job.id, attempt.attempt)
            lease, since = self._seen.get(key, (None, 0.0))
            if lease != attempt.lease_until:
                since = time.monotonic()
            seen[key] = (attempt.lease_until, since)
            still = time.monotonic() - since
            if attempt.lease_until < now and still >= self._lease:
                expired.append((job, attempt))
        self._seen = seen
        self._recovery.kill(expired)
        return self._recovery.release(expired, lease_before=now, on_lost=on_lost)

    def unrenewed(self, now: datetime, own: Collection[int]) -> list[tuple[Job, Attempt]]:
        """Return the attempts of others whose leases run out soon: they were not renewed in time."""
        soon = now + timedelta(seconds=self._lease / 3)
        return [
            (job, attempt)
            for job, attempt in self._recovery.backend.open_attempts()
            if job.id not in own and attempt.lease_until < soon
        ]

    def forget(self) -> None:
        """Start anew: while the database can't be written to, a lease that stands still says nothing."""
        self._seen = {}


def _kill_hooks(owners: Collection[str]) -> None:
    """Kill the hooks of dead supervisors that still run here."""
    from jobq.system.processes import hook_trees, kill_all

    kill_all(hook_trees(owners))


def _kill_marked(owners: Collection[str]) -> None:
    """Kill what still runs here of dead supervisors, even if others have their jobs by now."""
    from jobq.system.processes import kill_all, marked_trees

    for owner in owners:
        kill_all(marked_trees(owner))


def _was_begun(logs: JobLogs, job: Job, attempt: Attempt) -> bool:
    """Tell whether an attempt of a dead supervisor may have been started.

    Its files are made just before. Where they may be on another host, or an earlier attempt has
    made them, it counts as begun.
    """
    from jobq.system.processes import host_name

    here = attempt.supervisor.startswith(f"{host_name()}:")
    if attempt.pid is not None or attempt.attempt > 1 or not here:
        return True
    with suppress(OSError):
        log = logs.open(job)
        if log is None:
            return False
        with log:
            return log.exists(STDOUT)
    return True


def tree_left(logs: JobLogs, job: Job, attempt: Attempt) -> "ProcessTree":
    """Return the processes of an attempt of this host and boot whose supervisor is gone."""
    from jobq.system.processes import ProcessTree

    seen: dict[int, int] = {}
    with suppress(OSError):
        if log := logs.open(job):
            with log:
                seen = descendants.read(log, attempt.attempt)
    if attempt.pid_started is not None:  # what was there before it does not descend from it
        seen = {pid: begun for pid, begun in seen.items() if begun >= attempt.pid_started}
    return ProcessTree(
        attempt.supervisor,
        job.id,
        attempt.attempt,
        # Without its start time, a pid may be another process's by now: then only marks count.
        None if attempt.pid_started is None else attempt.pid,
        attempt.pid_started,
        descendants=seen,
    )
