"""Verbs that go in batches: no batch is told of the effects of an earlier one."""

from pathlib import Path

import pytest

from jobq import JobQueue, JobSpec, JobStatus
from jobq.backends.base import Backend
from jobq.backends.redis import rows
from jobq.config.loader import load_settings
from jobq.models import CancelEffect, RetryEffect


@pytest.fixture
def queue(backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobQueue:
    """A queue whose verbs go in batches of two jobs."""
    monkeypatch.setattr(type(backend), "batch_size", 2)
    monkeypatch.setattr(rows, "BATCH_SIZE", 2)
    (tmp_path / "jobq.toml").write_text("")
    return JobQueue(load_settings(tmp_path / "jobq.toml"), backend)


def _family(queue: JobQueue) -> list[int]:
    """Add a parent, five children and a grandchild, and return their ids."""
    true = {"argv": ["true"]}
    children = [JobSpec(key=f"c{n}", args=true, after=["p"]) for n in range(5)]
    parent, last = JobSpec(key="p", args=true), JobSpec(args=true, after=["c0", "c4"])
    return [job.id for job in queue.add_many([parent, *children, last])]


def test_descendants_beyond_a_batch_are_all_found(queue: JobQueue) -> None:
    parent, *rest = _family(queue)
    assert queue.descendants([parent]) == rest
    assert queue.descendants([parent, rest[0], rest[4]]) == rest


def test_a_cascade_cancels_every_job_itself(queue: JobQueue) -> None:
    parent, *rest = _family(queue)
    effects = queue.cancel_many([parent], "enough", cascade=True)
    assert effects == dict.fromkeys([parent, *rest], CancelEffect.CANCELLED)
    assert list(effects) == [parent, *rest]
    assert {job.reason for job in queue.get_many(rest)} == {"enough"}


def test_a_selection_of_parents_and_children_is_cancelled_whole(queue: JobQueue) -> None:
    ids = _family(queue)
    assert set(queue.cancel_many(ids).values()) == {CancelEffect.CANCELLED}


def test_children_that_come_back_with_their_parent_are_retried_too(queue: JobQueue) -> None:
    parent, *rest = _family(queue)
    queue.cancel(parent)
    assert {job.status for job in queue.get_many(rest)} == {JobStatus.CANCELLED}
    effects = [(each.id, each.effect) for each in queue.retry_many([parent, *rest])]
    assert effects == [(parent, RetryEffect.PENDING), *((i, RetryEffect.BLOCKED) for i in rest)]
