"""Rows 1, 11 and 12: whole processes of the command line, as a person or a script starts them."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import floors
from benchmarks.harness import alternate, command, jobq, timed
from benchmarks.results import Result, Sample, compared
from benchmarks.scale import Bench

_MS = 1000.0
_IMPORTS = "argparse + tomllib + sqlite3, imported"
_APP = "a Typer app of one command, same options"


def add(bench: Bench) -> Iterator[Result]:
    """Measure row 1: `jobq add -- true`, and the same with others."""
    folder = bench.project("startup").folder
    others = {
        _APP: floors.typer_app(folder, "add", "--", "true"),
        _IMPORTS: [sys.executable, "-c", floors.STANDARD_LIBRARY],
    }
    if bench.scale.slow_peers:
        others |= _peers()
    ours, *theirs = _processes(bench, folder, jobq("add", "--", "true"), *others.values())
    targets = {_APP: 1.2, _IMPORTS: 1.6}
    for name, sample in zip(others, theirs, strict=True):
        note = "a stretch" if name == _IMPORTS else ""
        target = targets.get(name)
        yield compared(1, "jobq add -- true", "ms", ours, name, sample, target=target, note=note)


def _peers() -> dict[str, list[str]]:
    """Return commands of others that only start."""
    binaries = Path(sys.executable).parent
    found = {
        "rq --version": [str(binaries / "rq"), "--version"],
        "celery --version": [str(binaries / "celery"), "--version"],
    }
    if parallel := shutil.which("parallel"):
        found["GNU parallel true"] = [parallel, "true", ":::", "1"]
    return {name: argv for name, argv in found.items() if Path(argv[0]).exists()}


def listing(bench: Bench) -> Iterator[Result]:
    """Measure row 11: a list of fifty, and the completion of an id, beside many jobs."""
    folder = bench.big().folder
    jobs = bench.scale.finished + bench.scale.scheduled
    beginning = str(jobs)[:-2]
    for measure, verb, words, more in (
        ("jobq list", "list", (), {}),
        ("completion of an id", "show", ("1",), _completing(f"jobq show {beginning}")),
    ):
        argv = jobq() if more else jobq(verb)
        floor = command(floors.typer_app(folder, verb, *words), folder)
        samples = alternate(bench.scale.rounds, timed(command(argv, folder, **more)), timed(floor))
        ours, theirs = (sample.scaled(_MS) for sample in samples)
        what = f"{measure}, {jobs:,} jobs"
        yield compared(11, what, "ms", ours, _APP, theirs, target=1.3)


def _completing(line: str) -> dict[str, str]:
    words = line.split(" ")
    return {
        "_JOBQ_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }


def tail(bench: Bench) -> Iterator[Result]:
    """Measure row 12: the end of a long log."""
    project = bench.project("tail")
    with project.queue() as queue:
        job = queue.add("shell", {"argv": ["true"]})
        queue.logs.create(job).close()
        _write_log(queue.logs.path(job.id) / "stdout.log", bench.scale.log_bytes)
    words = ("-n", "100", str(job.id))
    floor = floors.typer_app(project.folder, "tail", *words)
    ours, theirs = _processes(bench, project.folder, jobq("tail", *words), floor)
    what = f"jobq tail -n 100, a log of {bench.scale.log_bytes / 1e9:g} GB"
    yield compared(12, what, "ms", ours, _APP, theirs, target=1.3)
    shutil.rmtree(project.folder)


def _write_log(path: Path, size: int) -> None:
    block = b"".join(
        json.dumps({"line": number, "text": "frame decoded"}).encode() + b"\n"
        for number in range(20_000)
    )
    with path.open("wb") as file:
        for _ in range(size // len(block) + 1):
            file.write(block)


def _processes(bench: Bench, folder: Path, *lines: list[str]) -> list[Sample]:
    """Measure the milliseconds of each command line."""
    sides: list[Callable[[], float]] = [timed(command(argv, folder)) for argv in lines]
    return [sample.scaled(_MS) for sample in alternate(bench.scale.rounds, *sides)]
