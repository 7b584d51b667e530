"""Statistics: of all jobs, of a queue, by minute; and metrics for Prometheus."""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from jobq.models import JobStatus, JsonObject
from jobq.queue import JobQueue
from jobq.units import format_moment
from jobq.web.auth import READER
from jobq.web.figures import OTHER, Figures, Kind, Tally, merged, percentile
from jobq.web.metrics import oldest_ready_age
from jobq.web.routing import ApiRoute, api_router
from jobq.web.schemas import Input, Output, answer
from jobq.web.state import Server, get_server

router = api_router("stats")
probes = APIRouter(route_class=ApiRoute, tags=["stats"], dependencies=[READER])

WINDOWS = {"1h": timedelta(hours=1), "24h": timedelta(hours=24)}


class Window(Input):
    """The time before now that statistics cover."""

    window: Literal["1h", "24h"] = "24h"


class SeriesOf(Window):
    """The jobs that a series covers; without a condition, all."""

    queue: str | None = None
    type: str | None = None


class Spans(Output):
    """The seconds within which half, 95 % and 99 % of the completed jobs waited or ran."""

    p50: float
    p95: float
    p99: float


class Ends(Output):
    """The jobs that ended in the window."""

    completed: int
    failed: int
    cancelled: int


class Results(Output):
    """How jobs ended in the window. `wait` and `run` are within 5 % of the exact values."""

    ended: Ends
    success_rate: float | None
    wait: Spans | None
    run: Spans | None


class OfType(Results):
    """The results of a job type."""

    type: str


class OfQueue(Results):
    """The results of a queue, and its jobs now."""

    queue: str
    counts: dict[str, int]
    oldest_ready: float | None


class Header(Output):
    """What statistics cover: `complete` is false until the server has counted all of the window."""

    now: str
    window: str
    complete: bool


class QueueStats(Header, OfQueue):
    """The statistics of a queue; `oldest_ready` is how long its first pending job has waited."""


class Stats(Header, Results):
    """The statistics of all jobs, by queue and by type."""

    counts: dict[str, int]
    oldest_ready: float | None
    queues: list[OfQueue]
    types: list[OfType]


class Point(Results):
    """The results of one minute."""

    at: str


class Series(Header):
    """The results of each minute, the last of which is not over yet."""

    step: int
    points: list[Point]


@router.get("/stats", response_model=Stats, dependencies=[READER])
async def show_stats(request: Request, window: Annotated[Window, Query()]) -> Response:
    """Return the statistics of all jobs."""
    server = get_server(request)
    return answer(await server.work.read(lambda: stats_document(server, window.window)))


@router.get("/stats/series", response_model=Series, dependencies=[READER])
async def show_series(request: Request, wanted: Annotated[SeriesOf, Query()]) -> Response:
    """Return how jobs ended in each minute of the window."""
    server = get_server(request)

    def is_wanted(kind: Kind) -> bool:
        return wanted.queue in (None, kind.queue) and wanted.type in (None, kind.type)

    def read() -> JsonObject:
        now = updated(server)
        since = now - WINDOWS[wanted.window]
        series = server.figures.series(since, now, is_wanted)
        points = [{"at": format_moment(at), **_results(tally)} for at, tally in series]
        return {**_header(server.figures, wanted.window, now), "step": 60, "points": points}

    return answer(await server.work.read(read))


@router.get("/queues/{name}/stats", response_model=QueueStats, dependencies=[READER])
async def show_queue_stats(
    request: Request,
    name: Annotated[str, Path(max_length=64, description="The name of a queue.")],
    window: Annotated[Window, Query()],
) -> Response:
    """Return the statistics of a queue."""
    server = get_server(request)

    def read(queue: JobQueue = server.queue) -> JsonObject:
        queue.queue(name)  # or there is none
        now = updated(server)
        tallies = server.figures.tallies(now - WINDOWS[window.window])
        of_queue = merged(tally for kind, tally in tallies.items() if kind.queue == name)
        counts = queue.counts_by_queue().get(name, {})
        return {
            **_header(server.figures, window.window, now),
            **_of_queue(queue, name, counts, of_queue, now),
        }

    return answer(await server.work.read(read))


@probes.get("/metrics", response_class=Response)
async def show_metrics(request: Request) -> Response:
    """Return metrics for Prometheus, at most 5 s old."""
    server = get_server(request)
    text = await server.work.read(lambda: server.metrics.text(lambda: updated(server)))
    return Response(text, media_type=CONTENT_TYPE_LATEST)


def updated(server: Server) -> datetime:
    """Count what ended by now; return the time."""
    now = server.queue.now()
    server.figures.update(now)
    return now


def stats_document(server: Server, window: str) -> JsonObject:
    """Return the statistics of all jobs, as `/stats` has them.

    Raises:
        DatabaseError: the jobs can't be read.
    """
    queue, now = server.queue, updated(server)
    tallies = server.figures.tallies(now - WINDOWS[window])
    counts = queue.counts_by_queue()
    totals = dict.fromkeys(JobStatus, 0)
    for of_queue in counts.values():
        for status, number in of_queue.items():
            totals[status] += number
    by_queue = _grouped(tallies, lambda kind: kind.queue)
    names = sorted(counts.keys() | by_queue.keys() - {OTHER})
    queues = [
        _of_queue(queue, name, counts.get(name, {}), by_queue.get(name, Tally()), now)
        for name in names
    ]
    ages = [each["oldest_ready"] for each in queues if each["oldest_ready"] is not None]
    by_type = _grouped(tallies, lambda kind: kind.type)
    return {
        **_header(server.figures, window, now),
        "counts": _counts(totals),
        "oldest_ready": max(ages, default=None),
        **_results(merged(tallies.values())),
        "queues": queues,
        "types": [{"type": name, **_results(by_type[name])} for name in sorted(by_type)],
    }


def _grouped(tallies: Mapping[Kind, Tally], group_of: Callable[[Kind], str]) -> dict[str, Tally]:
    found: dict[str, Tally] = {}
    for kind, tally in tallies.items():
        found.setdefault(group_of(kind), Tally()).merge(tally)
    return found


def _header(figures: Figures, window: str, now: datetime) -> JsonObject:
    return {
        "now": format_moment(now),
        "window": window,
        "complete": figures.reaches(now - WINDOWS[window]),
    }


def _of_queue(
    queue: JobQueue, name: str, counts: Mapping[JobStatus, int], tally: Tally, now: datetime
) -> dict[str, Any]:
    is_ready = counts.get(JobStatus.PENDING)
    return {
        "queue": name,
        "counts": _counts(counts),
        "oldest_ready": oldest_ready_age(queue, name, now.timestamp()) if is_ready else None,
        **_results(tally),
    }


def _counts(counts: Mapping[JobStatus, int]) -> dict[str, int]:
    return {status.value: counts.get(status, 0) for status in JobStatus}


def _results(tally: Tally) -> dict[str, Any]:
    return {
        "ended": {
            "completed": tally.completed,
            "failed": tally.failed,
            "cancelled": tally.cancelled,
        },
        "success_rate": tally.success_rate,
        "wait": _spans(tally.wait),
        "run": _spans(tally.run),
    }


def _spans(spans: Counter[int]) -> dict[str, float | None] | None:
    if not spans:
        return None
    return {f"p{share}": percentile(spans, share / 100) for share in (50, 95, 99)}
