"""The parts of every measurement: turns, waiting, processes, and a project."""

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

# Users have byte code cached; and settings of the user who measures must not count.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name != "PYTHONDONTWRITEBYTECODE" and not name.startswith("JOBQ_")
}
REPOSITORY = Path(__file__).parents[1]
POLL_INTERVAL_S = 0.02  # between two counts of the jobs that are left
DEADLINE_S = 300.0  # after which a measurement fails

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
    """Return what each side measures, in turns; with ``warm``, a first round does not count."""
    taken: list[list[float]] = [[] for _ in sides]
    for number in range(-1 if warm else 0, rounds):
        for side, values in zip(sides, taken, strict=True):
            value = side()
            if number >= 0:
                values.append(value)
    return [Sample(tuple(values)) for values in taken]


def seconds(action: Callable[[], object]) -> float:
    """Return how many seconds an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def timed(action: Callable[[], object], times: int = 1) -> Callable[[], float]:
    """Return a side that measures the mean seconds of an action over ``times`` repetitions."""

    def side() -> float:
        return seconds(lambda: [action() for _ in range(times)]) / times

    return side


def typical(action: Callable[[], object], times: int) -> Callable[[], float]:
    """Return a side that measures the median seconds of an action over ``times`` repetitions."""
    return lambda: statistics.median(seconds(action) for _ in range(times))


def wait_until(condition: Callable[[], bool], poll_interval: float = POLL_INTERVAL_S) -> None:
    """Return once the condition holds.

    Raises:
        TimeoutError: it did not within the deadline.
    """
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"no result within {DEADLINE_S:.0f} s")
        time.sleep(poll_interval)


def rate(remaining: Callable[[], int], jobs: int) -> float:
    """Return jobs per second, from the first count that shows an ended job to the end of the last.

    So the start of the workers does not count, neither ours nor others'.
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
    """Return an action that runs a process to its end."""

    def run() -> object:
        return subprocess.run(
            argv, cwd=folder, env=ENVIRONMENT | more, check=True, capture_output=True
        )

    return run


@contextmanager
def background(argv: Sequence[str], folder: Path, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process meanwhile, then end it together with all that it started."""
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
    """Return the command line of a verb."""
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
        """Open the project's queue."""
        return JobQueue.open(self.folder / "jobq.toml")

    @property
    def database(self) -> Path:
        """The database file."""
        return self.folder / ".jobq" / "jobq.db"

    @contextmanager
    def working(self, slots: int, supervisors: int = 1) -> Iterator[subprocess.Popen[bytes]]:
        """Run supervisors with ``slots`` slots each meanwhile; yield the last one's process."""
        with background(jobq("work", "-j", str(slots)), self.folder) as process:
            if supervisors == 1:
                yield process
            else:
                with self.working(slots, supervisors - 1) as last:
                    yield last


class Unfinished:
    """The number of pending and running jobs, counted at little cost to what is measured."""

    def __init__(self, project: Project) -> None:
        self._connection = sqlite3.connect(project.database, isolation_level=None)

    def __call__(self) -> int:
        """Count them by indexes that contain nothing else."""
        (number,) = self._connection.execute(
            "SELECT (SELECT count(*) FROM job_queue WHERE status = 'pending') "
            "+ (SELECT count(*) FROM job_queue WHERE status = 'running')"
        ).fetchone()
        return int(number)

    def close(self) -> None:
        """Close the database."""
        self._connection.close()
