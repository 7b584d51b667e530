"""A supervisor in this process, with a database that fails where it is told to."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from jobq import Attempt, Job, JobQueue, JobStatus
from jobq.backends.base import Backend
from jobq.errors import (
    DatabaseAwayError,
    DatabaseLockedError,
    DatabaseStoppedError,
    DatabaseUnreachableError,
)
from jobq.execution.events import Event
from jobq.execution.options import WorkOptions
from jobq.execution.shutdown import Stop
from jobq.execution.supervisor import Supervisor
from jobq.models import AttemptResult, Outcome
from jobq.queue import backend_of

SETTINGS = "[lease]\nseconds = 6\ngrace = 0.1\n"


PARTS = {"supervisors", "schedules", "stats", "transfer", "logs"}


class Server:
    """A backend as on another machine: it may not answer, or have done what it is asked for."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.away: DatabaseAwayError | None = None
        self.loses_answers_of: set[str] = set()

    def now(self) -> datetime:
        return self._backend.now()  # for which nobody is asked

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._backend, name)
        return Part(self, found) if name in PARTS else self.checked(name, found)

    def checked(self, name: str, verb: Any) -> Any:
        if not callable(verb):
            return verb

        def call(*given: Any, **named: Any) -> Any:
            if self.away:
                raise self.away
            answer = verb(*given, **named)
            if name in self.loses_answers_of:
                self.loses_answers_of.remove(name)
                raise DatabaseUnreachableError("the answer was lost")
            return answer

        return call


class Part:
    """One of the interfaces of such a backend."""

    def __init__(self, server: Server, part: object) -> None:
        self._server = server
        self._part = part

    def __getattr__(self, name: str) -> Any:
        return self._server.checked(name, getattr(self._part, name))


class Host:
    """A supervisor in this process, its server, and what it said."""

    def __init__(self, folder: Path, settings: str = SETTINGS) -> None:
        (folder / "jobq.toml").write_text(settings)
        self.folder = folder
        self.queue = JobQueue.open(folder / "jobq.toml")
        self.backend = backend_of(self.queue)
        self.server = Server(self.backend)
        self.said: list[str] = []
        self.finished: list[int] = []

    def work(self, *disturbances: Any) -> Supervisor:
        self.queue._backend = cast("Backend", self.server)
        supervisor = Supervisor(self.queue, WorkOptions(slots=1, drain=True), self._on_event)

        async def run() -> None:
            steps = [each(supervisor) for each in disturbances]
            await asyncio.wait_for(asyncio.gather(supervisor.run(), *steps), 30)

        asyncio.run(run())
        return supervisor

    def _on_event(self, event: Event) -> None:
        if event.kind == "message":
            self.said.append(event.text)
        elif event.kind == "finished":
            assert event.job is not None
            self.finished.append(event.job.id)

    async def until(self, path: str) -> None:
        while not (self.folder / path).exists():  # noqa: ASYNC110 - a job makes it
            await asyncio.sleep(0.01)

    async def until_said(self, text: str) -> None:
        while not any(text in line for line in self.said):  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def shell(self, script: str) -> Job:
        return self.queue.add("shell", {"shell": f"cd {self.folder}; {script}"})

    def is_running(self) -> bool:
        """Whether the process is there that wrote its pid to `up`."""
        try:
            process = psutil.Process(int((self.folder / "up").read_text()))
        except psutil.NoSuchProcess:
            return False
        return process.status() != psutil.STATUS_ZOMBIE

    def outcomes(self, job: Job) -> list[str]:
        return [str(each.outcome) for each in self.backend.attempts(job.id)]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    opened = Host(tmp_path)
    yield opened
    opened.backend.close()


def test_what_ends_while_nobody_answers_is_recorded_afterwards(host: Host) -> None:
    job = host.shell("touch up; until [ -e go ]; do sleep 0.01; done; touch done")

    async def disturb(_: Supervisor) -> None:
        await host.until("up")
        host.server.away = DatabaseUnreachableError("nobody answers")
        (host.folder / "go").touch()
        await host.until("done")
        await host.until_said("nobody answers")
        host.server.away = None

    host.work(disturb)
    assert host.outcomes(job) == ["completed"]
    assert host.finished == [job.id]
    assert host.said == [
        "nobody answers (trying again until it works)",
        "the database can be reached again",
    ]


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


@pytest.mark.slow
def test_what_others_may_take_over_is_ended_before_they_can(host: Host) -> None:
    job = host.shell("echo $$ >> up; touch written; [ $(wc -l < up) = 2 ] || exec sleep 600")
    attempts: list[Attempt] = []

    async def disturb(_: Supervisor) -> None:
        await host.until("written")
        host.server.away = DatabaseUnreachableError("nobody answers")
        assert host.is_running()
        await host.until_said("its lease can't be renewed")
        attempts.extend(host.backend.attempts(job.id))
        while host.is_running():  # noqa: ASYNC110 - a process that is killed takes a moment to go
            await asyncio.sleep(0.01)
        host.server.away = None

    host.work(disturb)
    assert host.outcomes(job) == ["released", "completed"]
    log = host.queue.logs.path(job.id) / "events.jsonl"
    events = [json.loads(line) for line in log.read_text().splitlines()]
    (ended_at,) = [each["time"] for each in events if each["event"] == "stopping"]
    assert datetime.fromisoformat(ended_at) < attempts[0].lease_until


@pytest.mark.slow
def test_what_nobody_can_take_over_goes_on(host: Host) -> None:
    job = host.shell("touch up; until [ -e go ]; do sleep 0.01; done")

    async def disturb(supervisor: Supervisor) -> None:
        await host.until("up")
        host.server.away = DatabaseStoppedError("refused")
        while supervisor._leases.seconds_left:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        (host.folder / "go").touch()
        while not supervisor._outbox.results:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        host.server.away = None

    host.work(disturb)
    assert host.outcomes(job) == ["completed"]


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


def test_a_hook_is_run_although_nobody_could_be_asked_for_its_job_at_first(tmp_path: Path) -> None:
    host = Host(tmp_path, SETTINGS + '[hooks]\non_finish = ["sh", "-c", "cat >> told"]\n')
    job = host.shell("true")
    host.server.loses_answers_of = {"get"}
    host.work()
    host.backend.close()
    told = (host.folder / "told").read_text().splitlines()
    assert [json.loads(line)["id"] for line in told] == [job.id]


def test_who_is_told_to_leave_at_once_does_although_nobody_answers(host: Host) -> None:
    job = host.shell("touch up; exec sleep 600")

    async def disturb(supervisor: Supervisor) -> None:
        await host.until("up")
        host.server.away = DatabaseUnreachableError("nobody answers")
        while supervisor.request_stop() is not Stop.KILL:
            pass

    with pytest.raises(DatabaseUnreachableError):
        host.work(disturb)
    assert host.backend.get([job.id])[job.id].status is JobStatus.RUNNING  # for who comes next


def test_what_was_claimed_in_a_transaction_that_failed_is_claimed_and_run_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobq.toml").touch()
    with JobQueue.open(tmp_path / "jobq.toml") as queue:
        job = queue.add("shell", {"argv": ["true"]})
        next_due = backend_of(queue).next_due
        failures = [DatabaseLockedError("locked")]

        def fails_once(now: datetime) -> datetime | None:
            if failures:
                raise failures.pop()
            return next_due(now)

        monkeypatch.setattr(backend_of(queue), "next_due", fails_once)
        asyncio.run(Supervisor(queue, WorkOptions(slots=1, drain=True)).run())
        assert queue.get(job.id).status is JobStatus.COMPLETED
