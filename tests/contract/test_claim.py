"""The contract: claims: their jobs, their order, and the limits of queues."""

from collections.abc import Sequence

import pytest

from jobq.models import JobStatus
from jobq.units import Rate
from tests.contract.driver import LEASE, NOON, Jobs, new_job

# -- order -------------------------------------------------------------------------------------


def test_priority_9_is_claimed_first_and_the_oldest_within_one(jobs: Jobs) -> None:
    priorities = [5, 9, 0, 9, 5]
    ids = jobs.insert_ids(*[new_job(priority=priority) for priority in priorities])
    assert jobs.claimed() == [ids[1], ids[3], ids[0], ids[4], ids[2]]


def test_a_claim_gives_no_more_than_its_limit(jobs: Jobs) -> None:
    ids = jobs.insert_ids(*[new_job()] * 3)
    assert jobs.claimed(0) == []
    assert jobs.claimed(2) == ids[:2]
    assert jobs.claimed(2) == ids[2:]
    assert jobs.claimed(2) == []


def test_queues_are_served_by_their_priority(jobs: Jobs) -> None:
    jobs.limit("last", priority=0)
    jobs.limit("first", priority=9)
    last, middle, first = jobs.insert_ids(
        new_job(queue="last", priority=9), new_job(), new_job(queue="first", priority=0)
    )
    assert jobs.claimed() == [first, middle, last]
    lowest = jobs.add(queue="last", priority=0)
    assert jobs.claimed() == [lowest]


def test_queues_of_equal_priority_share_one_line(jobs: Jobs) -> None:
    jobs.limit("a")
    jobs.limit("z")
    old, urgent, young, urgent_too = jobs.insert_ids(
        new_job(queue="z"),
        new_job(queue="a", priority=9),
        new_job(queue="a"),
        new_job(queue="z", priority=9),
    )
    assert jobs.claimed(3) == [urgent, urgent_too, old]
    assert jobs.claimed() == [young]


def test_nothing_is_claimed_from_behind_a_job_of_a_type_that_is_not_known_yet(jobs: Jobs) -> None:
    jobs.limit("last", priority=0)
    first, behind, far_behind = jobs.insert_ids(
        new_job(priority=7),
        new_job(priority=5),
        new_job(queue="last", priority=9),
    )
    unknown = jobs.add(type="python", priority=6)
    assert jobs.claimed(known={"shell"}) == [first]
    assert jobs.claimed(known={"shell"}) == []
    assert jobs.claimed(known={"shell"}, types={"shell"}) == [behind, far_behind]
    assert jobs.claimed(known={"shell", "python"}) == [unknown]


def test_of_named_jobs_those_of_known_types_are_claimed(jobs: Jobs) -> None:
    unknown, known = jobs.add(type="python"), jobs.add()
    assert jobs.claimed(ids=[unknown, known], known={"shell"}) == [known]


# -- what a claim does -------------------------------------------------------------------------


def test_a_claimed_job_runs_under_its_owner_until_the_lease_ends(jobs: Jobs) -> None:
    job_id = jobs.add()
    jobs.later(5)
    (claim,) = jobs.claim(owner="me")
    assert (claim.job.id, claim.attempt, claim.owner) == (job_id, 1, "me")
    assert claim.job == jobs.get(job_id)
    assert (claim.job.status, claim.job.started_at) == (JobStatus.RUNNING, jobs.now)
    (attempt,) = jobs.backend.attempts(job_id)
    assert (attempt.attempt, attempt.supervisor, attempt.started_at) == (1, "me", jobs.now)
    assert (attempt.lease_until, attempt.ended_at, attempt.outcome) == (
        jobs.now + LEASE,
        None,
        None,
    )
    assert jobs.backend.open_attempts() == [(claim.job, attempt)]


@pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.RETRYING])
def test_a_claim_forgets_what_the_last_attempt_left(jobs: Jobs, status: JobStatus) -> None:
    claim = jobs.start(jobs.add())
    jobs.end(claim, status, exit_code=1, signal=9, error="broke", reason="odd")
    jobs.backend.requeue([claim.job.id], jobs.now)
    jobs.later(60)
    (again,) = jobs.claim()
    assert again.attempt == 2
    assert (again.job.exit_code, again.job.signal, again.job.reason) == (None, None, None)
    assert (again.job.finished_at, again.job.progress) == (None, None)


@pytest.mark.parametrize("status", sorted(set(JobStatus) - {JobStatus.PENDING}))
def test_only_pending_jobs_are_claimed(jobs: Jobs, status: JobStatus) -> None:
    job_id = jobs.put(status)
    assert job_id not in jobs.claimed()
    assert jobs.claimed(ids=[job_id]) == []
    assert jobs.status(job_id) is status


# -- filters -----------------------------------------------------------------------------------


def test_a_claim_can_be_narrowed_to_queues_types_and_ids(jobs: Jobs) -> None:
    jobs.limit("other")
    plain, other, tile = jobs.insert_ids(new_job(), new_job(queue="other"), new_job(type="tile"))
    assert jobs.claimed(queues=[]) == jobs.claimed(types=[]) == jobs.claimed(ids=[]) == []
    assert jobs.claimed(queues=["nowhere"]) == jobs.claimed(types=["none"]) == []
    assert jobs.claimed(queues=["other"]) == [other]
    assert jobs.claimed(types=["tile"]) == [tile]
    assert jobs.claimed(ids=[plain, tile + 1]) == [plain]


def test_a_claim_by_id_keeps_to_the_other_filters(jobs: Jobs) -> None:
    jobs.limit("other")
    ids = jobs.insert_ids(new_job(queue="other"), new_job(type="tile"), new_job())
    assert jobs.claimed(ids=ids, types=["tile"]) == [ids[1]]
    assert jobs.claimed(ids=ids, queues=["other"]) == [ids[0]]
    assert jobs.claimed(ids=ids) == [ids[2]]


def test_a_claim_by_id_keeps_to_the_order_and_the_limits(jobs: Jobs) -> None:
    jobs.limit("first", priority=9, max_concurrent=1)
    low, high, first, full = jobs.insert_ids(
        new_job(), new_job(priority=9), new_job(queue="first"), new_job(queue="first")
    )
    assert jobs.claimed(2, ids=[low, high, first, full]) == [first, high]
    assert jobs.claimed(ids=[low, full]) == [low]


def test_a_paused_queue_gives_nothing_until_it_is_resumed(jobs: Jobs) -> None:
    jobs.limit("lane", paused=True)
    job_id = jobs.add(queue="lane")
    assert jobs.claimed() == jobs.claimed(ids=[job_id]) == jobs.claimed(queues=["lane"]) == []
    jobs.limit("lane", paused=False)
    assert jobs.claimed() == [job_id]


# -- how many at once --------------------------------------------------------------------------


def test_max_concurrent_counts_the_running_jobs_of_all_owners(jobs: Jobs) -> None:
    jobs.limit("lane", max_concurrent=2)
    ids = jobs.insert_ids(*[new_job(queue="lane")] * 4)
    (first,) = jobs.claim(1, owner="one")
    assert jobs.claimed(owner="two") == [ids[1]]
    assert jobs.claimed(owner="three") == []
    jobs.end(first, JobStatus.FAILED)
    assert jobs.claimed(owner="three") == [ids[2]]


def test_max_concurrent_leaves_other_queues_alone(jobs: Jobs) -> None:
    jobs.limit("lane", max_concurrent=1, priority=9)
    ids = jobs.insert_ids(new_job(queue="lane"), new_job(queue="lane"), new_job())
    assert jobs.claimed() == [ids[0], ids[2]]


def test_max_concurrent_holds_over_priorities_and_types(jobs: Jobs) -> None:
    jobs.limit("lane", max_concurrent=3)
    ids = jobs.insert_ids(
        *[
            new_job(queue="lane", type=kind, priority=priority)
            for priority in (5, 9)
            for kind in ("shell", "tile", "film")
        ],
        new_job(queue="lane", priority=9),
    )
    (claim,) = jobs.claim(1)
    assert claim.job.id == ids[3]
    assert jobs.claimed() == ids[4:6]
    jobs.end(claim)
    assert jobs.claimed() == ids[6:]


def test_max_concurrent_holds_from_one_priority_to_the_next(jobs: Jobs) -> None:
    jobs.limit("lane", max_concurrent=2)
    low, _, high = jobs.insert_ids(*[new_job(queue="lane", priority=p) for p in (1, 0, 9)])
    assert jobs.claimed() == [high, low]


def test_a_limit_lowered_below_what_runs_stops_nothing_and_starts_nothing(jobs: Jobs) -> None:
    jobs.limit("lane")
    claims = [jobs.start(jobs.add(queue="lane")) for _ in range(3)]
    waiting = jobs.add(queue="lane")
    jobs.limit("lane", max_concurrent=1)
    jobs.end(claims[0])
    jobs.end(claims[1])
    assert jobs.claimed() == []
    jobs.end(claims[2])
    assert jobs.claimed() == [waiting]


# -- how many in a span ------------------------------------------------------------------------


def starts(jobs: Jobs, moments: Sequence[float]) -> list[int]:
    """Count the jobs that start at each of these seconds after noon."""
    numbers = []
    for moment in moments:
        jobs.now = NOON
        jobs.later(moment)
        numbers.append(len(jobs.claim(100, owner=f"at {moment}")))
    return numbers


def test_a_rate_is_a_sliding_window(jobs: Jobs) -> None:
    jobs.limit("lane", rate=Rate(2, 10.0))
    jobs.insert(*[new_job(queue="lane")] * 20)
    (first,) = jobs.claim(1)
    jobs.end(first)
    assert starts(jobs, [6, 9, 10, 15, 16, 19, 26, 30, 36]) == [1, 0, 1, 0, 1, 0, 2, 0, 2]


def test_a_rate_counts_starts_at_one_and_the_same_moment(jobs: Jobs) -> None:
    jobs.limit("lane", rate=Rate(2, 10.0))
    jobs.insert(*[new_job(queue="lane")] * 20)
    assert [len(jobs.claim(1)) for _ in range(4)] == [1, 1, 0, 0]


def test_a_rate_holds_after_the_clock_is_set_back(jobs: Jobs) -> None:
    jobs.limit("lane", rate=Rate(2, 10.0))
    jobs.insert(*[new_job(queue="lane")] * 20)
    assert starts(jobs, [3600, 0, 1, 9, 10, 3600]) == [2, 2, 0, 0, 2, 2]


def test_a_rate_holds_for_claims_by_id(jobs: Jobs) -> None:
    jobs.limit("lane", rate=Rate(1, 10.0))
    ids = jobs.insert_ids(*[new_job(queue="lane")] * 2)
    assert jobs.claimed(ids=ids) == ids[:1]
    assert jobs.claimed(ids=ids) == jobs.claimed() == []
    jobs.later(10)
    assert jobs.claimed(ids=ids) == ids[1:]


def test_a_rate_counts_the_starts_of_jobs_that_were_given_back_too(jobs: Jobs) -> None:
    jobs.limit("lane", rate=Rate(1, 10.0))
    claim = jobs.start(jobs.add(queue="lane"))
    jobs.end(claim, JobStatus.PENDING)
    assert jobs.claimed() == []
    jobs.later(10)
    assert jobs.claimed() == [claim.job.id]


# -- time --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [JobStatus.SCHEDULED, JobStatus.RETRYING])
def test_a_job_is_claimed_at_its_time_and_not_before(jobs: Jobs, status: JobStatus) -> None:
    job_id = jobs.put(status)
    jobs.later(59)
    assert jobs.claimed() == []
    jobs.later(1)
    assert jobs.claimed() == [job_id]
    assert jobs.get(job_id).run_at is None


def test_due_jobs_take_their_place_in_the_line(jobs: Jobs) -> None:
    urgent = jobs.put(JobStatus.SCHEDULED, priority=9)
    plain = jobs.add()
    assert jobs.claimed(1) == [plain]
    young = jobs.add()
    jobs.later(60)
    assert jobs.claimed() == [urgent, young]


def test_a_due_job_of_another_type_is_not_kept_back(jobs: Jobs) -> None:
    job_id = jobs.put(JobStatus.SCHEDULED)
    jobs.later(60)
    assert jobs.claimed(types=["none"]) == []
    assert jobs.claimed() == [job_id]


def test_thousands_of_due_jobs_are_all_claimed(jobs: Jobs) -> None:
    ids = jobs.insert_ids(*[new_job(run_at=NOON.replace(hour=13))] * 2500)
    jobs.later(3600)
    claimed: list[int] = []
    while more := jobs.claimed(10_000):
        claimed += more
    assert sorted(claimed) == ids


def test_next_due_is_the_first_time_at_which_a_job_becomes_ready(jobs: Jobs) -> None:
    assert jobs.backend.next_due(jobs.now) is None
    jobs.put(JobStatus.PENDING)
    jobs.put(JobStatus.BLOCKED)
    assert jobs.backend.next_due(jobs.now) is None
    jobs.later(30)
    jobs.put(JobStatus.RETRYING)  # due 60 s from here
    later = jobs.now
    jobs.now = NOON
    jobs.put(JobStatus.SCHEDULED)  # due 60 s after noon
    assert jobs.backend.next_due(later) == NOON.replace(minute=1)


def test_next_due_is_when_a_rate_lets_the_next_job_start(jobs: Jobs) -> None:
    jobs.limit("lane", rate=Rate(2, 10.0))
    jobs.insert(*[new_job(queue="lane")] * 3)
    assert jobs.backend.next_due(jobs.now) is None  # there is room now
    jobs.claim(1)
    assert jobs.backend.next_due(jobs.now) is None
    jobs.later(4)
    jobs.claim(1)
    due = jobs.backend.next_due(jobs.now)
    assert due == NOON.replace(second=10)
    scheduled = jobs.add(run_at=NOON.replace(second=9))
    assert jobs.backend.next_due(jobs.now) == NOON.replace(second=9)
    jobs.backend.cancel([scheduled], None, jobs.now)
    jobs.now = due
    assert len(jobs.claim(100)) == 1


def test_next_due_is_never_over_where_a_rate_was_lowered(jobs: Jobs) -> None:
    jobs.limit("lane", rate=Rate(3, 10.0))
    jobs.insert(*[new_job(queue="lane")] * 4)
    assert starts(jobs, [0, 1, 2]) == [3, 0, 0]
    jobs.limit("lane", rate=Rate(5, 10.0))
    assert len(jobs.claim(1)) == 1
    jobs.limit("lane", rate=Rate(1, 10.0))
    jobs.insert(new_job(queue="lane"))
    jobs.now = NOON
    jobs.later(10.5)  # the first ones do not count any more
    assert jobs.backend.next_due(jobs.now) == NOON.replace(second=12)


def test_a_rate_without_jobs_to_start_is_nothing_to_wait_for(jobs: Jobs) -> None:
    jobs.limit("lane", rate=Rate(1, 10.0))
    jobs.start(jobs.add(queue="lane"))
    assert jobs.backend.next_due(jobs.now) is None
