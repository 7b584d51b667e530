"""`JobQueue`: the one door through which commands, programs and workers reach the jobs.

It checks input, and keeps rows and log directories together. Its verbs are kept by subject: the
reads in `jobq.job_reader`, those on queues in `jobq.queue_admin`, those for programs that run jobs
themselves in `jobq.pull_worker`, those on groups of failures in `jobq.triage`. Here is what adds, changes and deletes jobs.
"""

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from jobq.backends.base import Backend
from jobq.backends.factory import open_backend
from jobq.backends.messages import ClaimRequest
from jobq.config.loader import load_settings
from jobq.config.settings import Settings
from jobq.errors import KeyReusedError, NotFound, UsageError, WrongState
from jobq.job_reader import JobReader
from jobq.job_types import shell
from jobq.jobs.insert import as_added, batches, insert, planned, require_parents
from jobq.jobs.prepare import PreparedJobs, prepare
from jobq.jobs.spec import (
    RUN_TAG,
    JobSpec,
    digest_of,
    parse_statuses,
    to_spec,
    with_lists,
)
from jobq.jobs.validation import checked_ids, checked_number, checked_owner, checked_text
from jobq.logs.directory import JobLogs
from jobq.logs.owner import Owner
from jobq.models import (
    FINISHED,
    UNFINISHED,
    CancelEffect,
    Claim,
    Inserted,
    Job,
    JobFilter,
    JobStatus,
    Queue,
    Retried,
    RetryEffect,
    SupervisorInfo,
    TextSearch,
)
from jobq.pull_worker import PullWorker
from jobq.queue_admin import QueueAdmin
from jobq.triage import Triage
from jobq.units import Duration, parse_duration

if TYPE_CHECKING:
    from typing import Unpack

    from jobq.job_types.registry import JobType, Registry
    from jobq.options import FilterFields, JobOptions
    from jobq.recovery import Recovery


class JobQueue(JobReader, QueueAdmin, PullWorker, Triage):
    """The jobs of one database, with their logs. Safe to share between threads."""

    def __init__(self, settings: Settings, backend: Backend) -> None:
        self.settings = settings
        self.logs = JobLogs(settings.log_dir, backend.identity)
        self._backend = backend
        self._registry: Registry | None = None

    @classmethod
    def open(cls, path: str | Path | None = None) -> Self:
        """Open the queue that the nearest jobq.toml, or the one at ``path``, describes.

        Raises:
            ConfigError: the file is wrong.
            DatabaseError: the database can't be used.
        """
        return cls.from_settings(load_settings(path))

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Open the queue that these settings describe."""
        return cls(settings, open_backend(settings))

    def close(self) -> None:
        """Let go of the database."""
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def workers(
        self,
        slots: int | None = None,
        *,
        queues: Collection[str] = (),
        types: Collection[str] = (),
    ) -> AbstractContextManager[SupervisorInfo]:
        """Run jobs while a ``with`` block lasts, as `jobq work` does, up to ``slots`` at a time.

        They run in processes of their own. At the end of the block, those that run are finished;
        if it is left by an exception, they are given back. What is pending stays so.

        Raises:
            JobqError: on entering: the supervisor did not start; the message says why.
        """
        from jobq.supervisor_process import running  # few callers need it

        options = ["--jobs", str(checked_number("slots", slots, 1))] if slots is not None else []
        options += [word for name in queues for word in ("--queue", name)]
        options += [word for name in types for word in ("--type", name)]
        return running(self.settings, self._backend, options)

    # -- job types -------------------------------------------------------------------------

    @property
    def registry(self) -> "Registry":
        """The job types, loaded at the first use."""
        if self._registry is None:
            # Worker files are only read when they are needed.
            from jobq.job_types.learned import load_project

            self._registry = load_project(self.settings)
        return self._registry

    def job_type(self, name: str) -> "JobType":
        """Return a job type by its name.

        Raises:
            UsageError: there is none.
        """
        if name == shell.JOB_TYPE:
            from jobq.job_types.registry import SHELL

            return SHELL
        return self.registry.get(name)

    # -- adding ----------------------------------------------------------------------------

    def add(
        self,
        type: str,  # noqa: A002 - the word that users know it by
        args: Mapping[str, Any] | None = None,
        **options: "Unpack[JobOptions]",
    ) -> Job:
        """Add one job, with the options of `JobSpec`; return it, or its unique key's holder.

        A holder is ``existing``: nothing was added, and it may do something else.

        Raises:
            UsageError: the type, an argument or an option is wrong.
            NotFound: the queue or a parent does not exist.
        """
        return self.add_many([{"type": type, "args": args, **options}])[0]

    def add_many(self, specs: Iterable[JobSpec | Mapping[str, Any]]) -> list[Job]:
        """Add jobs, in order; all are checked before any is added.

        More than 1,000, on Redis 250, are added in several transactions.

        Raises:
            UsageError: one is wrong, or they wait for each other in a circle.
            NotFound: a queue or a parent does not exist.
        """
        now = self.now()
        prepared = prepare_jobs(self, [to_spec(spec) for spec in specs], now)
        added = insert(prepared, self._backend, self.logs, now)
        pairs = list(zip(prepared.jobs, added, strict=True))
        changeable = {item.id for job, item in pairs if job.parents or not item.created}
        jobs = self.existing(changeable) if changeable else {}
        for item in added:
            if not item.created and item.id in jobs:
                jobs[item.id] = replace(jobs[item.id], existing=True)
        return [jobs.get(item.id) or as_added(job, item.id, item.at or now) for job, item in pairs]

    def plan(self, specs: Iterable[JobSpec | Mapping[str, Any]]) -> list[Job]:
        """Return the jobs that `add_many` would add, with 0 for their ids; add nothing.

        In place of a job whose unique key is held, its holder is returned, as ``existing``.

        Raises:
            UsageError: one is wrong, or they wait for each other in a circle.
            NotFound: a queue or a parent does not exist.
        """
        now = self.now()
        prepared = prepare_jobs(self, [to_spec(spec) for spec in specs], now)
        require_parents(prepared.jobs, self._backend)
        holders: dict[str | None, Job] = {
            job.unique_key: replace(job, existing=True)
            for key in {job.unique_key for job in prepared.jobs if job.unique_key}
            for job in self.find(status=UNFINISHED, text=TextSearch(words=(key,)))
            if job.unique_key == key
        }
        return [holders.get(job.unique_key) or planned(job, now) for job in prepared.jobs]

    def insert(
        self,
        specs: Iterable[JobSpec | Mapping[str, Any]],
        *,
        stdin: Path | None = None,
        on_paused: Callable[[str], None] = lambda _: None,
    ) -> list[Inserted]:
        """Add jobs as `add_many` does; return the id of each, and whether it is new.

        ``stdin``, for one job, is a file that ``logs.spool`` made: its standard input.
        ``on_paused`` is called with the name of each paused queue that they were added to.
        """
        now = self.now()
        prepared = prepare_jobs(self, [to_spec(spec) for spec in specs], now)
        inserted = insert(prepared, self._backend, self.logs, now, stdin)
        for name in prepared.paused_queues:
            on_paused(name)
        return inserted

    def add_once(self, spec: JobSpec | Mapping[str, Any], key: str) -> Inserted:
        """Add a job, unless one has been added with this key before; return its id.

        The key is kept with the job, in the same transaction, until that is deleted: a call that
        was cut off can be repeated. It is not the ``key`` of `JobSpec`, which is for one call.

        Raises:
            KeyReusedError: another job was added with it.
        """
        if not key:
            raise UsageError("the key is empty")
        checked_text("key", key)
        wanted = with_lists(to_spec(spec))
        digest = digest_of(wanted)
        known = self._known_key(key, digest)
        if known is not None:
            return Inserted(known, created=False)
        now = self.now()
        prepared = prepare_jobs(self, [wanted], now)
        prepared.jobs[0].key, prepared.jobs[0].digest = key, digest
        (inserted,) = insert(prepared, self._backend, self.logs, now)
        if not inserted.created:
            self._known_key(key, digest)  # another process may have been first
        return inserted

    def _known_key(self, key: str, digest: str) -> int | None:
        known = self._backend.transfer.known_keys([key]).get(key)
        if known is not None and known.digest != digest:
            raise KeyReusedError(
                f"the key {key!r:.80} belongs to job {known.job_id}, which was added with other "
                "options: give another key"
            )
        return None if known is None else known.job_id

    def insert_claimed(
        self, spec: JobSpec, *, owner: str, stdin: Path | None = None
    ) -> tuple[Inserted, Claim | None]:
        """Add a job and claim it in one transaction, so that no other worker gets it first.

        There is no claim if the job is not new, or its queue is paused or at its limit. The job
        belongs to its owner: if that dies, it fails, and does not run again.
        """
        checked_owner(owner)
        owned = replace(spec, tags={**(spec.tags or {}), RUN_TAG: owner})
        inserted, claim = self._insert_claimed(owned, owner, stdin)
        # The job that holds the unique key may be one that nothing will end.
        if not inserted.created and self._recover():
            return self._insert_claimed(owned, owner, stdin)
        return inserted, claim

    def claim_job(self, job_id: int, *, owner: str) -> Claim:
        """Claim this job and no other.

        Raises:
            NotFound: there is no such job.
            WrongState: it is not pending, or its queue is paused or at its limit.
        """
        request = ClaimRequest(owner=owner, limit=1, lease=self._lease(None), ids=(job_id,))
        claims = self._claim_recovered(request)
        if not claims:
            job = self.get(job_id)
            stands: str = job.status
            if job.status is JobStatus.PENDING:
                stands = f"pending, and queue {job.queue} is paused or at its limit"
            raise WrongState(f"job {job_id} is {stands}: it can't be started now")
        return claims[0]

    def _insert_claimed(
        self, spec: JobSpec, owner: str, stdin: Path | None
    ) -> tuple[Inserted, Claim | None]:
        with self._backend.group():
            (inserted,) = self.insert([spec], stdin=stdin)
            if not inserted.created:
                return inserted, None
            lease = self._lease(None)
            request = ClaimRequest(owner=owner, limit=1, lease=lease, ids=(inserted.id,))
            claims = self._backend.claim(request, self.now())
            return inserted, claims[0] if claims else None

    # -- changing --------------------------------------------------------------------------

    def cancel(self, job_id: int, reason: str | None = None, *, cascade: bool = False) -> Job:
        """Cancel a job; one that runs is asked to stop. With ``cascade``, those that wait for it too.

        Raises:
            NotFound: there is no such job.
            WrongState: it has finished.
        """
        effect = self.cancel_many([job_id], reason, cascade=cascade)[job_id]
        if effect is CancelEffect.MISSING:
            raise NotFound(f"no job {job_id}: see `jobq list`")
        job = self.get(job_id)
        if effect is CancelEffect.FINISHED:
            raise WrongState(f"job {job_id} is {job.status}: there is nothing to cancel")
        return job

    def cancel_many(
        self, ids: Sequence[int], reason: str | None = None, *, cascade: bool = False
    ) -> dict[int, CancelEffect]:
        """Cancel jobs, and return what became of each."""
        now = self.now()
        checked_text("reason", reason)
        checked_ids(ids)
        wanted = list(dict.fromkeys(ids))
        if cascade:
            wanted = list(dict.fromkeys([*wanted, *self.descendants(ids)]))
        effects = dict.fromkeys(wanted, CancelEffect.MISSING)
        # Children have greater ids than their parents. They go first: one whose parent was cancelled
        # in an earlier batch may have been cancelled because of it by now, by any process.
        for batch in batches(sorted(wanted, reverse=True), self._backend.batch_size):
            effects.update(self._backend.cancel(batch, reason, now))
        if CancelEffect.REQUESTED in effects.values():
            self._recover()  # an owner that is dead does not stop what it ran
        self._settle(now)
        return effects

    def leave_stop_signal(self, ids: Sequence[int], name: str) -> list[int]:
        """Have the running commands among these jobs sent a signal first when they are cancelled.

        ``name`` is one of `jobq.logs.stop_signal.STOP_SIGNALS`. Returns those that run on other hosts, or are no
        commands: they get SIGTERM.

        Raises:
            UsageError: there is no such signal, or it stops nothing.
        """
        from jobq.logs.stop_signal import checked_signal, leave  # `add` does without

        wanted = checked_signal(name)
        running = [job for job in self.existing(ids).values() if job.status is JobStatus.RUNNING]
        commands = {job.id for job in running if job.type == shell.JOB_TYPE}
        return [j.id for j in running if j.id not in commands or not leave(self.logs, j, wanted)]

    def retry(self, job_id: int) -> Job:
        """Put a failed or cancelled job back in line, or retry one now that waits for its retry.

        Its attempts go on counting.

        Raises:
            NotFound: there is no such job.
            WrongState: it is in another state, its key is taken, or a parent excludes it.
        """
        (retried,) = self.retry_many([job_id])
        if retried.effect is RetryEffect.MISSING:
            raise NotFound(f"no job {job_id}: see `jobq list`")
        job = self.get(job_id)
        if retried.effect not in (RetryEffect.PENDING, RetryEffect.BLOCKED):
            from jobq.jobs.retry import retry_refusal  # `add` does without

            raise WrongState(retry_refusal(retried, job.status))
        return job

    def retry_many(self, ids: Sequence[int]) -> list[Retried]:
        """Retry jobs, and return what became of each."""
        checked_ids(ids)
        self._recover()
        now = self.now()
        wanted = list(dict.fromkeys(ids))
        before = self.existing(wanted) if len(wanted) > self._backend.batch_size else {}
        retried: list[Retried] = []
        for batch in batches(wanted, self._backend.batch_size):
            retried += self._backend.requeue(batch, now)
        self._settle(now)
        return self._with_revived(retried, before)

    def _with_revived(self, retried: Sequence[Retried], before: Mapping[int, Job]) -> list[Retried]:
        """Return what became of jobs, some of which came back with a parent of an earlier batch."""
        ended = (JobStatus.FAILED, JobStatus.CANCELLED)
        refused = [
            each.id
            for each in retried
            if each.effect is RetryEffect.REFUSED
            and each.id in before
            and before[each.id].status in ended
        ]
        there = self.existing(refused) if refused else {}
        back = {job_id for job_id, job in there.items() if job.status is JobStatus.BLOCKED}
        return [
            Retried(each.id, RetryEffect.BLOCKED) if each.id in back else each for each in retried
        ]

    # -- deleting --------------------------------------------------------------------------

    def prune(
        self,
        *,
        older_than: Duration | None = None,
        keep_last: int = 0,
        status: str | JobStatus | Iterable[str | JobStatus] | None = None,
        **narrow: "Unpack[FilterFields]",
    ) -> int:
        """Delete finished jobs and their logs, and return how many. Logs that stay are warned of."""
        chosen = self.prunable(older_than=older_than, keep_last=keep_last, status=status, **narrow)
        return len(self.delete(chosen))

    def prunable(
        self,
        *,
        older_than: Duration | None = None,
        keep_last: int = 0,
        status: str | JobStatus | Iterable[str | JobStatus] | None = None,
        **narrow: "Unpack[FilterFields]",
    ) -> list[int]:
        """Return the ids that `prune` would delete: the newest ``keep_last`` stay, however old.

        Raises:
            UsageError: a status was named that only unfinished jobs are in.
        """
        statuses = parse_statuses(status)
        statuses = FINISHED if statuses is None else statuses
        if not statuses <= FINISHED:
            unfinished = ", ".join(sorted(statuses - FINISHED))
            raise UsageError(f"only finished jobs are pruned, not {unfinished}: cancel them first")
        before = None
        if older_than is not None:
            before = self.now() - timedelta(seconds=parse_duration(older_than))
        wanted = JobFilter(statuses=statuses, **narrow)
        checked_number("keep_last", keep_last, 0)
        kept = {job.id for job in self.find(wanted, limit=keep_last, newest=True)}
        old = replace(wanted, finished_before=before)
        return [job.id for job in self.each(old) if job.id not in kept]

    def delete(
        self, ids: Sequence[int], on_left: Callable[[int, OSError], None] | None = None
    ) -> list[int]:
        """Delete finished jobs and their logs, and return the ids deleted.

        The rows go first: a job that is retried just now keeps its logs. ``on_left`` is called
        with each job whose log directory can't be deleted; ids are never given again.
        """
        checked_ids(ids)
        deleted: list[int] = []
        for batch in batches(ids, self._backend.batch_size):
            gone = self._delete_rows(batch)
            deleted += [owner.job_id for owner in gone]
            for owner in gone:
                try:
                    self.logs.delete(owner)
                except OSError as error:
                    (on_left or self._warn_of_log)(owner.job_id, error)
        return deleted

    def _delete_rows(self, batch: Sequence[int]) -> list[Owner]:
        """Delete finished jobs in one transaction, and return the owners of the logs they leave."""
        self._settle(self.now())  # a job whose dependents do not know its end is not deleted
        logs, jobs = self.logs.pinned(), self.existing(batch)
        return [logs.owner(jobs[job_id]) for job_id in self._backend.delete(batch)]

    def _warn_of_log(self, job_id: int, error: OSError) -> None:
        warnings.warn(f"{self.logs.path(job_id)}: not deleted: {error}", stacklevel=4)

    def _settle(self, now: datetime) -> None:
        while self._backend.settle_dependents(now):
            pass


def backend_of(queue: JobQueue) -> Backend:
    """Return the backend of a queue, for the rooms inside jobq: no part of the API."""
    return queue._backend  # noqa: SLF001 - this is the one door to it


def delete_rows(queue: JobQueue, batch: Sequence[int]) -> list[Owner]:
    """Delete finished jobs in one transaction, and return the owners of the logs they leave."""
    return queue._delete_rows(batch)  # noqa: SLF001 - no part of the API


def prepare_jobs(queue: JobQueue, specs: Sequence[JobSpec], now: datetime) -> PreparedJobs:
    """Check jobs that are to be added to a queue, and fill in every default: see `prepare`."""

    def stored(names: Collection[str]) -> dict[str, Queue]:
        return {each.name: each for each in backend_of(queue).queues(names)}

    return prepare(specs, queue.job_type, stored, queue.settings, now)


def recovery_of(queue: JobQueue) -> "Recovery":
    """Return what recovers the jobs of dead supervisors, for the rooms inside jobq."""
    from jobq.recovery import Recovery  # `add` does without

    return Recovery(backend_of(queue), queue.logs, queue.settings.retry)
