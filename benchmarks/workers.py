"""Rows 5 and 13: jobs in Python, ours and others', by one supervisor and by two."""

from collections.abc import Callable, Iterator
from functools import partial

from benchmarks import floors, rivals
from benchmarks.harness import Project, Unfinished, alternate, rate
from benchmarks.results import Result, compared, scaled
from benchmarks.rivals import RIVALS
from benchmarks.scale import Bench

_SLOTS = 2
_FASTEST = 1.5  # of whoever acknowledges after the work
_LEAST = "mkdir, two open, dup2 and a pipe for each"


def done(project: Project, jobs: int, supervisors: int = 1) -> float:
    """No-op Python jobs a second."""
    left = Unfinished(project)
    with project.queue() as queue:
        queue.add_many([{"type": "noop"}] * jobs)
    with project.working(_SLOTS, supervisors):
        measured = rate(left, jobs)
    left.close()
    return measured


def noops(bench: Bench) -> Iterator[Result]:
    """Row 5: jobs that do nothing, with their output captured."""
    jobs = bench.scale.python_jobs
    project = bench.project("noops")
    floor_folders = (bench.folder / f"handed-{number}" for number in range(1000))
    chosen = [
        rival
        for rival in RIVALS
        if rivals.installed() and (bench.scale.slow_peers or rival.share == 1)
    ]
    sides: dict[str, Callable[[], float]] = {
        rival.name: partial(rivals.measured, rival, bench.folder / rival.app, jobs)
        for rival in chosen
    }
    sides[_LEAST] = lambda: floors.handed_over(next(floor_folders), jobs, _SLOTS)
    own, *samples = alternate(
        bench.scale.long_rounds, lambda: done(project, jobs), *sides.values(), warm=False
    )
    notes = {rival.name: _note(rival, jobs) for rival in chosen}
    notes[_LEAST] = "the floor: nothing is recorded" + scaled(jobs, 20_000)
    targets = {rival.name: rival.target for rival in chosen}
    late = [rival.name for rival in chosen if rival.app != "huey_app"]
    by_name = dict(zip(sides, samples, strict=True))
    if late:
        targets[max(late, key=lambda name: by_name[name].median)] = _FASTEST
    what = f"{jobs:,} no-op Python jobs, 2 slots"
    for name, sample in by_name.items():
        yield compared(
            5, what, "jobs/s", own, name, sample,
            want="at least", target=targets.get(name), note=notes[name],
        )  # fmt: skip


def _note(rival: rivals.Rival, jobs: int) -> str:
    return rival.note + scaled(jobs // rival.share, jobs)


def two_supervisors(bench: Bench) -> Iterator[Result]:
    """Row 13: whether a second supervisor is in the first one's way."""
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
