"""One test for each reason."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobq import Job, JobStatus
from jobq.diagnostics.explain import Reason, explain
from jobq.diagnostics.explain_facts import Facts
from jobq.models import Attempt, Condition, LogOffsets, Parent, Progress, Queue, SupervisorInfo
from jobq.system.disk_space import Shortage
from jobq.units import Rate

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SOON = NOW + timedelta(seconds=134)
A_WHILE = timedelta(seconds=90)


def job(job_id: int = 42, status: JobStatus = JobStatus.PENDING, **fields: Any) -> Job:
    defaults: dict[str, Any] = {
        "type": "shell", "name": None, "queue": "default", "priority": 5, "args": {}, "tags": {},
        "unique_key": None, "parents": (), "unmet_parents": 0, "added_by": None, "attempts": 0,
        "failures": 0, "crashes": 0, "max_retries": 3, "retry_base": 10.0, "timeout": None,
        "created_at": NOW - A_WHILE, "run_at": None, "started_at": None, "finished_at": None,
        "cancel_requested": False, "cancelled_by": None, "progress": None, "exit_code": None,
        "signal": None, "error": None, "reason": None, "result": None,
    }  # fmt: skip
    return Job(id=job_id, status=status, **{**defaults, **fields})


def supervisor(name: str = "desk:1:a", **fields: Any) -> SupervisorInfo:
    defaults: dict[str, Any] = {
        "host": "desk", "boot_id": "boot", "pid": 1, "slots": 2, "queues": None,
        "types": ("shell",), "started_at": NOW - A_WHILE, "heartbeat_at": NOW - timedelta(seconds=3),
    }  # fmt: skip
    return SupervisorInfo(id=name, **{**defaults, **fields})


def attempt(**fields: Any) -> Attempt:
    defaults: dict[str, Any] = {
        "job_id": 42, "attempt": 1, "supervisor": "desk:1:a", "pid": 777, "pid_started": 1,
        "started_at": NOW - A_WHILE, "lease_until": NOW + timedelta(seconds=20), "ended_at": None,
        "outcome": None, "exit_code": None, "signal": None, "error": None, "max_rss_bytes": None,
        "cpu_seconds": None, "offsets": LogOffsets(),
    }  # fmt: skip
    return Attempt(**{**defaults, **fields})


def reasons(facts_of: Job, **facts: Any) -> dict[str, Reason]:
    """By code: the reasons, with a supervisor that would run it, unless told otherwise."""
    given: dict[str, Any] = {
        "queue": Queue(name="default"), "supervisors": [supervisor()], **facts
    }  # fmt: skip
    return {reason.code: reason for reason in explain(Facts(job=facts_of, now=NOW, **given))}


def waits_for(condition: Condition, *parents: Job) -> dict[str, Any]:
    return {
        "status": JobStatus.BLOCKED,
        "parents": tuple(Parent(parent.id, condition) for parent in parents),
    }


# -- waiting -----------------------------------------------------------------------------------


def test_a_parent_that_is_tried_again() -> None:
    parent = job(41, JobStatus.RETRYING, run_at=SOON)
    found = reasons(job(**waits_for(Condition.SUCCEEDED, parent)), parents={41: parent})
    assert set(found) == {"parent"}
    reason = found["parent"]
    assert (
        reason.message == "waits for job 41 to succeed; job 41 failed and will be retried in 2m 14s"
    )
    assert reason.command == "jobq explain 41"
    assert reason.details["parent_status"] == "retrying"
    assert reason.details["until"] == "2026-11-21T12:02:14Z"


@pytest.mark.parametrize(
    ("parent", "state"),
    [
        (job(41, JobStatus.RUNNING, started_at=NOW - A_WHILE), "has been running for 1m 30s"),
        (job(41, JobStatus.SCHEDULED, run_at=SOON), "is scheduled to run in 2m 14s"),
        (job(41, JobStatus.PENDING), "is pending"),
        (job(41, JobStatus.BLOCKED), "is blocked"),
        (job(41, JobStatus.CANCELLED), "was cancelled"),
    ],
    ids=lambda value: value.status if isinstance(value, Job) else "",
)
def test_what_a_parent_is_about(parent: Job, state: str) -> None:
    found = reasons(job(**waits_for(Condition.FAILED, parent)), parents={41: parent})
    assert found["parent"].message == f"waits for job 41 to fail; job 41 {state}"


def test_only_unmet_parents_are_named() -> None:
    done, open_ = job(40, JobStatus.COMPLETED), job(41)
    child = job(**waits_for(Condition.ENDED, done, open_))
    listed = explain(
        Facts(job=child, now=NOW, queue=Queue(name="default"), parents={40: done, 41: open_},
              supervisors=[supervisor()])
    )  # fmt: skip
    assert [reason.details["parent"] for reason in listed] == [41]


def test_of_several_alternatives_those_are_named_that_may_still_succeed() -> None:
    parents = {40: job(40, JobStatus.FAILED), 41: job(41), 42: job(42)}
    child = job(**waits_for(Condition.ONE_SUCCEEDED, *parents.values()))
    listed = explain(
        Facts(job=child, now=NOW, queue=Queue(name="default"), parents=parents,
              supervisors=[supervisor()])
    )  # fmt: skip
    assert [reason.details["parent"] for reason in listed] == [41, 42]
    assert listed[0].message == (
        "waits for job 41 to succeed, or another one of several; job 41 is pending"
    )
    parents[42] = job(42, JobStatus.COMPLETED)
    assert set(reasons(child, parents=parents)) == {"settling"}


def test_a_few_of_many_parents_are_named_and_the_rest_counted() -> None:
    parents = {number: job(number) for number in range(1000, 101_000)}
    child = job(**waits_for(Condition.ENDED, *parents.values()))
    listed = explain(
        Facts(job=child, now=NOW, queue=Queue(name="default"), parents=parents,
              supervisors=[supervisor()])
    )  # fmt: skip
    assert [reason.details.get("parent") for reason in listed] == [*range(1000, 1005), None]
    assert listed[-1].message == "waits for 99,995 more jobs"
    assert listed[-1].details == {"parents": list(range(1005, 101_000))}


def test_parents_that_have_ended_and_whose_children_were_not_told_yet() -> None:
    done = job(40, JobStatus.COMPLETED)
    blocked = job(**waits_for(Condition.ENDED, done))
    assert set(reasons(blocked, parents={40: done})) == {"settling"}
    found = reasons(blocked, parents={40: done}, supervisors=[])
    assert found["settling"].command == "jobq work"


def test_a_time_that_has_not_come() -> None:
    reason = reasons(job(status=JobStatus.SCHEDULED, run_at=SOON))["scheduled"]
    assert "(in 2m 14s)" in reason.message
    assert reason.command is None  # cancelling ends `jobq wait`, and lets go of the unique key
    assert reason.details["until"] == "2026-11-21T12:02:14Z"


def test_a_job_that_asked_to_run_later() -> None:
    found = reasons(job(status=JobStatus.SCHEDULED, run_at=SOON, attempts=1))
    assert found["snoozed"].message.startswith("asked to run later")


@pytest.mark.parametrize("status", [JobStatus.SCHEDULED, JobStatus.RETRYING, JobStatus.RUNNING])
def test_no_advice_ends_a_job(status: JobStatus) -> None:
    waiting = job(status=status, run_at=SOON, attempts=1, started_at=NOW - A_WHILE, unique_key="k")
    for reason in reasons(waiting, attempt=attempt()).values():
        assert not (reason.command or "").startswith(("jobq cancel", "jobq prune"))


def test_a_job_that_is_tried_again() -> None:
    retrying = job(
        status=JobStatus.RETRYING, run_at=SOON, attempts=2, failures=2, error="exit code 3"
    )
    reason = reasons(retrying)["retrying"]
    assert reason.message.startswith("attempt 2 failed (exit code 3); retry 2 of 3 runs at ")
    assert (reason.details["retry"], reason.details["max_retries"]) == (2, 3)


@pytest.mark.parametrize("status", [JobStatus.PENDING, JobStatus.SCHEDULED, JobStatus.RETRYING])
def test_a_paused_queue(status: JobStatus) -> None:
    found = reasons(job(status=status, run_at=SOON), queue=Queue(name="default", paused=True))
    assert found["queue_paused"].command == "jobq queue resume default"


def test_a_limit_that_is_reached() -> None:
    lane = Queue(name="slow", max_concurrent=2)
    reason = reasons(job(queue="slow"), queue=lane, in_queue=[7, 9])["queue_limit"]
    assert reason.message == "queue slow is at its limit of 2 running jobs: 7, 9"
    assert reason.command == "jobq queue set slow --max-concurrent 3"
    assert reason.details["jobs"] == [7, 9]


def test_a_limit_that_is_not_reached() -> None:
    assert "queue_limit" not in reasons(
        job(), queue=Queue(name="d", max_concurrent=2), in_queue=[7]
    )


def test_a_rate() -> None:
    lane = Queue(name="slow", rate=Rate(10, 60.0))
    reason = reasons(job(queue="slow"), queue=lane, next_start=SOON)["queue_rate"]
    assert reason.message == "queue slow starts at most 10/min: its next job starts in 2m 14s"
    assert reason.command == "jobq queue set slow --rate none"


@pytest.mark.parametrize("status", [JobStatus.PENDING, JobStatus.SCHEDULED])
def test_no_supervisor(status: JobStatus) -> None:
    found = reasons(job(status=status, run_at=SOON), supervisors=[])
    assert found["no_supervisor"].command == "jobq work"


def test_a_disk_without_room() -> None:
    short = Shortage(Path("/logs"), free=3 << 20, wanted=200 << 20)
    found = reasons(job(), shortage=short)["disk_full"]
    assert found.message == (
        "supervisors start no jobs: only 3 MB free at /logs, and [logs] min_free is 200 MB"
    )
    assert found.document()["free"] == 3 << 20


def test_no_supervisor_takes_the_queue() -> None:
    found = reasons(job(), supervisors=[supervisor(queues=("other",))])
    assert set(found) == {"queue_not_taken"}
    assert found["queue_not_taken"].command == "jobq work --queue default"


def test_no_supervisor_takes_the_type() -> None:
    found = reasons(job(type="thumbnail"))
    assert set(found) == {"type_not_taken"}
    assert "no supervisor takes jobs of type thumbnail" in found["type_not_taken"].message


def test_no_supervisor_takes_both() -> None:
    there = [supervisor("a", queues=("other",), types=("shell", "thumb")), supervisor("b")]
    assert set(reasons(job(type="thumb"), supervisors=there)) == {"not_taken_together"}


def test_a_supervisor_that_is_silent() -> None:
    silent = supervisor(heartbeat_at=NOW - timedelta(seconds=50))
    found = reasons(job(), supervisors=[silent])
    assert found["supervisor_silent"].message.endswith("has sent no heartbeat for 50s")


def test_busy_slots() -> None:
    reason = reasons(job(), held={"desk:1:a": [3, 4]})["slots_busy"]
    assert reason.message == "all 2 slots are busy with jobs 3, 4"
    assert reason.command == "jobq work"


def test_slots_of_those_who_would_not_run_it_do_not_matter() -> None:
    there = [supervisor(), supervisor("other", queues=("other",))]
    assert "slots_busy" in reasons(job(), supervisors=there, held={"desk:1:a": [3, 4]})
    assert "slots_busy" not in reasons(job(), supervisors=there, held={"other": [3, 4]})


def test_jobs_ahead() -> None:
    assert reasons(job(), ahead=1234)["ahead"].message.startswith("1,234 jobs are ahead of it")
    assert reasons(job(), ahead=1)["ahead"].message.startswith("1 job is ahead of it")


def test_nothing_in_the_way() -> None:
    assert set(reasons(job())) == {"ready"}


# -- running -----------------------------------------------------------------------------------


def running(**fields: Any) -> Job:
    return job(status=JobStatus.RUNNING, attempts=1, started_at=NOW - A_WHILE, **fields)


def test_a_job_that_runs() -> None:
    found = reasons(running(progress=Progress(40, 100, "encoding")), attempt=attempt())
    assert found["running"].message == (
        "has been running for 1m 30s (attempt 1, supervisor desk:1:a, pid 777), 40% done (encoding)"
    )
    assert found["held"].message.startswith("its supervisor's last heartbeat was 3.0s ago")
    assert found["held"].details["heartbeat_age"] == 3.0
    assert set(found) == {"running", "held"}


def test_a_job_that_was_asked_to_stop() -> None:
    found = reasons(running(cancel_requested=True, reason="no need"), attempt=attempt())
    assert "was asked to stop (no need)" in found["cancel_requested"].message


def test_a_time_limit() -> None:
    reason = reasons(running(timeout=120.0), attempt=attempt())["timeout"]
    assert reason.details == {"timeout": 120.0, "left": 30.0}


def test_a_lease_that_ran_out() -> None:
    late = attempt(lease_until=NOW - timedelta(seconds=20))
    assert "expired 20s ago" in reasons(running(), attempt=late)["lease_expired"].message


def test_a_supervisor_that_died() -> None:
    found = reasons(running(), attempt=attempt(), owner_dead=True, supervisors=[])
    assert found["supervisor_dead"].command == "jobq work"


# -- ended -------------------------------------------------------------------------------------


def ended(status: JobStatus, **fields: Any) -> Job:
    started, finished = NOW - A_WHILE, NOW - timedelta(seconds=30)
    return job(status=status, attempts=1, started_at=started, finished_at=finished, **fields)


def test_a_job_that_completed() -> None:
    found = reasons(ended(JobStatus.COMPLETED))
    assert set(found) == {"completed", "not_retryable"}
    assert found["completed"].message == "completed 30s ago after running for 1m 00s, in attempt 1"


def test_a_job_that_failed() -> None:
    failed = ended(JobStatus.FAILED, failures=4, error="exit code 3")
    found = reasons(failed)
    assert found["failed"].message == "failed after 1 attempt: exit code 3"
    assert found["retryable"].command == "jobq retry 42"
    assert found["retryable"].details == {"status": "pending"}


def test_a_job_that_crashed_too_often() -> None:
    found = reasons(ended(JobStatus.FAILED, crashes=3, error="killed by SIGSEGV"))
    assert "crashed 3 times" in found["failed"].message


def test_a_failure_that_was_not_to_be_tried_again() -> None:
    found = reasons(ended(JobStatus.FAILED, failures=1, error="not an image"))
    assert found["failed"].message == "failed after 1 attempt and was not retried: not an image"


def test_a_job_that_was_cancelled() -> None:
    found = reasons(ended(JobStatus.CANCELLED, reason="no need"))
    assert found["cancelled"].message == "was cancelled: no need"
    assert "retryable" in found


def test_a_unique_key_that_another_job_holds() -> None:
    found = reasons(ended(JobStatus.FAILED, unique_key="k"), key_holder=50)
    assert found["key_taken"].command == "jobq explain 50"
    assert "retryable" not in found


def test_a_parent_that_makes_a_retry_impossible() -> None:
    parent = job(41, JobStatus.FAILED)
    child = replace(
        ended(JobStatus.CANCELLED, cancelled_by=41), parents=(Parent(41, Condition.SUCCEEDED),)
    )
    reason = reasons(child, parents={41: parent})["parent_excludes"]
    assert reason.command == "jobq retry 41"
    assert "waits for job 41 to succeed, but job 41 failed" in reason.message


def test_a_parent_that_was_pruned() -> None:
    child = replace(ended(JobStatus.CANCELLED), parents=(Parent(41, Condition.SUCCEEDED),))
    assert "which was pruned" in reasons(child)["parent_excludes"].message


def test_a_retry_that_would_wait_for_parents_again() -> None:
    child = replace(ended(JobStatus.CANCELLED), parents=(Parent(41, Condition.SUCCEEDED),))
    found = reasons(child, parents={41: job(41)})
    assert found["retryable"].details == {"status": "blocked"}
