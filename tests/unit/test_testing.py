"""`jobq.testing`, as authors of workers use it."""

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from pydantic import BaseModel

from jobq import (
    JobContext,
    JobQueue,
    JobStatus,
    JobWorker,
    Permanent,
    UsageError,
    job_type,
    testing,
)

WORKERS = """
from jobq import JobContext, job_type
from .common import GREETING

@job_type("greet")
def greet(name: str) -> str:
    return f"{GREETING}, {name}"

@job_type("invite")
def invite(name: str, job: JobContext) -> None:
    job.add("greet", {"name": name}, queue="mail")
"""


@pytest.fixture
def authors(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with workers, and a queue in its settings."""
    (project / "jobq.toml").write_text(
        "[hooks]\non_finish = ['false']\n[queues.mail]\npriority = 7\n"
    )
    (project / "workers").mkdir()
    (project / "workers" / "greet.py").write_text(WORKERS)
    (project / "workers" / "common.py").write_text("GREETING = 'Hello'\n")
    monkeypatch.chdir(project)
    return project


class Fail(JobWorker):
    job_type = "fail"
    max_retries = 0

    class Args(BaseModel):
        why: str = "no reason"

    def run(self, args: Args, job: JobContext) -> None:
        print("about to fail")  # noqa: T201 - output is what is tested
        raise Permanent(args.why) if args.why else ValueError("odd")


def test_a_queue_of_the_tests_own_has_the_types_and_queues_of_the_project(authors: Path) -> None:
    with JobQueue.open() as real, testing.queue() as queue:
        theirs = real.add("shell", {"argv": ["false"]})
        job = queue.add("invite", {"name": "Ada"})
        invited, greeted = testing.drain(queue, check=True)
        assert (invited.id, greeted.result, greeted.queue) == (job.id, "Hello, Ada", "mail")
        assert real.get(theirs.id).status is JobStatus.PENDING
        folder = queue.settings.database.parent
    assert not folder.exists()


def test_it_needs_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with testing.queue(workers=[Fail]) as queue:
        queue.add("fail")
        (job,) = testing.drain(queue)
    assert (job.status, job.error) == (JobStatus.FAILED, "no reason")


def test_a_real_queue_is_not_drained(queue: JobQueue) -> None:
    job = queue.add("shell", {"argv": ["true"]})
    with pytest.raises(UsageError, match=r"jobq\.db is a real queue, .*real=True"):
        testing.drain(queue)
    assert queue.get(job.id).status is JobStatus.PENDING
    assert testing.drain(queue, real=True)[0].status is JobStatus.COMPLETED


def test_workers_of_the_test_take_the_place_of_the_projects(authors: Path) -> None:
    @job_type("greet")
    def other(name: str) -> str:
        return f"Not {name}"

    with testing.queue([other]) as queue:
        queue.add("greet", {"name": "Ada"})
        assert testing.drain(queue)[0].result == "Not Ada"


def test_run_knows_the_other_types_of_the_project(authors: Path) -> None:
    @job_type("more")
    def more(job: JobContext) -> None:
        job.add("greet", {"name": "Ada"})

    done = testing.run(more, check=True)
    assert [job.type for job in done.added] == ["greet"]


def test_check_raises_what_the_worker_raised() -> None:
    assert isinstance(testing.run(Fail).error, Permanent)
    with pytest.raises(Permanent, match="no reason") as raised:
        testing.run(Fail, check=True)
    assert raised.traceback[-1].name == "run"
    assert str(raised.traceback[-1].path) == __file__
    with testing.queue([Fail]) as queue:
        queue.add("fail", {"why": "late"})
        with pytest.raises(Permanent, match="late") as raised:
            testing.drain(queue, check=True)
        assert raised.value.__notes__ == ["in job 1, fail {'why': 'late'}"]
        queue.add("shell", {"argv": ["false"]}, max_retries=0)
        with pytest.raises(RuntimeError, match="job 2, shell: exit code 1"):
            testing.drain(queue, check=True)
        assert [job.status for job in queue.find()] == [JobStatus.FAILED] * 2


def test_the_traceback_is_in_the_log_as_after_a_real_run() -> None:
    with testing.queue([Fail]) as queue:
        job = queue.add("fail", {"why": ""})
        testing.drain(queue)
        folder = queue.logs.path(job.id)
        assert (folder / "stdout.log").read_text() == "about to fail\n"
        assert "ValueError: odd" in (folder / "stderr.log").read_text()


def test_the_fixture_and_relative_imports_work_in_one_layout(authors: Path) -> None:
    (authors / "tests").mkdir()
    (authors / "tests" / "test_greet.py").write_text(
        dedent("""
        from jobq.testing import drain
        from workers.greet import greet

        def test_it_greets(jobq_queue):
            jobq_queue.add("greet", {"name": "Ada"})
            assert drain(jobq_queue, check=True)[0].result == greet("Ada")
        """)
    )
    done = subprocess.run(
        [Path(sys.executable).with_name("pytest"), "-q", "-p", "no:cacheprovider"],
        cwd=authors,  # `python -m pytest` would put this directory on the path
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout
