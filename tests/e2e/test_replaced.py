"""The package is replaced under a running supervisor, as by an upgrade."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

import jobq
from jobq import JobStatus
from jobq.clock import utcnow
from jobq.queue import backend_of
from jobq.scheduling.schedules import Schedules
from tests.support.project import Project, wait_until

WORKER = """
from jobq import JobWorker


class Adds(JobWorker):
    job_type = "adds"

    def run(self, args, job):
        return job.add("shell", {"argv": ["true"]}).id
"""


@pytest.fixture
def installed(tmp_path: Path, project: Project) -> Iterator[Path]:
    """A copy of the package, which the project's processes use."""
    package = tmp_path / "lib" / "jobq"
    shutil.copytree(Path(jobq.__file__).parent, package)
    yield package
    project.close()


def work(project: Project, installed: Path, *words: str) -> "subprocess.Popen[bytes]":
    with (project.root / "said").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "jobq", "work", *words],
            cwd=project.root, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            env={**os.environ, "PYTHONPATH": str(installed.parent)},
        )  # fmt: skip
    project._processes.append(process)  # type: ignore[arg-type]
    return process


def due(project: Project, name: str, **fields: object) -> None:
    """Add a schedule that is due."""
    schedules = Schedules(project.queue)
    added = schedules.add(name, "* * * * *", fields)
    past = replace(added, next_at=utcnow() - timedelta(seconds=120))
    assert backend_of(project.queue).schedules.replace(added, past)


def test_a_supervisor_goes_on_although_its_package_is_gone(
    project: Project, installed: Path
) -> None:
    project.worker("adds", WORKER)
    dead = work(project, installed)
    lost = project.shell("echo x; [ -e go ] || exec sleep 600")
    wait_until(lambda: project.output(lost))
    dead.kill()
    dead.wait()
    supervisor = work(project, installed, "-j", "2")
    wait_until(lambda: len(project.queue.attempts(lost.id)) == 2)
    wait_until(lambda: len(project.output(lost)) == 4)
    first = project.queue.add("adds")
    project.wait_for(first, JobStatus.COMPLETED)
    modules = Path(f"/proc/{supervisor.pid}/maps")
    wait_until(lambda: "_pydantic_core" in modules.read_text())  # of what it imports late
    installed.rename(installed.with_name("gone"))
    due(project, "shell", args={"argv": ["true"]})
    due(project, "python", type="adds")
    wait_until(lambda: {"shell", "python"} <= {job.name for job in project.queue.find()})
    second = project.queue.add("adds")
    added = project.wait_for(second, JobStatus.COMPLETED).result
    project.wait_for(project.queue.get(added), JobStatus.COMPLETED)
    project.queue.cancel(lost.id)
    project.wait_for(lost, JobStatus.CANCELLED)
    loud = project.shell("seq 1 100000; exit 1", max_retries=0)
    project.wait_for(loud, JobStatus.FAILED)
    assert supervisor.poll() is None, (project.root / "said").read_text()
    supervisor.terminate()
    assert supervisor.wait(20) == 0, (project.root / "said").read_text()
