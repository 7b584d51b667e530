"""`jobq run --here`: a job in the process of the command."""

import os
import signal
from collections.abc import Iterator

import pytest

from jobq import JobStatus
from tests.support.project import SETTINGS, Project, wait_until

WORKERS = """
import os, time
from jobq import JobContext, job_type

@job_type("halve")
def halve(number: int, job: JobContext) -> float:
    job.log.info("halving in %s", os.environ["JOBQ_JOB_ID"])
    job.progress(1, 2)
    half = number / 2
    breakpoint()
    return half

@job_type("fail")
def fail(number: int = 5):
    return number / 0

@job_type("sleep")
def sleep():
    print("asleep", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    root = tmp_path_factory.mktemp("project")
    (root / "jobq.toml").write_text(SETTINGS.replace("seconds = 30", "seconds = 5"))
    opened = Project(root)
    opened.worker("many", WORKERS)
    yield opened
    opened.close()


def test_a_breakpoint_stops_a_queued_job(project: Project) -> None:
    job = project.queue.add("halve", {"number": 6})
    done = project.jobq("run", "--here", "--id", str(job.id), stdin="p half\nc\n")
    assert done.returncode == 0, done.stderr
    assert "(Pdb) 3.0" in done.stdout
    ended = project.queue.get(job.id)
    assert (ended.status, ended.result) == (JobStatus.COMPLETED, 3.0)
    assert f"INFO halving in {job.id}" in done.stderr
    assert f"INFO halving in {job.id}" in project.output(ended, "job.log")
    assert [
        line for line in project.output(ended, "events.jsonl").splitlines() if "finished" in line
    ]


def test_a_failure_is_debugged_and_recorded(project: Project) -> None:
    done = project.jobq("run", "--here", "--pdb", "fail", "number=7", stdin="p number\nq\n")
    assert done.returncode == 1
    assert "(Pdb) 7" in done.stdout
    assert "ZeroDivisionError: division by zero" in done.stderr
    (job,) = project.queue.find(type="fail")
    assert (job.status, job.error) == (JobStatus.FAILED, "ZeroDivisionError: division by zero")


def test_a_command_has_the_terminal(project: Project) -> None:
    done = project.jobq("run", "--here", "--shell", "cat; echo $JOBQ_ATTEMPT; exit 7", stdin="hi\n")
    assert (done.returncode, done.stdout) == (7, "hi\n1\n")


def test_cancel_and_ctrl_c_end_it(project: Project) -> None:
    running = project.start("run", "--here", "sleep")
    assert running.stdout is not None
    assert running.stdout.readline() == "asleep\n"
    (job,) = project.queue.find(type="sleep", status="running")
    project.queue.cancel(job.id, "no need")
    assert running.wait(20) == 130
    wait_until(lambda: project.queue.get(job.id).status is JobStatus.CANCELLED)
    running = project.start("run", "--here", "sleep")
    assert running.stdout is not None
    assert running.stdout.readline() == "asleep\n"
    os.kill(running.pid, signal.SIGINT)
    assert running.wait(20) == 130
    assert [each.reason for each in project.queue.find(type="sleep")] == ["no need", "interrupted"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--here", "--id", "999"], 3, "no job 999"),
        (["--id", "1"], 2, "--id goes with --here"),
        (["--pdb", "fail"], 2, "--pdb goes with --here"),
        (["--here", "--id", "1", "fail"], 2, "give --id, or a job to add"),
    ],
)
def test_what_cannot_be_run_here_is_refused(
    project: Project, words: list[str], code: int, said: str
) -> None:
    done = project.jobq("run", *words)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def test_an_ended_job_is_not_run_again(project: Project) -> None:
    job = project.queue.add("fail", max_retries=0)
    assert project.jobq("run", "--here", "--id", str(job.id)).returncode == 1
    done = project.jobq("run", "--here", "--id", str(job.id))
    assert done.returncode == 4
    assert f"job {job.id} is failed: it can't be started now" in done.stderr
