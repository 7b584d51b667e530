"""The contract: prefetched claims, claims given back without a trace, and exchanges."""

import pytest

from jobq.backends.messages import ClaimRequest, Exchange, Report
from jobq.models import JobStatus, LogOffsets, Progress, Started
from jobq.units import Rate
from tests.contract.driver import LEASE, Jobs, after, new_job

# -- prefetch ----------------------------------------------------------------------------------


def test_a_prefetching_claim_gives_more_in_the_same_order(jobs: Jobs) -> None:
    jobs.limit("first", priority=9)
    plain = jobs.insert_ids(*[new_job()] * 3)
    urgent = jobs.add(priority=9)
    (first,) = jobs.insert_ids(new_job(queue="first"))
    assert jobs.claimed(1, prefetch=2) == [first, urgent, plain[0]]
    assert jobs.claimed(0, prefetch=1) == [plain[1]]
    assert jobs.claimed(1, prefetch=5) == [plain[2]]


def test_a_prefetching_claim_holds_each_job_as_any_claim_does(jobs: Jobs) -> None:
    ids = jobs.insert_ids(*[new_job()] * 2)
    claims = jobs.claim(1, prefetch=1, owner="me")
    assert [(c.job.id, c.attempt, c.owner) for c in claims] == [(i, 1, "me") for i in ids]
    held = jobs.backend.heartbeat("me", LEASE, jobs.now)
    assert sorted(item.key.job_id for item in held) == ids
    assert jobs.end(claims[1])


@pytest.mark.parametrize("limits", [{"max_concurrent": 3}, {"rate": Rate(3, 10.0)}])
def test_nothing_is_prefetched_from_a_queue_with_a_limit(
    jobs: Jobs, limits: dict[str, object]
) -> None:
    jobs.limit("lane", priority=9, **limits)
    lane = jobs.insert_ids(*[new_job(queue="lane")] * 5)
    plain = jobs.insert_ids(*[new_job()] * 5)
    assert jobs.claimed(1, prefetch=2) == [lane[0], *plain[:2]]
    assert jobs.claimed(1, prefetch=1, ids=[*lane[1:], plain[2]]) == [lane[1], plain[2]]
    assert jobs.claimed(0, prefetch=1) == [plain[3]]
    assert jobs.claimed(3, prefetch=9) == [lane[2], plain[4]]


# -- given back --------------------------------------------------------------------------------


def test_a_claim_given_back_leaves_no_trace(jobs: Jobs) -> None:
    job_id = jobs.add()
    before = jobs.get(job_id)
    jobs.later(5)
    (claim,) = jobs.claim()
    jobs.backend.started([Started(claim.key, 123, 456, LogOffsets(stdout=7))])
    jobs.unclaim(claim)
    assert jobs.get(job_id) == before
    assert jobs.backend.heartbeat("one", LEASE, jobs.now) == []
    assert jobs.backend.attempts(job_id) == []
    assert jobs.backend.open_attempts() == []
    (again,) = jobs.claim(owner="two")
    assert (again.job.id, again.attempt) == (job_id, 1)
    (attempt,) = jobs.backend.attempts(job_id)
    assert (attempt.pid, attempt.offsets) == (None, LogOffsets())


def test_earlier_attempts_stay_when_a_claim_is_given_back(jobs: Jobs) -> None:
    first = jobs.start(jobs.add())
    jobs.end(first, JobStatus.PENDING)
    (earlier,) = jobs.backend.attempts(first.job.id)
    jobs.later(5)
    jobs.unclaim(*jobs.claim())
    job = jobs.get(first.job.id)
    assert (job.status, job.attempts) == (JobStatus.PENDING, 1)
    assert job.started_at == first.job.started_at
    assert jobs.backend.attempts(job.id) == [earlier]


def test_a_claim_given_back_does_not_count_for_limits(jobs: Jobs) -> None:
    jobs.limit("lane", rate=Rate(2, 10.0), max_concurrent=2)
    ids = jobs.insert_ids(*[new_job(queue="lane")] * 3)
    claims = jobs.claim(2)
    assert jobs.claimed() == []
    jobs.unclaim(claims[1])
    assert jobs.claimed(owner="two") == [ids[1]]


def test_a_job_whose_cancel_was_asked_for_is_cancelled_when_its_claim_is_given_back(
    jobs: Jobs,
) -> None:
    (claim,) = jobs.claim(ids=[jobs.add()])
    child = jobs.add(parents=after(claim.job.id))
    jobs.backend.cancel([claim.job.id], "not wanted", jobs.now)
    jobs.later(5)
    jobs.unclaim(claim)
    job = jobs.get(claim.job.id)
    assert (job.status, job.reason, job.attempts) == (JobStatus.CANCELLED, "not wanted", 0)
    assert (job.finished_at, job.cancel_requested) == (jobs.now, False)
    assert jobs.status(child) is JobStatus.CANCELLED


def test_only_its_owner_gives_a_claim_back_and_only_while_it_is_held(jobs: Jobs) -> None:
    (claim,) = jobs.claim(ids=[jobs.add()], owner="one")
    jobs.unclaim(claim)
    (other,) = jobs.claim(ids=[claim.job.id], owner="two")
    assert other.attempt == claim.attempt
    jobs.unclaim(claim)  # told twice, as by somebody who did not hear the answer
    assert jobs.status(claim.job.id) is JobStatus.RUNNING
    jobs.end(other)
    jobs.unclaim(other)
    assert jobs.status(claim.job.id) is JobStatus.COMPLETED
    assert [attempt.supervisor for attempt in jobs.backend.attempts(claim.job.id)] == ["two"]


# -- exchange ---------------------------------------------------------------------------------


def request(limit: int, prefetch: int = 0) -> ClaimRequest:
    return ClaimRequest(owner="one", limit=limit, lease=LEASE, prefetch=prefetch)


def test_an_exchange_does_all_that_was_told_and_then_claims(jobs: Jobs) -> None:
    jobs.limit("lane", max_concurrent=3)
    jobs.insert(*[new_job(queue="lane")] * 5)
    runs, ended, unstarted = jobs.claim(3)
    later = jobs.add(run_at=jobs.now + LEASE)
    lost = jobs.start(jobs.add())
    assert jobs.end(lost, JobStatus.PENDING)
    report = Report(
        starts=[Started(runs.key, 123, 456, LogOffsets(stdout=7))],
        progress={runs.key: Progress(1, 2, "half")},
        endings=[jobs.ending(lost, JobStatus.FAILED), jobs.ending(ended, JobStatus.COMPLETED)],
        unstarted=[unstarted],
    )
    told = jobs.backend.exchange(report, request(2), jobs.now)
    assert told.ended == [False, True]
    assert [claim.job.id for claim in told.claims] == [unstarted.job.id, unstarted.job.id + 1]
    assert told.next_due == jobs.get(later).run_at
    (attempt,) = jobs.backend.attempts(runs.job.id)
    assert (attempt.pid, attempt.offsets.stdout) == (123, 7)
    assert jobs.get(runs.job.id).progress == Progress(1, 2, "half")
    assert jobs.status(ended.job.id) is JobStatus.COMPLETED


def test_an_exchange_without_a_request_claims_nothing(jobs: Jobs) -> None:
    job_id = jobs.add()
    assert jobs.backend.exchange(Report(), None, jobs.now) == Exchange([], [], None)
    told = jobs.backend.exchange(Report(), request(0, prefetch=2), jobs.now)
    assert [claim.job.id for claim in told.claims] == [job_id]
