"""The contract: output that is kept for other machines, where there are any."""

from datetime import timedelta

import pytest

from jobq.backends.base import Part
from jobq.models import JobStatus
from tests.contract.driver import Jobs, new_job

KEPT = timedelta(minutes=1)


def part(job_id: int, number: int = 0, data: bytes = b"line\n", file: str = "stdout.log") -> Part:
    return Part(job_id, 1, file, number * 5, data)


def test_output_comes_as_it_went_or_is_not_kept_at_all(jobs: Jobs) -> None:
    first, second = jobs.insert_ids(new_job(), new_job())
    sent = [part(first), part(second, data=b"\x00\xff"), part(first, 1, file="stderr.log")]
    counter = jobs.backend.change_counter()
    jobs.backend.ship(sent, most=1000, kept=KEPT)
    jobs.backend.ship([part(first, 2)], most=1000, kept=KEPT)
    found, after = jobs.backend.shipped(first)
    if not jobs.backend.ships:
        assert (found, after) == ([], None)
        return
    assert found == [sent[0], sent[2], part(first, 2)]
    assert jobs.backend.shipped(first, after) == ([], after)
    assert jobs.backend.shipped(second)[0] == [sent[1]]
    jobs.backend.ship([part(first, 3)], most=1000, kept=KEPT)
    assert jobs.backend.shipped(first, after)[0] == [part(first, 3)]
    assert jobs.backend.change_counter() == counter


def test_the_oldest_goes_where_there_is_more_than_is_kept(jobs: Jobs) -> None:
    job_id = jobs.add()
    for number in range(300):
        jobs.backend.ship([part(job_id, number)], most=50, kept=KEPT)
    kept = [each.offset // 5 for each in jobs.backend.shipped(job_id)[0]]
    assert kept == (list(range(290, 300)) if jobs.backend.ships else [])
    jobs.backend.ship([part(job_id, 300, b"x" * 99)], most=50, kept=KEPT)
    assert len(jobs.backend.shipped(job_id)[0]) == int(jobs.backend.ships)


@pytest.mark.parametrize("deleted", [False, True])
def test_it_goes_with_its_job_and_in_time(jobs: Jobs, deleted: bool) -> None:
    job_id = jobs.put(JobStatus.COMPLETED)
    kept = KEPT if deleted else timedelta(milliseconds=1)
    jobs.backend.ship([part(job_id)], most=50, kept=kept)
    if deleted:
        jobs.backend.delete([job_id])
        jobs.backend.ship([part(job_id)], most=50, kept=KEPT)
    for _ in range(10_000):
        if not (found := jobs.backend.shipped(job_id)[0]):
            break
    assert found == []
