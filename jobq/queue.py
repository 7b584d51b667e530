"""`JobQueue`: the one door through which the command, programs and workers reach the jobs.

It fills in defaults, checks input, and keeps rows and log directories together. Where a job goes
after an attempt is decided by `jobq.jobs.retry`; that it goes there only once, by the backend.
"""

import os
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Self

from jobq import recovery
from jobq.backends.base import Backend
from jobq.backends.factory import open_backend
from jobq.backends.messages import ClaimRequest
from jobq.backends.outage import Outage
from jobq.config.loader import load_settings
from jobq.config.settings import Settings
from jobq.errors import NotFound, UsageError, WrongState
from jobq.job_types import shell
from jobq.jobs.new_job import as_added, new_job, parsed_args, template
from jobq.jobs.retry import after_failure, lost_ending
from jobq.jobs.spec import (
    Duration,
    JobSpec,
    checked_json,
    checked_text,
    keys_of,
    parents_first,
    parse_statuses,
    placed,
    require_shape,
    to_spec,
    with_limits,
)
from jobq.logs.directory import STDIN, JobLogs
from jobq.models import (
    DEFAULT_QUEUE,
    FINISHED,
    QUEUE_NAME,
    Attempt,
    AttemptResult,
    CancelEffect,
    Claim,
    Fired,
    Inserted,
    Job,
    JobFilter,
    JobStatus,
    JsonObject,
    NewJob,
    Outcome,
    Progress,
    Queue,
    Retried,
    RetryEffect,
    Schedule,
    SupervisorInfo,
)
from jobq.redaction import ShownJob
from jobq.units import parse_duration

if TYPE_CHECKING:
    from jobq.job_types.registry import JobType, Registry


CHUNK = 1000
"""Jobs read at a time, where there may be very many."""

_UNUSED = Queue(name=DEFAULT_QUEUE)
"""The default queue is there from the start: without limits, nobody has set it yet."""

_WAIT_BEAT = 0.05  # seconds between two looks of `wait`


class JobQueue:
    """The jobs of one database, with their logs. Safe to share between threads."""

    def __init__(self, settings: Settings, backend: Backend) -> None:
        self.settings = settings
        self.backend = backend
        self.logs = JobLogs(settings.log_dir)
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
        self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- job types -------------------------------------------------------------------------

    @property
    def registry(self) -> "Registry":
        """The job types, loaded at the first use."""
        if self._registry is None:
            from jobq.job_types.registry import (
                load,  # worker files are only read when they are needed
            )

            self._registry = load(self.settings.worker_paths)
        return self._registry

    def job_type(self, name: str) -> "JobType":
        """A job type by its name.

        Raises:
            UsageError: there is none.
        """
        if name == shell.JOB_TYPE:
            from jobq.job_types.registry import SHELL

            return SHELL
        return self.registry.get(name)

    # -- adding ----------------------------------------------------------------------------

    def add(self, type: str, args: Mapping[str, Any] | None = None, **options: Any) -> Job:  # noqa: A002 - the word that users know it by
        """Add one job, with the options of `JobSpec`; the job, or its unique key's holder.

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
        now = self.backend.now()
        checked = self._checked([to_spec(spec) for spec in specs], now)
        added = list(zip(checked.new, self._insert(checked, now), strict=True))
        changeable = {item.id for job, item in added if job.parents or not item.created}
        jobs = self.backend.get(changeable) if changeable else {}
        return [jobs.get(item.id) or as_added(job, item.id, item.at or now) for job, item in added]

    def insert(self, specs: Sequence[JobSpec], *, stdin: Path | None = None) -> list[Inserted]:
        """`add_many`, telling which were created and which were there; for one job, with stdin."""
        now = self.backend.now()
        return self._insert(self._checked(specs, now), now, stdin)

    def _checked(self, specs: Sequence[JobSpec], now: datetime) -> "_Checked":
        for spec in specs:
            require_shape(spec)
        keys = keys_of(specs)
        names = {spec.queue for spec in specs}
        stored = {queue.name: queue for queue in self.backend.queues(names)}
        lanes = {name: self._lane(name, stored) for name in names}
        new = [self._new_job(spec, lanes[spec.queue], keys, now) for spec in specs]
        unused = {name for name in names if lanes[name] != stored.get(name)}
        return _Checked(new, parents_first(new), unused)

    def _insert(
        self, checked: "_Checked", now: datetime, stdin: Path | None = None
    ) -> list[Inserted]:
        new, order, unused = checked
        self._require_parents(new)
        done: dict[int, Inserted] = {}
        for places in _chunks(order, self.backend.batch_size):
            chunk = [placed(new[place], places, done) for place in places]
            missing = unused and unused & {job.queue for job in chunk}
            with self.backend.group() if missing or stdin is not None else nullcontext():
                if missing:
                    self._ensure_queues(missing)
                inserted = self.backend.insert(chunk, now)
                if stdin is not None and inserted[0].created:
                    with self.logs.create(inserted[0].id) as log:
                        log.adopt(stdin, STDIN)
            done.update(zip(places, inserted, strict=True))
        if any(job.parents for job in new):
            # A portion: who adds is not to wait for all that others have left.
            self.backend.settle_dependents(now)
        return [done[place] for place in range(len(new))]

    def spool_stdin(self, source: BinaryIO) -> Path:
        """Keep a stream for a job that is about to be added."""
        return self.logs.spool(source)

    def template(self, spec: JobSpec, now: datetime) -> NewJob:
        """A job with every default filled in, but without its arguments and parents.

        Raises:
            UsageError: the type or an option is wrong.
            NotFound: the queue does not exist.
        """
        queue = self._queue_settings(spec.queue)
        return template(spec, self.job_type(spec.type), queue, self.settings, now)

    def insert_new(self, jobs: Sequence[NewJob], now: datetime) -> list[Inserted]:
        """Add jobs made from `template`, in one transaction; what became of each."""
        with self.backend.group():
            self._ensure_queues({job.queue for job in jobs})
            return self.backend.insert(jobs, now)

    def _new_job(
        self, spec: JobSpec, queue: Queue, keys: Mapping[str, int], now: datetime
    ) -> NewJob:
        return new_job(spec, self.job_type(spec.type), queue, self.settings, keys, now)

    def parsed_args(self, job_type: "JobType", args: Mapping[str, Any]) -> JsonObject:
        """The arguments of a job as they are stored.

        Raises:
            ArgsError: they do not fit the type, are too large, or secrets are missing in them.
        """
        return parsed_args(job_type, args, self.settings)

    def _queue_settings(self, name: str) -> Queue:
        return self._lane(name, {queue.name: queue for queue in self.backend.queues([name])})

    def _lane(self, name: str, stored: Mapping[str, Queue]) -> Queue:
        """A queue as it is stored, or as jobq.toml describes it if nobody has used it yet."""
        queue = stored.get(name)
        if queue is None or queue == _UNUSED:
            queue = self.settings.queues.get(name, queue)
        if queue is None:
            raise NotFound(
                f"no queue {name!r}: see `jobq queue list`, or `jobq queue create {name}`"
            )
        return queue

    def _ensure_queues(self, names: set[str]) -> None:
        """Create queues that jobq.toml describes and nobody has used yet."""
        stored = {queue.name: queue for queue in self.backend.queues(names)}
        lanes = [self._lane(name, stored) for name in names]
        unused = [queue for queue in lanes if queue != stored.get(queue.name)]
        if unused:
            self.backend.put_queues(unused)

    def _require_parents(self, new: Sequence[NewJob]) -> None:
        """Refuse unknown parents before the first chunk is added."""
        ids = {ref.id for job in new for ref in job.parents if ref.id is not None}
        missing = ids - self.backend.get(ids).keys() if ids else set()
        if missing:
            names = ", ".join(map(str, sorted(missing)))
            raise NotFound(f"no job {names} to wait for: see `jobq list`")

    # -- reading ---------------------------------------------------------------------------

    def get(self, job_id: int) -> Job:
        """A job as it is now.

        Raises:
            NotFound: there is no such job.
        """
        return self.get_many([job_id])[0]

    def get_many(self, ids: Sequence[int]) -> list[Job]:
        """These jobs, in this order.

        Raises:
            NotFound: one of them does not exist.
        """
        jobs = self.backend.get(ids)
        missing = [job_id for job_id in ids if job_id not in jobs]
        if missing:
            raise NotFound(f"no job {', '.join(map(str, missing))}: see `jobq list`")
        return [jobs[job_id] for job_id in ids]

    def find(
        self,
        *,
        status: str | JobStatus | Iterable[str | JobStatus] | None = None,
        limit: int | None = None,
        newest: bool = False,
        **narrow: Any,
    ) -> list[Job]:
        """Jobs that match, by the fields of `JobFilter`, in ascending order of id."""
        wanted = JobFilter(statuses=parse_statuses(status), **narrow)
        return self.backend.find(wanted, limit=limit, newest=newest)

    def each(self, jobs: JobFilter) -> Iterator[Job]:
        """All matching jobs, a page at a time, so that no read lasts long."""
        after = jobs.after_id
        while page := self.backend.find(replace(jobs, after_id=after), limit=CHUNK):
            yield from page
            after = page[-1].id

    def counts(self) -> dict[JobStatus, int]:
        """How many jobs are in each status; every status is there."""
        totals = dict.fromkeys(JobStatus, 0)
        for counts in self.backend.counts().values():
            for status, number in counts.items():
                totals[status] += number
        return totals

    def shown(self, job: Job) -> ShownJob:
        """A job without its secrets, as people, hooks and logs may see it."""
        return self.settings.redactor.job(job)

    def attempts(self, job_id: int) -> list[Attempt]:
        """The history of a job, the first attempt first."""
        return self.backend.attempts(job_id)

    def wait(self, job_id: int, timeout: Duration | None = None) -> Job:
        """Wait until a job has ended; the job as it ended.

        Raises:
            NotFound: there is no such job.
            TimeoutError: it has not ended in time.
        """
        return self.wait_all([job_id], timeout)[0]

    def wait_all(
        self,
        ids: Sequence[int],
        timeout: Duration | None = None,
        *,
        tell: Callable[[str], None] = lambda _: None,
    ) -> list[Job]:
        """Wait until all these jobs have ended; the jobs as they ended.

        It goes on through times in which no server answers; ``tell`` is told of them.

        Raises:
            NotFound: there is no such job.
            TimeoutError: they have not ended in time.
            DatabaseAwayError: no server answered when the time was over.
        """
        deadline = None if timeout is None else time.monotonic() + parse_duration(timeout)
        outage = Outage(tell)
        seen = None
        while True:
            version = outage.until_answered(self.backend.change_counter, deadline)
            if version != seen:
                jobs = outage.until_answered(lambda: self.get_many(ids), deadline)
                seen = version
                if all(job.status in FINISHED for job in jobs):
                    return jobs
            if deadline is not None and time.monotonic() >= deadline:
                left = [job.id for job in jobs if job.status not in FINISHED]
                raise TimeoutError(f"not ended in time: {', '.join(map(str, left))}")
            time.sleep(_WAIT_BEAT)

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
        """Cancel jobs; what became of each."""
        now = self.backend.now()
        checked_text("reason", reason)
        wanted = list(dict.fromkeys(ids))
        if cascade:
            wanted = list(dict.fromkeys([*wanted, *self.backend.descendants(ids)]))
        effects: dict[int, CancelEffect] = {}
        for chunk in _chunks(wanted, self.backend.batch_size):
            effects.update(self.backend.cancel(chunk, reason, now))
        if CancelEffect.REQUESTED in effects.values():
            self.rescue_dead()  # nobody is left to stop what a dead supervisor ran
        self._settle(now)
        return effects

    def retry(self, job_id: int) -> Job:
        """Put a failed or cancelled job back in line; its attempts go on counting.

        Raises:
            NotFound: there is no such job.
            WrongState: it is in another state, its key is taken, or a parent excludes it.
        """
        (retried,) = self.retry_many([job_id])
        if retried.effect is RetryEffect.MISSING:
            raise NotFound(f"no job {job_id}: see `jobq list`")
        if retried.effect not in (RetryEffect.PENDING, RetryEffect.BLOCKED):
            raise WrongState(self.retry_refusal(retried))
        return self.get(job_id)

    def retry_many(self, ids: Sequence[int]) -> list[Retried]:
        """Retry jobs; what became of each."""
        now = self.backend.now()
        retried: list[Retried] = []
        for chunk in _chunks(list(dict.fromkeys(ids)), self.backend.batch_size):
            retried += self.backend.requeue(chunk, now)
        self._settle(now)
        return retried

    def retry_refusal(self, retried: Retried) -> str:
        """Why a job was not retried, in one line."""
        match retried.effect:
            case RetryEffect.IMPOSSIBLE:
                return (
                    f"job {retried.id} waits for job {retried.because}, which did not end as it "
                    f"must: retry {retried.because}, and this one comes back with it"
                )
            case RetryEffect.KEY_TAKEN:
                return f"job {retried.because} holds the unique key of job {retried.id} now"
            case RetryEffect.MISSING:
                return f"no job {retried.id}"
            case _:
                status = self.get(retried.id).status
                return f"job {retried.id} is {status}: only failed and cancelled jobs are retried"

    def prune(
        self,
        *,
        older_than: Duration | None = None,
        keep_last: int = 0,
        status: str | JobStatus | Iterable[str | JobStatus] | None = None,
        **narrow: Any,
    ) -> int:
        """Delete finished jobs and their logs; how many. Logs that stay are warned of."""
        chosen = self.prunable(older_than=older_than, keep_last=keep_last, status=status, **narrow)
        return sum(len(self.delete(chunk)) for chunk in _chunks(chosen, self.backend.batch_size))

    def prunable(
        self,
        *,
        older_than: Duration | None = None,
        keep_last: int = 0,
        status: str | JobStatus | Iterable[str | JobStatus] | None = None,
        **narrow: Any,
    ) -> list[int]:
        """The jobs that `prune` would delete: the newest ``keep_last`` are kept, however old.

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
            before = self.backend.now() - timedelta(seconds=parse_duration(older_than))
        wanted = JobFilter(statuses=statuses, **narrow)
        kept = {job.id for job in self.backend.find(wanted, limit=keep_last, newest=True)}
        old = replace(wanted, finished_before=before)
        return [job.id for job in self.each(old) if job.id not in kept]

    def delete(
        self, ids: Sequence[int], on_left: Callable[[int, OSError], None] | None = None
    ) -> list[int]:
        """Delete finished jobs and their logs; the ids deleted.

        The rows go first: a job that is retried just now keeps its logs. ``on_left`` is told of
        each job whose log directory can't be deleted; ids are never used again: nobody will get it.
        """
        # A job whose dependents do not know its end is not deleted.
        self._settle(self.backend.now())
        deleted = self.backend.delete(ids)
        for job_id in deleted:
            try:
                self.logs.delete(job_id)
            except OSError as error:
                (on_left or self._warn_of_log)(job_id, error)
        return deleted

    def _warn_of_log(self, job_id: int, error: OSError) -> None:
        warnings.warn(f"{self.logs.path(job_id)}: not deleted: {error}", stacklevel=4)

    def _settle(self, now: datetime) -> None:
        while self.backend.settle_dependents(now):
            pass

    # -- queues ----------------------------------------------------------------------------

    def queues(self) -> list[Queue]:
        """Every queue, with those of jobq.toml that nobody has used yet."""
        used = [queue for queue in self.backend.queues() if queue != _UNUSED]
        names = {queue.name for queue in used}
        configured = {DEFAULT_QUEUE: _UNUSED, **self.settings.queues}
        unused = [queue for name, queue in configured.items() if name not in names]
        return sorted(used + unused, key=lambda queue: (-queue.priority, queue.name))

    def queue(self, name: str) -> Queue:
        """A queue by its name.

        Raises:
            NotFound: there is none.
        """
        return self._queue_settings(name)

    def create_queue(self, name: str, **limits: Any) -> Queue:
        """Create a queue, with the fields of `Queue`.

        Raises:
            UsageError: a name or a limit is wrong.
            WrongState: there is one of that name.
        """
        if not QUEUE_NAME.fullmatch(name):
            raise UsageError(f"queue name {name!r}: use letters, digits, '.', '_' and '-'")
        with self.backend.group():
            if any(queue.name == name for queue in self.backend.queues()):
                raise WrongState(f"queue {name!r} is there already: see `jobq queue set`")
            queue = with_limits(Queue(name=name), limits)
            self.backend.put_queues([queue])
        return queue

    def set_queue(self, name: str, **limits: Any) -> Queue:
        """Change the fields of a queue that are given.

        Raises:
            NotFound: there is no such queue.
            UsageError: a limit is wrong.
        """
        with self.backend.group():
            queue = with_limits(self._queue_settings(name), limits)
            self.backend.put_queues([queue])
        return queue

    def pause(self, name: str) -> Queue:
        """Start nothing from a queue until it is resumed; what runs goes on."""
        return self.set_queue(name, paused=True)

    def resume(self, name: str) -> Queue:
        """Let a paused queue go on."""
        return self.set_queue(name, paused=False)

    def delete_queue(self, name: str) -> None:
        """Delete a queue without jobs.

        Raises:
            NotFound: there is no such queue.
            WrongState: it has jobs, or is the default one.
        """
        self.backend.delete_queue(name)

    def apply_configured_queues(self) -> None:
        """Give the queues of jobq.toml the limits that it names; whether they are paused stays."""
        with self.backend.group():
            there = {queue.name: queue for queue in self.backend.queues()}
            wanted = [
                replace(queue, paused=there[name].paused) if name in there else queue
                for name, queue in self.settings.queues.items()
                if queue != _UNUSED
            ]
            changed = [queue for queue in wanted if there.get(queue.name) != queue]
            if changed:
                self.backend.put_queues(changed)

    # -- schedules: see jobq.scheduling.schedules -----------------------------------------------------

    def checked(self, spec: JobSpec, now: datetime) -> NewJob:
        """A job without parents as `insert` would store it, every default filled in.

        Raises:
            UsageError: the type, an argument or an option is wrong.
            NotFound: the queue does not exist.
        """
        require_shape(spec)
        return self._new_job(spec, self._queue_settings(spec.queue), {}, now)

    def fire(
        self,
        before: Schedule,
        after: Schedule,
        job: NewJob,
        ticks: Sequence[datetime],
        now: datetime,
    ) -> list[Fired] | None:
        """Add the jobs of a schedule's times, as `Backend.fire` does."""
        with self.backend.group():
            self._ensure_queues({job.queue})
            return self.backend.schedules.fire(before, after, job, ticks, now)

    # -- pull workers ----------------------------------------------------------------------

    def claim(
        self,
        queue: str | None = None,
        *,
        owner: str,
        types: Collection[str] | None = None,
        lease: Duration | None = None,
    ) -> Claim | None:
        """Take the next job for a worker of your own, if there is one.

        Renew the lease with `heartbeat` before it runs out, and end the attempt with `complete`
        or `fail`: otherwise somebody else will be given the job.
        """
        request = ClaimRequest(
            owner=owner,
            limit=1,
            lease=timedelta(
                seconds=parse_duration(self.settings.lease if lease is None else lease)
            ),
            queues=None if queue is None else [queue],
            types=types,
        )
        claims = self.backend.claim(request, self.backend.now())
        return claims[0] if claims else None

    def heartbeat(self, claim: Claim, lease: Duration | None = None) -> bool:
        """Renew the owner's leases. False: the attempt is lost or to be cancelled: stop working."""
        span = timedelta(seconds=parse_duration(self.settings.lease if lease is None else lease))
        return any(
            held.key == claim.key and not held.cancel_requested
            for held in self.backend.heartbeat(claim.owner, span, self.backend.now())
        )

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
        from random import random  # `add` does without

        step = after_failure(
            claim.job,
            now=self.backend.now(),
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

    def progress(
        self, claim: Claim, done: float, total: float | None = None, message: str | None = None
    ) -> bool:
        """Note how far an attempt has come. False: it was lost."""
        return self.backend.progress(claim.key, Progress(done, total, message).bounded())

    def _end(self, ending: AttemptResult) -> bool:
        now = self.backend.now()
        (took_effect,) = self.backend.end([ending], now)
        self._settle(now)  # there may be no supervisor to do so
        return took_effect

    # -- supervisors -----------------------------------------------------------------------

    def supervisors(self) -> list[SupervisorInfo]:
        """The supervisors that are alive, as far as is known."""
        there = self.backend.supervisors.all()
        dead = recovery.dead(self.backend, there)
        return [supervisor for supervisor in there if supervisor.id not in dead]

    def rescue_dead(
        self, own: str | None = None, on_end: Callable[[Job], None] = lambda _: None
    ) -> int:
        """Give back the jobs of supervisors that are known to be dead; how many."""
        there = [info for info in self.backend.supervisors.all() if info.id != own]
        dead = recovery.dead(self.backend, there)
        if not dead:
            return 0
        lost = [pair for pair in self.backend.open_attempts() if pair[1].supervisor in dead]
        recovery.kill_left(self.backend, self.logs, lost)
        if self.backend.spans_hosts:
            recovery.kill_marked(dead)
        rescued = self.rescue(lost, lease_before=None, on_end=on_end)
        self.backend.supervisors.unregister(dead)
        return rescued

    def rescue(
        self,
        attempts: Iterable[tuple[Job, Attempt]],
        *,
        lease_before: datetime | None,
        on_end: Callable[[Job], None] = lambda _: None,
    ) -> int:
        """End attempts that nobody holds any more, so that their jobs run again; how many.

        Those that had not been started yet are released: it was no crash of theirs.
        ``on_end`` is told of each job, as it was, whose attempt was ended here and by nobody else.
        """
        lost = list(attempts)
        # Of a lease that ran out: another machine of the same name has files of its own.
        elsewhere = self.backend.spans_hosts and lease_before is not None
        endings = [
            lost_ending(
                job,
                attempt.key,
                self.settings.retry,
                f"its supervisor {attempt.supervisor} died or lost its lease",
                begun=elsewhere or recovery.was_begun(self.logs, job, attempt),
            )
            for job, attempt in lost
        ]
        if not endings:
            return 0
        self._mend_logs(lost)
        ended = self.backend.end(endings, self.backend.now(), lease_before=lease_before)
        for (job, _), took_effect in zip(lost, ended, strict=True):
            if took_effect:
                on_end(job)
        return sum(ended)

    def _mend_logs(self, lost: Collection[tuple[Job, Attempt]]) -> None:
        """Make ordinary files of the logs that dead supervisors had trimmed."""
        from jobq.logs.truncation import compact  # ctypes, which few calls need

        for job, _ in lost:
            with suppress(OSError):  # a full disk: the next attempt tries again
                if log := self.logs.open(job.id):
                    with log:
                        compact(log)


class _Checked(NamedTuple):
    """Jobs that are good to add."""

    new: Sequence[NewJob]
    order: Sequence[int]  # their places, parents before children
    unused: set[str]  # the queues among theirs that nobody has used yet


def _chunks(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def owner_id(host: str) -> str:
    """A name for a supervisor that no other one has."""
    return f"{host}:{os.getpid()}:{os.urandom(4).hex()}"
