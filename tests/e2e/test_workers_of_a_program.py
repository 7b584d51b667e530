"""`with queue.workers(…)`: jobs run while a block of a program lasts."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace

import pytest

from jobq import JobqError, JobQueue, JobStatus, UsageError
from jobq.models import Outcome
from tests.support.project import Project, project, wait_until

__all__ = ["project"]


class LeftError(Exception):
    pass


def test_jobs_run_while_the_block_lasts(project: Project) -> None:
    queue = project.queue
    queue.create_queue("other")
    elsewhere = queue.add("shell", {"argv": ["true"]}, queue="other")
    job = project.shell("echo $JOBQ_STOP_PIPE $JOBQ_START_LOCK.")
    with queue.workers(3, queues=["default"], types=["shell"]) as supervisor:
        assert (supervisor.slots, supervisor.queues) == (3, ("default",))
        assert queue.wait(job.id, 20).status is JobStatus.COMPLETED
        last = project.shell("sleep 0.3")
        project.wait_for(last, JobStatus.RUNNING)
    assert queue.get(last.id).status is JobStatus.COMPLETED
    assert queue.get(elsewhere.id).status is JobStatus.PENDING
    assert project.output(job) == ".\n"
    assert queue.supervisors() == []


def test_what_runs_is_given_back_where_an_exception_ends_the_block(project: Project) -> None:
    job = project.shell("sleep 60")
    with suppress(LeftError), project.queue.workers():
        project.wait_for(job, JobStatus.RUNNING)
        raise LeftError
    (attempt,) = project.queue.attempts(job.id)
    assert attempt.outcome is Outcome.RELEASED
    assert project.queue.get(job.id).status is JobStatus.PENDING


def test_workers_end_with_a_program_that_is_killed(project: Project) -> None:
    script = (
        "import time\nfrom jobq import JobQueue\n"
        "with JobQueue.open() as queue, queue.workers(1) as each:\n"
        "    print(each.pid, flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=project.root, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        pid = int(program.stdout.readline())
        os.kill(pid, 0)
        program.send_signal(signal.SIGKILL)
    wait_until(lambda: not project.queue.supervisors())


def test_workers_that_can_not_start_say_why(project: Project) -> None:
    with pytest.raises(UsageError, match="slots 0"):
        project.queue.workers(0)
    with (
        pytest.raises(JobqError, match="did not start: no queue 'nowhere'"),
        project.queue.workers(1, queues=["nowhere"]),
    ):
        pytest.fail("it has started")


def test_a_queue_without_a_file_has_workers(project: Project) -> None:
    settings = replace(project.queue.settings, path=None, database=project.root / "own/jobq.db")
    with JobQueue.from_settings(settings) as queue:
        job = queue.add("shell", {"argv": ["true"]})
        with queue.workers(1):
            assert queue.wait(job.id, 20).status is JobStatus.COMPLETED
