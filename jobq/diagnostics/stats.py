"""Statistics of a queue: counts, throughput, success rate, waiting and running times."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import NamedTuple

from jobq.models import Ended, JobStatus, JsonObject, Queue, SupervisorInfo
from jobq.queue import JobQueue, backend_of
from jobq.redaction import ShownJob
from jobq.serializers import queue_document, supervisor_document

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

SAMPLE_SIZE = 10_000
"""Percentiles are taken of the last jobs only: more would hardly change them, and take longer."""


class Percentiles(NamedTuple):
    """The seconds within which half of the jobs, and 95 of 100, waited or ran."""

    p50: float
    p95: float


class Throughput(NamedTuple):
    """The number of jobs completed."""

    last_hour: int
    last_day: int


@dataclass(frozen=True, slots=True)
class Figures:
    """The results of one job type, or of one queue, in the last day."""

    completed: int
    failed: int  # in the dead letter queue
    success_rate: float  # the completed, as a share of those that completed or failed
    wait: Percentiles | None  # completed jobs, from being added to the start of the last attempt
    run: Percentiles | None

    def document(self) -> JsonObject:
        """Return the figures as ``jobq stats --json`` prints them."""
        return {
            "completed": self.completed,
            "failed": self.failed,
            "success_rate": self.success_rate,
            "wait": self.wait and self.wait._asdict(),
            "run": self.run and self.run._asdict(),
        }


@dataclass(frozen=True, slots=True)
class SupervisorFigures:
    """A supervisor that is alive, and its load."""

    info: SupervisorInfo
    heartbeat_age: float  # seconds
    running: int

    @property
    def load(self) -> float:
        """The share of its slots that are busy."""
        return self.running / self.info.slots


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """The statistics of a queue at one moment."""

    now: datetime
    counts: Mapping[JobStatus, int]
    queues: Sequence[tuple[Queue, Mapping[JobStatus, int]]]
    types: Mapping[str, Figures]
    by_queue: Mapping[str, Figures]
    success_rate: float | None  # of the last day; None: no job ended
    throughput: Throughput
    oldest_waiting: ShownJob | None  # the job that has been pending for longest
    supervisors: Sequence[SupervisorFigures]
    log_bytes: int
    totals: Mapping[str, int]  # of all time, by name

    @property
    def longest_wait(self) -> float:
        """Seconds since the oldest waiting job was added."""
        oldest = self.oldest_waiting
        return 0.0 if oldest is None else max(0.0, (self.now - oldest.created_at).total_seconds())


def collect(queue: JobQueue, now: datetime) -> Stats:
    """Compute the statistics of a queue."""
    counts = backend_of(queue).counts()
    last_day = backend_of(queue).stats.ended_counts(now - DAY)
    last_hour = backend_of(queue).stats.ended_counts(now - HOUR)
    sample = backend_of(queue).stats.ended(now - DAY, limit=SAMPLE_SIZE)
    completed = sum(done for done, _ in last_day.values())
    all_ended = sum(done + failed for done, failed in last_day.values())
    waiting = queue.find(status=JobStatus.PENDING, limit=1)
    return Stats(
        now=now,
        counts={s: sum(each.get(s, 0) for each in counts.values()) for s in JobStatus},
        queues=[(each, counts.get(each.name, {})) for each in queue.queues()],
        types=_grouped(last_day, sample, lambda job_type, _: job_type),
        by_queue=_grouped(last_day, sample, lambda _, name: name),
        success_rate=completed / all_ended if all_ended else None,
        throughput=Throughput(sum(done for done, _ in last_hour.values()), completed),
        oldest_waiting=queue.shown(waiting[0]) if waiting else None,
        supervisors=_supervisors(queue, now),
        log_bytes=queue.logs.total_bytes() if queue.logs.root.is_dir() else 0,
        totals=backend_of(queue).stats.totals(),
    )


def _supervisors(queue: JobQueue, now: datetime) -> list[SupervisorFigures]:
    held = Counter(attempt.supervisor for _, attempt in backend_of(queue).open_attempts())
    return [
        SupervisorFigures(each, max(0.0, (now - each.heartbeat_at).total_seconds()), held[each.id])
        for each in queue.supervisors()
    ]


def _grouped(
    counts: Mapping[tuple[str, str], tuple[int, int]],
    sample: Sequence[Ended],
    name_of: Callable[[str, str], str],
) -> dict[str, Figures]:
    """Return the figures of each group; ``name_of`` names the group of a type and queue."""
    totals: dict[str, tuple[int, int]] = {}
    for (job_type, queue), (completed, failed) in counts.items():
        before = totals.get(name := name_of(job_type, queue), (0, 0))
        totals[name] = (before[0] + completed, before[1] + failed)
    spans: dict[str, list[Ended]] = defaultdict(list)
    for each in sample:
        if each.completed:
            spans[name_of(each.type, each.queue)].append(each)
    return {name: figures(*totals[name], spans[name]) for name in sorted(totals)}


def figures(completed: int, failed: int, sample: Sequence[Ended]) -> Figures:
    """Compute the figures of jobs that have ended; the sample holds some of those completed.

    A clock that was set back meanwhile makes no span negative.
    """
    return Figures(
        completed,
        failed,
        completed / (completed + failed),
        percentiles([max(0.0, each.waited) for each in sample]) if sample else None,
        percentiles([max(0.0, each.ran) for each in sample]) if sample else None,
    )


def percentiles(values: Sequence[float]) -> Percentiles:
    """Compute percentiles by nearest rank: each is one of the values."""
    ordered = sorted(values)
    return Percentiles(*(ordered[ceil(share * len(ordered)) - 1] for share in (0.5, 0.95)))


_NO_FIGURES = {"completed": 0, "failed": 0, "success_rate": None, "wait": None, "run": None}


def stats_document(stats: Stats) -> JsonObject:
    """Return the statistics as ``jobq stats --json`` prints them."""
    by_queue = {name: each.document() for name, each in stats.by_queue.items()}
    oldest = stats.oldest_waiting
    return {
        "counts": {status.value: number for status, number in stats.counts.items()},
        "queues": [
            {**queue_document(queue, dict(counts)), **by_queue.get(queue.name, _NO_FIGURES)}
            for queue, counts in stats.queues
        ],
        "types": [{"type": name, **each.document()} for name, each in stats.types.items()],
        "success_rate": stats.success_rate,
        "throughput": stats.throughput._asdict(),
        "oldest_waiting": oldest
        and {
            "id": oldest.id,
            "name": oldest.name,
            "type": oldest.type,
            "queue": oldest.queue,
            "waiting": stats.longest_wait,
        },
        "supervisors": [
            {
                **supervisor_document(each.info),
                "heartbeat_age": each.heartbeat_age,
                "running": each.running,
                "load": each.load,
            }
            for each in stats.supervisors
        ],
        "log_bytes": stats.log_bytes,
        "totals": dict(stats.totals),
    }
