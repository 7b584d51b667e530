"""Rows 4 and 6: commands, many of them, and the first instruction of one."""

import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import floors, promises
from benchmarks.harness import (
    ENVIRONMENT,
    Project,
    Unfinished,
    alternate,
    rate,
    seconds,
    wait_until,
)
from benchmarks.results import Result, compared
from benchmarks.scale import Bench

_SLOTS = 2
_XARGS = "xargs -P2, two files a job"
_PARALLEL = "GNU parallel -j2 --joblog --results"
_SPOOLER = "task-spooler -S 2"
_LEAST = "mkdir, two open, posix_spawn and wait for each"
_RECORDED = "the same, and each claimed and ended in the tables of ours"
_TARGETS = {_XARGS: 0.6, _PARALLEL: 3.0, _SPOOLER: 1.5}
_NOTES = {
    _XARGS: "its own start counts; keeps no queue, no state and no history",
    _PARALLEL: "its own start counts; keeps output and a log of its run, and nothing once it has ended",
    _SPOOLER: "its adds count: a job's process is forked then; the queue is in memory",
    _LEAST: "the floor: nothing is read, nothing recorded",
    _RECORDED: "the floor with the promises kept: at FULL in groups of 20, with the triggers that "
    "count jobs and a file of events; no other writers, no limits, no stopping, no leftovers",
}


def many(bench: Bench) -> Iterator[Result]:
    """Measure row 4: from pending to recorded."""
    jobs = bench.scale.shell_jobs
    project = bench.project("commands")
    folders = (bench.folder / f"others-{number}" for number in range(1000))

    def ours() -> float:
        return _ours(project, jobs)

    def xargs() -> float:
        return _xargs(next(folders), jobs)

    def least() -> float:
        return floors.spawned(next(folders), jobs, _SLOTS)

    def recorded() -> float:
        folder = next(folders)
        with promises.on_sqlite(project.database, folder.with_suffix(".db"), jobs) as exchange:
            return promises.commands(exchange, folder, jobs, _SLOTS)

    sides: dict[str, Callable[[], float]] = {_XARGS: xargs, _LEAST: least, _RECORDED: recorded}
    if shutil.which("parallel"):
        sides[_PARALLEL] = lambda: _parallel(next(folders), jobs)
    if shutil.which("tsp"):
        sides[_SPOOLER] = lambda: _spooler(next(folders), jobs)
    own, *samples = alternate(bench.scale.long_rounds, ours, *sides.values(), warm=False)
    what = f"{jobs:,} shell jobs `true`, 2 at once"
    for name, sample in zip(sides, samples, strict=True):
        target = _TARGETS.get(name)
        note = _NOTES.get(name, "")
        yield compared(
            4, what, "jobs/s", own, name, sample,
            want="at least", target=target, note=note, is_floor=name == _RECORDED,
        )  # fmt: skip
    for name in sorted(_TARGETS.keys() - sides.keys()):
        yield Result(
            row=4, measure=what, unit="jobs/s", ours=own.median, against=name, note="not installed"
        )


def _ours(project: Project, jobs: int) -> float:
    left = Unfinished(project)
    with project.queue() as queue:
        queue.add_many([{"type": "shell", "args": {"argv": ["true"]}}] * jobs)
    with project.working(_SLOTS):
        done = rate(left, jobs)
    left.close()
    return done


def _xargs(folder: Path, jobs: int) -> float:
    folder.mkdir()
    line = 'exec true >"$1.out" 2>"$1.err"'
    return jobs / seconds(
        lambda: subprocess.run(
            ["xargs", "-P2", "-n1", "sh", "-c", line, "sh"],
            cwd=folder,
            input="\n".join(map(str, range(jobs))),
            text=True,
            check=True,
        )
    )


def _parallel(folder: Path, jobs: int) -> float:
    folder.mkdir()
    return jobs / seconds(
        lambda: subprocess.run(
            ["parallel", "-j2", "--joblog", "log", "--results", "results", "true"],
            cwd=folder,
            input="\n".join(map(str, range(jobs))),
            env=ENVIRONMENT | {"HOME": str(folder)},
            text=True,
            check=True,
            capture_output=True,
        )
    )


def _spooler(folder: Path, jobs: int) -> float:
    """Measure from the first add on: it forks a job's process, which then waits for its turn."""
    folder.mkdir()
    own = ENVIRONMENT | {
        "TS_SOCKET": str(folder / "socket"),
        "TMPDIR": str(folder),
        "TS_SLOTS": str(_SLOTS),
        "TS_MAXFINISHED": str(jobs),
    }

    def tell(*words: str) -> None:
        os.waitpid(os.posix_spawnp("tsp", ["tsp", *words], own, file_actions=quiet), 0)

    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    try:
        start = time.perf_counter()
        for _ in range(jobs):
            tell("true")
        tell("-w")  # the last one
        return jobs / (time.perf_counter() - start)
    finally:
        tell("-K")


# -- row 6 -------------------------------------------------------------------------------------


def first_instruction(bench: Bench) -> Iterator[Result]:
    """Measure row 6: from `add` here to the first write of a shell job of an idle supervisor."""
    project = bench.project("latency")
    fifo = project.folder / "fifo"
    os.mkfifo(fifo)
    reading = os.open(fifo, os.O_RDWR)
    argv = ["/bin/sh", "-c", f"echo >{fifo}"]
    with project.queue() as queue, project.working(_SLOTS):

        def ours() -> float:
            return seconds(lambda: (queue.add("shell", {"argv": argv}), os.read(reading, 1)))

        wait_until(lambda: bool(queue.supervisors()))
        ours()
        times: list[float] = []
        spawns: list[float] = []
        for _ in range(bench.scale.waits):
            times.append(ours() * 1000)
            spawns.append(_spawn(argv, reading) * 1000)
            wait_until(lambda: not queue.find(status="running", limit=1), poll_interval=0.005)
    os.close(reading)
    floor = statistics.median(spawns)
    note = f"to spawn the same and hear of it: {floor:.1f} ms"
    for measure, place, target in (("p50", 49, 5.0), ("p99", 98, 20.0)):
        yield Result(
            row=6,
            measure=f"from add to the job's first instruction, {measure}",
            unit="ms",
            ours=statistics.quantiles(times, n=100)[place],
            target=target,
            note=note,
        )


def _spawn(argv: list[str], reading: int) -> float:
    start = time.perf_counter()
    pid = os.posix_spawn(argv[0], argv, os.environ)
    os.read(reading, 1)
    taken = time.perf_counter() - start
    os.waitpid(pid, 0)
    return taken
