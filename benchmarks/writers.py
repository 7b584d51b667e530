"""Row 10: many processes that add jobs as fast as they can."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from benchmarks.harness import ENVIRONMENT, Project
from benchmarks.results import Result, Sample, compared
from benchmarks.scale import Bench

_WRITER = """
import json, signal, sys, time
from jobq import JobQueue
going = True
def stop(*_):
    global going
    going = False
signal.signal(signal.SIGTERM, stop)
pause = float(sys.argv[2])
adds, longest = 0, 0.0
with JobQueue.open(sys.argv[1]) as queue:
    queue.add("shell", {"argv": ["true"]})  # with everything imported
    print("ready", flush=True)
    sys.stdin.readline()
    while going:
        start = time.perf_counter()
        queue.add("shell", {"argv": ["true"]})
        longest = max(longest, time.perf_counter() - start)
        adds += 1
        if pause:
            time.sleep(pause)
print(json.dumps([adds, longest]))
"""


@dataclass(frozen=True, slots=True)
class Writing:
    """What the writers did, together."""

    adds: int
    longest: float  # seconds that one add took
    taken: float  # seconds

    @property
    def rate(self) -> float:
        """Adds a second."""
        return self.adds / self.taken


class Writers:
    """Processes that add jobs one by one, from `go` to `stop`."""

    def __init__(self, project: Project, count: int, pause: float = 0.0) -> None:
        argv = [sys.executable, "-c", _WRITER, str(project.folder / "jobq.toml"), str(pause)]
        self._processes = [
            subprocess.Popen(
                argv,
                cwd=project.folder,
                env=ENVIRONMENT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(count)
        ]
        for process in self._processes:
            assert process.stdout
            process.stdout.readline()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()  # unless it has ended, as after `stop`
            process.wait()

    def go(self) -> None:
        """Let them begin."""
        self._start = time.perf_counter()
        for process in self._processes:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()

    def stop(self) -> Writing:
        """End them; what they did."""
        taken = time.perf_counter() - self._start
        for process in self._processes:
            process.terminate()
        answers = [json.loads(process.communicate()[0]) for process in self._processes]
        return Writing(sum(adds for adds, _ in answers), max(w for _, w in answers), taken)


def written(project: Project, writers: int, seconds: float) -> Writing:
    """So many writers for so long."""
    with Writers(project, writers) as group:
        group.go()
        time.sleep(seconds)
        return group.stop()


def crowd(bench: Bench) -> Iterator[Result]:
    """Row 10: how long one of many waits, and what they get done together."""
    project, scale = bench.project("writers"), bench.scale
    one: list[Writing] = []
    many: list[Writing] = []
    for _ in range(scale.long_rounds):
        one.append(written(project, 1, scale.writing_seconds))
        many.append(written(project, scale.writers, scale.writing_seconds))
    longest = Sample(tuple(writing.longest * 1000 for writing in many))
    yield Result(
        row=10,
        measure=f"the longest add, {scale.writers} processes adding",
        unit="ms",
        ours=max(longest.values),
        spread=longest.spread,
        target=250,
        note=f"of {sum(writing.adds for writing in many):,}",
    )
    together, alone = (Sample(tuple(item.rate for item in group)) for group in (many, one))
    what = f"adds by {scale.writers} processes together"
    yield compared(10, what, "jobs/s", together, "one process", alone, want="at least", target=0.8)
