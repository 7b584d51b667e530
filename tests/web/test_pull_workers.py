"""The workers of docs/pull-workers.md, as they stand there."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from jobq import Job, JobStatus
from tests.support.paths import ROOT
from tests.support.web_server import WebServer
from tools.soak.pull_workers import sh_worker

RENDER = '#!/bin/sh\nread -r claim; printf "%s\\n" "${1:-$claim}"\n'


@pytest.fixture(scope="module")
def page() -> list[str]:
    """The examples in Python: a worker, and the type of its jobs."""
    text = (ROOT / "docs/pull-workers.md").read_text("utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def studio(server: WebServer, page: list[str]) -> WebServer:
    """The server, with that type, and a program to run."""
    (server.folder / "workers").mkdir(exist_ok=True)
    (server.folder / "workers" / "render.py").write_text(page[1])
    (server.folder / "worker.sh").write_text(sh_worker())
    (server.folder / "worker.py").write_text(page[0])
    program = server.folder / "render"
    program.write_text(RENDER)
    program.chmod(0o700)
    return server


@pytest.fixture
def start(studio: WebServer) -> Iterator[object]:
    """Return a function that starts a worker."""
    started: list[subprocess.Popen[bytes]] = []
    token = studio.token("worker", types=["render"])

    def begin(*argv: str) -> subprocess.Popen[bytes]:
        env = {**os.environ, "JOBQ_URL": studio.url, "JOBQ_TOKEN": token, "BEAT": "0.2"}
        log = (studio.folder / "worker.log").open("ab")
        started.append(
            subprocess.Popen(
                argv, cwd=studio.folder, env=env, stdout=log, stderr=log, start_new_session=True
            )
        )
        log.close()
        return started[-1]

    yield begin
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def output(studio: WebServer, job: Job) -> str:
    return (Path(studio.queue.logs.path(job.id)) / "stdout.log").read_text()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_worker_in_sh_runs_jobs(studio: WebServer, start: object) -> None:
    assert callable(start)
    odd = 'a "claim":"x" {\\ é'
    good = studio.queue.add("render", {"scenes": [odd]})
    start("sh", "worker.sh", "render", "./render")
    done = studio.queue.wait(good.id, 20)
    assert done.status is JobStatus.COMPLETED
    assert f'"args":{{"scenes":["{odd[:3]}'.replace('"a "', '"a ') in output(studio, done)
    (attempt,) = studio.queue.attempts(done.id)
    assert ":sh:" in attempt.supervisor


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_worker_in_sh_stops_what_is_cancelled_and_gives_back_when_it_ends(
    studio: WebServer, start: object
) -> None:
    assert callable(start)
    job = studio.queue.add("render", {"scenes": []})
    worker = start("sh", "worker.sh", "render", "sleep", "60")
    _until_running(studio, job)
    studio.queue.cancel(job.id)
    assert studio.queue.wait(job.id, 20).status is JobStatus.CANCELLED
    second = studio.queue.add("render", {"scenes": []})
    _until_running(studio, second)
    worker.terminate()
    worker.wait(20)
    given_back = studio.queue.get(second.id)
    assert (given_back.status, given_back.failures) == (JobStatus.PENDING, 0)
    studio.queue.cancel(second.id)


def _until_running(studio: WebServer, job: Job) -> None:
    import time

    deadline = time.monotonic() + 20
    while studio.queue.get(job.id).status is not JobStatus.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_worker_in_python_runs_jobs(studio: WebServer, start: object) -> None:
    assert callable(start)
    job = studio.queue.add("render", {"scenes": ["one", "two"]})
    start(sys.executable, "worker.py")
    done = studio.queue.wait(job.id, 20)
    assert (done.status, done.result) == (JobStatus.COMPLETED, {"rendered": 2})
    assert output(studio, done) == "one\ntwo\n"
    assert done.progress is not None
    assert (done.progress.done, done.progress.message) == (2, "two")
