"""A job's log as other hosts see it, from what was shipped of it."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from jobq import JobStatus
from jobq.backends.messages import ClaimRequest, LogChunk
from jobq.backends.redis.backend import RedisBackend
from jobq.logs.directory import EVENTS, STDOUT
from jobq.logs.remote import MAX_HELD_BYTES, RemoteLog, ShippedFile
from jobq.models import AttemptResult, Claim, LogOffsets, Outcome, Started
from tests.contract.driver import NOON, new_job
from tests.support.project import Project, wait_until
from tests.support.project import project as project  # noqa: PLC0414 - a fixture


@pytest.fixture
def server(redis_url: str, tmp_path: Path) -> Iterator[RedisBackend]:
    server = RedisBackend(redis_url, tmp_path)
    server.insert([new_job()], NOON)
    yield server
    server.close()


def seen(server: RedisBackend, job_id: int, name: str = STDOUT) -> bytes:
    log = RemoteLog(server, server.get([job_id])[job_id])
    log.refresh()
    with log.read(name) as file:
        return b"" if file is None else file.read_all()


def test_what_came_twice_is_shown_once_and_retries_follow_each_other(server: RedisBackend) -> None:
    def ship(attempt: int, offset: int, data: bytes, name: str = STDOUT) -> None:
        part = LogChunk(1, attempt, name, offset, data)
        server.logs.ship([part], max_bytes=1000, ttl=timedelta(minutes=1))

    for _ in range(2):
        ship(1, 0, b"one\n")
    ship(1, 2, b"e\ntwo\n")
    ship(2, 0, b"again\n")
    ship(1, 3, b"{}\n", EVENTS)
    assert seen(server, 1) == b"one\ntwo\nagain\n"
    assert seen(server, 1, EVENTS) == b'{"event": "not_shipped", "bytes": 3}\n{}\n'


def test_an_attempt_without_a_process_starts_where_it_is_recorded(server: RedisBackend) -> None:
    """A pull worker's: what came before its start is not missing."""
    request = ClaimRequest("elsewhere", 1, timedelta(minutes=1))
    for offset in (0, 100):
        (claim,) = server.claim(request, server.now())
        server.started([Started(claim.key, None, None, LogOffsets(stdout=offset))])
        part = LogChunk(1, claim.attempt, STDOUT, offset + 2, b"output\n")
        server.logs.ship([part], max_bytes=1000, ttl=timedelta(minutes=1))
        server.end([_given_back(claim)], server.now())
    missing = b"[jobq: 2 bytes were not shipped: they are in the file where the job ran]\n"
    assert seen(server, 1) == 2 * (missing + b"output\n")


def _given_back(claim: Claim) -> AttemptResult:
    return AttemptResult(
        key=claim.key, outcome=Outcome.RELEASED, status=JobStatus.PENDING, failures=0, crashes=0
    )


SCRIPT = """echo begins; echo to stderr >&2; until [ -e {go} ]; do sleep 0.01; done
echo ends $JOBQ_ATTEMPT; [ $JOBQ_ATTEMPT -eq 2 ]"""


@pytest.fixture
def other(project: Project, tmp_path: Path, redis_url: str) -> Iterator[Project]:
    """Another machine, as far as files go; both are on one server."""
    folder = tmp_path / "other"
    folder.mkdir()
    settings = f'backend = "{redis_url}"\n' + (project.root / "jobq.toml").read_text()
    for root in (project.root, folder):
        (root / "jobq.toml").write_text(settings)
    project.reopen()
    opened = Project(folder)
    yield opened
    opened.close()


@pytest.mark.slow
def test_a_log_is_followed_from_another_machine(
    project: Project, other: Project, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    job = other.shell(SCRIPT.format(go=go), max_retries=1)
    supervisor = project.work()
    wait_until(other.queue.supervisors)  # or tail notes, in the same file, that there is none
    tail = other.start("tail", "-f", "--stdout", str(job.id), said="tail")
    wait_until(lambda: "begins" in (other.root / "tail").read_text())
    assert other.queue.logs.open(job) is None
    go.touch()
    assert tail.wait(60) == 0
    lines = (other.root / "tail").read_text().splitlines()
    assert lines == ["begins", "ends 1", "begins", "ends 2"]
    project.wait_for(job, JobStatus.COMPLETED)

    def tailed(*options: str) -> str:
        return other.jobq("tail", str(job.id), *options).stdout

    assert tailed("--stdout") == "begins\nends 1\nbegins\nends 2\n"
    assert tailed("--stdout", "--attempt", "2") == "begins\nends 2\n"
    assert tailed("--stderr") == "to stderr\n" * 2
    assert tailed("--stdout", "-n", "1") == "ends 2\n"
    assert tailed("--events").count('"event": "finished"') == 2
    assert tailed("--stdout") == project.jobq("tail", str(job.id), "--stdout").stdout
    supervisor.terminate()
    supervisor.wait(60)


@pytest.mark.slow
def test_each_attempt_is_shown_wherever_it_ran(project: Project, other: Project) -> None:
    job = other.shell("echo try $JOBQ_ATTEMPT; exit 3", max_retries=2, retry_base=0.01)
    for machine in (project, other, project):
        machine.jobq("work", "--max-jobs", "1")
    for machine in (project, other):
        for attempt in (1, 2, 3):
            shown = machine.jobq("tail", str(job.id), "--attempt", str(attempt))
            assert shown.stdout == f"try {attempt}\n"


@pytest.mark.slow
def test_where_nothing_is_shipped_it_is_said_where_the_log_is(
    project: Project, other: Project
) -> None:
    toml = project.root / "jobq.toml"
    toml.write_text(toml.read_text() + '[logs]\nship_max_bytes = "off"\n')
    job = other.shell("echo here")
    project.drain()
    shown = other.jobq("tail", str(job.id))
    assert (shown.returncode, shown.stdout) == (0, "")
    assert f"see jobs/{job.id} in the log directory of" in shown.stderr
    assert f"its log directory, jobs/{job.id}" in other.jobq("show", str(job.id)).stdout
    assert project.jobq("tail", str(job.id)).stdout == "here\n"
    assert str(project.queue.logs.path(job.id)) in project.jobq("show", str(job.id)).stdout


def test_of_a_file_that_grows_the_end_is_held_and_offsets_stay_what_they_are() -> None:
    file = ShippedFile()
    for number in range(3 * MAX_HELD_BYTES // 1000):
        file.append(b"%999d\n" % number)
    end = file.layout().end
    assert end == 3 * MAX_HELD_BYTES // 1000 * 1000
    assert len(file.read_all()) <= 2 * MAX_HELD_BYTES
    at = file.last_lines(2, 0, end)
    assert at == end - 2000
    assert file.read(at, 10_000) == (file.read_all()[-2000:], end)
    assert file.read(0, 1)[1] > end - 2 * MAX_HELD_BYTES  # what is gone is skipped
