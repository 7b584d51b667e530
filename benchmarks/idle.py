"""Rows 7 and 9: time and memory that an idle supervisor takes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.harness import Project, Unfinished, wait_until
from benchmarks.results import Result, scaled
from benchmarks.scale import Bench

_SLOTS = 4
_SETTLE_S = 2.0  # until the work after the last job is over


@contextmanager
def _idle(project: Project) -> Iterator[int]:
    """Run an idle supervisor that has a child in every slot; yield its process id."""
    with project.working(_SLOTS) as supervisor:
        _work_off(project, "hold", 2 * _SLOTS)
        yield supervisor.pid


def _work_off(project: Project, job_type: str, jobs: int) -> None:
    """Run ``jobs`` jobs, and wait for the work that follows the last one."""
    left = Unfinished(project)
    with project.queue() as queue:
        queue.add_many([{"type": job_type}] * jobs)
    wait_until(lambda: left() == 0, poll_interval=0.2)
    time.sleep(_SETTLE_S)
    left.close()


def _processes(pid: int) -> list[int]:
    """Return the ids of a process and of all its descendants."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def busy(bench: Bench) -> Iterator[Result]:
    """Measure row 7: time on a core, and wake-ups."""
    with _idle(bench.project("idle")) as pid:
        pids = _processes(pid)
        before, start = [_used(each) for each in pids], time.perf_counter()
        time.sleep(bench.scale.idle_seconds)
        after, taken = [_used(each) for each in pids], time.perf_counter() - start
    cpu = sum(b[0] - a[0] for a, b in zip(before, after, strict=True)) / 1e9 / taken
    wakes = sum(b[1] - a[1] for a, b in zip(before, after, strict=True)) / taken
    note = f"{len(pids)} processes, {taken:.0f} s"
    for what, unit, value, target in (
        ("time on a core", "%", cpu * 100, 0.3),
        ("wake-ups", "/s", wakes, 5.0),
    ):
        yield Result(
            row=7, measure=f"idle, 4 slots: {what}", unit=unit, ours=value, target=target, note=note
        )


def _used(pid: int) -> tuple[int, int]:
    """Return nanoseconds on a core, and voluntary context switches, over all threads."""
    nanoseconds = switches = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        nanoseconds += int((task / "schedstat").read_text().split()[0])
        status = (task / "status").read_text()
        switches += int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return nanoseconds, switches


def memory(bench: Bench) -> Iterator[Result]:
    """Measure row 9: proportional set size, fresh and after many jobs."""
    jobs = bench.scale.memory_jobs
    project = bench.project("memory")
    with _idle(project) as pid:
        pids = _processes(pid)
        fresh = _megabytes(pids)
        _work_off(project, "noop", jobs)
        _work_off(
            project, "hold", 2 * _SLOTS
        )  # a child that has served its number of jobs may be gone
        after = _processes(pid)
        assert len(after) == len(pids), f"{len(after)} processes, and {len(pids)} before"
        used = _megabytes(after)
    yield Result(
        row=9,
        measure="supervisor, fork server and 4 idle children",
        unit="MB",
        ours=fresh,
        target=90,
        note=f"proportional set size of {len(pids)} processes",
    )
    yield Result(
        row=9,
        measure=f"after {jobs:,} no-op Python jobs",
        unit="MB",
        ours=used,
        against="before them",
        theirs=fresh,
        target=1.05,
        note=scaled(jobs, 200_000).removeprefix("; "),
    )


def _megabytes(pids: list[int]) -> float:
    kilobytes = 0
    for pid in pids:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        kilobytes += int(text.partition("\nPss:")[2].split()[0])
    return kilobytes * 1024 / 1e6
