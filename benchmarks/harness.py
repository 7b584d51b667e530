"""What every measurement needs: taking turns, waiting, processes, a project to work in."""

import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.results import Sample
from jobq import JobQueue

# Byte code is cached where people use jobq, and their settings are not to be measured.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name != "PYTHONDONTWRITEBYTECODE" and not name.startswith("JOBQ_")
}
REPOSITORY = Path(__file__).parents[1]
POLL = 0.02  # seconds between two looks at how many jobs are left
DEADLINE = 300.0  # seconds after which a measurement is given up

NOOP_WORKER = '''\
"""A job that does nothing, and one that holds its slot for a moment."""

import time

from jobq import JobContext, JobWorker


class Noop(JobWorker):
    """Nothing."""

    job_type = "noop"

    def run(self, args: object, job: JobContext) -> None:
        pass


class Hold(JobWorker):
    """Hold a slot, so that every slot has a child."""

    job_type = "hold"

    def run(self, args: object, job: JobContext) -> None:
        time.sleep(0.5)
'''


def alternate(rounds: int, *sides: Callable[[], float], warm: bool = True) -> list[Sample]:
    """What each side measures, in turns; with ``warm``, a round goes before that does not count."""
    taken: list[list[float]] = [[] for _ in sides]
    for number in range(-1 if warm else 0, rounds):
        for side, values in zip(sides, taken, strict=True):
            value = side()
            if number >= 0:
                values.append(value)
    return [Sample(tuple(values)) for values in taken]


def seconds(action: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def timed(action: Callable[[], object], times: int = 1) -> Callable[[], float]:
    """A side that measures the seconds of an action that is done so many times."""

    def side() -> float:
        return seconds(lambda: [action() for _ in range(times)]) / times

    return side


def typical(action: Callable[[], object], times: int) -> Callable[[], float]:
    """A side that measures the median seconds of an action that is done so many times."""
    return lambda: statistics.median(seconds(action) for _ in range(times))


def wait_until(condition: Callable[[], bool], beat: float = POLL) -> None:
    """Return once it holds.

    Raises:
        TimeoutError: it did not, for as long as a measurement may take.
    """
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing came of it in {DEADLINE:.0f} s")
        time.sleep(beat)


def rate(remaining: Callable[[], int], jobs: int) -> float:
    """Jobs a second, from the first look at which one of ``jobs`` has ended to the last one's end.

    So the start of the workers does not count, for nobody.
    """
    left = jobs

    def moved() -> bool:
        nonlocal left
        left = remaining()
        return left < jobs

    wait_until(moved)
    begun, start = left, time.perf_counter()
    wait_until(lambda: remaining() == 0)
    return begun / (time.perf_counter() - start)


def command(argv: Sequence[str], folder: Path, **more: str) -> Callable[[], object]:
    """A whole process, run to its end."""

    def run() -> object:
        return subprocess.run(
            argv, cwd=folder, env=ENVIRONMENT | more, check=True, capture_output=True
        )

    return run


@contextmanager
def background(argv: Sequence[str], folder: Path, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs meanwhile, and is then told to go, with all that it has started."""
    with (folder / "background.log").open("ab") as log:
        process = subprocess.Popen(
            argv,
            cwd=folder,
            env=ENVIRONMENT | more,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def jobq(*words: str) -> list[str]:
    """The command line of a verb."""
    return [sys.executable, "-m", "jobq", *words]


class Project:
    """A folder with a jobq.toml, a queue, and workers that do nothing."""

    def __init__(self, folder: Path, backend: str = "sqlite") -> None:
        self.folder = folder
        self.backend = backend
        (folder / "workers").mkdir(parents=True)
        (folder / "jobq.toml").write_text(
            f'backend = "{backend}"\n[workers]\npaths = ["workers"]\n'
        )
        (folder / "workers" / "noop.py").write_text(NOOP_WORKER)
        self.queue().close()

    def queue(self) -> JobQueue:
        """A handle of its own."""
        return JobQueue.open(self.folder / "jobq.toml")

    @property
    def database(self) -> Path:
        """The file."""
        return self.folder / ".jobq" / "jobq.db"

    @contextmanager
    def working(self, slots: int, supervisors: int = 1) -> Iterator[subprocess.Popen[bytes]]:
        """While jobs are run by supervisors with so many slots each; the last one of them."""
        with background(jobq("work", "-j", str(slots)), self.folder) as process:
            if supervisors == 1:
                yield process
            else:
                with self.working(slots, supervisors - 1) as last:
                    yield last


class Unfinished:
    """How many jobs of a project are pending or running, at little cost to who is measured."""

    def __init__(self, project: Project) -> None:
        self._connection = sqlite3.connect(project.database, isolation_level=None)

    def __call__(self) -> int:
        """Count them, by indexes that have nothing else in them."""
        (number,) = self._connection.execute(
            "SELECT (SELECT count(*) FROM job_queue WHERE status = 'pending') "
            "+ (SELECT count(*) FROM job_queue WHERE status = 'running')"
        ).fetchone()
        return int(number)

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()
