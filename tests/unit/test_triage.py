"""Groups of failures as the library has them."""

import pytest

from jobq import JobQueue, triage
from jobq.models import AttemptResult, JobFilter, JobStatus, Outcome
from jobq.queue import backend_of
from tests.support.queues import TRUE


def fail(queue: JobQueue, error: str, *, signed: bool = True) -> int:
    job = queue.add("shell", TRUE, max_retries=0)
    claim = queue.claim(owner="me")
    assert claim is not None
    if signed:
        assert queue.fail(claim, error)
    else:
        old = AttemptResult(
            key=claim.key, outcome=Outcome.FAILED, status=JobStatus.FAILED, failures=1, crashes=0,
            error=error,
        )  # fmt: skip
        assert backend_of(queue).end([old], queue.now()) == [True]
    return job.id


def test_failures_of_older_versions_meet_new_ones_where_they_are_read(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triage, "SIGN_BATCH_SIZE", 2)
    old = [fail(queue, f"boom {number}", signed=False) for number in range(5)]
    new = fail(queue, "boom 9")
    signature = queue.get(new).signature
    assert signature is not None
    assert queue.signature(signature) == signature
    found = queue.find(JobFilter(signature=signature))
    assert [job.id for job in found] == [*old, new] == queue.group_ids(signature)
    assert [group.size for group in queue.failures()] == [6]


def test_a_read_signs_no_more_than_it_may(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triage, "SIGN_BATCH_SIZE", 2)
    monkeypatch.setattr(triage, "MAX_SIGNED_BY_READER", 4)
    for number in range(5):
        fail(queue, f"boom {number}", signed=False)
    assert [group.size for group in queue.failures()] == [4]
    assert [group.size for group in queue.failures()] == [5]


def test_the_first_failure_of_its_kind_is_new(queue: JobQueue) -> None:
    first, second, other = (fail(queue, error) for error in ("boom 1", "boom 2", "bang"))
    found = queue.existing([first, second, other])
    assert [queue.is_new_failure(found[n]) for n in (first, second, other)] == [True, False, True]
    assert not queue.is_new_failure(queue.add("shell", TRUE))


def test_distinct_errors_of_a_group_are_counted(queue: JobQueue) -> None:
    for error in ("boom 1", "boom 2", "boom 1"):
        job_id = fail(queue, error)
    signature = queue.get(job_id).signature
    assert signature is not None
    assert queue.group_errors(signature) == {"boom 1": 2, "boom 2": 1}
