"""Schedules and real supervisors."""

import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import pytest

from jobq import JobStatus
from jobq.clock import utcnow
from jobq.models import Schedule
from jobq.queue import backend_of
from jobq.scheduling.schedules import Schedules
from tests.support.project import Project, wait_until


def due(project: Project, name: str, seconds: float, cron: str = "* * * * *") -> Schedule:
    """A schedule whose next time is near: it need not be one of its expression's."""
    schedules = Schedules(project.queue)
    added = schedules.add(name, cron, {"args": {"argv": ["true"]}}, overlap="allow")
    at = utcnow() + timedelta(seconds=seconds)
    assert backend_of(project.queue).schedules.replace(added, replace(added, next_at=at))
    return schedules.get(name)


def test_a_supervisor_adds_and_runs_what_was_missed(project: Project) -> None:
    due(project, "s", -120)
    project.drain()
    (job,) = project.queue.find()
    assert (job.status, job.name) == (JobStatus.COMPLETED, "s")
    again = Schedules(project.queue).get("s")
    assert again.next_at is not None
    assert again.next_at > utcnow() - timedelta(seconds=60)


def test_many_supervisors_fire_once(project: Project) -> None:
    for number in range(10):
        due(project, f"s{number}", -120)
    workers = [project.start("work", "--drain") for _ in range(3)]
    for worker in workers:
        worker.communicate(timeout=60)
        assert worker.returncode == 0
    project.drain()
    names = sorted(job.name or "" for job in project.queue.find())
    # At a full minute meanwhile, each may have fired for that one, too.
    fired = [f for n in range(10) for f in backend_of(project.queue).schedules.firings(f"s{n}", 9)]
    assert len(names) == len(fired)
    assert set(names) == {f"s{n}" for n in range(10)}


def test_a_supervisor_wakes_at_the_time(project: Project) -> None:
    """Not at its next look around, which is put off here."""
    # Of an expression whose own next time is sooner, that one would count.
    schedule = due(project, "s", 2, cron="0 0 29 2 *")
    slow = "import jobq.execution.supervisor as s; s.POLL_INTERVAL_S = 600; from jobq.__main__ import main; main()"
    worker = subprocess.Popen([sys.executable, "-c", slow, "work"], cwd=project.root)
    try:
        wait_until(lambda: Schedules(project.queue).get("s").next_at != schedule.next_at)
    finally:
        worker.kill()
        worker.wait()
    assert schedule.next_at is not None
    assert utcnow() >= schedule.next_at


@pytest.mark.parametrize("verb", ["list", "add"])
def test_add_does_not_pay_for_cron(project: Project, verb: str) -> None:
    words = ["add", "--", "true"] if verb == "add" else ["list"]
    done = project.jobq(*words, env={"PYTHONPROFILEIMPORTTIME": "1"})
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "jobq.queue" in imported
    assert not imported & {"cronsim", "jobq.scheduling.cron", "jobq.scheduling.schedules"}
