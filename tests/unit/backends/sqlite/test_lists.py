"""How lists are read: by an index, by sorting few rows, or backwards, with the same result."""

from pathlib import Path

import pytest

from jobq.backends.lists import Order
from jobq.backends.sqlite import lists
from jobq.backends.sqlite.backend import SqliteBackend
from jobq.models import JobFilter, JobStatus
from tests.contract.driver import Jobs, new_job

STATUSES = [JobStatus.RUNNING, JobStatus.SCHEDULED, JobStatus.RETRYING, JobStatus.COMPLETED]


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    made = Jobs(lambda: SqliteBackend(tmp_path / "jobq.db"))
    made.limit("fast")
    for number in range(24):
        queue = "fast" if number % 5 else "default"
        made.put([*STATUSES, *JobStatus][number % 12], queue=queue, priority=number % 10)
    return made


def pages(jobs: Jobs, wanted: JobFilter) -> list[list[int]]:
    orders = [jobs.backend.lists.page(wanted, order=order, limit=99).jobs for order in Order]
    found = [jobs.backend.find(wanted, limit=limit) for limit in (None, 3)]
    return [[job.id for job in each] for each in orders + found]


@pytest.mark.parametrize("queue", [None, "fast", "missing"])
@pytest.mark.parametrize("status", STATUSES)
def test_rows_are_the_same_sorted_and_read_backwards(
    jobs: Jobs, status: JobStatus, queue: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = JobFilter(statuses=frozenset({status, JobStatus.PENDING}), queue=queue)
    is_sorted = pages(jobs, wanted)
    assert bool(is_sorted[0]) is (queue != "missing")
    monkeypatch.setattr(lists, "_DENSE_SHARE", 1000)  # every status is taken for a frequent one
    assert pages(jobs, wanted) == is_sorted


def test_what_is_read_does_not_grow_with_other_jobs(jobs: Jobs) -> None:
    """Steps of SQLite's machine, which unlike times do not depend on what else runs."""
    before = {status: steps(jobs, status) for status in JobStatus}
    add_many(jobs)
    after = {status: steps(jobs, status) for status in JobStatus}
    for status in set(JobStatus) - {JobStatus.PENDING}:
        assert after[status] <= 1.2 * before[status], status
    add_many(jobs)
    assert steps(jobs, JobStatus.PENDING) <= 1.2 * after[JobStatus.PENDING]


def add_many(jobs: Jobs) -> None:
    jobs.insert(*(new_job(priority=number % 10) for number in range(500)))


def steps(jobs: Jobs, status: JobStatus) -> int:
    assert isinstance(jobs.backend, SqliteBackend)
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1

    wanted = JobFilter(statuses=frozenset({status}))
    with jobs.backend._db.read() as connection:
        connection.set_progress_handler(tick, 1)
        jobs.backend.lists.page(wanted, limit=5)
        jobs.backend.find(wanted, limit=5, newest=True)
        connection.set_progress_handler(None, 1)
    return count
