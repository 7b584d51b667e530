"""The distributed backend: a Redis server, shared by supervisors on several hosts."""

import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from jobq.backends.base import (
    MAX_CORRECTED_WAITS,
    MIN_CLOCK_ERROR,
    SETTLE_BATCH_SIZE,
    Backend,
)
from jobq.backends.liveness import LivenessLocks
from jobq.backends.messages import ClaimRequest, Exchange, Report, StoreIdentity
from jobq.backends.redis import rows
from jobq.backends.redis.connection import ANSWER_TIMEOUT_S, RedisConnection
from jobq.backends.redis.failures import RedisFailures
from jobq.backends.redis.lists import RedisLists, find
from jobq.backends.redis.logs import RedisLogs
from jobq.backends.redis.migrate_data import RedisTransfer
from jobq.backends.redis.rows import given, ids_of, span, to_micros, to_moment
from jobq.backends.redis.schedules import RedisSchedules
from jobq.backends.redis.stats import RedisStats
from jobq.backends.redis.supervisors import RedisSupervisors
from jobq.backends.text import storable
from jobq.clock import utcnow
from jobq.config.redis_url import parse_url
from jobq.models import (
    FINISHED,
    Attempt,
    AttemptKey,
    AttemptResult,
    CancelEffect,
    Claim,
    Finished,
    Held,
    Inserted,
    Job,
    JobFilter,
    JobStatus,
    NewJob,
    Progress,
    Queue,
    Retried,
    RetryEffect,
    Started,
)


class RedisBackend(Backend):
    """The `Backend` contract on Redis. Safe to use from several threads and processes."""

    spans_hosts = True
    batch_size = 250  # the server answers no other client while a script runs

    def __init__(
        self, url: str, state: Path, *, clock: str = "server", timeout: float = ANSWER_TIMEOUT_S
    ) -> None:
        """With ``state``, the directory for the locks of supervisors on this host.

        The server's clock counts; with ``clock="caller"``, the times that are passed in do.
        ``timeout``: seconds that a connection, or an answer, may take.
        """
        self.url = parse_url(url)
        self._db = RedisConnection(self.url, clock=clock, timeout=timeout)
        liveness = LivenessLocks(state / f"redis-{self.url.digest}.supervisors")
        self.supervisors: RedisSupervisors = RedisSupervisors(self._db, liveness)
        self.schedules = RedisSchedules(self._db)
        self.stats = RedisStats(self._db)
        self.failures = RedisFailures(self._db)
        self.transfer = RedisTransfer(self._db)
        self.logs = RedisLogs(self._db)
        self.lists = RedisLists(self._db)

    # -- life ------------------------------------------------------------------------------

    def open(self) -> None:
        """Connect to the server and check it now, rather than at the first verb."""
        self._db.read("counts")

    def close(self) -> None:
        self._db.close()

    def group(self) -> AbstractContextManager[None]:
        return self._db.group()

    def now(self) -> datetime:
        return utcnow() + self._db.clock_lead()

    def facts(self) -> dict[str, Any]:
        """Return the answer to INFO, and the server's time under ``time``."""
        seconds, micros = self._db.ask("TIME")
        facts: dict[str, Any] = self._db.ask("INFO")
        return facts | {"time": to_moment(int(seconds) * 1_000_000 + int(micros))}

    def change_counter(self) -> int:
        # With the identity: a server that was emptied may have as many changes again.
        changes, born = self._db.ask("HMGET", self.url.prefix + "meta", "ver", "born")
        return int(changes or 0) + (zlib.crc32(born or b"") << 64)

    def identity(self) -> StoreIdentity:
        return rows.to_identity(self._db.read("identity"))

    def hold_store(self) -> None:
        self._db.hold_store()

    def maintain(self) -> None:
        self._db.write("maintain")

    def correct_waits(self, now: datetime) -> int:
        corrected = self._db.write(
            "correct_waits",
            wakes=True,
            now=to_micros(now),
            error=span(MIN_CLOCK_ERROR),
            limit=MAX_CORRECTED_WAITS,
        )
        return int(corrected)

    # -- adding ----------------------------------------------------------------------------

    def insert(self, jobs: Sequence[NewJob], now: datetime) -> list[Inserted]:
        if not jobs:
            return []
        new = [rows.from_new_job(job) for job in jobs]
        time, answers = self._db.write("insert", wakes=True, jobs=new, now=to_micros(now))
        at = None if time is None else to_moment(int(time))
        return [Inserted(int(job_id), bool(created), at) for job_id, created in answers]

    # -- reading ---------------------------------------------------------------------------

    def get(self, ids: Collection[int]) -> dict[int, Job]:
        found: dict[int, Job] = {}
        for batch in rows.batches(ids_of(ids)):
            jobs = map(rows.to_job, self._db.read("get", ids=batch))
            found.update((job.id, job) for job in jobs)
        return found

    def find(self, jobs: JobFilter, *, limit: int | None, newest: bool = False) -> list[Job]:
        if limit == 0:
            return []
        found: list[Job] = []
        for job in find(self._db, jobs, limit or rows.BATCH_SIZE, newest=newest):
            found.append(job)
            if len(found) == limit:
                break
        return found

    def counts(self) -> dict[str, dict[JobStatus, int]]:
        counts: dict[str, dict[JobStatus, int]] = defaultdict(dict)
        for name, number in rows.pairs(self._db.read("counts")).items():
            queue, _, status = name.decode().partition("|")
            if int(number):
                counts[queue][JobStatus(status)] = int(number)
        return dict(counts)

    def flaws(self, *, thorough: bool) -> list[str]:
        found = self._db.read("flaws", statuses=list(JobStatus))
        return [text.decode() for text in found] + (list(self._strays()) if thorough else [])

    def _strays(self) -> Iterator[str]:
        """Yield the jobs in an index that do not exist or have another status."""
        for status in JobStatus:
            after: bytes | None = b"0"
            while after is not None:
                wanted = {"statuses": [status], "after": after.decode()}
                after, strays = self._db.read("strays", batch_size=rows.BATCH_SIZE, **wanted)
                yield from (f"job {job_id.decode()} is not {status}" for job_id in strays)

    def attempts(self, job_id: int) -> list[Attempt]:
        return rows.to_attempts(job_id, self._db.read("attempts", id=str(job_id)))

    def open_attempts(self) -> list[tuple[Job, Attempt]]:
        found = []
        for row, attempts in self._db.read("open_attempts"):
            job = rows.to_job(row)
            found.append((job, rows.to_attempts(job.id, attempts)[-1]))
        return found

    def finished_before(
        self, before: datetime, *, after: Finished | None = None, limit: int
    ) -> list[Finished]:
        behind: dict[str, Any] = (
            {} if after is None else {"after_at": to_micros(after.at), "after_id": str(after.id)}
        )
        found = self._db.read("finished_before", before=to_micros(before), limit=limit, **behind)
        return [
            Finished(id=int(job_id), status=JobStatus(status.decode()), at=to_moment(int(at)))
            for job_id, status, at in found
        ]

    # -- claiming --------------------------------------------------------------------------

    def claim(self, request: ClaimRequest, now: datetime) -> list[Claim]:
        if request.limit + request.prefetch <= 0:
            return []
        found = self._db.write("claim", **_from_request(request), now=to_micros(now))
        return [rows.to_claim(row, request.owner) for row in found]

    def unclaim(self, claims: Sequence[Claim], now: datetime) -> None:
        if claims:
            held = [(rows.from_key(each.key), each.owner) for each in claims]
            self._db.write("unclaim", wakes=True, claims=held, now=to_micros(now))

    def limit_waits(self, seconds: float | None) -> None:
        self._db.limit_waits(seconds)

    def exchange(self, report: Report, request: ClaimRequest | None, now: datetime) -> Exchange:
        progress = [
            (rows.from_key(key), rows.from_progress(each)) for key, each in report.progress.items()
        ]
        wanted = given(request=request and _from_request(request))
        ended, claims, due = self._db.write(
            "exchange",
            starts=[rows.from_started(start) for start in report.starts],
            progress=progress,
            endings=[rows.from_ending(ending) for ending in report.endings],
            unstarted=[(rows.from_key(each.key), each.owner) for each in report.unstarted],
            now=to_micros(now),
            **wanted,
        )
        owner = request.owner if request is not None else ""
        return Exchange(
            [bool(took) for took in ended],
            [rows.to_claim(row, owner) for row in claims],
            None if due is None else to_moment(int(due)),
        )

    def next_due(self, now: datetime) -> datetime | None:
        due = self._db.read("next_due", now=to_micros(now))
        return None if due is None else to_moment(int(due))

    # -- running ---------------------------------------------------------------------------

    def started(self, starts: Sequence[Started]) -> None:
        self._db.write("started", starts=[rows.from_started(start) for start in starts])

    def progress(self, key: AttemptKey, progress: Progress) -> bool:
        record = rows.from_progress(progress)
        return bool(self._db.write("progress", key=rows.from_key(key), progress=record))

    def heartbeat(self, owner: str, lease: timedelta, now: datetime) -> list[Held]:
        held = self._db.write("heartbeat", owner=owner, lease=span(lease), now=to_micros(now))
        self.supervisors.renew_listeners()
        return _to_held(held)

    def cancel_requests(self, owner: str) -> list[Held]:
        held = _to_held(self._db.read("cancel_requests", owner=owner))
        return [each for each in held if each.cancel_requested]

    def end(
        self,
        endings: Sequence[AttemptResult],
        now: datetime,
        *,
        lease_before: datetime | None = None,
    ) -> list[bool]:
        if not endings:
            return []
        arguments = given(
            endings=[rows.from_ending(ending) for ending in endings],
            now=to_micros(now),
            lease_before=lease_before and to_micros(lease_before),
        )
        wakes = any(ending.status is JobStatus.PENDING for ending in endings)
        took = self._db.write("end", wakes=wakes, **arguments)
        return [bool(each) for each in took]

    def cancel(
        self, ids: Collection[int], reason: str | None, now: datetime
    ) -> dict[int, CancelEffect]:
        effects = dict.fromkeys(ids, CancelEffect.MISSING)
        wanted = ids_of(ids)
        if wanted:
            arguments = given(ids=wanted, now=to_micros(now), reason=reason and storable(reason))
            answers = self._db.write("cancel", wakes=True, **arguments)
            effects.update(
                (int(job_id), CancelEffect(effect.decode()))
                for job_id, effect in zip(wanted, answers, strict=True)
            )
        return effects

    def requeue(self, ids: Collection[int], now: datetime) -> list[Retried]:
        wanted = ids_of(ids)
        answers = (
            self._db.write("requeue", wakes=True, ids=wanted, now=to_micros(now)) if wanted else []
        )
        found = {int(row[0]): _to_retried(row) for row in answers}
        return [found.get(job_id, Retried(job_id, RetryEffect.MISSING)) for job_id in ids]

    def settle_dependents(self, now: datetime, limit: int = SETTLE_BATCH_SIZE) -> bool:
        if not self._db.read("unsettled"):
            return False
        return bool(self._db.write("settle", wakes=True, now=to_micros(now), limit=limit))

    def descendants(self, ids: Collection[int]) -> list[int]:
        found: set[int] = set()
        reached: set[int] = set()
        level = set(ids)
        while level:
            below: set[int] = set()
            for batch in rows.batches(ids_of(level)):
                for child, status in self._children(batch):
                    below.add(int(child))
                    if status is not None and status.decode() not in FINISHED:
                        found.add(int(child))
            level = below - reached
            reached |= below
        return sorted(found)

    def _children(self, parents: list[str]) -> Iterator[tuple[bytes, bytes | None]]:
        """Yield the children of jobs and their statuses; one job may have 100,000 of them."""
        behind: dict[str, str] = {}
        while parents:
            found, *more = self._db.read("children", ids=parents, limit=rows.BATCH_SIZE, **behind)
            yield from found
            if not more:
                return
            parents, behind = parents[int(more[0]) - 1 :], {"after": more[1].decode()}

    def delete(self, ids: Collection[int]) -> list[int]:
        wanted = ids_of(ids)
        return [int(each) for each in self._db.write("delete", ids=wanted)] if wanted else []

    # -- queues ----------------------------------------------------------------------------

    def queues(self, names: Collection[str] | None = None) -> list[Queue]:
        found = rows.to_queues(self._db.read("queues"))
        return [queue for queue in found if names is None or queue.name in names]

    def put_queues(self, queues: Sequence[Queue]) -> None:
        new = [(queue.name, rows.from_queue(queue)) for queue in queues]
        self._db.write("put_queues", wakes=True, queues=new)

    def delete_queue(self, name: str) -> None:
        self._db.write("delete_queue", name=name, statuses=list(JobStatus))


# -- shared by verbs ---------------------------------------------------------------------------


def _from_request(request: ClaimRequest) -> dict[str, Any]:
    return given(
        owner=request.owner,
        limit=request.limit,
        prefetch=request.prefetch,
        lease=span(request.lease),
        queues=None if request.queues is None else list(request.queues),
        types=None if request.types is None else list(request.types),
        known=None if request.known is None else list(request.known),
        ids=None if request.ids is None else ids_of(request.ids),
    )


def _to_held(found: Sequence[Any]) -> list[Held]:
    return [Held(rows.to_key(*key), bool(asked)) for *key, asked in found]


def _to_retried(row: Sequence[Any]) -> Retried:
    because = int(row[2]) if len(row) > 2 else None
    return Retried(int(row[0]), RetryEffect(row[1].decode()), because)
