"""A supervisor that is init, as in a container."""

import shutil
import subprocess
import sys

import psutil
import pytest

from jobq import JobStatus
from tests.support.project import Project, wait_until


@pytest.fixture
def init(project: Project) -> psutil.Process:
    words = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if not shutil.which("unshare") or subprocess.run([*words, "true"], check=False).returncode:
        pytest.skip("needs the right to make a namespace of processes")
    outer = subprocess.Popen(
        [*words, sys.executable, "-m", "jobq", "work", "-j", "4"],
        cwd=project.root, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT, encoding="utf-8",
    )  # fmt: skip
    project._processes.append(outer)
    wait_until(lambda: psutil.Process(outer.pid).children())
    return psutil.Process(outer.pid).children()[0]


def zombies(init: psutil.Process) -> list[psutil.Process]:
    return [each for each in init.children() if each.status() == psutil.STATUS_ZOMBIE]


def test_what_jobs_leave_behind_is_waited_for_and_jobs_keep_their_exit_codes(
    project: Project, init: psutil.Process
) -> None:
    leaves = "setsid sh -c 'touch left-$0; sleep 0.2; rm left-$0' $JOBQ_JOB_ID & "
    script = leaves + "until [ -e left-$JOBQ_JOB_ID ]; do sleep 0.01; done; sleep 0.0$0; exit 3"
    jobs = [project.shell(script, max_retries=0) for _ in range(20)]
    for job in jobs:
        assert project.wait_for(job, JobStatus.FAILED).exit_code == 3
    wait_until(lambda: not list(project.root.glob("left-*")))
    wait_until(lambda: not zombies(init))
    (server,) = init.children()
    assert server.status() != psutil.STATUS_ZOMBIE
