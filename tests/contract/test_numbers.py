"""Numbers and names that no store could hold: refused by name, on every backend alike."""

from collections.abc import Callable
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from jobq import JobFilter, JobQueue, JobSpec, NotFound, UsageError
from jobq.backends.base import Backend
from jobq.config.loader import load_settings
from jobq.models import Progress

Call = Callable[[JobQueue, Any], object]

ENDLESS = 10**5000
"""Python does not even write it out."""


@pytest.fixture
def queue(backend: Backend, tmp_path: Path) -> JobQueue:
    (tmp_path / "jobq.toml").write_text("")
    return JobQueue(load_settings(tmp_path / "jobq.toml"), backend)


def _add(queue: JobQueue, **options: Any) -> object:
    return queue.add("shell", {"argv": ["true"]}, **options)


COUNTS: dict[str, Call] = {
    "limit": lambda queue, number: queue.find(limit=number),
    "keep_last": lambda queue, number: queue.prunable(keep_last=number),
    "retries": lambda queue, number: _add(queue, max_retries=number),
    "priority": lambda queue, number: _add(queue, priority=number),
    "parent": lambda queue, number: _add(queue, after=[number]),
    "added_by": lambda queue, number: _add(queue, added_by=number),
    "max_concurrent": lambda queue, number: queue.set_queue("default", max_concurrent=number),
}


@pytest.mark.parametrize("name", COUNTS)
def test_a_count_out_of_range_is_refused_by_name(queue: JobQueue, name: str) -> None:
    for number in (2**63, ENDLESS, -1, inf, nan):
        with pytest.raises(UsageError, match="id|parent" if name == "parent" else name) as refused:
            COUNTS[name](queue, number)
        assert len(str(refused.value)) < 300


DURATIONS: dict[str, Call] = {
    "timeout": lambda queue, span: _add(queue, timeout=span),
    "delay": lambda queue, span: _add(queue, delay=span),
    "retry_base": lambda queue, span: _add(queue, retry_base=span),
    "older_than": lambda queue, span: queue.prunable(older_than=span),
    "lease": lambda queue, span: queue.claim(owner="me", lease=span),
    "queue": lambda queue, span: queue.set_queue("default", timeout=span),
}


@pytest.mark.parametrize("name", DURATIONS)
def test_a_duration_out_of_range_is_refused(queue: JobQueue, name: str) -> None:
    for span in (10**400, ENDLESS, -1, inf, nan):
        with pytest.raises(UsageError, match="is not a duration"):
            DURATIONS[name](queue, span)


def test_an_owner_is_a_name(queue: JobQueue) -> None:
    _add(queue)
    wrong: list[Any] = [None, "", 2**63, nan, ["me"]]
    for owner in wrong:
        with pytest.raises(UsageError, match="owner"):
            queue.claim(owner=owner)
        with pytest.raises(UsageError, match="owner"):
            queue.insert_claimed(JobSpec(args={"argv": ["true"]}), owner=owner)


def test_a_claim_is_of_a_queue_and_types_by_name(queue: JobQueue) -> None:
    for wrong in ({"queue": 2**63}, {"types": "shell"}, {"types": [7]}):
        with pytest.raises(UsageError):
            queue.claim(owner="me", **wrong)
    _add(queue)
    assert queue.claim(owner="me", types={"shell": 1}.keys()) is not None


def test_progress_is_a_number_of_things_done(queue: JobQueue) -> None:
    _add(queue)
    claim = queue.claim(owner="me")
    assert claim is not None
    wrong: list[Any] = [10**300, 2**63, ENDLESS, inf, nan, -1, "1", [1]]
    for number in wrong:
        with pytest.raises(UsageError, match="done"):
            queue.progress(claim, number)
        with pytest.raises(UsageError, match="total"):
            queue.progress(claim, 1, number)
    assert queue.progress(claim, 10**15, 10.0**18)
    assert queue.get(claim.job.id).progress == Progress(10**15, 10.0**18, None)


IDS: dict[str, Call] = {
    "get": lambda queue, job_id: queue.get(job_id),
    "existing": lambda queue, job_id: queue.existing([job_id]),
    "find": lambda queue, job_id: queue.find(ids=(job_id,)),
    "each": lambda queue, job_id: list(queue.each(JobFilter(after_id=job_id))),
    "before": lambda queue, job_id: queue.find(before_id=job_id),
    "descendants": lambda queue, job_id: queue.descendants([job_id]),
    "attempts": lambda queue, job_id: queue.attempts(job_id),
    "cancel": lambda queue, job_id: queue.cancel_many([job_id]),
    "retry": lambda queue, job_id: queue.retry_many([job_id]),
    "delete": lambda queue, job_id: queue.delete([job_id]),
}


@pytest.mark.parametrize("verb", IDS)
def test_what_is_no_id_is_refused(queue: JobQueue, verb: str) -> None:
    for job_id in (ENDLESS, inf, nan, 1.5, True):
        with pytest.raises(UsageError, match=r"id .*whole number"):
            IDS[verb](queue, job_id)


def test_an_id_that_no_job_can_have_is_not_found(queue: JobQueue) -> None:
    for job_id in (0, -1, 2**63, 2**70):
        with pytest.raises(NotFound):
            queue.get(job_id)
        assert queue.existing([job_id]) == {}
        assert queue.delete([job_id]) == []


def test_times_and_names_of_a_selection_are_checked(queue: JobQueue) -> None:
    for wrong in ({"since": 10**300}, {"until": inf}, {"queue": 2**63}, {"type": 1}, {"tags": 5}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            queue.find(**wrong)
    with pytest.raises(UsageError):
        queue.queue(2**63)  # type: ignore[arg-type]
