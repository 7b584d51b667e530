from datetime import UTC, datetime, timedelta

import pytest
from freezegun import freeze_time

from jobq import JobQueue
from jobq.diagnostics.eta import PastRuns, kind_of, remaining
from jobq.models import Progress
from tests.support.cli_runner import Cli

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
A_MINUTE_AGO = NOW - timedelta(seconds=60)


@pytest.mark.parametrize(
    ("progress", "typical", "left"),
    [
        (None, None, None),
        (None, 100.0, 40.0),
        (None, 50.0, None),  # it has taken longer than they do
        (Progress(75, 100, None), None, 20.0),
        (Progress(75, 100, None), 1000.0, 20.0),  # what it says itself goes before
        (Progress(1, 100, None), 100.0, 40.0),  # unless it has only just begun
        (Progress(1, 100, None), None, 5940.0),
        (Progress(0, 100, None), None, None),
        (Progress(12, None, None), None, None),
        (Progress(120, 100, None), None, 0.0),
    ],
)
def test_what_is_left(progress: Progress | None, typical: float | None, left: float | None) -> None:
    assert remaining(A_MINUTE_AGO, progress, typical, NOW) == left


def test_what_has_not_started_is_not_guessed_at() -> None:
    assert remaining(None, None, 100.0, NOW) is None


def test_the_median_of_past_runs(queue: JobQueue, capsys: pytest.CaptureFixture[str]) -> None:
    cli = Cli(queue, capsys)
    for _ in range(3):
        cli.completed()
    cli.failed()
    job, other = cli.add("true"), cli.add("false")
    assert kind_of(job) == ("shell", "true")
    past = PastRuns(queue)
    found = past.typical(job)
    assert found is not None
    assert 0 <= found < 20
    assert past.typical(other) is None


def test_other_arguments_say_nothing(queue: JobQueue) -> None:
    one, other = (queue.add("shell", {"argv": ["sleep", span]}) for span in ("1", "50"))
    assert kind_of(one) != kind_of(other)
    assert kind_of(queue.add("shell", {"shell": "a"})) != kind_of(
        queue.add("shell", {"shell": "b"})
    )


def test_a_past_run_during_which_the_clock_was_set_back(
    queue: JobQueue, capsys: pytest.CaptureFixture[str]
) -> None:
    cli = Cli(queue, capsys)
    with freeze_time(NOW):
        claim = cli.running()
    with freeze_time(NOW - timedelta(hours=1)):
        assert queue.complete(claim)
    assert PastRuns(queue).typical(cli.add("true")) == 0.0
