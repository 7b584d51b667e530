"""Row 10: many processes that add jobs as fast as they can."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Self

from benchmarks.floors import bare_database
from benchmarks.harness import ENVIRONMENT, REPOSITORY, Project
from benchmarks.results import Result, Sample, compared
from benchmarks.scale import Bench

_WRITER = """
import json, signal, sys, time
{opened}
going = True
def stop(*_):
    global going
    going = False
signal.signal(signal.SIGTERM, stop)
pause = float(sys.argv[2])
adds, longest = 0, 0.0
add()  # with everything imported
print("ready", flush=True)
sys.stdin.readline()
while going:
    start = time.perf_counter()
    add()
    longest = max(longest, time.perf_counter() - start)
    adds += 1
    if pause:
        time.sleep(pause)
print(json.dumps([adds, longest]), flush=True)
sys.stdin.readline()
"""
_OURS = """
from jobq import JobQueue
queue = JobQueue.open(sys.argv[1] + "/jobq.toml")
def add():
    queue.add("shell", {"argv": ["true"]})
"""
_BARE = """
from pathlib import Path
from benchmarks.floors import bare_connection, insert_in_turn
connection = bare_connection(Path(sys.argv[1]) / "bare.db")
write_lock = open(sys.argv[1] + "/bare.lock", "w").fileno
def add():
    insert_in_turn(connection, write_lock())
"""


@dataclass(frozen=True, slots=True)
class Writing:
    """The adds of all writers together."""

    adds: int
    longest: float  # seconds that one add took
    taken: float  # seconds

    @property
    def rate(self) -> float:
        """The adds per second."""
        return self.adds / self.taken


class Writers:
    """Processes that add jobs one by one, from `go` to `stop`."""

    def __init__(
        self, project: Project, count: int, pause: float = 0.0, *, bare: bool = False
    ) -> None:
        program = _WRITER.replace("{opened}", _BARE if bare else _OURS)
        argv = [sys.executable, "-c", program, str(project.folder), str(pause)]
        self._processes = [
            subprocess.Popen(
                argv,
                cwd=REPOSITORY,
                env=ENVIRONMENT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(count)
        ]
        for process in self._processes:
            _said(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()  # unless it has ended, as after `stop`
            process.wait()

    def go(self) -> None:
        """Start the writers."""
        self._start = time.perf_counter()
        for process in self._processes:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()

    def stop(self) -> Writing:
        """End the writers and return their adds."""
        taken = time.perf_counter() - self._start
        for process in self._processes:
            process.terminate()
        # All have stopped adding before any is let go: 64 interpreters that end keep the cores busy.
        answers = [json.loads(_said(process)) for process in self._processes]
        for process in self._processes:
            process.communicate()
        return Writing(sum(adds for adds, _ in answers), max(w for _, w in answers), taken)


def _said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline()


def written(project: Project, writers: int, seconds: float, *, bare: bool = False) -> Writing:
    """Return the adds of ``count`` writers in ``span`` seconds."""
    with Writers(project, writers, bare=bare) as group:
        group.go()
        time.sleep(seconds)
        return group.stop()


def crowd(bench: Bench) -> Iterator[Result]:
    """Measure row 10: the longest wait of one of many writers, and their adds together."""
    project, scale = bench.project("writers"), bench.scale
    tables = ("queues", "job_queue", "job_counts")
    bare_database(project.database, project.folder / "bare.db", *tables, triggers=True).close()

    def side(writers: int, *, bare: bool = False) -> Writing:
        return written(project, writers, scale.writing_seconds, bare=bare)

    alone, together, bare_alone, bare = _in_turns(
        scale.long_rounds,
        partial(side, 1),
        partial(side, scale.writers),
        partial(side, 1, bare=True),
        partial(side, scale.writers, bare=True),
    )
    longest = Sample(tuple(writing.longest * 1000 for writing in together))
    yield Result(
        row=10,
        measure=f"the longest add, {scale.writers} processes adding",
        unit="ms",
        ours=max(longest.values),
        spread=longest.spread,
        target=250,
        note=f"of {sum(writing.adds for writing in together):,}; of the bare programs': "
        f"{max(writing.longest for writing in bare) * 1000:.0f} ms",
    )
    rates = [_rates(group) for group in (alone, together, bare_alone, bare)]
    what = f"adds by {scale.writers} processes together"
    name = f"{scale.writers} bare programs that take a turn and INSERT"
    for measure, ours, against, theirs, target in (
        (what, rates[1], "one process", rates[0], 0.8),
        (what, rates[1], name, rates[3], None),
        (f"the floor: {name}", rates[3], "one such program", rates[2], None),
    ):
        yield compared(
            10, measure, "jobs/s", ours, against, theirs,
            want="at least", target=target, is_floor=measure.startswith("the floor"),
        )  # fmt: skip


def _in_turns(rounds: int, *sides: Callable[[], Writing]) -> list[list[Writing]]:
    done = [[side() for side in sides] for _ in range(rounds)]
    return [list(of_side) for of_side in zip(*done, strict=True)]


def _rates(writings: list[Writing]) -> Sample:
    return Sample(tuple(writing.rate for writing in writings))
