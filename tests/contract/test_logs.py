"""The contract: output that is kept for other hosts, if the backend serves any."""

from datetime import timedelta

import pytest

from jobq.backends.messages import LogChunk
from jobq.models import JobStatus
from tests.contract.driver import Jobs, new_job

TTL = timedelta(minutes=1)


def part(
    job_id: int, number: int = 0, data: bytes = b"line\n", file: str = "stdout.log"
) -> LogChunk:
    return LogChunk(job_id, 1, file, number * 5, data)


def test_output_comes_as_it_went_or_is_not_kept_at_all(jobs: Jobs) -> None:
    first, second = jobs.insert_ids(new_job(), new_job())
    sent = [part(first), part(second, data=b"\x00\xff"), part(first, 1, file="stderr.log")]
    counter = jobs.backend.change_counter()
    jobs.backend.logs.ship(sent, max_bytes=1000, ttl=TTL)
    jobs.backend.logs.ship([part(first, 2)], max_bytes=1000, ttl=TTL)
    found, after = jobs.backend.logs.shipped(first)
    if not jobs.backend.logs.ships:
        assert (found, after) == ([], None)
        return
    assert found == [sent[0], sent[2], part(first, 2)]
    assert jobs.backend.logs.shipped(first, after) == ([], after)
    assert jobs.backend.logs.shipped(second)[0] == [sent[1]]
    jobs.backend.logs.ship([part(first, 3)], max_bytes=1000, ttl=TTL)
    assert jobs.backend.logs.shipped(first, after)[0] == [part(first, 3)]
    assert jobs.backend.change_counter() == counter


def test_the_oldest_goes_where_there_is_more_than_is_kept(jobs: Jobs) -> None:
    job_id = jobs.add()
    for number in range(300):
        jobs.backend.logs.ship([part(job_id, number)], max_bytes=50, ttl=TTL)
    kept = [each.offset // 5 for each in jobs.backend.logs.shipped(job_id)[0]]
    assert kept == (list(range(290, 300)) if jobs.backend.logs.ships else [])
    jobs.backend.logs.ship([part(job_id, 300, b"x" * 99)], max_bytes=50, ttl=TTL)
    assert len(jobs.backend.logs.shipped(job_id)[0]) == int(jobs.backend.logs.ships)


@pytest.mark.parametrize("deleted", [False, True])
def test_it_goes_with_its_job_and_in_time(jobs: Jobs, deleted: bool) -> None:
    job_id = jobs.put(JobStatus.COMPLETED)
    ttl = TTL if deleted else timedelta(milliseconds=1)
    jobs.backend.logs.ship([part(job_id)], max_bytes=50, ttl=ttl)
    if deleted:
        jobs.backend.delete([job_id])
        jobs.backend.logs.ship([part(job_id)], max_bytes=50, ttl=TTL)
    for _ in range(10_000):
        if not (found := jobs.backend.logs.shipped(job_id)[0]):
            break
    assert found == []
