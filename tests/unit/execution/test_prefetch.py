"""How much a supervisor has in hand, and what is in it."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from jobq import JobQueue
from jobq.execution.prefetch import (
    MAX_PREFETCH_PER_SLOT,
    MAX_WAIT_S,
    PREFETCH_S,
    Prefetched,
    PrefetchSize,
)
from jobq.execution.run import Run


def paced(slots: int, *runs: float) -> PrefetchSize:
    """A pace after runs that took so long, where what was in hand was always used up."""
    pace = PrefetchSize(slots)
    for seconds in runs:
        pace.note_run(seconds)
        pace.grow()
    return pace


def test_nothing_is_claimed_ahead_until_runs_are_known_to_be_short() -> None:
    assert PrefetchSize(2).target == 0
    assert paced(2, *[1.0] * 50).target == 0
    assert paced(2, *[PREFETCH_S] * 50).target == 2


def test_what_is_in_hand_is_worth_a_moment_and_has_a_bound() -> None:
    assert paced(2, *[PREFETCH_S / 10] * 50).target == pytest.approx(20, abs=1)
    assert paced(2, *[0.0] * 100).target == 2 * MAX_PREFETCH_PER_SLOT


def test_one_long_run_ends_it_and_it_begins_anew_after_some_was_given_back() -> None:
    pace = paced(2, *[PREFETCH_S / 10] * 50, 1.0)
    assert pace.target == 0
    pace = paced(2, *[PREFETCH_S / 10] * 50)
    pace.reset()
    assert pace.target == 0
    pace.grow()
    assert pace.target == 2


@pytest.fixture
def runs(tmp_path: Path) -> Sequence[Run]:
    (tmp_path / "jobq.toml").touch()
    with JobQueue.open(tmp_path / "jobq.toml") as queue:
        queue.add_many([{"type": "shell", "args": {"argv": ["true"]}}] * 4)
        claims = [queue.claim(owner="me") for _ in range(4)]
        return [Run(claim, queue.logs, queue.settings.redactor) for claim in claims if claim]


def test_a_hand_is_a_line_and_those_that_come_back_are_its_first(runs: Sequence[Run]) -> None:
    hand = Prefetched()
    for at, run in enumerate(runs):
        run.held_since = float(at)
        hand.add(run)
    assert hand.take() is runs[0]
    hand.follow()
    hand.follow()
    assert (hand.waiting, len(hand), hand.first) == (1, 3, runs[3])
    hand.begun(runs[1])
    hand.put_back([runs[2]])
    assert list(hand) == [runs[2], runs[3]]
    assert hand.overdue(2.0 + MAX_WAIT_S + 0.01) == {runs[2].key}
    assert hand.drop({runs[2].key, runs[0].key}) == [runs[2]]
    assert list(hand) == [runs[3]]
