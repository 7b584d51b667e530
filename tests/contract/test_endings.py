"""The contract: ends of attempts, fencing, leases, and the record of an attempt."""

from dataclasses import replace
from datetime import timedelta

import pytest

from jobq.backends.messages import Report
from jobq.models import (
    FINISHED,
    TRANSITIONS,
    AttemptKey,
    AttemptResult,
    Claim,
    Held,
    JobStatus,
    LogOffsets,
    Outcome,
    Progress,
    Started,
    Usage,
)
from tests.contract.driver import LEASE, NOON, OUTCOMES, Jobs, after

SECOND = timedelta(seconds=1)
RUNNING_TO = sorted(TRANSITIONS[JobStatus.RUNNING])


# -- ending ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", RUNNING_TO)
def test_an_attempt_ends_and_its_job_goes_where_the_ending_says(
    jobs: Jobs, status: JobStatus
) -> None:
    claim = jobs.start(jobs.add())
    jobs.later(5)
    assert jobs.end(claim, status, failures=2, crashes=1)
    job = jobs.get(claim.job.id)
    assert (job.status, job.failures, job.crashes, job.attempts) == (status, 2, 1, 1)
    assert job.finished_at == (jobs.now if status in FINISHED else None)
    waits = status in (JobStatus.RETRYING, JobStatus.SCHEDULED)
    assert job.run_at == (jobs.now + timedelta(seconds=60) if waits else None)
    (attempt,) = jobs.backend.attempts(job.id)
    assert (attempt.outcome, attempt.ended_at) == (OUTCOMES[status], jobs.now)
    assert jobs.backend.open_attempts() == []


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.RETRYING])
@pytest.mark.parametrize(
    ("ended", "recorded"),
    [(2, 2), (0, 0), (12, 12), (-1, 12), (13, 12)],
    ids=["earlier", "at once", "now", "before it started", "ahead"],
)
def test_an_attempt_ended_when_it_did_and_not_when_that_was_recorded(
    jobs: Jobs, status: JobStatus, ended: int, recorded: int
) -> None:
    claim = jobs.start(jobs.add())
    started = jobs.now
    jobs.later(12)
    assert jobs.end(claim, status, ended_at=started + timedelta(seconds=ended))
    (attempt,) = jobs.backend.attempts(claim.job.id)
    assert attempt.ended_at == started + timedelta(seconds=recorded)
    finished_at = jobs.get(claim.job.id).finished_at
    assert finished_at == (attempt.ended_at if status in FINISHED else None)


def test_what_an_attempt_came_to_is_kept(jobs: Jobs) -> None:
    claim = jobs.start(jobs.add())
    kept = {"exit_code": 3, "signal": 9, "error": "it broke\nbadly"}
    jobs.end(
        claim,
        JobStatus.FAILED,
        **kept,
        reason="why",
        result={"ż": [1, None]},
        usage=Usage(4096, 1.5),
    )
    job, (attempt,) = jobs.get(claim.job.id), jobs.backend.attempts(claim.job.id)
    assert (job.reason, job.result) == ("why", {"ż": [1, None]})
    assert (attempt.max_rss_bytes, attempt.cpu_seconds) == (4096, 1.5)
    for name, value in kept.items():
        assert getattr(job, name) == getattr(attempt, name) == value


@pytest.mark.parametrize("result", [None, False, 0, "", [], {}, "\0", 1.5])
def test_any_json_value_is_a_result(jobs: Jobs, result: object) -> None:
    claim = jobs.start(jobs.add())
    jobs.end(claim, result=result)
    assert jobs.get(claim.job.id).result == result


def test_text_that_is_not_unicode_does_not_stop_an_ending(jobs: Jobs) -> None:
    """Store text as it comes from a file name in another encoding."""
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    claim = jobs.start(jobs.add())
    assert jobs.backend.progress(claim.key, Progress(1, None, name))
    assert "caf" in (getattr(jobs.get(claim.job.id).progress, "message", None) or "")
    assert jobs.end(claim, JobStatus.FAILED, error=name, reason=name, result={"name": [name]})
    job = jobs.get(claim.job.id)
    assert job.result == {"name": [name]}
    assert (job.error or "").startswith("caf")
    assert (job.reason or "").startswith("caf")


def test_several_attempts_end_together_and_each_says_whether_it_took(jobs: Jobs) -> None:
    first, second, third = (jobs.start(jobs.add()) for _ in range(3))
    jobs.end(second, JobStatus.FAILED)
    endings = [jobs.ending(claim, JobStatus.COMPLETED) for claim in (first, second, third)]
    assert jobs.backend.end(endings, jobs.now) == [True, False, True]
    assert jobs.status(second.job.id) is JobStatus.FAILED
    assert jobs.backend.end([], jobs.now) == []


@pytest.mark.parametrize("status", sorted(set(JobStatus) - set(RUNNING_TO)))
def test_an_ending_can_only_lead_where_a_running_job_may_go(status: JobStatus) -> None:
    with pytest.raises(ValueError, match=status):
        AttemptResult(
            key=AttemptKey(1, 1, NOON),
            outcome=Outcome.RELEASED,
            status=status,
            failures=0,
            crashes=0,
        )


@pytest.mark.parametrize("status", [JobStatus.RETRYING, JobStatus.SCHEDULED])
def test_an_ending_that_waits_must_say_until_when(jobs: Jobs, status: JobStatus) -> None:
    ending = jobs.ending(jobs.start(jobs.add()), status)
    with pytest.raises(ValueError, match="run_at"):
        replace(ending, run_at=None)


# -- the history -------------------------------------------------------------------------------


def test_attempts_are_numbered_without_gaps_whatever_they_came_to(jobs: Jobs) -> None:
    job_id = jobs.add()
    statuses = [JobStatus.PENDING, JobStatus.RETRYING, JobStatus.SCHEDULED, JobStatus.FAILED]
    for number, status in enumerate(statuses, 1):
        claim = jobs.start(job_id, owner=f"owner {number}")
        assert claim.attempt == number
        jobs.end(claim, status)
        jobs.later(60)
    jobs.backend.requeue([job_id], jobs.now)
    jobs.end(jobs.start(job_id, owner="owner 5"))
    history = jobs.backend.attempts(job_id)
    assert [(a.attempt, a.supervisor, a.outcome) for a in history] == [
        (1, "owner 1", Outcome.RELEASED),
        (2, "owner 2", Outcome.FAILED),
        (3, "owner 3", Outcome.SNOOZED),
        (4, "owner 4", Outcome.FAILED),
        (5, "owner 5", Outcome.COMPLETED),
    ]


def test_the_process_and_the_log_offsets_of_an_attempt_are_noted(jobs: Jobs) -> None:
    claim = jobs.start(jobs.add())
    offsets = LogOffsets(stdout=1, stderr=2, events=3, log=4)
    jobs.backend.started([started(claim, offsets=offsets)])
    (attempt,) = jobs.backend.attempts(claim.job.id)
    assert (attempt.pid, attempt.pid_started, attempt.offsets) == (4711, 99, offsets)


def test_an_attempt_elsewhere_has_offsets_and_no_process(jobs: Jobs) -> None:
    claim = jobs.start(jobs.add())
    assert not jobs.backend.attempts(claim.job.id)[0].has_offsets
    offsets = LogOffsets(stdout=1, events=3)
    jobs.backend.started([Started(claim.key, None, None, offsets)])
    jobs.reopen()
    (attempt,) = jobs.backend.attempts(claim.job.id)
    assert (attempt.pid, attempt.pid_started, attempt.offsets) == (None, None, offsets)
    assert attempt.has_offsets


def started(claim: Claim, offsets: LogOffsets = LogOffsets()) -> Started:  # noqa: B008 - frozen
    return Started(key=claim.key, pid=4711, pid_started=99, offsets=offsets)


def test_progress_is_on_the_job_while_and_after_it_runs(jobs: Jobs) -> None:
    claim = jobs.start(jobs.add())
    assert jobs.backend.progress(claim.key, Progress(1, 3, "decoding"))
    assert jobs.get(claim.job.id).progress == Progress(1, 3, "decoding")
    assert jobs.backend.progress(claim.key, Progress(2.5, None, None))
    jobs.end(claim)
    assert jobs.get(claim.job.id).progress == Progress(2.5, None, None)


def test_the_next_attempt_starts_without_progress(jobs: Jobs) -> None:
    claim = jobs.start(jobs.add())
    jobs.backend.progress(claim.key, Progress(1, 3, "decoding"))
    jobs.end(claim, JobStatus.PENDING)
    assert jobs.start(claim.job.id).job.progress is None


# -- fencing -----------------------------------------------------------------------------------


def rescued(jobs: Jobs) -> Claim:
    """Return a lost claim: another owner runs the job now."""
    claim = jobs.start(jobs.add(), owner="late")
    jobs.end(claim, JobStatus.PENDING, outcome=Outcome.LOST)
    jobs.start(claim.job.id, owner="new")
    return claim


@pytest.mark.parametrize("status", RUNNING_TO)
def test_a_late_finisher_changes_nothing(jobs: Jobs, status: JobStatus) -> None:
    claim = rescued(jobs)
    before = jobs.get(claim.job.id), jobs.backend.attempts(claim.job.id)
    jobs.later(5)
    assert not jobs.end(claim, status, error="late", result="late", failures=9)
    assert (jobs.get(claim.job.id), jobs.backend.attempts(claim.job.id)) == before


def test_a_late_finisher_releases_no_children(jobs: Jobs) -> None:
    claim = rescued(jobs)
    child = jobs.add(parents=after(claim.job.id))
    jobs.end(claim)
    jobs.settle()
    assert jobs.status(child) is JobStatus.BLOCKED


def test_late_progress_and_a_late_start_change_nothing(jobs: Jobs) -> None:
    claim = rescued(jobs)
    before = jobs.get(claim.job.id), jobs.backend.attempts(claim.job.id)
    assert not jobs.backend.progress(claim.key, Progress(9, 9, "late"))
    jobs.backend.started([started(claim)])
    assert (jobs.get(claim.job.id), jobs.backend.attempts(claim.job.id)) == before


def test_a_late_heartbeat_names_nothing_and_renews_nothing(jobs: Jobs) -> None:
    claim = rescued(jobs)
    before = jobs.backend.attempts(claim.job.id)
    jobs.later(5)
    assert jobs.backend.heartbeat("late", LEASE, jobs.now) == []
    assert jobs.backend.attempts(claim.job.id) == before


@pytest.mark.parametrize("status", sorted(FINISHED))
def test_an_attempt_ends_once(jobs: Jobs, status: JobStatus) -> None:
    claim = jobs.start(jobs.add())
    jobs.end(claim, status)
    before = jobs.get(claim.job.id)
    assert not jobs.end(claim, JobStatus.COMPLETED)
    assert not jobs.backend.progress(claim.key, Progress(1, 1, None))
    assert jobs.get(claim.job.id) == before


def test_an_attempt_that_is_still_to_come_cannot_be_ended(jobs: Jobs) -> None:
    claim = jobs.start(jobs.add())
    assert not jobs.end(replace(claim, attempt=2))
    assert jobs.status(claim.job.id) is JobStatus.RUNNING


def test_a_job_that_is_not_there_cannot_be_ended(jobs: Jobs) -> None:
    claim = jobs.start(jobs.add())
    stranger = replace(claim, job=replace(claim.job, id=claim.job.id + 1))
    assert not jobs.end(stranger)
    assert not jobs.backend.progress(stranger.key, Progress(1, 1, None))


# -- a request to stop -------------------------------------------------------------------------


@pytest.mark.parametrize("status", sorted(set(RUNNING_TO) - FINISHED))
def test_a_job_that_was_asked_to_stop_does_not_run_again(jobs: Jobs, status: JobStatus) -> None:
    claim = jobs.start(jobs.add())
    jobs.backend.cancel([claim.job.id], "enough", jobs.now)
    jobs.later(5)
    assert jobs.end(claim, status)
    job = jobs.get(claim.job.id)
    assert (job.status, job.reason) == (JobStatus.CANCELLED, "enough")
    assert (job.finished_at, job.run_at, job.cancel_requested) == (jobs.now, None, False)


def test_its_children_learn_that_it_was_cancelled(jobs: Jobs) -> None:
    claim = jobs.start(jobs.add())
    child = jobs.add(parents=after(claim.job.id))
    jobs.backend.cancel([claim.job.id], None, jobs.now)
    jobs.end(claim, JobStatus.RETRYING)
    assert jobs.status(child) is JobStatus.CANCELLED


@pytest.mark.parametrize("status", sorted(FINISHED))
def test_a_job_that_finishes_before_it_could_be_stopped_keeps_its_end(
    jobs: Jobs, status: JobStatus
) -> None:
    claim = jobs.start(jobs.add())
    jobs.backend.cancel([claim.job.id], "enough", jobs.now)
    jobs.end(claim, status)
    assert jobs.status(claim.job.id) is status


def test_owners_are_told_of_requests_to_stop(jobs: Jobs) -> None:
    mine, also_mine = jobs.start(jobs.add(), "one"), jobs.start(jobs.add(), "one")
    other = jobs.start(jobs.add(), "two")
    assert jobs.backend.cancel_requests("one") == []
    jobs.backend.cancel([mine.job.id, other.job.id], None, jobs.now)
    asked = Held(mine.key, cancel_requested=True)
    assert jobs.backend.cancel_requests("one") == [asked]
    held = jobs.backend.heartbeat("one", LEASE, jobs.now)
    assert sorted(held, key=lambda h: h.key) == [
        asked,
        Held(also_mine.key, cancel_requested=False),
    ]


def test_a_request_does_not_outlive_the_attempt(jobs: Jobs) -> None:
    claim = jobs.start(jobs.add())
    jobs.backend.cancel([claim.job.id], "enough", jobs.now)
    jobs.end(claim, JobStatus.CANCELLED)
    jobs.backend.requeue([claim.job.id], jobs.now)
    assert not jobs.start(claim.job.id).job.cancel_requested
    assert jobs.backend.cancel_requests("one") == []


# -- jobs that got the id of another one -----------------------------------------------------------


def test_what_was_claimed_at_another_time_is_another_attempt(jobs: Jobs) -> None:
    """Reuse an id, as a server does that lost its last changes."""
    claim = jobs.start(jobs.add())
    job = replace(claim.job, started_at=jobs.now - timedelta(microseconds=1))
    gone = replace(claim, job=job)
    assert not jobs.end(gone)
    assert not jobs.backend.progress(gone.key, Progress(1, 1, None))
    jobs.backend.started([started(gone)])
    jobs.unclaim(gone)
    report = Report([started(gone)], {gone.key: Progress(1, 1, None)}, unstarted=[gone])
    jobs.backend.exchange(report, None, jobs.now)
    (attempt,) = jobs.backend.attempts(claim.job.id)
    assert (attempt.pid, attempt.outcome) == (None, None)
    assert jobs.get(claim.job.id) == claim.job
    assert [held.key for held in jobs.backend.heartbeat("one", LEASE, jobs.now)] == [claim.key]
    assert jobs.end(claim)


# -- leases ------------------------------------------------------------------------------------


def test_a_heartbeat_renews_every_lease_of_its_owner_and_no_other(jobs: Jobs) -> None:
    mine, ended, other = (
        jobs.start(jobs.add()),
        jobs.start(jobs.add()),
        jobs.start(jobs.add(), "two"),
    )
    jobs.end(ended)
    jobs.later(20)
    held = jobs.backend.heartbeat("one", timedelta(seconds=50), jobs.now)
    assert held == [Held(mine.key, cancel_requested=False)]
    leases = {
        claim.job.id: jobs.backend.attempts(claim.job.id)[0].lease_until
        for claim in (mine, ended, other)
    }
    assert leases[mine.job.id] == jobs.now + timedelta(seconds=50)
    assert leases[ended.job.id] == leases[other.job.id] == NOON + LEASE


def test_an_attempt_is_taken_over_only_once_its_lease_has_run_out(jobs: Jobs) -> None:
    claim = jobs.start(jobs.add())
    lost = jobs.ending(claim, JobStatus.PENDING, outcome=Outcome.LOST)
    assert jobs.backend.end([lost], jobs.now, lease_before=NOON + LEASE) == [False]
    assert jobs.status(claim.job.id) is JobStatus.RUNNING
    assert jobs.backend.end([lost], jobs.now, lease_before=NOON + LEASE + SECOND) == [True]
    assert jobs.status(claim.job.id) is JobStatus.PENDING


def test_a_heartbeat_just_in_time_keeps_the_attempt(jobs: Jobs) -> None:
    claim = jobs.start(jobs.add())
    jobs.later(31)
    overdue = jobs.ending(claim, JobStatus.PENDING, outcome=Outcome.LOST)
    jobs.backend.heartbeat("one", LEASE, jobs.now)
    assert jobs.backend.end([overdue], jobs.now, lease_before=jobs.now) == [False]
    assert jobs.end(claim)


def test_the_lease_that_counts_is_that_of_the_last_attempt(jobs: Jobs) -> None:
    late = rescued(jobs)
    jobs.later(10)
    current = replace(late, attempt=2)
    lost = jobs.ending(current, JobStatus.PENDING, outcome=Outcome.LOST)
    assert jobs.backend.end([lost], jobs.now, lease_before=NOON + LEASE) == [False]


def test_an_attempt_whose_lease_ran_out_may_still_end_if_nobody_took_it(jobs: Jobs) -> None:
    claim = jobs.start(jobs.add())
    jobs.later(3600)
    assert jobs.end(claim)
