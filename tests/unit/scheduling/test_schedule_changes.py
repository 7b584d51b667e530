"""A schedule that is changed: what is named is, and the rest stays."""

from datetime import UTC, datetime
from typing import Any

import pytest
from freezegun import freeze_time

from jobq import JobQueue
from jobq.errors import NotFound, UsageError
from jobq.models import Schedule
from jobq.scheduling.schedules import Schedules


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def add(schedules: Schedules) -> Schedule:
    job = {"args": {"argv": ["true"]}, "timeout": "5m"}
    with freeze_time(at("2026-03-01 12:00")):
        return schedules.add("s", "0 3 * * *", job, tz="UTC", overlap="allow")


def test_what_is_not_named_stays(queue: JobQueue) -> None:
    schedules = Schedules(queue)
    before = add(schedules)
    schedules.fire_due(at("2026-03-02 03:00"))
    with freeze_time(at("2026-03-02 12:00")):
        kept = schedules.change("s", priority="high", tags={"a": "b"})
        moved = schedules.change("s", cron="0 2 * * *", missed="all", overlap="skip")
    assert [item.at for item in schedules.firings("s", 10)] == [at("2026-03-02 03:00")]
    assert (kept.args, kept.timeout, kept.cron) == (before.args, 300.0, before.cron)
    assert (kept.priority, kept.tags) == (7, {"a": "b"})
    assert kept.next_at == at("2026-03-03 03:00")
    assert (moved.next_at, moved.missed, moved.overlap) == (at("2026-03-03 02:00"), "all", "skip")
    assert (moved.id, moved.created_at, moved.priority) == (before.id, before.created_at, 7)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"cron": "* * *"}, UsageError),
        ({"tz": "Nowhere/Else"}, UsageError),
        ({"missed": "maybe"}, UsageError),
        ({"priority": 10}, UsageError),
        ({"args": {"nothing": 1}}, UsageError),
        ({"name": "other"}, UsageError),
        ({"unique": "key"}, UsageError),
        ({"queue": "nowhere"}, NotFound),
    ],
)
def test_a_change_that_is_wrong_changes_nothing(
    queue: JobQueue, fields: dict[str, Any], error: type[Exception]
) -> None:
    schedules = Schedules(queue)
    before = add(schedules)
    with pytest.raises(error):
        schedules.change("s", **fields)
    assert schedules.get("s") == before
