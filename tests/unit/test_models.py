import dataclasses
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from jobq import JobQueue
from jobq.config.settings import priority_band
from jobq.errors import UsageError
from jobq.models import (
    FINISHED,
    INITIAL,
    TRANSITIONS,
    UNFINISHED,
    Condition,
    Job,
    JobStatus,
    impossible_because,
    parse_priority,
)


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
    ],
)
def test_the_reason_names_the_parent(status: JobStatus, condition: Condition, reason: str) -> None:
    assert impossible_because(7, status, condition) == reason


@pytest.mark.parametrize(
    ("given_as", "priority"),
    [(0, 0), (9, 9), ("5", 5), ("low", 2), ("Normal", 5), (" high ", 7), ("CRITICAL", 9)],
)
def test_a_priority_is_a_digit_or_a_name(given_as: int | str, priority: int) -> None:
    assert parse_priority(given_as) == priority


@pytest.mark.parametrize("odd", [-1, 10, "", "11", "urgent", "5.0", 5.0, True, None, "٣", [5]])
def test_anything_else_is_no_priority(odd: int) -> None:
    with pytest.raises(UsageError, match="0 to 9"):
        parse_priority(odd)


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


@given(st.text(max_size=8) | st.integers())
def test_parsing_a_priority_gives_one_or_a_usage_error(value: str | int) -> None:
    try:
        assert 0 <= parse_priority(value) <= 9
    except UsageError as error:
        assert repr(str(value).strip()) in str(error)  # noqa: PT017 - either outcome is right
