"""Figures about a queue: what there is, how fast it goes, how long jobs wait and run."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from math import ceil

from jobq.models import Ended, JobStatus, JsonObject, Queue, SupervisorInfo
from jobq.queue import JobQueue, backend_of
from jobq.redaction import ShownJob
from jobq.serializers import queue_document, supervisor_document

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

SAMPLE = 10_000
"""Percentiles are those of the last so many jobs: more would hardly change them, and take longer."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Seconds that half of the jobs, and 95 in 100, stayed within."""

    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class Figures:
    """How the jobs of one type, or of one queue, ended in the last day."""

    completed: int
    failed: int  # for good
    success_rate: float  # completed, of those that completed or failed
    wait: Percentiles | None  # of those completed: from being added to the start of the last try
    run: Percentiles | None


@dataclass(frozen=True, slots=True)
class Throughput:
    """Jobs completed."""

    last_hour: int
    last_day: int


@dataclass(frozen=True, slots=True)
class SupervisorFigures:
    """A supervisor that is alive."""

    info: SupervisorInfo
    heartbeat_age: float  # seconds
    running: int

    @property
    def load(self) -> float:
        """The share of its slots that are busy."""
        return self.running / self.info.slots


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    now: datetime
    counts: Mapping[JobStatus, int]
    queues: Sequence[tuple[Queue, Mapping[JobStatus, int]]]
    types: Mapping[str, Figures]
    by_queue: Mapping[str, Figures]
    success_rate: float | None  # of the last day; None: nothing ended
    throughput: Throughput
    oldest_waiting: ShownJob | None  # the one that has been ready for longest
    supervisors: Sequence[SupervisorFigures]
    log_bytes: int
    totals: Mapping[str, int]  # since the beginning; empty where they are not counted

    @property
    def longest_wait(self) -> float:
        """Seconds since the oldest waiting job was added."""
        oldest = self.oldest_waiting
        return 0.0 if oldest is None else max(0.0, (self.now - oldest.created_at).total_seconds())


def collect(queue: JobQueue, now: datetime) -> Stats:
    """The figures of a queue as they are now."""
    counts = backend_of(queue).counts()
    last_day = backend_of(queue).stats.ended_counts(now - DAY)
    last_hour = backend_of(queue).stats.ended_counts(now - HOUR)
    sample = backend_of(queue).stats.ended(now - DAY, limit=SAMPLE)
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
    """The figures of each group, which ``name_of`` tells by type and queue."""
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
    """The figures of jobs that have ended, some of those that completed being the sample."""
    return Figures(
        completed,
        failed,
        completed / (completed + failed),
        percentiles([each.waited for each in sample]) if sample else None,
        percentiles([each.ran for each in sample]) if sample else None,
    )


def percentiles(values: Sequence[float]) -> Percentiles:
    """By nearest rank: each is one of the values."""
    ordered = sorted(values)
    return Percentiles(*(ordered[ceil(share * len(ordered)) - 1] for share in (0.5, 0.95)))


_NOTHING = {"completed": 0, "failed": 0, "success_rate": None, "wait": None, "run": None}


def stats_document(stats: Stats) -> JsonObject:
    """The figures as ``jobq stats --json`` prints them."""
    by_queue = {name: asdict(each) for name, each in stats.by_queue.items()}
    oldest = stats.oldest_waiting
    return {
        "counts": {status.value: number for status, number in stats.counts.items()},
        "queues": [
            {**queue_document(queue, dict(counts)), **by_queue.get(queue.name, _NOTHING)}
            for queue, counts in stats.queues
        ],
        "types": [{"type": name, **asdict(each)} for name, each in stats.types.items()],
        "success_rate": stats.success_rate,
        "throughput": asdict(stats.throughput),
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
        **({"totals": dict(stats.totals)} if stats.totals else {}),
    }
