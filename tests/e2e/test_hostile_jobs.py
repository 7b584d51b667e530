"""Jobs that do what they should not: none harms another, or the supervisor."""

import signal

import pytest

from jobq import JobStatus
from jobq.models import Outcome
from tests.support.project import Project, wait_until

STILLBORN = """
import os, sys
from jobq import JobWorker

if "jobq.execution.children.fork_server" in sys.orig_argv:  # whoever adds a job reads this file, too, and may fork
    os.register_at_fork(after_in_child=lambda: os._exit(9))

class Stillborn(JobWorker):
    job_type = "stillborn"
    def run(self, args, job):
        pass
"""
FORKER = """
import os, time
from jobq import JobWorker

class Forker(JobWorker):
    job_type = "forker"
    def run(self, args, job):
        if os.fork() == 0:
            raise RuntimeError("comes back where it should not")
        time.sleep(0.3)
        return "forker"

class Quick(JobWorker):
    job_type = "quick"
    def run(self, args, job):
        time.sleep(0.6)
        return "quick"

class Nap(JobWorker):
    job_type = "nap"
    def run(self, args, job):
        time.sleep(1)

class Adds(JobWorker):
    job_type = "adds"
    def run(self, args, job):
        job.queue.counts()
        return len(os.listdir("/proc/self/fd"))
"""

OVERTIME = """
import pathlib, time
from jobq import JobWorker

class Overtime(JobWorker):
    job_type = "overtime"
    def run(self, args, job):
        pathlib.Path("begun").touch()
        try:
            time.sleep(0.4)
        finally:
            pathlib.Path("ended").touch()
"""


@pytest.mark.parametrize(
    "script",
    [
        'echo "[1,2,5]" > $JOBQ_PROGRESS',
        'printf "[1%0400d,null,null]" 0 > $JOBQ_PROGRESS',
        'head -c 4000 /dev/zero | tr "\\0" "[" > $JOBQ_PROGRESS',
        'echo "[NaN,1,null]" > $JOBQ_PROGRESS',
        "rm $JOBQ_LOG_DIR/stderr.log; mkdir $JOBQ_LOG_DIR/stderr.log",
        "ln -sf /etc/passwd $JOBQ_LOG_DIR/stderr.log",
        "rm $JOBQ_LOG_DIR/stderr.log; mkfifo $JOBQ_LOG_DIR/stderr.log",
        "rm $JOBQ_LOG_DIR/events.jsonl; mkfifo $JOBQ_LOG_DIR/events.jsonl",
    ],
)
def test_files_of_a_job_can_not_stop_the_supervisor(project: Project, script: str) -> None:
    bad = project.shell(f"{script}; sleep 0.7; exit 1", max_retries=1)
    good = project.shell("echo fine")
    project.drain()
    assert project.queue.get(good.id).status is JobStatus.COMPLETED
    assert project.queue.get(bad.id).status is JobStatus.FAILED


def test_a_fifo_as_stdin_holds_nobody_up(project: Project) -> None:
    assert project.jobq("add", "--stdin", "pipe", "--", "cat").returncode == 0
    project.jobq("run", "--", "mkfifo", str(project.root / "pipe"))
    project.shell("echo fine")
    project.drain()
    assert project.queue.counts()[JobStatus.COMPLETED] == 3


def test_a_process_that_a_worker_forked_does_not_answer_for_it(project: Project) -> None:
    project.worker("forker", FORKER)
    first = project.queue.add("forker")
    second = project.queue.add("quick")
    project.drain("-j", "1")
    jobs = project.queue.get_many([first.id, second.id])
    assert [job.result for job in jobs] == ["forker", "quick"]


def test_a_timeout_of_a_newborn_child_harms_no_other_job(project: Project) -> None:
    project.worker("forker", FORKER)
    other = project.shell("while [ ! -e go ]; do sleep 0.05; done", priority=9, max_retries=0)
    for n in range(40):
        project.queue.add("nap", timeout=0.02 + 0.002 * n, max_retries=0)
    supervisor = project.work("-j", "6", "--drain")
    wait_until(lambda: len(project.queue.find(status="failed")) == 40, seconds=60)
    assert project.queue.get(other.id).status is JobStatus.RUNNING
    (project.root / "go").touch()
    assert supervisor.wait(20) == 0
    assert project.queue.get(other.id).status is JobStatus.COMPLETED


def test_a_time_limit_is_kept_by_a_supervisor_that_is_too_slow_to_stop_the_job(
    project: Project,
) -> None:
    project.worker("overtime", OVERTIME)
    job = project.queue.add("overtime", timeout=0.2, max_retries=0)
    supervisor = project.work("--drain")
    wait_until((project.root / "begun").exists)
    supervisor.send_signal(signal.SIGSTOP)
    try:
        wait_until((project.root / "ended").exists)
    finally:
        supervisor.send_signal(signal.SIGCONT)
    assert supervisor.wait(20) == 0
    (attempt,) = project.queue.attempts(job.id)
    assert (attempt.outcome, attempt.error) == (Outcome.TIMED_OUT, "timed out after 0.2s")
    assert '"completed"' not in project.output(job, "events.jsonl")


def test_a_worker_that_uses_the_queue_leaves_no_files_open(project: Project) -> None:
    project.worker("forker", FORKER)
    jobs = [project.queue.add("adds") for _ in range(20)]
    project.drain("-j", "1")
    counts = [project.queue.get(job.id).result for job in jobs]
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("source", ["import time; time.sleep(600)", "import os; os._exit(3)"])
def test_a_module_that_hangs_or_dies_at_import_does_not_keep_the_supervisor(
    project: Project, source: str
) -> None:
    project.worker("bad", source)
    job = project.shell("echo fine")
    supervisor = project.work()
    project.wait_for(job, JobStatus.COMPLETED)
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(20) == 0


def test_what_a_module_prints_is_not_the_answer(project: Project) -> None:
    project.worker("forker", "print('hello')\n" + FORKER)
    assert project.jobq("add", "nap").stdout == "1\n"


def test_max_jobs_is_obeyed(project: Project) -> None:
    for _ in range(3):
        project.shell("true")
    assert project.jobq("work", "--max-jobs", "1", "-j", "1").returncode == 0
    assert project.queue.counts()[JobStatus.COMPLETED] == 1


def test_a_command_that_was_in_time_did_not_time_out(project: Project) -> None:
    job = project.shell("(trap '' TERM; sleep 3) & exit 0", timeout=0.5, max_retries=0)
    project.drain()
    assert project.queue.get(job.id).status is JobStatus.COMPLETED


def test_a_job_of_a_dead_supervisor_can_be_cancelled(project: Project) -> None:
    supervisor = project.work()
    job = project.shell("echo up; sleep 600")
    wait_until(lambda: project.output(job))
    supervisor.kill()
    supervisor.wait()
    project.queue.cancel(job.id)
    assert project.queue.get(job.id).status is JobStatus.CANCELLED


def test_a_run_that_writes_without_end_can_be_stopped(project: Project) -> None:
    runner = project.start("run", "--", "yes")
    wait_until(lambda: project.queue.find(status="running"))
    runner.send_signal(signal.SIGTERM)
    runner.communicate(timeout=30)
    assert project.queue.get(1).status is JobStatus.CANCELLED


def test_where_no_child_lives_to_run_a_job_that_is_a_crash_of_the_job(project: Project) -> None:
    project.worker("stillborn", STILLBORN)
    job = project.queue.add("stillborn")
    project.drain()
    found = project.queue.get(job.id)
    assert (found.status, found.crashes) == (JobStatus.FAILED, 3)
    assert "exit code 9" in (found.error or "")
