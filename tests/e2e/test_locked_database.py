"""Another program keeps the database locked: what is measured, limited and asked for does not wait."""

import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from jobq import JobStatus
from tests.support.project import Project, wait_until


@contextmanager
def locked(project: Project) -> Iterator[None]:
    """Lock the database as a program that knows nothing of jobq's own lock."""
    with closing(sqlite3.connect(project.root / ".jobq" / "jobq.db", isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


def file_time(project: Project, name: str) -> float:
    return (project.root / name).stat().st_mtime


def test_a_job_took_as_long_as_it_did(project: Project) -> None:
    project.work(said="said")
    job = project.shell("touch up; while [ ! -e go ]; do sleep 0.02; done; touch done")
    wait_until((project.root / "up").exists)
    wait_until(lambda: project.queue.attempts(job.id)[0].pid)
    with locked(project):
        (project.root / "go").touch()
        wait_until((project.root / "done").exists)
        time.sleep(6)
    project.wait_for(job, JobStatus.COMPLETED)
    (attempt,) = project.queue.attempts(job.id)
    assert attempt.ended_at is not None
    assert attempt.ended_at.timestamp() < file_time(project, "done") + 3
    assert project.queue.get(job.id).finished_at == attempt.ended_at
    wait_until(lambda: "another program keeps it locked" in (project.root / "said").read_text())


def test_a_time_limit_does_not_wait_for_the_lock(project: Project) -> None:
    project.work("-j", "2")
    stopped = "trap 'touch term; exit' TERM; touch up; while :; do sleep 0.02; done"
    job = project.shell(stopped, timeout=3, max_retries=0)
    wait_until(lambda: project.queue.attempts(job.id) and project.queue.attempts(job.id)[0].pid)
    with locked(project):
        wait_until((project.root / "term").exists, 12)
        lasted = file_time(project, "term") - file_time(project, "up")
    assert lasted < 3 + 3
    assert project.wait_for(job, JobStatus.FAILED).error == "timed out after 3.0s"


def test_signals_do_not_wait_for_the_lock(project: Project) -> None:
    supervisor = project.work(said="said")
    job = project.shell("trap 'touch term; exit' TERM; touch up; while :; do sleep 0.02; done")
    wait_until(lambda: project.queue.attempts(job.id) and project.queue.attempts(job.id)[0].pid)
    with locked(project):
        time.sleep(1)  # it waits by now
        supervisor.send_signal(signal.SIGTERM)
        wait_until(lambda: "again gives them back" in (project.root / "said").read_text(), 4)
        supervisor.send_signal(signal.SIGTERM)
        wait_until((project.root / "term").exists, 4)
    assert supervisor.wait(20) == 0
    assert project.queue.get(job.id).status is JobStatus.PENDING


def test_a_lock_of_a_moment_is_not_worth_a_word(project: Project) -> None:
    supervisor: subprocess.Popen[str] = project.work(said="said")
    wait_until(project.queue.supervisors)
    with locked(project):
        time.sleep(2)
    job = project.shell("true")
    project.wait_for(job, JobStatus.COMPLETED)
    assert "locked" not in (project.root / "said").read_text()
    assert supervisor.poll() is None
