"""A project on disk, and the real command in real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Unpack

import psutil
import pytest

from jobq import Job, JobQueue, JobStatus
from jobq.options import JobOptions

SETTINGS = """
concurrency = 2
[lease]
seconds = 30
grace = 1
[retry]
base = 0.05
jitter = 0
"""


def wait_until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for a condition, with a deadline that a slow host can keep."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Return whether a process runs, rather than is dead and not waited for yet."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def fork_server(supervisor: "subprocess.Popen[str]") -> psutil.Process:
    """Return the fork server of a supervisor."""
    (server,) = filter(is_fork_server, psutil.Process(supervisor.pid).children())
    return server


def is_fork_server(process: psutil.Process) -> bool:
    """Return whether a process is a fork server by now."""
    try:
        return "jobq.execution.children.fork_server" in process.cmdline()
    except psutil.Error:  # it has just ended
        return False


class Project:
    """A directory with a jobq.toml, its queue, and the processes started in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.queue = JobQueue.open(root / "jobq.toml")
        self._processes: list[subprocess.Popen[str]] = []

    def jobq(
        self, *args: str, stdin: str | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "jobq", *args],
            cwd=self.root,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            encoding="utf-8",
            env={**os.environ, **(env or {})},
            timeout=60,
            check=False,
        )

    def start(self, *args: str, said: str | None = None) -> subprocess.Popen[str]:
        """Start the command, to be ended with the test at the latest; ``said``: a file for output."""
        file = None if said is None else (self.root / said).open("w")
        process = subprocess.Popen(
            [sys.executable, "-m", "jobq", *args],
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if file is None else file,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        if file is not None:
            file.close()
        self._processes.append(process)
        return process

    def work(self, *args: str, said: str | None = None) -> subprocess.Popen[str]:
        """Start a supervisor."""
        return self.start("work", *args, said=said)

    def drain(self, *args: str) -> str:
        """Run everything there is to run; return what the supervisor printed."""
        done = self.jobq("work", "--drain", "--wait-retries", *args)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def shell(self, script: str, **options: Unpack[JobOptions]) -> Job:
        """Add a job that runs a line of shell."""
        return self.queue.add("shell", {"shell": script}, **options)

    def output(self, job: Job, name: str = "stdout.log") -> str:
        """Return what a job wrote."""
        path = self.queue.logs.path(job.id) / name
        return path.read_text("utf-8") if path.exists() else ""

    def wait_for(self, job: Job, status: JobStatus) -> Job:
        """Wait until a job is in a status."""
        wait_until(lambda: self.queue.get(job.id).status is status)
        return self.queue.get(job.id)

    def worker(self, name: str, source: str) -> None:
        """Write a worker file."""
        folder = self.root / "workers"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(source)

    def reopen(self) -> None:
        """Open the queue again, with jobq.toml as it is now."""
        self.queue.close()
        self.queue = JobQueue.open(self.root / "jobq.toml")

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.communicate()
        self.queue.close()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    root = tmp_path / "project"
    root.mkdir()
    (root / "jobq.toml").write_text(SETTINGS)
    opened = Project(root)
    yield opened
    opened.close()
