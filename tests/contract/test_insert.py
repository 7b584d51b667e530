"""The contract: adding jobs, their parents, unique keys, and finding them."""

from datetime import timedelta
from typing import Any

import pytest

from jobq.errors import NotFound, UsageError
from jobq.models import FINISHED, UNFINISHED, Condition, JobFilter, JobStatus, Parent, ParentRef
from tests.contract.driver import NOON, Jobs, after, beside, new_job

SECOND = timedelta(seconds=1)
ENDINGS = sorted(FINISHED)
ALL = JobFilter()


# -- first statuses ----------------------------------------------------------------------------


def test_a_new_job_is_pending(jobs: Jobs) -> None:
    job = jobs.get(jobs.add())
    assert (job.status, job.attempts, job.created_at) == (JobStatus.PENDING, 0, NOON)


@pytest.mark.parametrize(
    ("run_at", "status"),
    [
        (NOON - SECOND, JobStatus.PENDING),
        (NOON, JobStatus.PENDING),
        (NOON + SECOND, JobStatus.SCHEDULED),
    ],
)
def test_a_job_whose_time_has_not_come_is_scheduled(
    jobs: Jobs, run_at: object, status: JobStatus
) -> None:
    job = jobs.get(jobs.add(run_at=run_at))
    assert (job.status, job.run_at) == (status, run_at)


def test_what_is_inserted_is_read_back(jobs: Jobs) -> None:
    adder = jobs.add()
    given = new_job(
        type="tile",
        args={"text": "żółw\0\n'\"", "list": [1, 2.5, None, True], "deep": {"a": {"b": []}}},
        priority=0,
        max_retries=7,
        retry_base=0.25,
        name="naïve",
        tags={"user.name": "Zoë", "n": "1"},
        unique_key="k",
        added_by=adder,
        timeout=1.5,
    )
    (inserted,) = jobs.insert(given)
    job = jobs.get(inserted.id)
    assert inserted.created
    for name in given.__dataclass_fields__:
        if name not in ("parents", "key", "digest"):  # which a job does not show
            assert getattr(job, name) == getattr(given, name), name


def test_ids_ascend_in_the_order_of_insertion(jobs: Jobs) -> None:
    first = jobs.insert_ids(new_job(), new_job(), new_job())
    assert first == sorted(set(first))
    assert jobs.add() > first[-1]


def test_nothing_inserted_is_nothing_added(jobs: Jobs) -> None:
    assert jobs.insert() == []
    assert jobs.backend.counts() == {}


def test_get_leaves_out_what_is_not_there(jobs: Jobs) -> None:
    job = jobs.add()
    assert set(jobs.backend.get([job, job + 1, -1, 2**70])) == {job}
    assert jobs.backend.get([]) == {}


def test_an_unknown_queue_adds_nothing(jobs: Jobs) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        jobs.insert(new_job(), new_job(queue="nowhere"))
    assert jobs.backend.find(ALL, limit=None) == []


def test_an_unknown_parent_adds_nothing(jobs: Jobs) -> None:
    with pytest.raises(NotFound, match="41"):
        jobs.insert(new_job(), new_job(parents=after(41)))
    assert jobs.backend.find(ALL, limit=None) == []


# -- parents -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", sorted(UNFINISHED))
@pytest.mark.parametrize("condition", Condition)
def test_a_job_waits_for_a_parent_that_has_not_finished(
    jobs: Jobs, status: JobStatus, condition: Condition
) -> None:
    parent = jobs.put(status)
    child = jobs.get(jobs.add(parents=after(parent, condition=condition)))
    assert (child.status, child.unmet_parents) == (JobStatus.BLOCKED, 1)
    assert child.parents == (Parent(parent, condition),)


@pytest.mark.parametrize("ended", ENDINGS)
@pytest.mark.parametrize("condition", Condition)
def test_a_parent_that_has_finished_decides_at_once(
    jobs: Jobs, condition: Condition, ended: JobStatus
) -> None:
    parent = jobs.put(ended)
    child = jobs.get(jobs.add(parents=after(parent, condition=condition)))
    if condition.met_by(ended):
        assert (child.status, child.unmet_parents) == (JobStatus.PENDING, 0)
    else:
        assert (child.status, child.cancelled_by) == (JobStatus.CANCELLED, parent)
        assert f"parent {parent} " in (child.reason or "")
        assert child.finished_at == NOON


def test_a_satisfied_job_still_waits_for_its_time(jobs: Jobs) -> None:
    parent = jobs.put(JobStatus.COMPLETED)
    child = jobs.add(parents=after(parent), run_at=NOON + SECOND)
    assert jobs.status(child) is JobStatus.SCHEDULED


def test_a_job_waits_for_all_of_its_parents(jobs: Jobs) -> None:
    done, waiting = jobs.put(JobStatus.COMPLETED), jobs.put(JobStatus.PENDING)
    child = jobs.get(jobs.add(parents=after(done, waiting)))
    assert (child.status, child.unmet_parents) == (JobStatus.BLOCKED, 1)


def test_one_impossible_parent_is_enough(jobs: Jobs) -> None:
    waiting, failed = jobs.put(JobStatus.PENDING), jobs.put(JobStatus.FAILED)
    child = jobs.get(jobs.add(parents=after(waiting, failed, jobs.put(JobStatus.FAILED))))
    assert (child.status, child.cancelled_by) == (JobStatus.CANCELLED, failed)


def test_parents_may_be_in_the_same_insert(jobs: Jobs) -> None:
    first, second, third = jobs.insert_ids(
        new_job(), new_job(parents=beside(0)), new_job(parents=beside(0, 1))
    )
    assert jobs.get(third).parents == (
        Parent(first, Condition.SUCCEEDED),
        Parent(second, Condition.SUCCEEDED),
    )
    assert jobs.claimed() == [first]


def test_an_impossible_job_makes_its_children_in_the_same_insert_impossible(jobs: Jobs) -> None:
    failed = jobs.put(JobStatus.FAILED)
    child, grandchild, cleanup = jobs.insert_ids(
        new_job(parents=after(failed)),
        new_job(parents=beside(0)),
        new_job(parents=beside(0, condition=Condition.ENDED)),
    )
    assert jobs.get(grandchild).cancelled_by == child
    assert jobs.status(cleanup) is JobStatus.PENDING


def test_a_parent_named_twice_counts_once(jobs: Jobs) -> None:
    parent = jobs.add()
    child = jobs.add(parents=after(parent, parent))
    assert jobs.get(child).unmet_parents == 1
    jobs.finish(parent, JobStatus.COMPLETED)
    assert jobs.status(child) is JobStatus.PENDING


def test_a_parent_named_with_two_conditions_is_refused(jobs: Jobs) -> None:
    parent = jobs.add()
    with pytest.raises(UsageError, match=f"parent {parent}"):
        jobs.insert(
            new_job(), new_job(parents=after(parent) + after(parent, condition=Condition.ENDED))
        )
    assert [job.id for job in jobs.backend.find(ALL, limit=None)] == [parent]


# -- unique keys -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", sorted(UNFINISHED))
def test_an_unfinished_job_keeps_its_unique_key(jobs: Jobs, status: JobStatus) -> None:
    holder = jobs.put(status, unique_key="k")
    (second,) = jobs.insert(new_job(unique_key="k"))
    assert (second.id, second.created) == (holder, False)


@pytest.mark.parametrize("status", ENDINGS)
def test_a_finished_job_gives_up_its_unique_key(jobs: Jobs, status: JobStatus) -> None:
    first = jobs.put(status, unique_key="k")
    (second,) = jobs.insert(new_job(unique_key="k"))
    assert second.created
    assert second.id > first


def test_a_unique_key_holds_within_one_insert(jobs: Jobs) -> None:
    first, second, other = jobs.insert(
        new_job(unique_key="k"), new_job(unique_key="k"), new_job(unique_key="l")
    )
    assert (second.id, second.created) == (first.id, False)
    assert other.created
    assert len(jobs.backend.find(ALL, limit=None)) == 2


def test_an_impossible_job_does_not_take_its_key_from_a_later_one(jobs: Jobs) -> None:
    failed = jobs.put(JobStatus.FAILED)
    impossible = new_job(unique_key="k", parents=after(failed))
    jobs.insert(impossible)
    _, second = jobs.insert(impossible, new_job(unique_key="k"))
    assert second.created
    assert jobs.status(second.id) is JobStatus.PENDING


def test_a_child_of_a_job_that_was_there_waits_for_the_holder(jobs: Jobs) -> None:
    holder = jobs.add(unique_key="k")
    _, child = jobs.insert_ids(new_job(unique_key="k"), new_job(parents=beside(0)))
    assert jobs.get(child).parents == (Parent(holder, Condition.SUCCEEDED),)


def test_two_places_with_one_holder_are_one_parent(jobs: Jobs) -> None:
    holder, _, child = jobs.insert_ids(
        new_job(unique_key="k"), new_job(unique_key="k"), new_job(parents=beside(0, 1))
    )
    assert jobs.get(child).parents == (Parent(holder, Condition.SUCCEEDED),)
    jobs.finish(holder, JobStatus.COMPLETED)
    assert jobs.status(child) is JobStatus.PENDING


# -- finding -----------------------------------------------------------------------------------


def found(
    jobs: Jobs, *, limit: int | None = None, newest: bool = False, **narrow: object
) -> list[int]:
    wanted = JobFilter(**narrow)  # type: ignore[arg-type]
    return [job.id for job in jobs.backend.find(wanted, limit=limit, newest=newest)]


def test_find_narrows_by_each_field(jobs: Jobs) -> None:
    jobs.limit("other")
    plain, other = jobs.add(), jobs.add(queue="other", type="tile", tags={"k": "v", "n": "1"})
    jobs.later(10)
    done = jobs.put(JobStatus.COMPLETED)
    assert found(jobs, ids=(done, plain)) == [plain, done]
    assert found(jobs, ids=()) == []
    completed, ended = frozenset({JobStatus.COMPLETED}), frozenset(FINISHED)
    cases: list[tuple[dict[str, Any], list[int]]] = [
        ({"statuses": completed}, [done]),
        ({"statuses": ended}, [done]),
        ({"queue": "other"}, [other]),
        ({"type": "tile"}, [other]),
        ({"tags": {"k": "v"}}, [other]),
        ({"tags": {"k": "v", "n": "1"}}, [other]),
        ({"tags": {"k": "w"}}, []),
        ({"tags": {"k": "v", "n": "2"}}, []),
        ({"since": NOON + SECOND}, [done]),
        ({"since": jobs.now}, [done]),
        ({"until": NOON + SECOND}, [plain, other]),
        ({"until": jobs.now}, [plain, other]),
        ({"after_id": plain}, [other, done]),
        ({"before_id": done}, [plain, other]),
        ({"after_id": plain, "before_id": done}, [other]),
        ({"finished_before": jobs.now}, []),
        ({"finished_before": jobs.now + SECOND}, [done]),
    ]
    for narrow, expected in cases:
        for newest in (False, True):
            ordered = sorted(expected, reverse=newest)
            assert found(jobs, newest=newest, **narrow) == ordered, narrow
            assert found(jobs, newest=newest, ids=(done, plain, other), **narrow) == ordered, narrow


def test_a_tag_that_nobody_can_have_finds_nothing(jobs: Jobs) -> None:
    jobs.add(tags={"k": "v"})
    for key in ('a"b', "", "[0]", "k.v", '"'):
        assert found(jobs, tags={key: "v"}) == []


def test_find_gives_pages_in_both_directions(jobs: Jobs) -> None:
    ids = jobs.insert_ids(*[new_job()] * 5)
    assert found(jobs, limit=2) == ids[:2]
    assert found(jobs, after_id=ids[1], limit=2) == ids[2:4]
    assert found(jobs, newest=True, limit=2) == [ids[4], ids[3]]
    assert found(jobs, newest=True, before_id=ids[3], limit=2) == [ids[2], ids[1]]
    assert found(jobs, limit=0) == []


def test_histories_come_in_pages_whatever_the_statuses(jobs: Jobs) -> None:
    for status in JobStatus:
        jobs.put(status, type=status.value)
    ids = found(jobs)
    seen: list[int] = []
    while page := jobs.backend.transfer.histories(after_id=seen[-1] if seen else 0, limit=2):
        assert len(page) <= 2
        seen += [history.job.id for history in page]
    assert seen == ids


def test_a_history_names_who_holds_the_key_of_an_unfinished_job(jobs: Jobs) -> None:
    jobs.put(JobStatus.FAILED, unique_key="k")
    holder = jobs.add(unique_key="k")
    histories = jobs.backend.transfer.histories(after_id=0, limit=9)
    assert [history.key_holder for history in histories] == [None, holder]


def test_counts_are_by_queue_and_status(jobs: Jobs) -> None:
    jobs.limit("other")
    jobs.insert(new_job(), new_job(), new_job(queue="other"))
    jobs.put(JobStatus.FAILED, queue="other")
    assert jobs.backend.counts() == {
        "default": {JobStatus.PENDING: 2},
        "other": {JobStatus.PENDING: 1, JobStatus.FAILED: 1},
    }


def test_a_parent_reference_is_an_id_or_a_place(jobs: Jobs) -> None:
    with pytest.raises(NotFound):
        jobs.insert(new_job(parents=(ParentRef(condition=Condition.ENDED),)))
