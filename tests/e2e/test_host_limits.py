"""A host that runs short: jobs wait, it is said once, and all goes on when it can."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

import psutil
import pytest

from jobq import JobStatus
from jobq.models import Outcome
from tests.support.project import SETTINGS, Project, wait_until

OTHER_USER = 61234 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
"""A user without processes: root has no limit of them, and they are counted by user.

One for each process that tests: their tests would take each other's places.
"""

WORKER = """
import os, time
from jobq import JobWorker


class Waits(JobWorker):
    job_type = "waits"

    def run(self, args, job):
        with open("up", "a") as file:
            file.write("x")
        while not os.path.exists("go"):
            time.sleep(0.02)
"""


AS_OTHER_USER = (
    "setpriv", f"--reuid={OTHER_USER}", f"--regid={OTHER_USER}", "--clear-groups",
    # This checkout and its Python may be where only root can read.
    "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
)  # fmt: skip


class OtherUser:
    """A project of another user, who may have as many processes as a test says."""

    def __init__(self, root: Path) -> None:
        self.project = Project(root)
        self.root = root
        self.said = root / "said"
        self._processes: list[subprocess.Popen[bytes]] = []

    def work(self, *words: str, processes: int) -> subprocess.Popen[bytes]:
        limited = (*AS_OTHER_USER, "prlimit", f"--nproc={processes}:{processes}")
        with self.said.open("wb") as file:
            process = subprocess.Popen(
                [*limited, sys.executable, "-m", "jobq", "work", *words],
                cwd=self.root, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def occupy(self, count: int) -> Callable[[], None]:
        """Start processes of that user; return what ends them."""
        started = [subprocess.Popen([*AS_OTHER_USER, "sleep", "600"]) for _ in range(count)]
        self._processes += started

        def end() -> None:
            for process in started:
                process.kill()
                process.wait()

        return end

    def allow(self, supervisor: subprocess.Popen[bytes], processes: int) -> None:
        """Set the limit of a supervisor and of all that it has started."""
        own = psutil.Process(supervisor.pid)
        for each in (own, *own.children(recursive=True)):
            with suppress(psutil.Error):
                each.rlimit(psutil.RLIMIT_NPROC, (processes, processes))

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self.project.close()


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtherUser]:
    if os.geteuid() != 0 or not which("setpriv"):
        pytest.skip("only root can start processes as another user, by setpriv")
    with TemporaryDirectory(prefix="jobq-other-") as name:
        root = Path(name).resolve()
        os.chown(root, OTHER_USER, OTHER_USER)
        words = [*AS_OTHER_USER, sys.executable, "-m", "jobq", "version"]
        probe = subprocess.run(words, cwd=root, capture_output=True, check=False)
        if probe.returncode:
            pytest.skip(f"another user can't run jobq from here: {probe.stderr.decode()}")
        (root / "jobq.toml").write_text(SETTINGS)
        (root / "workers").mkdir(exist_ok=True)
        (root / "workers" / "waits.py").write_text(WORKER)
        # Here, it is another user's.
        monkeypatch.setattr("jobq.config.trust._is_trusted", lambda _: True)
        opened = OtherUser(root)
        opened.project.queue.resume("default")  # a write makes the database
        for path in (root, *root.rglob("*")):
            os.chown(path, OTHER_USER, OTHER_USER)
        yield opened
        opened.close()


def text(other: OtherUser) -> str:
    return other.said.read_text()


def test_at_the_limit_of_processes_commands_wait_and_none_fails(other: OtherUser) -> None:
    queue = other.project.queue
    jobs = queue.add_many([{"type": "shell", "args": {"argv": ["true"]}, "max_retries": 0}] * 100)
    end = other.occupy(3)
    supervisor = other.work("-j", "20", processes=5)  # room for the fork server, and no other
    wait_until(lambda: "jobs wait" in text(other))
    assert not queue.counts().get(JobStatus.FAILED)
    end()
    other.allow(supervisor, 1000)
    last = jobs[-1].id
    wait_until(lambda: queue.counts().get(JobStatus.COMPLETED) == 100, 60)
    assert [each.outcome for each in queue.attempts(last)] == [Outcome.COMPLETED]
    wait_until(lambda: "there is room again" in text(other))
    assert text(other).count("jobs wait") == 1
    assert "Resource temporarily unavailable: end some processes" in text(other)
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(20) == 0
    assert "bug in jobq" not in text(other)


def test_python_jobs_that_can_not_be_given_a_process_go_back_and_run_later(
    other: OtherUser,
) -> None:
    queue = other.project.queue
    queue.add_many([{"type": "waits", "max_retries": 0, "timeout": 60}] * 8)
    supervisor = other.work("-j", "6", processes=6)
    wait_until(lambda: "jobs wait" in text(other), 40)
    up = other.root / "up"
    wait_until(lambda: up.exists() and len(up.read_text()) == queue.counts()[JobStatus.RUNNING])
    assert 1 <= queue.counts()[JobStatus.RUNNING] < 6
    (other.root / "go").touch()
    wait_until(lambda: queue.counts().get(JobStatus.COMPLETED) == 8, 60)
    assert all(len(queue.attempts(job.id)) == 1 for job in queue.find())
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(20) == 0


def test_without_room_for_a_fork_server_nothing_starts_until_there_is(other: OtherUser) -> None:
    queue = other.project.queue
    job = queue.add("shell", {"argv": ["true"]})
    end = other.occupy(3)
    supervisor = other.work("--drain", processes=4)
    wait_until(lambda: "jobs wait" in text(other))
    assert queue.get(job.id).status is JobStatus.PENDING
    assert supervisor.poll() is None
    end()
    assert supervisor.wait(30) == 0
    assert queue.get(job.id).status is JobStatus.COMPLETED
