"""The contract: import keys, under which a job is added once."""

import pytest

from jobq.errors import NotFound
from jobq.models import FINISHED, Condition, JobFilter, JobStatus, KnownKey, Parent, ParentRef
from tests.contract.driver import Jobs, after, new_job

ALL = JobFilter()


def behind(*keys: str, condition: Condition = Condition.SUCCEEDED) -> tuple[ParentRef, ...]:
    """Return parents by key."""
    return tuple(ParentRef(condition=condition, key=key) for key in keys)


def count(jobs: Jobs) -> int:
    return len(jobs.backend.find(ALL, limit=None))


def test_a_key_stands_for_its_job_from_here_on(jobs: Jobs) -> None:
    assert jobs.backend.transfer.known_keys(["a", "b"]) == {}
    first = jobs.add(key="a", digest="d")
    jobs.reopen()
    assert jobs.backend.transfer.known_keys(["a", "b"]) == {"a": KnownKey(first, "d")}
    assert jobs.backend.transfer.known_keys([]) == {}


@pytest.mark.parametrize("status", JobStatus)
def test_a_known_key_is_not_added_again_whatever_became_of_its_job(
    jobs: Jobs, status: JobStatus
) -> None:
    first = jobs.put(status, key="a", digest="d")
    before = count(jobs)
    (second,) = jobs.insert(new_job(key="a", digest="other"))
    assert (second.id, second.created) == (first, False)
    assert count(jobs) == before
    assert jobs.backend.transfer.known_keys(["a"]) == {"a": KnownKey(first, "d")}


def test_a_key_holds_within_one_insert(jobs: Jobs) -> None:
    first, second, other = jobs.insert(new_job(key="a"), new_job(key="a"), new_job(key="b"))
    assert (second.id, second.created) == (first.id, False)
    assert other.created
    assert count(jobs) == 2


def test_parents_are_found_by_key_in_this_insert_and_in_an_earlier_one(jobs: Jobs) -> None:
    early = jobs.add(key="early")
    middle, late = jobs.insert_ids(
        new_job(key="middle"), new_job(parents=behind("early", "middle"))
    )
    assert jobs.get(late).parents == (
        Parent(early, Condition.SUCCEEDED),
        Parent(middle, Condition.SUCCEEDED),
    )
    assert jobs.status(late) is JobStatus.BLOCKED
    for job in (early, middle):
        jobs.finish(job, JobStatus.COMPLETED)
    assert jobs.status(late) is JobStatus.PENDING


def test_a_parent_that_ended_is_found_by_key_and_decides_at_once(jobs: Jobs) -> None:
    jobs.put(JobStatus.FAILED, key="a")
    excluded, met = jobs.insert_ids(
        new_job(parents=behind("a")), new_job(parents=behind("a", condition=Condition.FAILED))
    )
    assert jobs.statuses(excluded, met) == [JobStatus.CANCELLED, JobStatus.PENDING]


def test_one_parent_by_key_and_by_id_is_one(jobs: Jobs) -> None:
    parent = jobs.add(key="a")
    child = jobs.add(parents=behind("a") + after(parent))
    assert jobs.get(child).unmet_parents == 1


def test_an_unknown_key_of_a_parent_adds_nothing(jobs: Jobs) -> None:
    with pytest.raises(NotFound, match="'nobody'"):
        jobs.insert(new_job(key="a"), new_job(parents=behind("nobody")))
    assert count(jobs) == 0
    assert jobs.backend.transfer.known_keys(["a"]) == {}


def test_a_key_stands_for_the_holder_of_the_unique_key(jobs: Jobs) -> None:
    holder = jobs.add(unique_key="u")
    added, child = jobs.insert(
        new_job(unique_key="u", key="a", digest="d"), new_job(parents=behind("a"))
    )
    assert (added.id, added.created) == (holder, False)
    assert jobs.get(child.id).parents == (Parent(holder, Condition.SUCCEEDED),)
    jobs.finish(holder, JobStatus.COMPLETED)
    (again,) = jobs.insert(new_job(unique_key="u", key="a"))
    assert (again.id, again.created) == (holder, False)


@pytest.mark.parametrize("status", sorted(FINISHED))
def test_a_key_is_forgotten_with_its_job(jobs: Jobs, status: JobStatus) -> None:
    first = jobs.put(status, key="a")
    kept = jobs.add(key="b")
    jobs.settle()
    assert jobs.backend.delete([first, kept]) == [first]
    assert set(jobs.backend.transfer.known_keys(["a", "b"])) == {"b"}
    (again,) = jobs.insert(new_job(key="a"))
    assert again.created


def test_a_key_may_be_any_text(jobs: Jobs) -> None:
    keys = ['a"b', "a'b", "żółw", " ", "a,b", "[0]", "\U0001f40c"]
    ids = jobs.insert_ids(*(new_job(key=key, digest="d") for key in keys))
    found = jobs.backend.transfer.known_keys(keys)
    assert found == {key: KnownKey(job, "d") for key, job in zip(keys, ids, strict=True)}
