"""What `jobq doctor` finds of a Redis server."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from jobq.backends.redis.backend import RedisBackend
from jobq.clock import utcnow
from jobq.config.loader import load_settings
from jobq.diagnostics.doctor.diagnose import diagnose
from jobq.diagnostics.doctor.finding import Level
from jobq.models import SupervisorInfo
from jobq.queue import JobQueue
from tests.support.redis_server import AOF, RedisServer


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(*AOF, password="s3cret") as started:
        yield started


@pytest.fixture
def toml(server: RedisServer, project: Path) -> Path:
    server.client.flushdb()
    file = project / "jobq.toml"
    file.write_text(f'backend = "{server.url}"\n')
    file.chmod(0o600)
    return file


def found(toml: Path) -> dict[str, Level]:
    """The worst of each check."""
    levels: dict[str, Level] = {}
    for finding in diagnose(load_settings(toml)):
        assert "s3cret" not in f"{finding.where} {finding.message} {finding.remedy}"
        if levels.get(finding.check) in (None, Level.OK):
            levels[finding.check] = finding.level
    return levels


def wrong(toml: Path) -> dict[str, Level]:
    return {check: level for check, level in found(toml).items() if level is not Level.OK}


def test_a_server_that_is_as_it_should_be(toml: Path) -> None:
    with JobQueue.open(toml) as queue:
        queue.add("shell", {"argv": ["true"]})
    assert wrong(toml) == {}
    wanted = {"server", "persistence", "eviction", "memory", "clock", "supervisors", "invariants"}
    assert set(found(toml)) >= wanted


def test_a_password_that_others_can_read_is_found_and_hidden(toml: Path) -> None:
    toml.chmod(0o644)
    (said,) = (each for each in diagnose(load_settings(toml)) if each.check == "config")
    assert (said.level, said.where) == (Level.PROBLEM, str(toml))
    assert said.message == "other users can read the password in it"
    assert f"chmod 600 {toml}" in said.remedy
    assert said.fix is not None
    said.fix()
    assert toml.stat().st_mode & 0o777 == 0o600
    assert wrong(toml) == {}


def test_what_may_lose_jobs_is_found(server: RedisServer, toml: Path) -> None:
    used = int(server.client.info("memory")["used_memory"])
    for name, value in (
        ("appendonly", "no"),
        ("maxmemory", str(used * 11 // 10)),
        ("maxmemory-policy", "allkeys-lru"),
    ):
        server.client.config_set(name, value)
    try:
        assert wrong(toml) == {
            "persistence": Level.WARNING,
            "eviction": Level.PROBLEM,
            "memory": Level.WARNING,
        }
    finally:
        server.client.config_set("maxmemory", "0")
        server.client.config_set("maxmemory-policy", "noeviction")
        server.client.config_set("appendonly", "yes")


def test_a_supervisor_that_is_silent_is_found(toml: Path) -> None:
    long_ago = utcnow() - timedelta(hours=1)
    url = load_settings(toml).backend
    with closing(RedisBackend(url, toml.parent, clock="caller")) as backend:
        backend.supervisors.register(
            SupervisorInfo(
                id="elsewhere:1", host="elsewhere", boot_id="b", pid=1, slots=1, queues=None,
                types=("shell",), started_at=long_ago, heartbeat_at=long_ago,
            )
        )  # fmt: skip
    assert wrong(toml) == {"supervisors": Level.WARNING}


def test_a_server_that_does_not_answer_is_a_finding(toml: Path) -> None:
    toml.write_text('backend = "redis://127.0.0.1:1/0"\n')
    (finding,) = (each for each in diagnose(load_settings(toml)) if each.level is not Level.OK)
    assert (finding.check, finding.level) == ("server", Level.PROBLEM)
    assert "127.0.0.1:1" in finding.where
