import dataclasses
from datetime import UTC, datetime

import pytest
from pydantic import TypeAdapter

from jobq import JobQueue
from jobq.config.settings import priority_band
from jobq.models import (
    FINISHED,
    INITIAL,
    TRANSITIONS,
    UNFINISHED,
    Condition,
    Job,
    JobStatus,
    impossible_because,
)
from jobq.units import parse_priority


def test_a_status_is_finished_or_unfinished() -> None:
    assert set(JobStatus) == FINISHED | UNFINISHED
    assert not FINISHED & UNFINISHED


def test_every_status_can_be_reached_and_every_unfinished_one_left() -> None:
    assert set(TRANSITIONS) == set(JobStatus)
    reached = set(INITIAL)
    for _ in JobStatus:
        reached |= {new for old in reached for new in TRANSITIONS[old]}
    assert reached == set(JobStatus)
    assert all(TRANSITIONS[status] for status in UNFINISHED)
    assert all(JobStatus.CANCELLED in TRANSITIONS[status] for status in UNFINISHED)


def test_only_a_pending_job_starts_and_a_completed_one_stays() -> None:
    starts = {old for old, targets in TRANSITIONS.items() if JobStatus.RUNNING in targets}
    assert starts == {JobStatus.PENDING}
    assert TRANSITIONS[JobStatus.COMPLETED] == set()


@pytest.mark.parametrize("condition", Condition)
@pytest.mark.parametrize("status", JobStatus)
def test_an_ended_parent_satisfies_or_excludes(condition: Condition, status: JobStatus) -> None:
    decided = condition.met_by(status) + condition.excluded_by(status)
    assert decided == (status in FINISHED)


@pytest.mark.parametrize(
    ("status", "condition", "reason"),
    [
        (JobStatus.FAILED, Condition.SUCCEEDED, "parent 7 failed"),
        (JobStatus.CANCELLED, Condition.SUCCEEDED, "parent 7 was cancelled"),
        (
            JobStatus.COMPLETED,
            Condition.FAILED,
            "parent 7 completed, and this was to run if it failed",
        ),
        (
            JobStatus.CANCELLED,
            Condition.ONE_SUCCEEDED,
            "parent 7 was cancelled, and no other one of which one was to succeed did",
        ),
    ],
)
def test_the_reason_names_the_parent(status: JobStatus, condition: Condition, reason: str) -> None:
    assert impossible_because(7, status, condition) == reason


def test_priorities_fall_into_bands() -> None:
    bands = [priority_band(priority) for priority in range(10)]
    assert bands == ["low"] * 4 + ["normal"] * 3 + ["high"] * 2 + ["critical"]
    for name in ("low", "normal", "high", "critical"):
        assert priority_band(parse_priority(name)) == name


def test_a_job_cannot_be_changed(queue: JobQueue) -> None:
    job = queue.add("shell", {"argv": ["true"]})
    with pytest.raises(dataclasses.FrozenInstanceError):
        job.status = JobStatus.COMPLETED  # type: ignore[misc]


def test_a_job_can_be_written_as_json_and_read_back(queue: JobQueue) -> None:
    parent = queue.add("shell", {"argv": ["true"]})
    at = datetime(2126, 1, 1, tzinfo=UTC)
    job = queue.add("shell", {"argv": ["true"]}, after=[parent.id], at=at, tags={"k": "v"})
    adapter = TypeAdapter(Job)
    assert adapter.validate_json(adapter.dump_json(job)) == job
