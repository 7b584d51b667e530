from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from jobq import JobQueue
from jobq.cli.rendering.work_screen import event_text
from jobq.execution.events import Event
from jobq.models import AttemptKey, AttemptResult, JobStatus, Outcome

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "outcome", "text"),
    [
        (JobStatus.COMPLETED, Outcome.COMPLETED, "completed in 0.0s"),
        (JobStatus.RETRYING, Outcome.FAILED, "failed after 0.0s, retry in 0.0s"),
    ],
)
def test_no_span_is_negative_after_the_clock_was_set_back(
    queue: JobQueue, status: JobStatus, outcome: Outcome, text: str
) -> None:
    job = queue.shown(replace(queue.add("shell", {"argv": ["true"]}), started_at=NOW))
    earlier = NOW - timedelta(seconds=3597)
    ending = AttemptResult(
        key=AttemptKey(job.id, 1, NOW),
        outcome=outcome,
        status=status,
        failures=0,
        crashes=0,
        run_at=earlier - timedelta(seconds=1) if status is JobStatus.RETRYING else None,
    )
    event = Event("finished", job, ending, at=earlier)
    assert event_text(event, earlier) == f"job {job.id} {text}: true"


def test_a_time_limit_is_named_once(queue: JobQueue) -> None:
    job = queue.shown(replace(queue.add("shell", {"argv": ["true"]}), started_at=NOW))
    ending = AttemptResult(
        key=AttemptKey(job.id, 1, NOW),
        outcome=Outcome.TIMED_OUT,
        status=JobStatus.FAILED,
        failures=1,
        crashes=0,
        error="timed out after 1.0s",
    )
    event = Event("finished", job, ending, at=NOW)
    assert event_text(event, NOW) == f"job {job.id} timed out after 1.0s: true"
