"""Supervisors in the background: `jobq up`, `jobq down`, and [work] autostart."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from jobq import JobStatus
from jobq.execution.background import taking_jobs
from jobq.supervisor_process import log_file
from tests.support.cli_runner import on_terminal
from tests.support.project import SETTINGS, Project, alive, wait_until

AUTOSTART = f"{SETTINGS}\n[work]\nautostart = true\n"


@pytest.fixture
def up(project: Project) -> Iterator[Project]:
    """Return a project whose supervisors end with the test."""
    yield project
    project.jobq("down", "--now")


@pytest.fixture
def automatic(up: Project) -> Project:
    """Return a project in which adding jobs starts a supervisor."""
    (up.root / "jobq.toml").write_text(AUTOSTART)
    up.reopen()
    return up


def test_up_starts_one_supervisor_and_down_ends_it(up: Project) -> None:
    job = up.shell("echo done")
    started = up.jobq("up", "-j", "3")
    assert (started.returncode, started.stderr) == (0, "")
    (supervisor,) = taking_jobs(up.queue)
    assert supervisor.slots == 3
    assert f"pid {supervisor.pid}" in started.stdout
    assert os.getsid(supervisor.pid) == supervisor.pid  # it outlives the terminal
    assert up.jobq("up").stdout == f"A supervisor is running: {supervisor.id}\n"
    up.wait_for(job, JobStatus.COMPLETED)
    ended = up.jobq("down")
    assert (ended.returncode, ended.stdout) == (0, "Ended 1 supervisor\n")
    assert not alive(supervisor.pid)
    assert "job 1 completed" in log_file(up.queue.settings).read_text()
    assert up.jobq("down").stderr == "No supervisor is running here.\n"


def test_down_waits_for_running_jobs_and_down_now_gives_them_back(up: Project) -> None:
    up.jobq("up")
    job = up.shell("sleep 60")
    up.wait_for(job, JobStatus.RUNNING)
    waiting = up.start("down")
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == (
        "Waiting for 1 running job: jobq down --now gives them back\n"
    )
    waiting.terminate()
    assert taking_jobs(up.queue) == []
    second = up.jobq("down", "--now")
    assert second.stdout == "Ended 1 supervisor\n"
    assert up.queue.get(job.id).status is JobStatus.PENDING


def test_a_supervisor_that_does_not_start_says_why(up: Project) -> None:
    (up.root / "jobq.toml").write_text(f"log_dir = '{up.root}/jobq.toml'\n" + SETTINGS)
    refused = up.jobq("up")
    assert refused.returncode == 1
    assert refused.stderr.startswith("jobq: the supervisor did not start: ")
    assert str(log_file(up.queue.settings)) in refused.stderr


def test_a_job_starts_no_supervisor(up: Project) -> None:
    refused = up.jobq("up", env={"JOBQ_JOB_ID": "1", "JOBQ_SUPERVISOR": "x"})
    assert refused.returncode == 2
    assert "this is a job" in refused.stderr


def test_many_adds_start_one_supervisor(automatic: Project) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9 10; do $0 -m jobq add -- true & done; wait"
    done = subprocess.run(
        ["sh", "-c", script, sys.executable], cwd=automatic.root, capture_output=True, check=True
    )
    assert done.stderr == b""
    wait_until(lambda: automatic.queue.counts().get(JobStatus.COMPLETED) == 10)
    log = log_file(automatic.queue.settings).read_text()
    assert log.count("runs up to") == 1
    assert "exits" not in log


def test_followed_jobs_run_by_themselves(automatic: Project) -> None:
    done = automatic.jobq("add", "-f", "--retries", "0", "--", "sh", "-c", "echo hello; exit 3")
    assert (done.returncode, done.stdout) == (3, "1\nhello\n")
    assert "no supervisor" not in done.stderr
    shown = on_terminal(automatic.root, "add", "--", "true").text
    assert "starting" not in shown  # one is running
    assert automatic.jobq("run", "--", "true").returncode == 0


def test_a_terminal_is_told_of_the_start(automatic: Project) -> None:
    shown = on_terminal(automatic.root, "add", "--", "true").lines
    assert shown == [
        "Added job 1: true", "A supervisor is starting in the background: jobq down ends it.",
    ]  # fmt: skip


def test_reading_and_running_start_nothing(automatic: Project) -> None:
    automatic.shell("true")
    for words in (["list"], ["run", "--", "true"], ["show", "1"]):
        assert automatic.jobq(*words).returncode == 0
    assert not log_file(automatic.queue.settings).exists()


def test_an_idle_supervisor_exits_unless_something_is_to_come(project: Project) -> None:
    assert project.jobq("work", "--idle-timeout", "0.1").returncode == 0
    later = project.queue.add("shell", {"argv": ["true"]}, delay=1.2)
    assert project.jobq("work", "--idle-timeout", "0.1").returncode == 0
    assert project.queue.get(later.id).status is JobStatus.COMPLETED
    assert not project.queue.supervisors()
