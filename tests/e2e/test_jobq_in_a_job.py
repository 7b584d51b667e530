"""`jobq` inside a job: its own queue, unless another one is named."""

import json
import shlex
import sys
from pathlib import Path

import pytest

from jobq import JobQueue
from tests.support.project import Project

JOBQ = f"{shlex.quote(sys.executable)} -m jobq"

NAMES_ANOTHER = """
from pydantic import BaseModel
from jobq import JobQueue, JobWorker

class NamesAnother(JobWorker):
    job_type = "names_another"
    class Args(BaseModel):
        path: str
    def run(self, args, job):
        with JobQueue.open(args.path) as queue:
            queue.add("shell", {"argv": ["true"]}, name="by a worker")
"""


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The jobq.toml of another project."""
    (tmp_path / "other").mkdir()
    file = tmp_path / "other" / "jobq.toml"
    file.write_text("")
    return file


def names_in(config: Path) -> set[str | None]:
    with JobQueue.open(config) as queue:
        return {job.name for job in queue.find()}


@pytest.mark.slow
def test_a_job_a_worker_and_a_hook_reach_the_queue_that_they_name(
    project: Project, other: Path
) -> None:
    hook = ["sh", "-c", f"{JOBQ} --config {other} add --name by-a-hook -- true"]
    settings = (project.root / "jobq.toml").read_text()
    (project.root / "jobq.toml").write_text(f"{settings}[hooks]\non_finish = {json.dumps(hook)}")
    project.worker("names_another", NAMES_ANOTHER)
    project.reopen()
    project.shell(f"{JOBQ} --config {other} add --name by-option -- true")
    project.shell(f"JOBQ_CONFIG={other} {JOBQ} add --name by-variable -- true")
    project.queue.add("names_another", {"path": str(other)})
    project.drain()
    assert names_in(other) == {"by-option", "by-variable", "by a worker", "by-a-hook"}
    assert len(project.queue.find()) == 3


@pytest.mark.slow
def test_a_job_that_names_no_queue_reaches_its_own(project: Project, other: Path) -> None:
    project.shell(f"cd {other.parent} && {JOBQ} add --name mine -- true")
    project.drain()
    assert names_in(other) == set()
    assert names_in(project.root / "jobq.toml") == {None, "mine"}
