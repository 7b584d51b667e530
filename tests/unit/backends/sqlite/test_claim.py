"""Claims from SQLite: rates, when a claim had to wait for the write lock."""

from jobq.units import Rate
from tests.contract.driver import NOON, Jobs, new_job


def test_a_rate_holds_for_who_looked_at_the_clock_and_then_waited_for_a_turn(jobs: Jobs) -> None:
    jobs.limit("lane", rate=Rate(2, 10.0))
    jobs.insert(*[new_job(queue="lane")] * 20)
    started = []
    for moment in (0.5, 0, 10.4, 10.6):
        jobs.now = NOON
        jobs.later(moment)
        started.append(len(jobs.claim(100, owner=f"at {moment}")))
    assert started == [2, 0, 0, 2]
