"""The contract: queues, supervisors, deletion, grouped verbs, and waking up."""

import select
from dataclasses import replace
from datetime import timedelta

import pytest

from jobq.backends.base import Listener
from jobq.errors import NotFound, WrongState
from jobq.models import FINISHED, UNFINISHED, JobFilter, JobStatus, Queue, SupervisorInfo
from jobq.units import Rate
from tests.contract.driver import LEASE, NOON, Jobs, after, new_job
from tests.contract.test_schedules import put

# -- queues ------------------------------------------------------------------------------------


def test_the_default_queue_is_always_there(jobs: Jobs) -> None:
    assert jobs.backend.queues() == [Queue(name="default")]


def test_queues_come_in_the_order_in_which_they_are_served(jobs: Jobs) -> None:
    jobs.backend.put_queues([Queue(name=name, priority=p) for name, p in (("z", 9), ("a", 1))])
    assert [queue.name for queue in jobs.backend.queues()] == ["z", "default", "a"]


def test_queues_are_looked_up_by_name(jobs: Jobs) -> None:
    jobs.backend.put_queues([Queue(name="low", priority=1), Queue(name="high", priority=9)])
    found = jobs.backend.queues(["low", "none", "default", "high"])
    assert [queue.name for queue in found] == ["high", "default", "low"]
    assert jobs.backend.queues([]) == []


def test_a_queue_is_replaced_by_one_of_its_name(jobs: Jobs) -> None:
    full = Queue(
        name="lane",
        description="ż",
        max_concurrent=3,
        priority=9,
        paused=True,
        rate=Rate(10, 60.0),
        timeout=1.5,
        max_retries=0,
    )
    jobs.backend.put_queues([full])
    assert jobs.backend.queues()[0] == full
    jobs.backend.put_queues([Queue(name="lane")])
    assert Queue(name="lane") in jobs.backend.queues()
    assert len(jobs.backend.queues()) == 2


def test_an_empty_queue_is_deleted(jobs: Jobs) -> None:
    jobs.limit("lane")
    jobs.backend.delete_queue("lane")
    assert [queue.name for queue in jobs.backend.queues()] == ["default"]
    with pytest.raises(NotFound, match="lane"):
        jobs.add(queue="lane")


@pytest.mark.parametrize("status", JobStatus)
def test_a_queue_with_jobs_is_not_deleted(jobs: Jobs, status: JobStatus) -> None:
    jobs.limit("lane")
    jobs.put(status, queue="lane")
    with pytest.raises(WrongState, match="lane"):
        jobs.backend.delete_queue("lane")
    assert len(jobs.backend.queues()) == 2


def test_neither_the_default_queue_nor_an_unknown_one_can_be_deleted(jobs: Jobs) -> None:
    with pytest.raises(WrongState, match="default"):
        jobs.backend.delete_queue("default")
    with pytest.raises(NotFound, match="nowhere"):
        jobs.backend.delete_queue("nowhere")


# -- supervisors -------------------------------------------------------------------------------


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


# -- waking up ---------------------------------------------------------------------------------


def woken(listener: Listener) -> bool:
    """Whether it is, before long: who wakes it may be answered first."""
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


# -- deletion ----------------------------------------------------------------------------------


def test_finished_jobs_are_deleted_with_their_history(jobs: Jobs) -> None:
    finished = [jobs.put(status) for status in sorted(FINISHED)]
    unfinished = [jobs.put(status) for status in sorted(UNFINISHED)]
    deleted = jobs.backend.delete([*finished, *unfinished, 10**6])
    assert sorted(deleted) == finished
    assert set(jobs.backend.get([*finished, *unfinished])) == set(unfinished)
    assert [jobs.backend.attempts(job_id) for job_id in finished] == [[], [], []]
    assert jobs.backend.delete([]) == []


def test_ids_are_never_used_again(jobs: Jobs) -> None:
    last = jobs.put(JobStatus.CANCELLED)
    jobs.backend.delete([last])
    jobs.reopen()
    assert jobs.add() > last


def test_a_new_job_does_not_inherit_what_a_deleted_one_had(jobs: Jobs) -> None:
    parent = jobs.put(JobStatus.COMPLETED)
    child = jobs.finish(jobs.add(parents=after(parent)), JobStatus.CANCELLED)
    jobs.backend.delete([child, parent])
    job = jobs.get(jobs.add())
    assert (job.parents, job.attempts) == ((), 0)
    with pytest.raises(NotFound):
        jobs.add(parents=after(parent))


# -- groups ------------------------------------------------------------------------------------


class Oops(Exception):
    pass


def there(jobs: Jobs) -> list[int]:
    return [job.id for job in jobs.backend.find(JobFilter(), limit=None)]


def test_the_verbs_of_a_group_take_effect_together(jobs: Jobs) -> None:
    watcher = jobs.backend
    jobs.reopen()
    with jobs.backend.group():
        job_id = jobs.add()
        jobs.end(jobs.start(job_id))
        assert jobs.status(job_id) is JobStatus.COMPLETED
        assert watcher.get([job_id]) == {}
    assert watcher.get([job_id])[job_id].status is JobStatus.COMPLETED


def test_a_group_that_fails_changes_nothing(jobs: Jobs) -> None:
    claim = jobs.start(jobs.add())
    before = there(jobs), jobs.get(claim.job.id), jobs.backend.queues()

    def fail() -> None:
        with jobs.backend.group():
            jobs.end(claim)
            jobs.add()
            jobs.limit("lane")
            raise Oops

    with pytest.raises(Oops):
        fail()
    assert (there(jobs), jobs.get(claim.job.id), jobs.backend.queues()) == before
    assert jobs.end(claim)


def test_a_failure_inside_that_is_caught_leaves_the_rest_of_the_group_intact(jobs: Jobs) -> None:
    with jobs.backend.group():
        first = jobs.add()
        try:
            with jobs.backend.group():
                lost = jobs.add()
                raise Oops  # noqa: TRY301 - it stands for any failure inside
        except Oops:
            pass
        with pytest.raises(NotFound):
            jobs.insert(new_job(), new_job(queue="nowhere"))
        assert there(jobs) == [first]
        last = jobs.add()
    assert there(jobs) == [first, last]
    assert lost == last  # it was never added, so its number was free


def test_a_group_inside_one_that_fails_changes_nothing(jobs: Jobs) -> None:
    def fail() -> None:
        with jobs.backend.group():
            with jobs.backend.group():
                jobs.add()
            raise Oops

    with pytest.raises(Oops):
        fail()
    assert there(jobs) == []


def test_upkeep_changes_no_job(jobs: Jobs) -> None:
    job = jobs.get(jobs.add())
    jobs.backend.maintain()
    assert jobs.get(job.id) == job
    claim = jobs.start(job.id)
    jobs.backend.maintain()
    assert jobs.end(claim, JobStatus.PENDING)
    jobs.backend.maintain()
    assert jobs.claimed() == [job.id]


def test_jobs_that_ended_come_in_the_order_in_which_they_did(jobs: Jobs) -> None:
    ids = [jobs.add() for _ in range(6)]
    order = [ids[3], ids[0], ids[5], ids[1]]
    statuses = [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.COMPLETED]
    for job_id, status in zip(order, statuses, strict=True):
        jobs.later(1)
        jobs.finish(job_id, status)
    last = jobs.now
    found = jobs.backend.finished_before(last, limit=9)
    assert [(each.id, each.status) for each in found] == list(
        zip(order[:3], statuses[:3], strict=True)
    ), "those that ended at that time did not end before it"
    assert [each.at for each in found] == [last - timedelta(seconds=n) for n in (3, 2, 1)]
    first, *_ = jobs.backend.finished_before(last, limit=1)
    jobs.backend.delete([first.id])
    jobs.later(1)
    rest = jobs.backend.finished_before(jobs.now, after=first, limit=2)
    assert [each.id for each in rest] == order[1:3]
    assert [e.id for e in jobs.backend.finished_before(jobs.now, after=rest[-1], limit=9)] == [
        ids[1]
    ]


def test_of_many_that_ended_at_once_none_is_passed_over(jobs: Jobs) -> None:
    ids = jobs.insert_ids(*[new_job()] * 2500)
    jobs.backend.cancel(ids, None, jobs.now)
    jobs.later(1)
    seen: list[int] = []
    last = None
    while page := jobs.backend.finished_before(jobs.now, after=last, limit=1200):
        seen += [each.id for each in page]
        last = page[-1]
        assert len(seen) < 2 * len(ids)
    assert set(seen) == set(ids)
