"""The contract: cancelling and retrying jobs, and the consequences for their dependents."""

from datetime import timedelta
from itertools import pairwise

import pytest

from jobq.models import (
    FINISHED,
    CancelEffect,
    Condition,
    JobFilter,
    JobStatus,
    Progress,
    Retried,
    RetryEffect,
    impossible_because,
)
from tests.contract.driver import Jobs, after, beside, new_job

CANCELLABLE = [JobStatus.BLOCKED, JobStatus.SCHEDULED, JobStatus.PENDING, JobStatus.RETRYING]
RETRYABLE = [JobStatus.FAILED, JobStatus.CANCELLED]
ENDINGS = sorted(FINISHED)


def cancel(jobs: Jobs, *ids: int, reason: str | None = None) -> dict[int, CancelEffect]:
    return jobs.backend.cancel(ids, reason, jobs.now)


def requeue(jobs: Jobs, *ids: int) -> list[Retried]:
    return jobs.backend.requeue(ids, jobs.now)


# -- cancel ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", CANCELLABLE)
def test_a_job_that_waits_is_cancelled_at_once(jobs: Jobs, status: JobStatus) -> None:
    job_id = jobs.put(status)
    jobs.later(5)
    assert cancel(jobs, job_id, reason="enough") == {job_id: CancelEffect.CANCELLED}
    job = jobs.get(job_id)
    assert (job.status, job.reason, job.finished_at) == (JobStatus.CANCELLED, "enough", jobs.now)


def test_a_running_job_is_asked_to_stop_and_runs_on(jobs: Jobs) -> None:
    job_id = jobs.put(JobStatus.RUNNING)
    for _ in range(2):
        assert cancel(jobs, job_id, reason="enough") == {job_id: CancelEffect.REQUESTED}
        job = jobs.get(job_id)
        assert (job.status, job.cancel_requested) == (JobStatus.RUNNING, True)
        assert job.reason == "enough"
    cancel(jobs, job_id)
    assert jobs.get(job_id).reason == "enough"


@pytest.mark.parametrize("status", ENDINGS)
def test_a_finished_job_is_not_cancelled(jobs: Jobs, status: JobStatus) -> None:
    job_id = jobs.put(status)
    before = jobs.get(job_id)
    jobs.later(5)
    assert cancel(jobs, job_id, reason="late") == {job_id: CancelEffect.FINISHED}
    assert jobs.get(job_id) == before


def test_cancel_says_for_each_job_what_became_of_it(jobs: Jobs) -> None:
    pending, running = jobs.put(JobStatus.PENDING), jobs.put(JobStatus.RUNNING)
    done = jobs.put(JobStatus.COMPLETED)
    assert cancel(jobs, pending, running, done, 10**6) == {
        pending: CancelEffect.CANCELLED,
        running: CancelEffect.REQUESTED,
        done: CancelEffect.FINISHED,
        10**6: CancelEffect.MISSING,
    }
    assert cancel(jobs) == {}


# -- parents end -------------------------------------------------------------------------------


@pytest.mark.parametrize("ended", ENDINGS)
@pytest.mark.parametrize("condition", Condition)
def test_a_parent_that_ends_decides(jobs: Jobs, condition: Condition, ended: JobStatus) -> None:
    parent = jobs.add()
    child = jobs.add(parents=after(parent, condition=condition))
    jobs.later(5)
    jobs.finish(parent, ended)
    job = jobs.get(child)
    if condition.met_by(ended):
        assert (job.status, job.unmet_parents) == (JobStatus.PENDING, 0)
    else:
        assert (job.status, job.cancelled_by) == (JobStatus.CANCELLED, parent)
        assert job.reason == impossible_because(parent, ended, condition)
        assert job.finished_at == jobs.now


@pytest.mark.parametrize("status", [JobStatus.PENDING, JobStatus.RETRYING, JobStatus.SCHEDULED])
def test_a_parent_that_will_run_again_decides_nothing(jobs: Jobs, status: JobStatus) -> None:
    parent = jobs.add()
    children = [jobs.add(parents=after(parent, condition=condition)) for condition in Condition]
    jobs.end(jobs.start(parent), status)
    assert jobs.statuses(*children) == [JobStatus.BLOCKED] * len(children)


def test_the_last_of_several_parents_releases(jobs: Jobs) -> None:
    first, second = jobs.add(), jobs.add()
    child = jobs.add(
        parents=after(first) + after(second, condition=Condition.ENDED),
    )
    jobs.finish(second, JobStatus.FAILED)
    assert jobs.get(child).unmet_parents == 1
    assert jobs.status(child) is JobStatus.BLOCKED
    jobs.finish(first, JobStatus.COMPLETED)
    assert jobs.status(child) is JobStatus.PENDING


def test_a_released_job_still_waits_for_its_time(jobs: Jobs) -> None:
    parent = jobs.add()
    early = jobs.add(parents=after(parent), run_at=jobs.now + timedelta(seconds=10))
    now = jobs.add(parents=after(parent), run_at=jobs.now + timedelta(seconds=20))
    late = jobs.add(parents=after(parent), run_at=jobs.now + timedelta(seconds=30))
    jobs.later(20)
    jobs.finish(parent, JobStatus.COMPLETED)
    assert jobs.statuses(early, now, late) == [
        JobStatus.PENDING,
        JobStatus.PENDING,
        JobStatus.SCHEDULED,
    ]
    jobs.later(10)
    assert jobs.claimed() == [early, now, late]


def test_a_chain_is_cancelled_down_and_each_reason_names_the_parent(jobs: Jobs) -> None:
    chain = [jobs.add()]
    for _ in range(4):
        chain.append(jobs.add(parents=after(chain[-1])))
    jobs.finish(chain[0], JobStatus.FAILED)
    jobs.settle()
    assert jobs.get(chain[1]).reason == f"parent {chain[0]} failed"
    for parent, child in pairwise(chain[1:]):
        job = jobs.get(child)
        assert (job.status, job.cancelled_by) == (JobStatus.CANCELLED, parent)
        assert job.reason == f"parent {parent} was cancelled"


def test_what_was_to_run_after_a_failure_runs_and_the_rest_does_not(jobs: Jobs) -> None:
    parent = jobs.add()
    good, bad, always = (jobs.add(parents=after(parent, condition=c)) for c in (
        Condition.SUCCEEDED, Condition.FAILED, Condition.ENDED
    ))  # fmt: skip
    report = jobs.add(parents=after(good, bad, always, condition=Condition.ENDED))
    jobs.finish(parent, JobStatus.FAILED)
    jobs.settle()
    assert jobs.claimed() == [bad, always]
    assert jobs.status(good) is JobStatus.CANCELLED
    assert jobs.get(report).unmet_parents == 2


def test_a_job_cancelled_by_hand_is_not_released_by_its_parent(jobs: Jobs) -> None:
    parent = jobs.add()
    child = jobs.add(parents=after(parent))
    cancel(jobs, child, reason="enough")
    jobs.finish(parent, JobStatus.COMPLETED)
    assert (jobs.status(child), jobs.get(child).reason) == (JobStatus.CANCELLED, "enough")
    assert requeue(jobs, child) == [Retried(child, RetryEffect.PENDING)]


# -- retry -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", RETRYABLE)
def test_a_retried_job_starts_afresh_and_its_attempts_go_on_counting(
    jobs: Jobs, status: JobStatus
) -> None:
    claim = jobs.start(jobs.add(max_retries=1))
    jobs.backend.progress(claim.key, Progress(1, 2, "half"))
    jobs.end(claim, status, failures=2, crashes=2, exit_code=1, signal=9, reason="why")
    assert requeue(jobs, claim.job.id) == [Retried(claim.job.id, RetryEffect.PENDING)]
    job = jobs.get(claim.job.id)
    assert (job.status, job.failures, job.crashes, job.attempts) == (JobStatus.PENDING, 0, 0, 1)
    assert (job.finished_at, job.reason, job.progress) == (None,) * 3
    assert (job.exit_code, job.signal) == (None, None)
    assert jobs.start(job.id).attempt == 2


def test_a_retried_job_no_longer_waits_for_its_time(jobs: Jobs) -> None:
    job_id = jobs.put(JobStatus.SCHEDULED)
    cancel(jobs, job_id)
    requeue(jobs, job_id)
    assert jobs.get(job_id).run_at is None
    assert jobs.claimed() == [job_id]


@pytest.mark.parametrize("status", sorted(set(JobStatus) - {*RETRYABLE, JobStatus.RETRYING}))
def test_jobs_that_neither_failed_nor_were_cancelled_are_not_retried(
    jobs: Jobs, status: JobStatus
) -> None:
    job_id = jobs.put(status)
    before = jobs.get(job_id)
    assert requeue(jobs, job_id) == [Retried(job_id, RetryEffect.REFUSED)]
    assert jobs.get(job_id) == before


def test_a_job_that_is_not_there_is_not_retried(jobs: Jobs) -> None:
    for job_id in (41, -1, 2**70):
        assert requeue(jobs, job_id) == [Retried(job_id, RetryEffect.MISSING)]


def test_a_job_is_not_retried_while_another_one_has_its_key(jobs: Jobs) -> None:
    job_id = jobs.put(JobStatus.FAILED, unique_key="k")
    holder = jobs.add(unique_key="k")
    assert requeue(jobs, job_id) == [Retried(job_id, RetryEffect.KEY_TAKEN, holder)]
    assert jobs.status(job_id) is JobStatus.FAILED
    jobs.finish(holder, JobStatus.COMPLETED)
    assert requeue(jobs, job_id) == [Retried(job_id, RetryEffect.PENDING)]


def test_of_two_jobs_with_one_key_one_is_retried(jobs: Jobs) -> None:
    first, second = (jobs.put(JobStatus.FAILED, unique_key="k") for _ in range(2))
    assert requeue(jobs, first, second) == [
        Retried(first, RetryEffect.PENDING),
        Retried(second, RetryEffect.KEY_TAKEN, first),
    ]


def test_a_job_is_not_retried_while_a_parent_excludes_it(jobs: Jobs) -> None:
    failed = jobs.put(JobStatus.FAILED)
    child = jobs.add(parents=after(failed))
    assert requeue(jobs, child) == [Retried(child, RetryEffect.IMPOSSIBLE, failed)]
    assert jobs.status(child) is JobStatus.CANCELLED


def test_a_retried_job_waits_again_for_parents_that_have_not_ended(jobs: Jobs) -> None:
    child = jobs.put(JobStatus.BLOCKED)
    cancel(jobs, child)
    assert requeue(jobs, child) == [Retried(child, RetryEffect.BLOCKED)]
    assert jobs.get(child).unmet_parents == 1


def test_the_retry_of_a_parent_revives_what_its_failure_had_cancelled(jobs: Jobs) -> None:
    chain = [jobs.add()]
    for _ in range(3):
        chain.append(jobs.add(parents=after(chain[-1])))
    jobs.finish(chain[0], JobStatus.FAILED)
    jobs.settle()
    assert requeue(jobs, chain[0]) == [Retried(chain[0], RetryEffect.PENDING)]
    jobs.settle()
    assert jobs.statuses(*chain[1:]) == [JobStatus.BLOCKED] * 3
    revived = jobs.get(chain[2])
    assert (revived.cancelled_by, revived.reason, revived.finished_at) == (None, None, None)
    for job_id in chain:
        (claim,) = jobs.claim(limit=2)
        assert claim.job.id == job_id
        jobs.end(claim)


def test_a_job_to_run_on_failure_is_revived_too(jobs: Jobs) -> None:
    parent = jobs.add()
    cleanup = jobs.add(parents=after(parent, condition=Condition.FAILED))
    cancel(jobs, parent)
    assert jobs.status(cleanup) is JobStatus.CANCELLED
    requeue(jobs, parent)
    jobs.finish(parent, JobStatus.FAILED)
    assert jobs.status(cleanup) is JobStatus.PENDING


def test_a_child_that_another_parent_excludes_stays_cancelled(jobs: Jobs) -> None:
    first, second = jobs.add(), jobs.add()
    child = jobs.add(parents=after(first, second))
    grandchild = jobs.add(parents=after(child))
    jobs.finish(first, JobStatus.FAILED)
    jobs.finish(second, JobStatus.FAILED)
    requeue(jobs, first)
    jobs.settle()
    job = jobs.get(child)
    assert (job.status, job.cancelled_by) == (JobStatus.CANCELLED, second)
    assert job.reason == f"parent {second} failed"
    assert jobs.status(grandchild) is JobStatus.CANCELLED
    requeue(jobs, second)
    jobs.settle()
    assert jobs.statuses(child, grandchild) == [JobStatus.BLOCKED] * 2


def test_a_child_whose_key_was_taken_meanwhile_stays_cancelled(jobs: Jobs) -> None:
    parent = jobs.add()
    child = jobs.add(parents=after(parent), unique_key="k")
    jobs.finish(parent, JobStatus.FAILED)
    holder = jobs.add(unique_key="k")
    requeue(jobs, parent)
    job = jobs.get(child)
    assert job.status is JobStatus.CANCELLED
    assert str(holder) in (job.reason or "")
    assert job.cancelled_by is None  # no parent bars it any more
    jobs.finish(parent, JobStatus.COMPLETED)
    assert jobs.status(child) is JobStatus.CANCELLED


def test_a_child_that_was_cancelled_by_hand_stays_cancelled(jobs: Jobs) -> None:
    parent = jobs.add()
    child = jobs.add(parents=after(parent))
    cancel(jobs, child)
    jobs.finish(parent, JobStatus.FAILED)
    requeue(jobs, parent)
    jobs.settle()
    assert jobs.status(child) is JobStatus.CANCELLED


def test_a_child_added_after_the_failure_is_revived_with_the_others(jobs: Jobs) -> None:
    parent = jobs.put(JobStatus.FAILED)
    child = jobs.add(parents=after(parent))
    requeue(jobs, parent)
    assert jobs.status(child) is JobStatus.BLOCKED


def test_a_parent_and_its_child_can_be_retried_together(jobs: Jobs) -> None:
    parent = jobs.add()
    child = jobs.add(parents=after(parent))
    grandchild = jobs.add(parents=after(child))
    jobs.finish(parent, JobStatus.FAILED)
    jobs.settle()
    assert requeue(jobs, parent, child) == [
        Retried(parent, RetryEffect.PENDING),
        Retried(child, RetryEffect.BLOCKED),
    ]
    jobs.settle()
    assert jobs.statuses(child, grandchild) == [JobStatus.BLOCKED] * 2
    assert (jobs.get(child).cancelled_by, jobs.get(child).reason) == (None, None)


# -- many dependents ---------------------------------------------------------------------------

MANY = 3000


def family(jobs: Jobs) -> tuple[int, list[int]]:
    parent, *children = jobs.insert_ids(new_job(), *[new_job(parents=beside(0))] * MANY)
    return parent, children


def tally(jobs: Jobs) -> dict[JobStatus, int]:
    return jobs.backend.counts()["default"]


@pytest.mark.parametrize(
    ("ended", "status"),
    [(JobStatus.COMPLETED, JobStatus.PENDING), (JobStatus.FAILED, JobStatus.CANCELLED)],
)
def test_thousands_of_children_settle_in_portions(
    jobs: Jobs, ended: JobStatus, status: JobStatus
) -> None:
    parent, _ = family(jobs)
    jobs.finish(parent, ended)
    first = tally(jobs).get(status, 0)
    assert 0 < first < MANY / 2
    assert jobs.backend.settle_dependents(jobs.now, limit=1000)
    assert 0 < tally(jobs)[status] - first <= 1000
    jobs.settle()
    assert tally(jobs) == {ended: 1, status: MANY}
    assert not jobs.backend.settle_dependents(jobs.now)


def test_a_crash_between_two_portions_loses_nothing(jobs: Jobs) -> None:
    parent, _ = family(jobs)
    jobs.finish(parent, JobStatus.COMPLETED)
    assert jobs.backend.settle_dependents(jobs.now, limit=700)
    told = tally(jobs)[JobStatus.PENDING]
    for more in (1, 2):
        assert jobs.backend.settle_dependents(jobs.now, limit=1)
        assert tally(jobs)[JobStatus.PENDING] == told + more
    jobs.reopen()
    jobs.settle()
    assert tally(jobs) == {JobStatus.COMPLETED: 1, JobStatus.PENDING: MANY}


def test_a_parent_retried_between_two_portions_has_all_children_waiting(jobs: Jobs) -> None:
    parent, _ = family(jobs)
    jobs.finish(parent, JobStatus.FAILED)
    requeue(jobs, parent)
    jobs.settle()
    assert tally(jobs) == {JobStatus.PENDING: 1, JobStatus.BLOCKED: MANY}


def test_a_parent_that_completes_before_its_children_are_revived_releases_them(jobs: Jobs) -> None:
    parent, _ = family(jobs)
    jobs.finish(parent, JobStatus.FAILED)
    jobs.settle()
    requeue(jobs, parent)  # revives the first portion; the rest is still cancelled
    jobs.finish(parent, JobStatus.COMPLETED)
    jobs.settle()
    assert tally(jobs) == {JobStatus.COMPLETED: 1, JobStatus.PENDING: MANY}


def test_a_parent_that_fails_again_before_its_children_are_revived_cancels_them(jobs: Jobs) -> None:
    parent, children = family(jobs)
    jobs.finish(parent, JobStatus.FAILED)
    jobs.settle()
    requeue(jobs, parent)
    jobs.finish(parent, JobStatus.FAILED)
    jobs.settle()
    assert tally(jobs) == {JobStatus.FAILED: 1, JobStatus.CANCELLED: MANY}
    assert {job.cancelled_by for job in jobs.backend.get(children).values()} == {parent}


def test_a_parent_is_not_forgotten_before_its_children_know_how_it_ended(jobs: Jobs) -> None:
    parent, _ = family(jobs)
    jobs.finish(parent, JobStatus.COMPLETED)
    assert jobs.backend.delete([parent]) == []
    jobs.settle()
    assert jobs.backend.delete([parent]) == [parent]
    assert tally(jobs) == {JobStatus.PENDING: MANY}


def test_a_long_chain_is_cancelled_to_its_end(jobs: Jobs) -> None:
    ids = jobs.insert_ids(new_job(), *[new_job(parents=beside(n)) for n in range(MANY)])
    cancel(jobs, ids[0])
    jobs.settle()
    assert tally(jobs) == {JobStatus.CANCELLED: MANY + 1}
    requeue(jobs, ids[0])
    jobs.settle()
    assert tally(jobs) == {JobStatus.PENDING: 1, JobStatus.BLOCKED: MANY}


# -- descendants -------------------------------------------------------------------------------


def test_descendants_are_the_unfinished_jobs_that_wait_directly_or_not(jobs: Jobs) -> None:
    parent = jobs.add()
    child = jobs.add(parents=after(parent))
    other = jobs.add()
    both = jobs.add(parents=after(parent, other, condition=Condition.ENDED))
    grandchild = jobs.add(parents=after(child))
    assert jobs.backend.descendants([parent]) == [child, both, grandchild]
    assert jobs.backend.descendants([child]) == [grandchild]
    assert jobs.backend.descendants([other]) == [both]
    assert jobs.backend.descendants([grandchild, 10**6]) == []
    cancel(jobs, grandchild)
    assert jobs.backend.descendants([parent]) == [child, both]


def test_a_job_that_got_what_it_waited_for_is_no_descendant_any_more(jobs: Jobs) -> None:
    parent = jobs.add()
    jobs.add(parents=after(parent, condition=Condition.ENDED))
    jobs.finish(parent, JobStatus.COMPLETED)
    assert jobs.backend.descendants([parent]) == []


# -- parents that were deleted -----------------------------------------------------------------


def test_a_child_whose_parent_is_gone_keeps_what_it_knew(jobs: Jobs) -> None:
    good, bad = jobs.add(), jobs.add()
    waits_for_both = jobs.add(parents=after(good, bad, condition=Condition.ENDED))
    impossible = jobs.add(parents=after(bad))
    jobs.finish(good, JobStatus.COMPLETED)
    jobs.backend.delete([good])
    jobs.finish(bad, JobStatus.FAILED)
    jobs.backend.delete([bad])
    assert jobs.status(waits_for_both) is JobStatus.PENDING
    assert requeue(jobs, impossible) == [Retried(impossible, RetryEffect.IMPOSSIBLE, bad)]
    assert jobs.backend.find(JobFilter(ids=(good, bad)), limit=None) == []


def test_a_parent_does_without_a_child_that_is_gone(jobs: Jobs) -> None:
    parent = jobs.add()
    gone, child = (jobs.add(parents=after(parent)) for _ in range(2))
    cancel(jobs, gone)
    assert jobs.backend.delete([gone]) == [gone]
    jobs.finish(parent, JobStatus.COMPLETED)
    assert jobs.status(child) is JobStatus.PENDING
