"""Figures about a queue: what there is, how fast it goes, how long jobs wait and run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from math import ceil

from jobq.documents import queue_document, supervisor_document
from jobq.models import JobStatus, JsonObject, Queue, SupervisorInfo
from jobq.queue import JobQueue

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Seconds that half of the jobs, and 95 in 100, stayed within."""

    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class TypeFigures:
    """The jobs of one type that completed in the last day."""

    type: str
    completed: int
    wait: Percentiles  # from being added to the start of the last try
    run: Percentiles


@dataclass(frozen=True, slots=True)
class Throughput:
    """Jobs completed."""

    last_hour: int
    last_day: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    counts: Mapping[JobStatus, int]
    queues: Sequence[tuple[Queue, Mapping[JobStatus, int]]]
    types: Sequence[TypeFigures]
    throughput: Throughput
    supervisors: Sequence[tuple[SupervisorInfo, float]]  # and the age of the heartbeat, seconds
    log_bytes: int


def collect(queue: JobQueue, now: datetime) -> Stats:
    """The figures of a queue as they are now."""
    counts = queue.backend.counts()
    spans = queue.backend.durations(now - DAY)
    hour = queue.backend.durations(now - HOUR)
    return Stats(
        counts={s: sum(each.get(s, 0) for each in counts.values()) for s in JobStatus},
        queues=[(each, counts.get(each.name, {})) for each in queue.queues()],
        types=[type_figures(name, spans[name]) for name in sorted(spans)],
        throughput=Throughput(
            last_hour=sum(map(len, hour.values())), last_day=sum(map(len, spans.values()))
        ),
        supervisors=[
            (each, max(0.0, (now - each.heartbeat_at).total_seconds()))
            for each in queue.supervisors()
        ],
        log_bytes=queue.logs.total_bytes() if queue.logs.root.is_dir() else 0,
    )


def type_figures(name: str, spans: Sequence[tuple[float, float]]) -> TypeFigures:
    """The figures of one type, from (seconds waited, seconds run) of each of its jobs."""
    waits, runs = zip(*spans, strict=True)
    return TypeFigures(name, len(spans), percentiles(waits), percentiles(runs))


def percentiles(values: Sequence[float]) -> Percentiles:
    """By nearest rank: each is one of the values."""
    ordered = sorted(values)
    return Percentiles(*(ordered[ceil(share * len(ordered)) - 1] for share in (0.5, 0.95)))


def stats_document(stats: Stats) -> JsonObject:
    """The figures as ``jobq stats --json`` prints them."""
    return {
        "counts": {status.value: number for status, number in stats.counts.items()},
        "queues": [queue_document(queue, dict(counts)) for queue, counts in stats.queues],
        "types": [asdict(figures) for figures in stats.types],
        "throughput": asdict(stats.throughput),
        "supervisors": [
            {**supervisor_document(supervisor), "heartbeat_age": age}
            for supervisor, age in stats.supervisors
        ],
        "log_bytes": stats.log_bytes,
    }
