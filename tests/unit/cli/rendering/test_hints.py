"""Hints about jobs that wait: no command fails for want of one."""

from pathlib import Path

import pytest

from jobq import JobQueue
from jobq.cli.rendering.hints import hint_no_supervisor, hint_paused
from tests.support.redis_server import RedisServer


def test_a_server_that_stops_answering_costs_the_hint_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RedisServer() as server:
        (tmp_path / "jobq.toml").write_text(f'backend = "{server.url}"\n')
        with JobQueue.open(tmp_path / "jobq.toml") as queue:
            job = queue.add("shell", {"argv": ["true"]})
            queue.pause("default")
            hint_no_supervisor(queue, [job])
            hint_paused(queue, [job])
            said = capsys.readouterr().err
            assert "no supervisor is running" in said
            assert "paused" in said
            server.kill()
            hint_no_supervisor(queue, [job])
            hint_paused(queue, [job])
    assert capsys.readouterr().err == ""
