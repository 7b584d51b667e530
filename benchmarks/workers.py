"""Rows 5, 13 and 14: jobs in Python, ours and others', by one supervisor and by two."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import floors, onredis, promises, rivals
from benchmarks.harness import Project, Unfinished, alternate, rate
from benchmarks.results import Result, Sample, compared, scaled
from benchmarks.rivals import RIVALS
from benchmarks.scale import Bench

_SLOTS = 2
_WHOLE = 20_000  # jobs, as the targets have it
_FASTEST = 1.5  # of those that acknowledge after the work
_FASTEST_ON_REDIS = 1.3
_ON_REDIS = "jobq on Redis"
_LEAST = "mkdir, two open, dup2 and a pipe for each"
_RECORDED = "the same, and each claimed and ended in the tables of ours"
_RECORDED_ON_REDIS = "the same jobs, each claimed and ended in hashes and a line"
_FLOORS = {
    _LEAST: "the floor: nothing is recorded",
    _RECORDED: f"the floor with the promises kept: at FULL in groups of {promises.GROUP}, with the "
    "triggers that count jobs and a file of events; no other writers, no limits, no stopping, no "
    "leftovers",
    _RECORDED_ON_REDIS: f"the floor: a script for {promises.GROUP} jobs, one process with two "
    "children, and files of output and events; no streams, no leases, no limits",
}


def done(project: Project, jobs: int, supervisors: int = 1) -> float:
    """Return no-op Python jobs per second."""
    left = Unfinished(project)
    with project.queue() as queue:
        queue.add_many([{"type": "noop"}] * jobs)
    with project.working(_SLOTS, supervisors):
        measured = rate(left, jobs)
    left.close()
    return measured


@dataclass(frozen=True, slots=True)
class Noops:
    """The no-op jobs per second of ours and of the others, measured in turns."""

    own: Sample
    on_redis: Sample | None
    others: dict[str, Sample]


def _measured(bench: Bench) -> Noops:
    """Measure once for all rows that use it: the others take minutes."""
    if bench.noops is None:
        jobs, project = bench.scale.python_jobs, bench.project("noops")
        folders = (bench.folder / f"handed-{number}" for number in range(1000))
        sides: dict[str, Callable[[], float]] = {
            rival.name: partial(rivals.measured, rival, bench.folder / rival.app, jobs)
            for rival in _chosen(bench)
        }
        if sides:
            own_server = (bench.folder / f"own-{number}" for number in range(1000))
            sides[_ON_REDIS] = lambda: onredis.done(next(own_server), jobs)
            sides[_RECORDED_ON_REDIS] = lambda: _recorded_on_redis(next(folders), jobs)
        sides[_LEAST] = lambda: floors.handed_over(next(folders), jobs, _SLOTS)
        sides[_RECORDED] = lambda: _recorded(project, next(folders), jobs)
        own, *samples = alternate(
            bench.scale.long_rounds, lambda: done(project, jobs), *sides.values(), warm=False
        )
        others = dict(zip(sides, samples, strict=True))
        bench.noops = Noops(own, others.pop(_ON_REDIS, None), others)
    return bench.noops


def _recorded(like: Project, folder: Path, jobs: int) -> float:
    with promises.on_sqlite(like.database, folder.with_suffix(".db"), jobs) as exchange:
        return promises.python_jobs(exchange, folder, jobs, _SLOTS)


def _recorded_on_redis(folder: Path, jobs: int) -> float:
    with (
        rivals.redis_server(folder) as url,
        promises.on_redis(url, jobs) as exchange,
    ):
        return promises.python_jobs(exchange, folder / "jobs", jobs, _SLOTS)


def _chosen(bench: Bench) -> list[rivals.Rival]:
    if not rivals.installed():
        return []
    return [rival for rival in RIVALS if bench.scale.slow_peers or rival.share == 1]


def noops(bench: Bench) -> Iterator[Result]:
    """Measure row 5: jobs that do nothing, with their output captured."""
    jobs, measured = bench.scale.python_jobs, _measured(bench)
    chosen = _chosen(bench)
    notes = {rival.name: _note(rival, jobs) for rival in chosen}
    notes |= {name: note + scaled(jobs, _WHOLE) for name, note in _FLOORS.items()}
    targets = {rival.name: rival.target for rival in chosen}
    targets |= _fastest(chosen, measured, _FASTEST)
    what = f"{jobs:,} no-op Python jobs, 2 slots"
    for name, sample in measured.others.items():
        if name == _RECORDED_ON_REDIS:
            continue
        yield compared(
            5, what, "jobs/s", measured.own, name, sample,
            want="at least", target=targets.get(name), note=notes[name],
            is_floor=name == _RECORDED,
        )  # fmt: skip


def _fastest(chosen: list[rivals.Rival], measured: Noops, target: float) -> dict[str, float]:
    """Return the target for the fastest of the comparable ones."""
    speeds = {each.name: measured.others[each.name].median for each in chosen if each.is_like_ours}
    return {max(speeds, key=lambda name: speeds[name]): target} if speeds else {}


def noops_on_redis(bench: Bench) -> Iterator[Result]:
    """Measure row 14: the same on the server that the others use, by two supervisors of one slot."""
    jobs, measured = bench.scale.python_jobs, _measured(bench)
    if measured.on_redis is None:
        return
    chosen = [rival for rival in _chosen(bench) if rival.is_like_ours]
    targets = _fastest(chosen, measured, _FASTEST_ON_REDIS)
    notes = {rival.name: _note(rival, jobs) for rival in chosen}
    notes[_RECORDED_ON_REDIS] = _FLOORS[_RECORDED_ON_REDIS]
    what = f"{jobs:,} no-op Python jobs on Redis, 2 supervisors of 1 slot"
    for name, note in notes.items():
        yield compared(
            14, what, "jobs/s", measured.on_redis, name, measured.others[name],
            want="at least", target=targets.get(name), note=note,
            is_floor=name == _RECORDED_ON_REDIS,
        )  # fmt: skip


def _note(rival: rivals.Rival, jobs: int) -> str:
    return rival.note + scaled(jobs // rival.share, _WHOLE)


def two_supervisors(bench: Bench) -> Iterator[Result]:
    """Measure row 13: two supervisors against one."""
    jobs = bench.scale.python_jobs
    project = bench.project("supervisors")
    two, one = alternate(
        bench.scale.long_rounds,
        lambda: done(project, jobs, supervisors=2),
        lambda: done(project, jobs),
        warm=False,
    )
    what = f"{jobs:,} no-op Python jobs, two supervisors with 2 slots"
    yield compared(13, what, "jobs/s", two, "one of them", one, want="at least", target=1.0)
