"""Claims ahead: short jobs are taken in handfuls, and nobody is the worse for it."""

import os
import signal
from collections import Counter
from functools import partial

import pytest

from jobq import JobStatus
from jobq.diagnostics.verify import verify
from jobq.models import Outcome
from jobq.queue import backend_of
from tests.support.project import Project, wait_until

WORKER = """
import os, time
from pathlib import Path
from pydantic import BaseModel
from jobq import JobWorker


class Short(JobWorker):
    job_type = "short"

    class Args(BaseModel):
        wait: bool = False

    def run(self, args, job):
        with open("ran", "a") as file:
            file.write(f"{job.id}\\n")
        while args.wait and not Path("go").exists():
            time.sleep(0.01)
"""
MANY = 400


def has_run(project: Project, jobs: int) -> bool:
    return len(ran(project)) >= jobs


@pytest.fixture
def ahead(project: Project) -> Project:
    """A project whose jobs note that they ran."""
    project.worker("short", WORKER)
    return project


def ran(project: Project) -> list[int]:
    path = project.root / "ran"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def test_many_short_jobs_run_once_each_and_the_urgent_one_first(ahead: Project) -> None:
    jobs = ahead.queue.add_many([{"type": "short"}] * MANY)
    first = ahead.queue.add("short", priority=9)
    ahead.drain("-j", "1")
    assert ran(ahead)[0] == first.id
    assert sorted(ran(ahead)) == [*(job.id for job in jobs), first.id]
    assert verify(backend_of(ahead.queue)).violations == []
    events = ahead.output(jobs[-1], "events.jsonl")
    assert (events.count("started"), events.count("finished")) == (1, 1)


def test_what_waits_behind_a_long_job_is_given_back_without_a_trace(ahead: Project) -> None:
    """The long one comes when much is claimed ahead: what is behind it goes to somebody else."""
    ahead.queue.add_many([{"type": "short"}] * MANY)
    long = ahead.queue.add("short", {"wait": True})
    behind = ahead.queue.add_many([{"type": "short"}] * 20)
    first = ahead.work("-j", "1")
    wait_until(lambda: long.id in ran(ahead))
    wait_until(lambda: [job.id for job in ahead.queue.find(status="running")] == [long.id])
    assert [ahead.queue.attempts(job.id) for job in behind] == [[]] * len(behind)
    second = ahead.work("-j", "1")
    wait_until(lambda: all(job.id in ran(ahead) for job in behind))
    (ahead.root / "go").touch()
    ahead.wait_for(long, JobStatus.COMPLETED)
    for process in (first, second):
        process.terminate()
        assert process.wait(20) == 0
    assert set(Counter(ran(ahead)).values()) == {1}
    assert {attempt.attempt for job in behind for attempt in ahead.queue.attempts(job.id)} == {1}


def test_a_job_in_hand_is_cancelled_and_never_starts(ahead: Project) -> None:
    jobs = ahead.queue.add_many([{"type": "short"}] * MANY)
    supervisor = ahead.work("-j", "2")
    wait_until(lambda: ran(ahead))
    ahead.queue.cancel_many([job.id for job in jobs])
    wait_until(lambda: not ahead.queue.find(status=["pending", "running"]))
    supervisor.terminate()
    assert supervisor.wait(20) == 0
    found = ahead.queue.get_many([job.id for job in jobs])
    cancelled = {job.id for job in found if job.status is JobStatus.CANCELLED and not job.attempts}
    assert not cancelled & set(ran(ahead))
    assert set(Counter(ran(ahead)).values()) == {1}
    assert verify(backend_of(ahead.queue)).violations == []


def test_a_supervisor_that_stops_gives_back_what_it_has_in_hand(ahead: Project) -> None:
    jobs = ahead.queue.add_many([{"type": "short"}] * MANY)
    supervisor = ahead.work("-j", "2")
    wait_until(lambda: ran(ahead))
    supervisor.terminate()
    assert supervisor.wait(20) == 0
    found = ahead.queue.get_many([job.id for job in jobs])
    assert {job.status for job in found} <= {JobStatus.COMPLETED, JobStatus.PENDING}
    assert {job.id for job in found if job.status is JobStatus.COMPLETED} == set(ran(ahead))
    assert all(job.attempts == 0 for job in found if job.status is JobStatus.PENDING)


def test_killed_with_claims_in_hand_nothing_is_lost_and_nothing_counts_as_a_crash(
    ahead: Project,
) -> None:
    jobs = ahead.queue.add_many([{"type": "short"}] * MANY)
    for kills in range(3):
        supervisor = ahead.work("-j", "2")
        wait_until(partial(has_run, ahead, 50 * (kills + 1)))
        os.kill(supervisor.pid, signal.SIGKILL)
        supervisor.wait(20)
    ahead.drain("-j", "2")
    found = ahead.queue.get_many([job.id for job in jobs])
    assert {job.status for job in found} == {JobStatus.COMPLETED}
    for job in found:
        outcomes = Counter(each.outcome for each in ahead.queue.attempts(job.id))
        assert outcomes[Outcome.COMPLETED] == 1
        assert Counter(ran(ahead))[job.id] <= 1 + outcomes[Outcome.LOST]
    assert verify(backend_of(ahead.queue)).violations == []


def test_a_limit_holds_although_jobs_are_claimed_ahead(ahead: Project) -> None:
    ahead.queue.create_queue("narrow", max_concurrent=1)
    ahead.queue.add_many([{"type": "short"}] * MANY)
    ahead.queue.add_many([{"type": "short", "queue": "narrow"}] * 20)
    supervisor = ahead.work("-j", "4", "--drain")
    over = []
    while supervisor.poll() is None:
        over += verify(backend_of(ahead.queue)).over_limits
    assert over == []
    assert len(ran(ahead)) == MANY + 20
