"""Streams of pending and running jobs, and of dead letters, on Redis."""

from typing import Any

import pytest

from jobq.models import JobStatus, Outcome
from tests.contract.driver import LEASE, Jobs, new_job
from tests.contract.redis_keys import check_keys
from tests.contract.test_supervisors import supervisor
from tests.unit.backends.redis.servers import LINE, TAG


def test_a_job_is_pending_in_its_stream_for_its_owner_until_it_ends(
    jobs: Jobs, client: Any
) -> None:
    *ids, last = jobs.insert_ids(*[new_job()] * 3)
    claims = jobs.claim(2, owner="me")
    entries = client.xpending_range(LINE, "jobq", "-", "+", 9)
    assert [(e["message_id"], e["consumer"]) for e in entries] == [(f"{n}-0", "me") for n in ids]
    assert all(jobs.end(claim) for claim in claims)
    assert client.xpending(LINE, "jobq")["pending"] == 0
    assert [name for name, _ in client.xrange(LINE)] == [f"{last}-0"]


@pytest.mark.parametrize("how", ["came back", "chosen out of the middle"])
def test_what_does_not_stand_at_the_end_of_a_stream_is_handed_out_by_another(
    jobs: Jobs, client: Any, how: str
) -> None:
    first, second = jobs.insert_ids(new_job(), new_job())
    if how == "came back":
        jobs.end(jobs.claim(1)[0], JobStatus.PENDING)
        (claim,) = jobs.claim(1, owner="me")
        assert claim.job.id == first
    else:
        claim = jobs.start(second, owner="me")
    (entry,) = client.xpending_range(f"{TAG}again", "jobq", "-", "+", 9)
    assert entry["consumer"] == "me"
    check_keys(jobs.backend)
    assert jobs.end(claim)
    assert client.xlen(f"{TAG}again") == 0
    assert jobs.claimed(9) == [second if how == "came back" else first]


def test_a_job_that_waits_no_more_is_in_no_stream(jobs: Jobs, client: Any) -> None:
    jobs.finish(jobs.add(), JobStatus.CANCELLED)
    assert client.xlen(LINE) == 0


def test_what_came_back_to_a_line_that_was_cleared_away_is_in_its_stream_again(
    jobs: Jobs, client: Any
) -> None:
    job_id = jobs.add()
    jobs.end(jobs.claim(1)[0], JobStatus.PENDING)
    (claim,) = jobs.claim(1)
    jobs.backend.maintain()
    assert not client.exists(LINE)
    jobs.end(claim, JobStatus.PENDING)
    assert [entry for entry, _ in client.xrange(LINE)] == [f"{job_id}-0"]
    (claim,) = jobs.claim(1)
    assert client.xpending(LINE, "jobq")["pending"] == 1
    jobs.end(claim, JobStatus.PENDING)
    jobs.backend.cancel([job_id], None, jobs.now)
    jobs.backend.maintain()
    jobs.backend.requeue([job_id], jobs.now)
    check_keys(jobs.backend)
    assert [entry for entry, _ in client.xrange(LINE)] == [f"{job_id}-0"]


def test_failed_jobs_are_in_the_dead_letter_stream_until_they_are_retried_or_deleted(
    jobs: Jobs, client: Any
) -> None:
    retried, deleted = (jobs.put(JobStatus.FAILED) for _ in range(2))
    letters = [entry["j"] for _, entry in client.xrange(f"{TAG}dead")]
    assert letters == [str(retried), str(deleted)]
    jobs.backend.requeue([retried], jobs.now)
    jobs.backend.delete([deleted])
    check_keys(jobs.backend)
    assert client.xlen(f"{TAG}dead") == 0


def test_consumers_go_once_nothing_is_pending_for_them(jobs: Jobs, client: Any) -> None:
    jobs.insert(*[new_job()] * 5)
    for name in ("alive", "left"):
        jobs.backend.supervisors.register(supervisor(jobs, name))
        jobs.unclaim(*jobs.claim(1, owner=name))
        jobs.end(jobs.claim(1, owner=name)[0])
    jobs.backend.supervisors.unregister(["left"])
    kept, gone = jobs.claim(1, owner="kept"), jobs.claim(1, owner="gone")

    def consumers(key: str = LINE) -> set[str]:
        jobs.backend.maintain()
        return {each["name"] for each in client.xinfo_consumers(key, "jobq")}

    assert consumers() == {"alive", "kept", "gone"}
    assert consumers(f"{TAG}again") == {"alive"}
    lost = jobs.ending(gone[0], JobStatus.FAILED, outcome=Outcome.LOST)
    assert jobs.backend.end([lost], jobs.now, lease_before=jobs.now + LEASE * 2) == [True]
    assert consumers() == {"alive", "kept"}
    jobs.end(kept[0])
    jobs.end(jobs.claim(1)[0])
    jobs.backend.maintain()
    assert not client.exists(LINE)
    jobs.add()
    assert len(jobs.claim(1)) == 1
    assert client.xpending(LINE, "jobq")["pending"] == 1
    jobs.backend.maintain()
    check_keys(jobs.backend)
