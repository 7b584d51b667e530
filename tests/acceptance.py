"""The promises in figures, measured on real processes: ``python tests/acceptance.py [NAME …]``."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from jobq import JobQueue, JobStatus

ADDER = """
import json, sys, time
from jobq import JobQueue
longest = 0.0
with JobQueue.open(sys.argv[1]) as queue:
    print(flush=True)
    sys.stdin.readline()
    for _ in range(20):
        start = time.perf_counter()
        queue.add("shell", {"argv": ["true"]})
        longest = max(longest, time.perf_counter() - start)
print(json.dumps(longest))
"""
GRACE = 2.0


def main() -> None:
    """Each in a project of its own."""
    names = sys.argv[1:]
    for measure in (adders, limits, stubborn, recovery, takeover, overslept, exactness):
        if names and measure.__name__ not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "jobq.toml").write_text(f"[lease]\ngrace = {GRACE}\n")
            with JobQueue.open(root / "jobq.toml") as queue:
                print(measure(root, queue), flush=True)


def adders(root: Path, queue: JobQueue) -> str:
    """50 processes add 20 jobs each at once."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ADDER, str(root / "jobq.toml")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(50)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    start = time.perf_counter()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    answers = [process.communicate()[0] for process in processes]
    took = time.perf_counter() - start
    longest = max(json.loads(answer) for answer in answers)
    errors = sum(process.returncode != 0 for process in processes)
    jobs = queue.counts()[JobStatus.PENDING]
    return (
        f"50 processes adding 20 jobs each: {jobs} jobs, {errors} errors, {took:.2f} s in all, "
        f"longest single add {longest * 1000:.0f} ms"
    )


def limits(root: Path, queue: JobQueue) -> str:
    """Two supervisors, one queue of at most three at once, 200 jobs."""
    queue.create_queue("narrow", max_concurrent=3)
    queue.add_many({"args": {"argv": ["sleep", "0.02"]}, "queue": "narrow"} for _ in range(200))
    for supervisor in [start(root, "work", "-j", "2", "--drain") for _ in range(2)]:
        supervisor.wait()
    moments, owners = [], set()
    for job in queue.find():
        for attempt in queue.attempts(job.id):
            owners.add(attempt.supervisor)
            assert attempt.ended_at is not None
            moments += [(attempt.started_at, 1), (attempt.ended_at, -1)]
    running = most = 0
    for _, step in sorted(moments):
        running += step
        most = max(most, running)
    return (
        f"{len(owners)} supervisors, max_concurrent=3, {len(moments) // 2} jobs: "
        f"at most {most} at once"
    )


def stubborn(root: Path, queue: JobQueue) -> str:
    """A grandchild that ignores SIGTERM, and a cancel."""
    supervisor = start(root, "work")
    script = "sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.1; done' & wait"
    job = queue.add("shell", {"shell": script})
    log = queue.logs.path(job.id) / "stdout.log"
    until(lambda: log.exists() and log.read_text().endswith("\n"))
    pid = int(log.read_text())
    cancelled = time.perf_counter()
    queue.cancel(job.id)
    until(lambda: not alive(pid))
    took = time.perf_counter() - cancelled
    stop(supervisor)
    return (
        f"a grandchild that ignores SIGTERM is gone {took:.2f} s after cancel (grace {GRACE:.0f} s)"
    )


def recovery(root: Path, queue: JobQueue) -> str:
    """kill -9 of a supervisor in mid-run, and the next one."""
    gone, again = [], []
    for _ in range(10):
        supervisor = start(root, "work")
        job = queue.add("shell", {"shell": "[ $JOBQ_ATTEMPT = 2 ] || sleep 600 & wait"})
        until(lambda: queue.attempts(job.id) and queue.attempts(job.id)[0].pid)  # noqa: B023
        pid = queue.attempts(job.id)[0].pid
        killed = time.perf_counter()
        supervisor.kill()
        until(lambda: not alive(pid))  # noqa: B023
        gone.append(time.perf_counter() - killed)
        started = time.perf_counter()
        supervisor = start(root, "work")
        until(lambda: queue.get(job.id).status is JobStatus.COMPLETED)  # noqa: B023
        again.append(time.perf_counter() - started)
        assert queue.get(job.id).attempts == 2
        stop(supervisor)
    return (
        "kill -9 of the supervisor, 10 times: the job's processes gone after "
        f"{max(gone):.2f} s at the worst; attempt 2 done {sorted(again)[5]:.2f} s (median), "
        f"{max(again):.2f} s (worst) after `jobq work` is typed"
    )


def takeover(root: Path, queue: JobQueue) -> str:
    """kill -9 of a supervisor in mid-run, while another one is there."""
    took = []
    for _ in range(20):
        first = start(root, "work", "-j", "1")
        job = queue.add("shell", {"shell": "echo $JOBQ_ATTEMPT; [ $JOBQ_ATTEMPT = 2 ] || sleep 60"})
        log = queue.logs.path(job.id) / "stdout.log"
        until(lambda: log.exists() and log.read_text() == "1\n")  # noqa: B023
        second = start(root, "work")
        other = queue.add("shell", {"argv": ["true"]})  # by the second one: the first is full
        until(lambda: queue.get(other.id).status is JobStatus.COMPLETED)  # noqa: B023
        killed = time.perf_counter()
        first.kill()
        until(lambda: log.read_text() == "1\n2\n")  # noqa: B023
        took.append(time.perf_counter() - killed)
        until(lambda: queue.get(job.id).status is JobStatus.COMPLETED)  # noqa: B023
        assert queue.get(job.id).attempts == 2
        stop(second)
    return f"kill -9 of one of two supervisors: its job runs in the other after {figures(took)}"


def overslept(root: Path, queue: JobQueue) -> str:
    """A supervisor stopped for longer than its lease, and woken: what it still runs is ended."""
    (root / "jobq.toml").write_text(f"[lease]\nseconds = 1\ngrace = {GRACE}\n")
    took, late = [], 0
    for _ in range(20):
        first = start(root, "work")
        job = queue.add("shell", {"shell": "echo $JOBQ_ATTEMPT; [ $JOBQ_ATTEMPT = 2 ] || sleep 60"})
        log = queue.logs.path(job.id) / "stdout.log"
        until(lambda: log.exists() and log.read_text() == "1\n")  # noqa: B023
        stopped = time.perf_counter()
        os.kill(first.pid, signal.SIGSTOP)
        second = start(root, "work")
        until(lambda: queue.get(job.id).status is JobStatus.COMPLETED)  # noqa: B023
        took.append(time.perf_counter() - stopped)
        before = queue.attempts(job.id)
        os.kill(first.pid, signal.SIGCONT)
        stop(second)
        again = queue.add("shell", {"argv": ["true"]})  # by the first one: so it is awake
        until(lambda: queue.get(again.id).status is JobStatus.COMPLETED)  # noqa: B023
        late += queue.attempts(job.id) != before
        stop(first)
    return (
        f"SIGSTOP of a supervisor (lease 1 s): its job done by another after {figures(took)}; "
        f"woken up, it wrote to {late} attempts that it had lost"
    )


def figures(seconds: list[float]) -> str:
    """The median and the worst of what was measured."""
    middle = sorted(seconds)[len(seconds) // 2]
    return f"{middle:.2f} s (median), {max(seconds):.2f} s (worst of {len(seconds)})"


def exactness(root: Path, queue: JobQueue) -> str:
    """The arguments that other runners split, join or expand."""
    words = ["%s|", "a b", "$HOME", "*", "it's", "", "new\nline"]
    subprocess.run([sys.executable, "-m", "jobq", "add", "--", "printf", *words], cwd=root)  # noqa: PLW1510
    start(root, "work", "--drain").wait()
    ours = subprocess.run(
        [sys.executable, "-m", "jobq", "tail", "1"], cwd=root, capture_output=True, check=True
    ).stdout
    alone = subprocess.run(["printf", *words], capture_output=True, check=True).stdout
    return f"printf through jobq: {ours!r}; alone: {alone!r}; equal: {ours == alone}"


def start(root: Path, *words: str) -> "subprocess.Popen[bytes]":
    """Start a jobq command."""
    return subprocess.Popen(
        [sys.executable, "-m", "jobq", *words], cwd=root, stdout=subprocess.DEVNULL
    )


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Stop a supervisor as Ctrl-C twice would."""
    for _ in range(2):
        os.kill(process.pid, signal.SIGTERM)
        time.sleep(0.05)
    process.wait()


def alive(pid: int | None) -> bool:
    """Whether a process runs; one that only waits to be noticed by init does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


if __name__ == "__main__":
    main()
