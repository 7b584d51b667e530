"""Whatever waits for something that will not come by itself says so, in a pipe too."""

import signal
import subprocess
import sys

import pytest

from jobq import JobStatus
from tests.support.project import Project, wait_until

pytestmark = pytest.mark.slow
NO_SUPERVISOR = "1 job waits, and no supervisor is running: jobq work\n"
PAUSED = "1 job waits, and queue default is paused: jobq queue resume default\n"


def told_first(project: Project, *argv: str) -> str:
    """Return the first line on stderr of a command that waits for ever."""
    with subprocess.Popen(
        [sys.executable, "-m", "jobq", *argv],
        cwd=project.root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        process.kill()
    return line


@pytest.mark.parametrize("argv", [["add", "-f", "--", "true"], ["tail", "-f", "1"], ["wait", "1"]])
def test_waiting_without_a_supervisor_is_told(project: Project, argv: list[str]) -> None:
    if argv[0] != "add":
        project.shell("true")
    assert told_first(project, *argv) == NO_SUPERVISOR


@pytest.mark.parametrize(
    "argv",
    [["add", "-f", "--", "true"], ["tail", "-f", "1"], ["wait", "1"], ["run", "--", "true"]],
)
def test_waiting_in_a_paused_queue_is_told(project: Project, argv: list[str]) -> None:
    project.work()
    wait_until(project.queue.supervisors)
    project.queue.pause("default")
    if argv[0] in ("tail", "wait"):
        project.shell("true")
    assert told_first(project, *argv) == PAUSED


def test_after_the_only_supervisor_was_killed_a_running_job_waits(project: Project) -> None:
    supervisor = project.work()
    job = project.shell("sleep 60")
    project.wait_for(job, JobStatus.RUNNING)
    assert project.jobq("list").stderr == ""
    supervisor.send_signal(signal.SIGKILL)
    supervisor.wait()
    assert project.jobq("list").stderr == NO_SUPERVISOR
    project.work()
    wait_until(project.queue.supervisors)
    assert project.jobq("list").stderr == ""
