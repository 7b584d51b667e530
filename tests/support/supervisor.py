"""A supervisor in this process, with a database that fails on demand."""

import asyncio
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from jobq import Job, JobQueue
from jobq.backends.base import Backend
from jobq.errors import DatabaseAwayError, DatabaseUnreachableError
from jobq.execution.events import Event
from jobq.execution.options import WorkOptions
from jobq.execution.supervisor import Supervisor
from jobq.queue import backend_of

SETTINGS = "[lease]\nseconds = 6\ngrace = 0.1\n"


PARTS = {"supervisors", "schedules", "stats", "transfer", "logs"}


class Server:
    """A backend as on another host: it may not answer, although it has done what it was asked."""

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
    """An interface of such a backend."""

    def __init__(self, server: Server, part: object) -> None:
        self._server = server
        self._part = part

    def __getattr__(self, name: str) -> Any:
        return self._server.checked(name, getattr(self._part, name))


class Host:
    """A supervisor in this process, its server, and the messages that it showed."""

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
        """Return whether the process runs that wrote its pid to `up`."""
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
