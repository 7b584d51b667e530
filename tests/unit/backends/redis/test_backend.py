"""The Redis backend: deleting, reading in batches, and flaws of its indexes."""

from typing import Any

import pytest

from jobq.errors import DatabaseError
from jobq.models import JobFilter, JobStatus
from tests.contract.driver import NOON, Jobs, after, new_job
from tests.contract.test_supervisors import supervisor
from tests.contract.test_transfer import furnish
from tests.unit.backends.redis.servers import TAG

KEPT = {"meta", "n", "r", "again", "dead"}
"""Keys that may be left without any job, among them empty streams."""


def test_nothing_is_left_of_what_was_deleted(jobs: Jobs, client: Any) -> None:
    furnish(jobs)
    jobs.backend.schedules.remove("often")
    parent = jobs.put(JobStatus.FAILED, unique_key="of one that failed")
    jobs.insert(*[new_job(parents=after(parent))] * 501)
    jobs.backend.requeue([parent], jobs.now)
    jobs.settle()
    ids = [job.id for job in jobs.backend.find(JobFilter(), limit=None)]
    jobs.backend.cancel(ids, None, jobs.now)
    jobs.settle()
    assert sorted(jobs.backend.delete(ids)) == ids
    jobs.backend.maintain()
    jobs.backend.supervisors.register(supervisor(jobs, "one"))
    jobs.backend.supervisors.unregister(["one"])
    for queue in ("fast", "off"):
        jobs.backend.delete_queue(queue)
    assert {key.removeprefix(TAG).partition(":")[0] for key in client.keys("*")} <= KEPT
    assert {name.partition("|")[0] for name in client.hkeys(f"{TAG}n")} == {"default"}
    assert client.xlen(f"{TAG}again") == client.xlen(f"{TAG}dead") == 0
    assert jobs.backend.counts() == {}


def test_what_is_looked_through_in_portions_is_looked_through_to_its_end(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobq.backends.redis.rows.BATCH_SIZE", 2)
    ids = [jobs.put(JobStatus.COMPLETED) for _ in range(3)]
    ids += jobs.insert_ids(*[new_job(type=kind) for kind in ("a", "b", "a")])
    for newest in (False, True):
        found = jobs.backend.find(JobFilter(), limit=None, newest=newest)
        assert [job.id for job in found] == sorted(ids, reverse=newest)
    assert [job.id for job in jobs.backend.find(JobFilter(type="a"), limit=9)] == ids[3::2]
    assert sorted(jobs.backend.get(ids)) == ids
    for job_id in ids[3:]:
        jobs.end(jobs.start(job_id), JobStatus.CANCELLED)
    assert jobs.backend.stats.ended_counts(NOON) == {("shell", "default"): (3, 0)}
    assert len(jobs.backend.stats.ended(NOON, limit=9)) == 3


def test_indexes_that_say_what_is_not_so_are_flaws(
    jobs: Jobs, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobq.backends.redis.rows.BATCH_SIZE", 2)
    ids = jobs.insert_ids(*[new_job()] * 5)
    assert jobs.backend.flaws(thorough=True) == []
    client.zadd(f"{TAG}i:failed", {str(job_id): job_id for job_id in ids})
    counts = ["5 jobs are counted, and 10 are in the indexes"]
    assert jobs.backend.flaws(thorough=False) == counts
    strays = [f"job {job_id} is not failed" for job_id in ids]
    assert jobs.backend.flaws(thorough=True) == counts + strays
    client.delete(f"{TAG}i:failed")
    client.zadd(f"{TAG}ls", {"1": 1})
    assert jobs.backend.flaws(thorough=False) == ["0 jobs are running, and 1 leases are held"]


def test_a_server_that_was_emptied_and_has_as_many_changes_again_has_changed(
    jobs: Jobs, client: Any
) -> None:
    jobs.insert(new_job())
    before = jobs.backend.change_counter()
    store = jobs.backend.identity()
    assert jobs.backend.change_counter() == before
    client.delete(*client.keys("*"))
    jobs.insert(new_job())
    assert jobs.backend.change_counter() != before
    assert jobs.backend.identity().id != store.id


def test_a_store_that_is_held_is_not_read_once_it_is_another_one(jobs: Jobs, client: Any) -> None:
    (job_id,) = jobs.insert_ids(new_job())
    jobs.backend.hold_store()
    assert jobs.backend.get([job_id])
    client.delete(*client.keys("*"))
    with pytest.raises(DatabaseError, match="the server was emptied or replaced"):
        jobs.backend.get([job_id])


def test_the_logs_of_a_store_of_an_older_version_belong_to_it(jobs: Jobs, client: Any) -> None:
    before = jobs.insert_ids(*[new_job()] * 2)[-1]
    client.hdel(f"{TAG}meta", "marked_after")
    assert jobs.backend.identity().marked_after == before
    (after_it,) = jobs.insert_ids(new_job())
    jobs.insert(new_job())
    assert before <= jobs.backend.identity().marked_after <= after_it
