from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobq import (
    JobQueue,
    NotFound,
    UsageError,
    WrongState,
)
from jobq.config.settings import Settings
from jobq.models import Queue
from jobq.units import Rate
from tests.support.queues import add

Configure = Callable[[str], JobQueue]


def test_a_queue_is_created_changed_paused_and_deleted(queue: JobQueue) -> None:
    lane = queue.create_queue("lane", max_concurrent=2, priority="high", rate="10/min")
    assert lane == Queue(name="lane", max_concurrent=2, priority=7, rate=Rate(10, 60.0))
    assert queue.queue("lane") == lane
    assert queue.set_queue("lane", rate=None, timeout="1m").timeout == 60.0
    assert queue.queue("lane").rate is None
    assert queue.queue("lane").max_concurrent == 2
    add(queue, queue="lane")
    assert queue.pause("lane").paused
    assert queue.claim(owner="me") is None
    assert not queue.resume("lane").paused
    assert queue.claim(owner="me") is not None
    queue.create_queue("empty")
    queue.delete_queue("empty")
    assert [q.name for q in queue.queues()] == ["lane", "default"]


@pytest.mark.parametrize(
    ("limits", "complaint"),
    [
        ({"max_concurrent": 0}, "max_concurrent 0: give a whole number of at least 1"),
        ({"max_concurrent": "2"}, "max_concurrent '2'"),
        ({"max_concurrent": 1.5}, "max_concurrent 1.5"),
        ({"max_concurrent": 10**20}, "max_concurrent 1000"),
        ({"max_retries": -1}, "max_retries -1: give a whole number of at least 0"),
        ({"priority": 10}, "priority '10'"),
        ({"rate": "often"}, "'often' is not a rate"),
        ({"rate": 5}, "rate 5"),
        ({"timeout": "soon"}, "not a duration"),
        ({"description": "\0"}, "description"),
        ({"paused": "no"}, "paused 'no'"),
        ({"colour": "red"}, "a queue has no 'colour'"),
    ],
)
def test_a_wrong_limit_is_a_usage_error(
    queue: JobQueue, limits: dict[str, Any], complaint: str
) -> None:
    before = queue.queues()
    with pytest.raises(UsageError, match=complaint):
        queue.set_queue("default", **limits)
    with pytest.raises(UsageError, match=complaint):
        queue.create_queue("lane", **limits)
    assert queue.queues() == before


def test_queues_are_named_plainly_and_once(queue: JobQueue) -> None:
    for name in ("", "a b", "-a", "a/b", "x" * 65, "ż"):
        with pytest.raises(UsageError, match="queue name"):
            queue.create_queue(name)
    with pytest.raises(WrongState, match="there already"):
        queue.create_queue("default")
    with pytest.raises(NotFound, match="nowhere"):
        queue.set_queue("nowhere", priority=1)
    with pytest.raises(NotFound, match="nowhere"):
        queue.queue("nowhere")


def test_a_configured_queue_is_there_before_it_is_used(configured: Configure) -> None:
    queue = configured("[queues.ffmpeg]\nmax_concurrent = 1\n")
    assert {q.name: q.max_concurrent for q in queue.queues()} == {"default": None, "ffmpeg": 1}
    add(queue, queue="ffmpeg")
    add(queue, queue="ffmpeg")
    assert queue.claim(owner="me") is not None
    assert queue.claim(owner="me") is None


def test_configured_limits_are_applied_and_a_pause_stays(configured: Configure) -> None:
    queue = configured("[queues.ffmpeg]\nmax_concurrent = 1\n")
    queue.apply_configured_queues()
    queue.pause("ffmpeg")
    queue = configured("[queues.ffmpeg]\nmax_concurrent = 5\n")
    queue.apply_configured_queues()
    assert queue.queue("ffmpeg") == Queue(name="ffmpeg", max_concurrent=5, paused=True)
    queue.pause("default")
    queue.apply_configured_queues()
    assert queue.queue("default").paused


def test_settings_made_by_hand_do_not_hide_what_a_queue_was_set_to(tmp_path: Path) -> None:
    settings = Settings(
        path=None, database=tmp_path / "jobq.db", log_dir=tmp_path / "logs", concurrency=1
    )
    with JobQueue.from_settings(settings) as queue:
        queue.set_queue("default", max_concurrent=2, max_retries=7)
        assert queue.pause("default").max_concurrent == 2
        assert add(queue).max_retries == 7
