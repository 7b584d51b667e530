"""The contract: queues."""

import pytest

from jobq.errors import NotFound, WrongState
from jobq.models import JobStatus, Queue
from jobq.units import Rate
from tests.contract.driver import Jobs


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
