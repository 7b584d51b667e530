"""The contract: failed jobs by signature."""

from contextlib import suppress
from datetime import timedelta

import pytest

from jobq.backends.failures import HOURS
from jobq.models import JobFilter, JobStatus, Outcome
from tests.contract.driver import Jobs

FAILED = frozenset({JobStatus.FAILED})


def fail(jobs: Jobs, signature: str | None, status: JobStatus = JobStatus.FAILED) -> int:
    claim = jobs.start(jobs.add(max_retries=0))
    assert jobs.end(claim, status, signature=signature, error="boom")
    return claim.job.id


def counts(jobs: Jobs, **narrow: object) -> dict[str, int]:
    found = jobs.backend.failures.groups(jobs.now, **narrow)  # type: ignore[arg-type]
    return {each.signature: each.size for each in found}


def members(jobs: Jobs, signature: str, **narrow: object) -> list[int]:
    wanted = JobFilter(signature=signature, **narrow)  # type: ignore[arg-type]
    return [job.id for job in jobs.backend.find(wanted, limit=None)]


def test_a_group_has_its_size_its_times_a_sample_and_its_hours(jobs: Jobs) -> None:
    ids = []
    for wait in (0, 3600, 3599, 1, 600):
        jobs.later(wait)
        ids.append(fail(jobs, "aa"))
    last = jobs.now
    jobs.later(60)
    (group,) = jobs.backend.failures.groups(jobs.now)
    assert (group.signature, group.size) == ("aa", 5)
    assert (group.first, group.last) == (last - timedelta(seconds=7800), last)
    assert group.sample == (ids[4], ids[3], ids[2])
    assert group.by_hour == (0,) * (HOURS - 3) + (1, 1, 3)


def test_an_hour_begins_after_its_first_moment_on_every_backend(jobs: Jobs) -> None:
    fail(jobs, "aa")
    jobs.later(3600)
    (group,) = jobs.backend.failures.groups(jobs.now)
    assert group.by_hour[-2:] == (1, 0)
    jobs.later((HOURS - 1) * 3600)
    (group,) = jobs.backend.failures.groups(jobs.now)
    assert group.by_hour == (0,) * HOURS
    assert group.size == 1


def test_failures_that_the_clock_puts_into_the_future_are_of_the_last_hour(jobs: Jobs) -> None:
    fail(jobs, "aa")
    jobs.later(-600)
    (group,) = jobs.backend.failures.groups(jobs.now)
    assert group.by_hour == (0,) * (HOURS - 1) + (1,)


def test_large_groups_come_first_then_the_latest(jobs: Jobs) -> None:
    for signature in ("aa", "bb", "bb", "cc"):
        jobs.later(1)
        fail(jobs, signature)
    assert list(counts(jobs).items()) == [("bb", 2), ("cc", 1), ("aa", 1)]
    assert list(counts(jobs, limit=2)) == ["bb", "cc"]
    assert counts(jobs, limit=0) == {}


def test_groups_are_narrowed_by_their_last_failure_and_by_how_they_begin(jobs: Jobs) -> None:
    fail(jobs, "aa11")
    fail(jobs, "aa22")
    jobs.later(60)
    since = jobs.now
    fail(jobs, "aa11")
    assert counts(jobs, since=since) == {"aa11": 2}
    assert counts(jobs, prefix="aa") == {"aa11": 2, "aa22": 1}
    assert counts(jobs, prefix="aa2") == {"aa22": 1}
    assert counts(jobs, prefix="ab") == counts(jobs, prefix="a%") == {}


def test_a_job_is_in_its_group_only_while_it_is_failed(jobs: Jobs) -> None:
    first, second, third = (fail(jobs, "aa") for _ in range(3))
    jobs.backend.requeue([first], jobs.now)
    assert counts(jobs) == {"aa": 2}
    assert jobs.backend.delete([second]) == [second]
    assert counts(jobs) == {"aa": 1}
    assert jobs.end(jobs.start(first), JobStatus.FAILED, signature="bb")
    assert counts(jobs) == {"aa": 1, "bb": 1}
    jobs.backend.requeue([first, third], jobs.now)
    assert counts(jobs) == {}
    assert jobs.end(jobs.start(first))
    assert jobs.get(first).signature is None


def test_jobs_are_found_by_the_signature_of_their_last_failure(jobs: Jobs) -> None:
    failed, other = fail(jobs, "aa"), fail(jobs, "bb")
    waiting = fail(jobs, "aa", JobStatus.RETRYING)
    assert jobs.get(waiting).signature == "aa"
    assert members(jobs, "aa") == [failed, waiting]
    assert members(jobs, "aa", statuses=FAILED) == [failed]
    assert members(jobs, "aa", statuses=FAILED, after_id=failed) == []
    assert members(jobs, "bb", ids=(failed, other)) == [other]
    assert members(jobs, "cc") == []
    assert counts(jobs) == {"aa": 1, "bb": 1}


def test_an_end_that_comes_too_late_is_in_no_group(jobs: Jobs) -> None:
    claim = jobs.start(jobs.add())
    assert jobs.end(claim)
    assert not jobs.end(claim, JobStatus.FAILED, signature="aa")
    assert counts(jobs) == {}


@pytest.mark.parametrize("ends", [True, False])
def test_a_group_of_verbs_changes_groups_of_failures_all_or_not_at_all(
    jobs: Jobs, *, ends: bool
) -> None:
    failed = fail(jobs, "aa")
    claim = jobs.start(jobs.add())
    with suppress(ZeroDivisionError), jobs.backend.group():
        jobs.backend.requeue([failed], jobs.now)
        jobs.end(claim, JobStatus.FAILED, signature="bb")
        assert ends or 1 / 0
    assert counts(jobs) == ({"bb": 1} if ends else {"aa": 1})


def test_failures_of_older_versions_are_signed_later(jobs: Jobs) -> None:
    signed = fail(jobs, "aa")
    old = [fail(jobs, None) for _ in range(3)]
    jobs.backend.requeue([old[0]], jobs.now)
    fail(jobs, None, JobStatus.RETRYING)
    unsigned = jobs.backend.failures.unsigned(limit=9)
    assert [(job.id, outcome) for job, outcome in unsigned] == [
        (old[1], Outcome.FAILED),
        (old[2], Outcome.FAILED),
    ]
    assert unsigned[0][0] == jobs.get(old[1])
    assert [job.id for job, _ in jobs.backend.failures.unsigned(limit=1)] == [old[1]]
    assert [job.id for job, _ in jobs.backend.failures.unsigned(after=old[1], limit=9)] == [old[2]]
    wanted = {signed: "bb", old[0]: "bb", old[1]: "aa", old[2]: "cc", 999: "bb"}
    assert jobs.backend.failures.sign(wanted) == 2
    assert jobs.backend.failures.sign(wanted) == 0
    assert counts(jobs) == {"aa": 2, "cc": 1}
    assert jobs.get(old[0]).signature is None
    assert jobs.backend.failures.unsigned(limit=9) == []
