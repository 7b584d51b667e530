"""The growth of costs, up to the limits of SQLite: ``python -m benchmarks.scaling`` (some minutes).

Each series is one cost against one size. They are saved as JSON, drawn, and put into docs/scaling.md
between its marks; the text around them is written by hand.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import report, simulation
from benchmarks.harness import REPOSITORY, Project, Unfinished, rate, seconds, typical
from benchmarks.history import filled
from benchmarks.onredis import project_on_redis
from benchmarks.plots import drawn
from benchmarks.writers import written
from jobq import JobQueue

RESULTS = REPOSITORY / "benchmarks" / "results" / "scaling.json"
PAGE = REPOSITORY / "docs" / "scaling.md"
PLOTS = REPOSITORY / "docs" / "plots"
MARKS = ("<!-- measured -->", "<!-- end of what was measured -->")
_TIMES = 30


@dataclass(frozen=True, slots=True)
class Series:
    """One cost against one size."""

    name: str
    title: str
    size: str
    cost: str
    lines: dict[str, list[tuple[float, float]]]


Measure = Callable[[Path, float], Series]


def main() -> None:
    """Measure all series, and write JSON, plots and page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--small", action="store_true", help="a tenth of the sizes, to try it out")
    parser.add_argument("--draw", action="store_true", help="only draw what was measured")
    parser.add_argument("--only", choices=[each.__name__ for each in MEASURES], help="measure it")
    options = parser.parse_args()
    scale = 0.1 if options.small else 1.0
    # Removed at the end only: without a journal, ext4 is slow to make files for minutes after many
    # were removed, as it steps over each of their places.
    with tempfile.TemporaryDirectory(prefix="scaling-", ignore_cleanup_errors=True) as folder:
        if options.only:
            _measure_anew(Path(folder), options.only, scale)
        elif not options.draw:
            _measure(Path(folder), scale)
    _write()


def _measured(folder: Path, measure: Measure, scale: float) -> Series:
    own = folder / measure.__name__
    own.mkdir()
    series = measure(own, scale)
    print(report.table_of(asdict(series)), flush=True)
    return series


def _measure_anew(folder: Path, name: str, scale: float) -> None:
    """Measure one series again, in place of its earlier results."""
    kept = json.loads(RESULTS.read_text("utf-8"))
    (measure,) = (each for each in MEASURES if each.__name__ == name)
    series = {each["name"]: each for each in kept["series"]}
    machine = report.machine()
    series[name] = asdict(_measured(folder, measure, scale)) | {"machine": machine}
    if name == writers.__name__:  # which it is calculated from
        series["simulated"] = asdict(_simulated(series[name]["lines"]))
    kept["series"] = list(series.values())
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")


def _measure(folder: Path, scale: float) -> None:
    machine = report.machine()
    series = [_measured(folder, measure, scale) for measure in MEASURES]
    series.append(_simulated(next(each for each in series if each.name == "writers").lines))
    kept = {"machine": machine, "series": [asdict(each) for each in series]}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")


def _write() -> None:
    kept = json.loads(RESULTS.read_text("utf-8"))
    parts = [report.described(kept["machine"])]
    for each in kept["series"]:
        (PLOTS / f"{each['name']}.svg").write_text(drawn(each), "utf-8")
        parts += [
            f"### {each['title']}",
            f"![{each['title']}](plots/{each['name']}.svg)",
        ]
        parts.append(report.table_of(each))
        if "machine" in each:  # measured again, without the others
            parts.append(report.described(each["machine"]))
    before, _, rest = PAGE.read_text("utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    middle = "\n\n".join(parts)
    PAGE.write_text(f"{before}{MARKS[0]}\n\n{middle}\n\n{MARKS[1]}{after}", "utf-8")


# -- what a verb costs -------------------------------------------------------------------------


def _microseconds(action: Callable[[], object]) -> float:
    """Return the median microseconds of an action."""
    return typical(action, _TIMES)() * 1e6


def _cycle(queue: JobQueue) -> dict[str, float]:
    """Measure adding, claiming, finishing and listing."""

    def add() -> None:
        queue.add("shell", {"argv": ["true"]})

    claims = []

    def claim() -> None:
        claims.append(queue.claim(owner="benchmark"))

    def finish() -> None:
        held = claims.pop()
        assert held
        assert queue.complete(held)

    costs = {"add": _microseconds(add), "claim": _microseconds(claim)}
    return costs | {
        "finish": _microseconds(finish),
        "list 50": _microseconds(lambda: queue.find(limit=50, newest=True)),
    }


def _lines(
    points: Iterable[tuple[float, dict[str, float]]],
) -> dict[str, list[tuple[float, float]]]:
    lines: dict[str, list[tuple[float, float]]] = {}
    for size, costs in points:
        for name, cost in costs.items():
            lines.setdefault(name, []).append((size, cost))
    return lines


def _sizes(scale: float, *sizes: int) -> list[int]:
    return sorted({max(1, int(size * scale)) for size in sizes})


def history(folder: Path, scale: float) -> Series:
    """Measure against jobs that have ended, with a tenth as many that are not due yet."""

    def point(size: int) -> dict[str, float]:
        project = filled(Project(folder / str(size)), size, size // 10)
        with project.queue() as queue:
            return _cycle(queue)

    points = [(size, point(size)) for size in _sizes(scale, 1_000, 10_000, 100_000, 1_000_000)]
    title = "History: what a verb costs beside finished jobs"
    return Series("history", title, "finished jobs", "µs", _lines(points))


def pending(folder: Path, scale: float) -> Series:
    """Measure against pending jobs in one queue."""
    project = Project(folder / "pending")
    points = []
    there = 0
    with project.queue() as queue:
        for size in _sizes(scale, 1_000, 10_000, 100_000):
            _add(queue, size - there)
            there = size
            points.append((size, _cycle(queue)))
    title = "Jobs in line: what a verb costs beside pending jobs"
    return Series("pending", title, "pending jobs", "µs", _lines(points))


def queues(folder: Path, scale: float) -> Series:
    """Measure against queues, each with some pending jobs."""
    points = []
    for size in _sizes(scale, 10, 100, 1_000):
        with Project(folder / str(size)).queue() as queue:
            specs = [
                {"type": "shell", "args": {"argv": ["true"]}, "queue": f"q{n}"} for n in range(size)
            ]
            for name in {spec["queue"] for spec in specs}:
                queue.create_queue(str(name))
            queue.add_many(specs * 3)
            points.append((size, _cycle(queue)))
    title = "Queues: what a verb costs beside queues with jobs in line"
    return Series("queues", title, "queues", "µs", _lines(points))


def dependents(folder: Path, scale: float) -> Series:
    """Measure against dependents of one job: its end, and the release of all of them."""

    def point(size: int) -> dict[str, float]:
        with Project(folder / str(size)).queue() as queue:
            parent = queue.add("shell", {"argv": ["true"]})
            _add(queue, size, after=[parent.id])
            claim = queue.claim(owner="benchmark")
            assert claim
            return {"finish, and tell all": seconds(lambda: queue.complete(claim)) * 1e6}

    points = [(size, point(size)) for size in _sizes(scale, 10, 100, 1_000, 10_000, 100_000)]
    title = "Dependents: what the end of a job costs that others wait for"
    return Series("dependents", title, "jobs that wait for it", "µs", _lines(points))


def _add(queue: JobQueue, count: int, **options: object) -> None:
    queue.add_many([{"type": "shell", "args": {"argv": ["true"]}, **options}] * count)


# -- what is done in a second ------------------------------------------------------------------


def slots(folder: Path, scale: float) -> Series:
    """Measure against slots of one supervisor."""

    def point(size: int) -> dict[str, float]:
        rates = {}
        for kind, args in (("shell", {"argv": ["true"]}), ("noop", {})):
            project = Project(folder / f"{kind}-{size}")
            left, jobs = Unfinished(project), int(2_000 * scale) + 100
            with project.queue() as queue:
                queue.add_many([{"type": kind, "args": args}] * jobs)
            with project.working(size):
                rates[{"shell": "`true`", "noop": "no-op in Python"}[kind]] = rate(left, jobs)
            left.close()
        return rates

    points = [(size, point(size)) for size in (1, 2, 4, 8, 16)]
    return Series("slots", "Slots: jobs a second", "slots", "jobs/s", _lines(points))


def writers(folder: Path, scale: float) -> Series:
    """Measure against processes that add one job after another."""
    project = Project(folder / "writers")
    points = []
    for size in (1, 2, 4, 8, 16, 32, 64):
        writing = written(project, size, max(0.5, 3 * scale))
        points.append((size, {"adds/s": writing.rate, "longest wait, ms": writing.longest * 1000}))
    title = "Writers: adds a second by all, and the longest wait of one"
    return Series("writers", title, "processes", "adds/s, ms", _lines(points))


def redis(folder: Path, scale: float) -> Series:
    """Measure against pending jobs on a Redis server."""
    points = []
    there = 0
    with project_on_redis(folder) as project, project.queue() as queue:
        for size in _sizes(scale, 1_000, 10_000, 100_000, 1_000_000):
            _add(queue, size - there)
            there = size
            points.append((size, _cycle(queue)))
    title = "Redis: what a verb costs beside pending jobs"
    return Series("redis", title, "pending jobs", "µs", _lines(points))


MEASURES: tuple[Measure, ...] = (history, pending, queues, dependents, slots, writers, redis)


def _simulated(lines: Mapping[str, Sequence[tuple[float, float]]]) -> Series:
    """Simulate with the measured adds per second of one process: a job takes two such writes."""
    (_, adds), *_ = lines["adds/s"]
    return simulated(2 / adds)


def simulated(write_seconds: float) -> Series:
    """Return the simulated share of slots in use with one writer, by the length of jobs."""
    lines = {
        f"jobs of {length:g} s": simulation.curve(length, write_seconds)
        for length in (0.1, 1.0, 10.0)
    }
    title = f"Simulated: slots in use, where a job's writes take {write_seconds * 1000:.2f} ms"
    return Series("simulated", title, "slots", "% in use", lines)


if __name__ == "__main__":
    start = time.perf_counter()
    main()
    print(f"{time.perf_counter() - start:.0f} s")
