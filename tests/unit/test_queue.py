import io
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from freezegun.api import FrozenDateTimeFactory

from jobq import (
    ConfigError,
    DatabaseError,
    Job,
    JobQueue,
    JobSpec,
    JobStatus,
    KeyReusedError,
    NotFound,
    UsageError,
    WrongState,
)
from jobq.models import CancelEffect, Condition, Parent
from jobq.queue import backend_of
from tests.support.queues import NOON, TRUE, add, finish, ids

Configure = Callable[[str], JobQueue]


# -- opening ---------------------------------------------------------------------------------------


def test_a_queue_is_opened_by_its_file_and_closed_at_the_end(project: Path) -> None:
    with JobQueue.open(project / "jobq.toml") as queue:
        job = add(queue)
    assert (project / ".jobq" / "jobq.db").exists()
    with JobQueue.open(str(project / "jobq.toml")) as queue:
        assert queue.get(job.id) == job


def test_the_nearest_file_is_found(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "sub").mkdir()
    monkeypatch.chdir(project / "sub")
    with JobQueue.open() as queue:
        assert queue.settings.path == project / "jobq.toml"


def test_a_wrong_file_or_database_is_told_apart(project: Path) -> None:
    (project / "jobq.toml").write_text("concurrency = 0")
    with pytest.raises(ConfigError):
        JobQueue.open(project / "jobq.toml")
    (project / "jobq.toml").write_text("database = '.'")
    with pytest.raises(DatabaseError):
        JobQueue.open(project / "jobq.toml")


# -- adding ----------------------------------------------------------------------------------------


def test_a_unique_key_gives_the_job_that_holds_it(queue: JobQueue) -> None:
    job = add(queue, unique="k")
    assert add(queue, unique="k", name="second") == job
    finish(queue, job)
    assert add(queue, unique="k").id != job.id


def test_standard_input_is_kept_with_its_job(queue: JobQueue) -> None:
    spooled = queue.logs.spool(io.BytesIO(b"input"))
    (inserted,) = queue.insert([JobSpec(args={**TRUE, "stdin": "-"})], stdin=spooled)
    assert (queue.logs.path(inserted.id) / "stdin").read_bytes() == b"input"
    assert not spooled.exists()


def test_standard_input_of_a_job_that_was_there_already_is_left_to_the_caller(
    queue: JobQueue,
) -> None:
    job = add(queue, unique="k")
    spooled = queue.logs.spool(io.BytesIO(b"input"))
    (inserted,) = queue.insert([JobSpec(args=TRUE, unique="k")], stdin=spooled)
    assert (inserted.id, inserted.created) == (job.id, False)
    assert not queue.logs.path(job.id).exists()


# -- adding many -----------------------------------------------------------------------------------


def test_jobs_are_added_in_the_order_given(queue: JobQueue) -> None:
    names = ["a", "b", "c", "d"]
    specs = [{"args": TRUE, "name": name, "key": name} for name in names]
    specs[1]["after"] = ["a"]
    jobs = queue.add_many(specs)
    assert [job.name for job in jobs] == names
    assert ids(jobs) == sorted(ids(jobs))


def test_a_child_may_be_given_before_its_parent(queue: JobQueue) -> None:
    child, parent = queue.add_many(
        [JobSpec(args=TRUE, after=["p"]), JobSpec(args=TRUE, key="p", name="parent")]
    )
    assert child.parents == (Parent(parent.id, Condition.SUCCEEDED),)
    assert (child.status, parent.name) == (JobStatus.BLOCKED, "parent")


def test_keys_and_ids_can_be_mixed(queue: JobQueue) -> None:
    there = add(queue)
    _, child = queue.add_many(
        [{"args": TRUE, "key": "p"}, {"args": TRUE, "after_any": ["p"], "after_fail": [there.id]}]
    )
    assert {parent.condition for parent in child.parents} == {Condition.ENDED, Condition.FAILED}


def test_jobs_that_wait_for_each_other_are_refused(queue: JobQueue) -> None:
    with pytest.raises(UsageError, match=r"circle: (one → two → one|two → one → two)"):
        queue.add_many(
            [
                {"args": TRUE, "key": "a", "name": "one", "after": ["b"]},
                {"args": TRUE, "key": "b", "name": "two", "after": ["a"]},
            ]
        )
    with pytest.raises(UsageError, match="circle"):
        queue.add_many([{"args": TRUE, "key": "a", "after": ["a"]}])
    assert queue.find() == []


def test_a_key_belongs_to_one_job(queue: JobQueue) -> None:
    with pytest.raises(UsageError, match="key 'a' is given to two jobs"):
        queue.add_many([{"args": TRUE, "key": "a"}] * 2)


@pytest.mark.parametrize("wrong", [{"args": {}}, {"args": TRUE, "after": [10**6]}])
def test_thousands_are_checked_before_any_is_added(queue: JobQueue, wrong: dict[str, Any]) -> None:
    with pytest.raises((UsageError, NotFound)):
        queue.add_many([*[{"args": TRUE}] * 2500, wrong])
    assert queue.find() == []


def test_thousands_keep_their_parents_across_transactions(queue: JobQueue) -> None:
    specs: list[JobSpec] = [JobSpec(args=TRUE, key="0")]
    specs += [JobSpec(args=TRUE, key=str(n), after=[str(n - 1)]) for n in range(1, 2500)]
    jobs = queue.add_many(specs)
    assert [job.parents for job in jobs[1:]] == [
        (Parent(job.id, Condition.SUCCEEDED),) for job in jobs[:-1]
    ]


def test_two_jobs_with_one_unique_key_are_one_parent(queue: JobQueue) -> None:
    one, two, child = queue.add_many(
        [
            {"args": TRUE, "key": "a", "unique": "k"},
            {"args": TRUE, "key": "b", "unique": "k"},
            {"args": TRUE, "after": ["a", "b"]},
        ]
    )
    assert one == two
    assert child.parents == (Parent(one.id, Condition.SUCCEEDED),)


def test_no_jobs_are_no_error(queue: JobQueue) -> None:
    assert queue.add_many([]) == []


# -- cancelling ------------------------------------------------------------------------------------


def test_a_cancelled_job_has_the_reason(queue: JobQueue) -> None:
    job = queue.cancel(add(queue).id, reason="enough")
    assert (job.status, job.reason) == (JobStatus.CANCELLED, "enough")
    with pytest.raises(WrongState, match="is cancelled: there is nothing to cancel"):
        queue.cancel(job.id)
    with pytest.raises(UsageError):
        queue.cancel(job.id, reason="\0")


def family(queue: JobQueue) -> list[Job]:
    return queue.add_many(
        [
            {"args": TRUE, "key": "parent"},
            {"args": TRUE, "key": "child", "after_any": ["parent"]},
            {"args": TRUE, "after_any": ["child"]},
        ]
    )


def statuses(queue: JobQueue, jobs: list[Job]) -> list[str]:
    return [job.status for job in queue.get_many(ids(jobs))]


def test_those_that_wait_are_cancelled_only_in_a_cascade(queue: JobQueue) -> None:
    jobs = family(queue)
    queue.cancel(jobs[0].id)
    assert statuses(queue, jobs) == ["cancelled", "pending", "blocked"]
    jobs = family(queue)
    queue.cancel(jobs[0].id, cascade=True)
    assert statuses(queue, jobs) == ["cancelled"] * 3


def test_a_cascade_from_a_finished_job_cancels_nobody(queue: JobQueue) -> None:
    jobs = family(queue)
    finish(queue, jobs[0])
    with pytest.raises(WrongState):
        queue.cancel(jobs[0].id, cascade=True)
    assert statuses(queue, jobs) == ["completed", "pending", "blocked"]


def test_the_cancellation_of_a_parent_reaches_thousands_of_children(queue: JobQueue) -> None:
    parent = add(queue)
    children = queue.add_many([{"args": TRUE, "after": [parent.id]}] * 1200)
    queue.cancel(parent.id)
    assert set(statuses(queue, children)) == {"cancelled"}


def test_many_are_cancelled_and_each_is_told_of(queue: JobQueue) -> None:
    done, pending = add(queue), add(queue)
    finish(queue, done)
    assert queue.cancel_many([done.id, pending.id, pending.id, 41]) == {
        done.id: CancelEffect.FINISHED,
        pending.id: CancelEffect.CANCELLED,
        41: CancelEffect.MISSING,
    }


# -- retrying --------------------------------------------------------------------------------------


def test_a_failed_job_is_retried_with_its_number(queue: JobQueue) -> None:
    job = finish(queue, add(queue), JobStatus.FAILED)
    again = queue.retry(job.id)
    assert (again.id, again.status, again.attempts) == (job.id, JobStatus.PENDING, 1)


def test_a_retry_that_is_refused_says_why(queue: JobQueue) -> None:
    job = add(queue)
    with pytest.raises(WrongState, match=f"job {job.id} is pending: only failed, cancelled and"):
        queue.retry(job.id)
    failed = finish(queue, job, JobStatus.FAILED)
    child = add(queue, after=[failed.id])
    with pytest.raises(WrongState, match=f"retry {failed.id}, and this one comes back with it"):
        queue.retry(child.id)
    loser = queue.cancel(add(queue, unique="k").id)
    holder = add(queue, unique="k")
    with pytest.raises(WrongState, match=f"job {holder.id} holds the unique key of job {loser.id}"):
        queue.retry(loser.id)


def test_the_retry_of_a_parent_brings_thousands_of_children_back(queue: JobQueue) -> None:
    parent = add(queue)
    children = queue.add_many([{"args": TRUE, "after": [parent.id]}] * 1200)
    finish(queue, parent, JobStatus.FAILED)
    while backend_of(queue).settle_dependents(NOON):
        pass
    assert set(statuses(queue, children)) == {"cancelled"}
    queue.retry(parent.id)
    assert set(statuses(queue, children)) == {"blocked"}


# -- pruning ---------------------------------------------------------------------------------------


def with_log(queue: JobQueue, job: Job) -> Path:
    queue.logs.create(job).close()
    return queue.logs.path(job.id)


def test_pruning_deletes_rows_and_directories_together(queue: JobQueue) -> None:
    done, failed, pending = add(queue), add(queue), add(queue)
    folders = [with_log(queue, job) for job in (done, failed, pending)]
    finish(queue, done)
    finish(queue, failed, JobStatus.FAILED)
    assert queue.prune() == 2
    assert ids(queue.find()) == [pending.id]
    assert [folder.exists() for folder in folders] == [False, False, True]
    assert queue.prune() == 0


def test_pruning_by_age_counts_from_the_end_of_a_job(
    queue: JobQueue, clock: FrozenDateTimeFactory
) -> None:
    old, young = add(queue), add(queue)
    finish(queue, old)
    clock.tick(timedelta(days=2))
    finish(queue, young)
    clock.tick(timedelta(days=1))
    assert queue.prunable(older_than="2d") == [old.id]
    assert queue.prune(older_than=timedelta(days=2)) == 1
    assert ids(queue.find()) == [young.id]


@pytest.mark.parametrize(("keep", "deleted"), [(0, 4), (1, 3), (3, 1), (4, 0), (5, 0), (100, 0)])
def test_pruning_keeps_the_last_ones(queue: JobQueue, keep: int, deleted: int) -> None:
    jobs = [queue.cancel(add(queue).id) for _ in range(4)]
    assert queue.prune(keep_last=keep) == deleted
    assert ids(queue.find()) == ids(jobs)[deleted:]


def test_pruning_can_be_narrowed(queue: JobQueue) -> None:
    queue.create_queue("lane")
    failed = finish(queue, add(queue), JobStatus.FAILED)
    cancelled = queue.cancel(add(queue, queue="lane").id)
    assert queue.prunable(status="failed") == [failed.id]
    assert queue.prunable(queue="lane") == [cancelled.id]
    with pytest.raises(UsageError, match="not pending, running: cancel them first"):
        queue.prune(status=["failed", "running", "pending"])
    assert len(queue.find()) == 2


def test_thousands_are_pruned(queue: JobQueue) -> None:
    jobs = queue.add_many([{"args": TRUE}] * 2500)
    queue.cancel_many(ids(jobs))
    assert queue.prune(keep_last=1) == 2499


def test_unfinished_jobs_are_not_deleted_nor_are_their_logs(queue: JobQueue) -> None:
    job = add(queue)
    folder = with_log(queue, job)
    assert queue.delete([job.id]) == []
    assert folder.exists()


def test_the_children_of_a_parent_are_told_before_it_is_deleted(queue: JobQueue) -> None:
    parent = add(queue)
    children = queue.add_many([{"args": TRUE, "after": [parent.id]}] * 1000)
    folder = with_log(queue, parent)
    finish(queue, parent)
    assert queue.delete([parent.id]) == [parent.id]
    assert not folder.exists()
    assert set(statuses(queue, children)) == {"pending"}


# -- once ------------------------------------------------------------------------------------------


def test_a_job_is_added_once_by_its_key(queue: JobQueue) -> None:
    spec = JobSpec(args=TRUE, delay=60, tags={"k": "v"})
    first = queue.add_once(spec, "http:me:1")
    assert first.created
    assert queue.add_once({"args": TRUE, "tags": {"k": "v"}, "delay": 60}, "http:me:1") == (
        first.id, False, None,
    )  # fmt: skip
    assert queue.add_once(spec, "http:me:2").created
    assert queue.counts()[JobStatus.SCHEDULED] == 2
    with pytest.raises(KeyReusedError, match=f"'http:me:1' belongs to job {first.id}"):
        queue.add_once(JobSpec(args=TRUE, delay=61, tags={"k": "v"}), "http:me:1")
    assert queue.counts()[JobStatus.SCHEDULED] == 2


def test_a_key_is_free_once_its_job_is_deleted(queue: JobQueue) -> None:
    first = queue.add_once(JobSpec(args=TRUE), "k")
    queue.cancel(first.id)
    assert not queue.add_once(JobSpec(args=TRUE), "k").created
    queue.delete([first.id])
    assert queue.add_once(JobSpec(args={"argv": ["false"]}), "k").created


def test_nothing_is_added_with_a_wrong_key_or_job(queue: JobQueue) -> None:
    for key, spec in (("", JobSpec(args=TRUE)), ("k", JobSpec(args={}))):
        with pytest.raises(UsageError):
            queue.add_once(spec, key)
    assert queue.add_once(JobSpec(args=TRUE), "k").created


def test_parents_given_by_an_iterator_count(queue: JobQueue) -> None:
    parent = add(queue)
    child = queue.add_once(JobSpec(args=TRUE, after=iter([parent.id])), "k")
    assert queue.get(child.id).status is JobStatus.BLOCKED
    assert queue.add_once(JobSpec(args=TRUE, after=[parent.id]), "k").id == child.id


# -- unique keys -----------------------------------------------------------------------------------


def test_add_tells_a_new_job_from_the_holder_of_its_key(queue: JobQueue) -> None:
    first = add(queue, unique="k")
    again, other = queue.add_many(
        [JobSpec(args={"argv": ["rm", "x"]}, unique="k"), JobSpec(args={"argv": ["true"]})]
    )
    assert (first.existing, again.existing, other.existing) == (False, True, False)
    assert (again.id, again.args) == (first.id, first.args)
    assert not queue.get(first.id).existing


def test_an_empty_unique_key_is_refused(queue: JobQueue) -> None:
    with pytest.raises(UsageError, match="unique key ''"):
        add(queue, unique="")
    assert queue.find() == []


def test_one_job_is_claimed_and_no_other(queue: JobQueue) -> None:
    first, second = queue.add_many([{"type": "shell", "args": {"argv": ["true"]}}] * 2)
    claim = queue.claim_job(second.id, owner="me")
    assert claim.job.id == second.id
    assert queue.get(first.id).status is JobStatus.PENDING
    with pytest.raises(WrongState, match="job 2 is running: it can't be started now"):
        queue.claim_job(second.id, owner="me")
    queue.pause("default")
    with pytest.raises(WrongState, match="queue default is paused"):
        queue.claim_job(first.id, owner="me")
    with pytest.raises(NotFound):
        queue.claim_job(9, owner="me")
