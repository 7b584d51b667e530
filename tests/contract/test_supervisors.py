"""The contract: supervisors: registered, woken, and known dead."""

import select
from dataclasses import replace

import pytest

from jobq.backends.base import Listener
from jobq.errors import NotFound
from jobq.models import JobStatus, SupervisorInfo
from tests.contract.driver import LEASE, NOON, Jobs, after, new_job
from tests.contract.test_schedules import put


def supervisor(jobs: Jobs, name: str) -> SupervisorInfo:
    return SupervisorInfo(
        id=name,
        host="here",
        boot_id="b",
        pid=4711,
        slots=2,
        queues=("a", "b"),
        types=("shell", "tile"),
        started_at=jobs.now,
        heartbeat_at=jobs.now,
    )


def test_registered_supervisors_are_shown_the_oldest_first(jobs: Jobs) -> None:
    second = replace(supervisor(jobs, "a"), queues=None)
    jobs.later(-5)
    first = supervisor(jobs, "b")
    jobs.backend.supervisors.register(second)
    jobs.backend.supervisors.register(first)
    assert jobs.backend.supervisors.all() == [first, second]
    jobs.backend.supervisors.unregister(["b", "nobody"])
    assert jobs.backend.supervisors.all() == [second]


def test_a_heartbeat_shows_on_the_supervisor(jobs: Jobs) -> None:
    info = supervisor(jobs, "one")
    jobs.backend.supervisors.register(info)
    jobs.later(10)
    jobs.backend.heartbeat("one", LEASE, jobs.now)
    assert jobs.backend.supervisors.all() == [replace(info, heartbeat_at=jobs.now)]


def test_leaving_ends_no_attempt(jobs: Jobs) -> None:
    jobs.backend.supervisors.register(supervisor(jobs, "one"))
    claim = jobs.start(jobs.add(), "one")
    jobs.backend.supervisors.unregister(["one"])
    assert jobs.status(claim.job.id) is JobStatus.RUNNING
    assert jobs.end(claim)


def woken(listener: Listener) -> bool:
    """Return whether it is woken before long: the caller that wakes it may be answered first."""
    return bool(select.select([listener], [], [], 20)[0])


def asleep(listener: Listener) -> bool:
    return not select.select([listener], [], [], 0)[0]


def test_a_listener_is_woken_when_there_may_be_work(jobs: Jobs) -> None:
    listener = jobs.backend.supervisors.listen("one")
    assert asleep(listener)
    job_id = jobs.add()
    assert woken(listener)
    listener.drain()
    assert asleep(listener)
    jobs.backend.cancel([job_id], None, jobs.now)
    assert woken(listener)
    listener.drain()
    jobs.backend.requeue([job_id], jobs.now)
    assert woken(listener)
    listener.drain()
    jobs.limit("default", max_concurrent=9)
    assert woken(listener)
    listener.drain()
    jobs.end(jobs.start(job_id), JobStatus.PENDING)
    assert woken(listener)
    listener.drain()
    jobs.unclaim(jobs.start(job_id))
    assert woken(listener)
    listener.close()


def test_a_listener_is_woken_by_what_becomes_of_a_schedule(jobs: Jobs) -> None:
    listener = jobs.backend.supervisors.listen("one")
    before = put(jobs.backend)
    assert woken(listener)
    listener.drain()
    assert jobs.backend.schedules.replace(before, before)
    assert woken(listener)
    listener.drain()
    (before,) = jobs.backend.schedules.all()
    assert jobs.backend.schedules.fire(before, before, new_job(), [NOON], jobs.now)
    assert woken(listener)
    listener.close()


@pytest.mark.parametrize(("children", "wakes"), [(1, False), (2, True)])
def test_others_are_woken_for_children_that_the_owner_has_no_room_for(
    jobs: Jobs, children: int, wakes: bool
) -> None:
    parent = jobs.add()
    jobs.insert(*[new_job(parents=after(parent))] * children)
    claim = jobs.start(parent)
    listener = jobs.backend.supervisors.listen("two")
    jobs.end(claim)
    assert woken(listener) if wakes else asleep(listener)
    listener.close()


def test_a_listener_is_woken_for_children_that_are_told_later(jobs: Jobs) -> None:
    parent = jobs.add()
    jobs.insert(*[new_job(parents=after(parent))] * 501)
    jobs.finish(parent, JobStatus.COMPLETED)
    listener = jobs.backend.supervisors.listen("one")
    jobs.settle()
    assert woken(listener)
    listener.close()


def test_a_listener_is_woken_when_what_it_is_woken_for_is_there(jobs: Jobs) -> None:
    listener = jobs.backend.supervisors.listen("one")
    with jobs.backend.group():
        jobs.add()
        assert asleep(listener)
    assert woken(listener)
    listener.drain()
    with pytest.raises(NotFound):
        add_and_fail(jobs)
    jobs.backend.heartbeat("one", LEASE, jobs.now)
    assert asleep(listener)
    listener.close()


def add_and_fail(jobs: Jobs) -> None:
    with jobs.backend.group():
        jobs.add()
        jobs.add(queue="nowhere")


def test_every_listener_is_woken_by_any_process(jobs: Jobs) -> None:
    listeners = [jobs.backend.supervisors.listen(name) for name in ("one", "two")]
    jobs.reopen()
    jobs.add()
    assert [woken(listener) for listener in listeners] == [True, True]
    for listener in listeners:
        listener.close()


def test_many_wake_ups_are_forgotten_at_once(jobs: Jobs) -> None:
    listener = jobs.backend.supervisors.listen("one")
    for _ in range(100):
        jobs.add()
    listener.drain()
    assert asleep(listener)
    listener.close()


def test_an_owner_is_dead_once_its_listener_is_closed_and_not_before(jobs: Jobs) -> None:
    listener = jobs.backend.supervisors.listen("one")
    assert jobs.backend.supervisors.dead(["one", "never announced", "../one"]) == set()
    listener.close()
    assert jobs.backend.supervisors.dead(["one", "never announced"]) == {"one"}
    jobs.backend.supervisors.unregister(["one"])
    assert jobs.backend.supervisors.dead(["one"]) == set()


def test_the_change_counter_tells_of_changes_by_others(jobs: Jobs) -> None:
    watcher = jobs.backend
    before = watcher.change_counter()
    assert watcher.change_counter() == before
    jobs.reopen()
    jobs.add()
    assert watcher.change_counter() != before
