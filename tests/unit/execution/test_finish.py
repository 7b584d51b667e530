"""The end of a run: recorded once, in the order of its steps, whatever the database does."""

import asyncio
import json
import subprocess
from dataclasses import replace
from typing import Any

import pytest

from jobq import JobQueue, JobStatus
from jobq.execution.active_runs import ActiveRuns
from jobq.execution.events import Event, EventSender
from jobq.execution.finish import Finisher
from jobq.execution.hooks import Hooks
from jobq.execution.outbox import Outbox
from jobq.execution.run import Run
from jobq.execution.supervisor import Supervisor
from jobq.jobs.outcome import Exit, StopReason
from jobq.models import AttemptResult, Outcome
from jobq.queue import backend_of
from jobq.system.processes import group_exists
from jobq.system.resources import SpareFiles
from tests.support.runs import claim_shell, until
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


# -- the steps ---------------------------------------------------------------------------------


class Steps:
    """A finisher whose runs are commands that have just exited, and what it has done."""

    def __init__(self, queue: JobQueue) -> None:
        self.queue = queue
        self.outbox = Outbox()
        self.shown: list[Event] = []
        events = EventSender(self.shown.append)
        self.runs = ActiveRuns(
            queue.settings,
            self.outbox,
            events,
            take_back=lambda: None,
            withdraw=lambda _: False,
            record_soon=lambda: None,
            shipper=None,
            spare=SpareFiles(),
        )
        hooks = Hooks(queue.settings, queue.logs, backend_of(queue).get, lambda _: None)
        self.finisher = Finisher(queue, OWNER, self.runs, self.outbox, hooks, events)
        self.finished: list[Run] = []

    def exit(self, run: Run, end: Exit, *, leftover: bool = False) -> None:
        """Let a process of this run exit, and wait until the run is finished."""

        async def play() -> None:
            script = "sleep 600 & exit" if leftover else "exit"
            process = subprocess.Popen(["sh", "-c", script], start_new_session=True)  # noqa: ASYNC220
            run.pid = process.pid
            self.runs.begin(run)
            process.wait()
            self.finisher.finish(run, end, self.finished.append)
            assert bool(self.finished) is not leftover  # most runs have nothing to wait for
            await until(lambda: self.finished)
            assert not group_exists(process.pid)

        asyncio.run(play())
        self.runs.close()


@pytest.fixture
def steps(queue: JobQueue) -> Steps:
    return Steps(replaced_grace(queue, 0.1))


def replaced_grace(queue: JobQueue, grace: float) -> JobQueue:
    queue.settings = replace(queue.settings, grace=grace)
    return queue


COMPLETED = Exit(outcome=Outcome.COMPLETED, exit_code=0)
OWNER = "here:1:me"


@pytest.mark.parametrize("leftover", [False, True])
def test_a_run_is_in_the_outbox_once_all_of_its_processes_are_gone(
    steps: Steps, *, leftover: bool
) -> None:
    run = claim_shell(steps.queue, "true")
    steps.exit(run, COMPLETED, leftover=leftover)
    assert not steps.runs.by_key
    (result,) = steps.outbox.results
    assert (result.key, result.status) == (run.key, JobStatus.COMPLETED)
    assert [start.pid for start in steps.outbox.report().starts] == [run.pid]
    run.close()


def test_nothing_is_recorded_of_a_run_that_another_supervisor_has(steps: Steps) -> None:
    run = claim_shell(steps.queue, "true")
    run.stopped = StopReason.LOST
    steps.exit(run, COMPLETED)
    assert not steps.outbox
    assert not steps.runs.by_key
    assert steps.finished == [run]


def test_logs_are_compacted_and_progress_is_read_before_the_result_is_in_the_outbox(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = claim_shell(steps.queue, "true")
    run.open()
    (run.log.path / "progress").write_text("3/4 nearly")
    run.trimmed["stdout.log"] = 100
    seen: list[bool] = []
    monkeypatch.setattr(Run, "tidy", lambda _: seen.append(bool(steps.outbox.results)))

    async def play() -> None:
        steps.finisher.finish(run, COMPLETED, steps.finished.append)
        await until(lambda: steps.finished)

    asyncio.run(play())
    assert seen == [False]
    assert steps.outbox.report().progress[run.key].message == "nearly"
    run.close()


def test_what_is_recorded_is_noted_shown_and_closed(steps: Steps) -> None:
    run = claim_shell(steps.queue, "false")
    run.open()
    steps.exit(run, Exit(outcome=Outcome.FAILED, exit_code=1, error="exit code 1"))
    steps.finisher.recorded([True], after_outage=False)
    assert not steps.outbox
    (event,) = steps.shown
    assert (event.kind, event.job is not None) == ("finished", True)
    log = steps.queue.logs.path(run.key.job_id) / "events.jsonl"
    noted = [json.loads(line) for line in log.read_text().splitlines()]
    assert [each["event"] for each in noted] == ["finished", "retry"]
    assert (noted[0]["exit_code"], noted[0]["error"]) == (1, "exit code 1")


def test_a_result_that_did_not_take_effect_is_discarded_and_said_so(steps: Steps) -> None:
    run = claim_shell(steps.queue, "true")
    steps.exit(run, COMPLETED)
    steps.finisher.recorded([False], after_outage=False)
    (event,) = steps.shown
    assert event.text == f"job {run.key.job_id}: attempt 1 was taken over; its result was discarded"
    assert not steps.queue.logs.path(run.key.job_id).joinpath("events.jsonl").exists()


def test_a_child_that_has_noted_the_end_itself_is_not_repeated(steps: Steps) -> None:
    run = claim_shell(steps.queue, "true")
    run.end_noted = True
    steps.exit(run, COMPLETED)
    steps.finisher.recorded([True], after_outage=False)
    assert not steps.queue.logs.path(run.key.job_id).joinpath("events.jsonl").exists()
