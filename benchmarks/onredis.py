"""Rows 14 to 18: jobs on a Redis server, the same one for us and for the others."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path
from typing import Any, Self

from benchmarks import rivals
from benchmarks.harness import ENVIRONMENT, REPOSITORY, Project, alternate, rate, seconds, typical
from benchmarks.results import Result, compared, scaled
from benchmarks.rivals import redis_server
from benchmarks.scale import Bench
from benchmarks.verbs import Verbs
from jobq import JobQueue, JobStatus
from jobq.queue import backend_of

_PEERS = REPOSITORY / "benchmarks" / "peers"
_TIMES = 50
_UNFINISHED = (JobStatus.PENDING, JobStatus.RUNNING)
_ONE_BY_ONE = """
import sys, time
import taskiq_app
start = time.perf_counter()
taskiq_app.fill(int(sys.argv[1]))
print(time.perf_counter() - start)
"""


@contextmanager
def project_on_redis(folder: Path) -> Iterator[Project]:
    """Create a project whose jobs are on a Redis server of its own."""
    folder.mkdir(exist_ok=True)
    with redis_server(folder) as url:
        yield Project(folder / "project", backend=f"{url}?name=jobq")


def done(folder: Path, jobs: int) -> float:
    """Return no-op Python jobs per second of two supervisors with one slot each."""
    with project_on_redis(folder) as project, project.queue() as queue:
        queue.add_many([{"type": "noop"}] * jobs)
        with project.working(1, supervisors=2):
            return rate(lambda: _left(queue), jobs)


def _left(queue: JobQueue) -> int:
    counts = queue.counts()
    return sum(counts[status] for status in _UNFINISHED)


def added(bench: Bench) -> Iterator[Result]:
    """Measure row 15: jobs added by one producer."""
    if not rivals.installed():
        return
    jobs = bench.scale.redis_added
    with project_on_redis(bench.folder / "added") as project, project.queue() as queue:
        url = project.backend.partition("?")[0]

        def ours() -> float:
            return jobs / seconds(lambda: queue.add_many([{"type": "noop"}] * jobs))

        def one_by_one() -> float:
            told = subprocess.run(
                [sys.executable, "-c", _ONE_BY_ONE, str(jobs)],
                cwd=_PEERS, env=ENVIRONMENT | {"BENCH_BROKER": url},
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            return jobs / float(told.stdout)

        own, theirs = alternate(bench.scale.long_rounds, ours, one_by_one)
    yield compared(
        15, "add_many on Redis", "jobs/s", own, "taskiq, one by one", theirs,
        want="at least", target=5, note="every job is checked, and has a hash, a place and an entry",
    )  # fmt: skip


def waiting(bench: Bench) -> Iterator[Result]:
    """Measure rows 16 and 18: the cost of a verb beside pending jobs, and the memory of those."""
    many = bench.scale.redis_waiting
    with project_on_redis(bench.folder / "many") as project, project.queue() as large:
        before = _memory(large)
        _fill(large, many)
        used = _memory(large) - before
        server = project.backend.partition("?")[0]
        small = Project(bench.folder / "few", backend=f"{server}?name=few")
        with small.queue() as few:
            _fill(few, 1_000)
            verbs = [Verbs(large).all(), Verbs(few).all()]
            names = ("claim", "finish")
            sides = [typical(each[name], _TIMES) for name in names for each in verbs]
            samples = [sample.scaled(1e6) for sample in alternate(bench.scale.rounds, *sides)]
    for place, name in enumerate(names):
        ours, theirs = samples[2 * place : 2 * place + 2]
        yield compared(
            16, f"{name} on Redis, {many:,} waiting", "µs", ours, "1,000 waiting", theirs,
            target=1.2, note=scaled(many, 1_000_000).lstrip("; "),
        )  # fmt: skip
    yield Result(
        row=18, measure="memory in Redis, a waiting shell job", unit="bytes", ours=used / many,
        target=1229, note=f"of {many:,}; two words, a directory and a tag, without variables",
    )  # fmt: skip


def _fill(queue: JobQueue, jobs: int) -> None:
    numbers = count()
    specs = (
        {
            "type": "shell",
            "args": {"argv": ["convert", f"in/{next(numbers)}.png"], "cwd": "/srv/pictures"},
            "tags": {"batch": "7"},
        }
        for _ in range(jobs)
    )
    while chunk := list(islice(specs, 10_000)):
        queue.add_many(chunk)


def _memory(queue: JobQueue) -> int:
    return int(_client(queue).info("memory")["used_memory"])


def _client(queue: JobQueue) -> Any:
    """Return the client of the server itself, which the contract hides."""
    client: Any = vars(backend_of(queue))["_db"].client
    return client


def round_trips(bench: Bench) -> Iterator[Result]:
    """Measure row 17: commands that a supervisor sends per job, all others included."""
    jobs = bench.scale.redis_counted
    with project_on_redis(bench.folder / "counted") as project, project.queue() as queue:
        queue.add_many([{"type": "noop"}] * jobs)
        queue.close()  # its own commands do not count
        with _Monitor(project.backend) as monitor:
            subprocess.run(
                [sys.executable, "-m", "jobq", "work", "-j", "2", "--drain"],
                cwd=project.folder, env=ENVIRONMENT, check=True, capture_output=True,
            )  # fmt: skip
            sent = monitor.stop()
    yield Result(
        row=17, measure="commands a job on Redis", unit="", ours=sent / jobs, target=1.5,
        note=f"over {jobs:,} no-op Python jobs, start and end of the supervisor included",
    )  # fmt: skip


class _Monitor:
    """A counter of the commands sent to a server; those within scripts do not count."""

    def __init__(self, url: str) -> None:
        from redis import Redis

        self._client = Redis.from_url(url.partition("?")[0])
        self._sent = 0
        self._thread = threading.Thread(target=self._count, daemon=True)
        self._ready = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def stop(self) -> int:
        """Stop counting and return the number."""
        self._client.echo("the end")
        self._thread.join(30)
        return self._sent

    def _count(self) -> None:
        with self._client.monitor() as monitor:
            self._ready.set()
            for told in monitor.listen():
                if told["command"].startswith("ECHO the end"):
                    return
                self._sent += told["client_type"] != "lua"
