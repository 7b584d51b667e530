"""The end of a run: recorded once, in the order of its steps, whatever the database does."""

from dataclasses import replace
from typing import Any

import pytest

from jobq import JobStatus
from jobq.execution.supervisor import Supervisor
from jobq.models import AttemptResult, Outcome
from tests.support.supervisor import Host
from tests.support.supervisor import host as host  # noqa: PLC0414 - a fixture


def test_an_end_that_comes_too_late_is_told(host: Host) -> None:
    host.queue.settings = replace(host.queue.settings, lease=600)  # or the next renewal tells
    job = host.shell("touch up; [ $JOBQ_ATTEMPT = 2 ] || until [ -e go ]; do sleep 0.01; done")

    async def disturb(_: Supervisor) -> None:
        await host.until("up")
        (attempt,) = host.queue.attempts(job.id)
        lost = AttemptResult(
            key=attempt.key, outcome=Outcome.LOST, status=JobStatus.PENDING,
            failures=0, crashes=1,
        )  # fmt: skip
        assert host.backend.end([lost], host.backend.now()) == [True]
        (host.folder / "go").touch()

    host.work(disturb)
    assert host.outcomes(job) == ["lost", "completed"]
    assert host.said == [f"job {job.id}: attempt 1 was taken over; its result was discarded"]
    assert host.finished == [job.id]


@pytest.mark.parametrize("lost", [1, 2])
def test_an_answer_that_is_lost_costs_nothing(host: Host, lost: int) -> None:
    """The first one brings the job; the second one says that its end was recorded."""
    job = host.shell("echo ran >> ran")
    exchange = host.backend.exchange
    calls = []

    def exchange_and_lose(*given: Any) -> Any:
        calls.append(given[0].endings)
        if (1 if not calls[-1] else 2) == lost and not host.said:
            host.server.loses_answers_of = {"exchange"}
        return exchange(*given)

    host.backend.exchange = exchange_and_lose  # type: ignore[assignment, method-assign]
    host.work()
    assert host.outcomes(job) == ["completed"]
    assert host.finished == [job.id]
    assert (host.folder / "ran").read_text() == "ran\n"
    assert host.said[0].startswith("the answer was lost")
