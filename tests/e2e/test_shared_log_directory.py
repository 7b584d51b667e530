"""Several stores with one log directory, and a store that gives numbers again."""

import json
from pathlib import Path

import pytest

from jobq import JobStatus
from tests.support.project import Project, project, wait_until
from tests.support.redis_server import RedisServer

__all__ = ["project"]

pytestmark = pytest.mark.slow


def other(project: Project, *words: str) -> str:
    """Run the command with another database in the same project."""
    done = project.jobq(*words, env={"JOBQ_DATABASE": str(project.root / "test.db")})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_another_database_neither_shows_nor_changes_nor_deletes_the_logs_of_a_job(
    project: Project,
) -> None:
    project.shell("echo real")
    project.drain()
    assert other(project, "add", "--", "true") == "1\n"
    assert other(project, "tail", "1") == ""
    assert other(project, "run", "--", "echo", "test") == "test\n"
    assert other(project, "run", "--", "echo", "test") == "test\n"
    other(project, "work", "--drain")
    assert project.jobq("tail", "1").stdout == "real\n"
    assert other(project, "tail", "2") == "test\n"
    other(project, "prune", "--older-than", "0s", "--yes")
    assert project.jobq("tail", "1").stdout == "real\n"
    assert project.jobq("prune", "--older-than", "0s", "--yes").returncode == 0
    assert list((project.root / "logs" / "jobs").iterdir()) == []


def test_two_databases_with_running_jobs_of_one_number(project: Project) -> None:
    real = project.shell("echo real; until [ -e go ]; do sleep 0.02; done; echo $JOBQ_LOG_DIR")
    supervisor = project.work("--drain")
    wait_until(lambda: project.output(real))
    done = project.jobq("run", "--", "echo", "x", env={"JOBQ_DATABASE": "test.db"})
    assert done.returncode != 0
    assert "a running job of another database uses it" in done.stderr
    (project.root / "go").touch()
    assert supervisor.wait(20) == 0
    folder = project.root / "logs" / "jobs" / "1"
    assert project.output(real) == f"real\n{folder}\n"


def test_a_server_that_lost_its_last_moments_and_gives_numbers_again(tmp_path: Path) -> None:
    with RedisServer() as server:
        (tmp_path / "jobq.toml").write_text(f'backend = "{server.url}"\n')
        project = Project(tmp_path)
        try:
            before = project.shell("echo kept")
            project.drain()
            keys = {key: server.client.dump(key) for key in server.client.scan_iter()}
            lost = project.shell("echo lost")
            project.drain()
            assert project.output(lost) == "lost\n"
            server.client.flushall()
            for key, dump in keys.items():
                server.client.restore(key, 0, dump)
            again = project.shell("echo new")
            assert again.id == lost.id
            assert project.jobq("tail", str(again.id)).stdout == ""
            project.drain()
            assert project.output(again) == "new\n"
            assert project.output(before) == "kept\n"
            found = project.jobq("doctor", "--json")
            checks = {
                each["check"]: each["message"] for each in json.loads(found.stdout)["findings"]
            }
            assert f"{lost.id}." in checks["orphans"]
            assert project.queue.get(again.id).status is JobStatus.COMPLETED
        finally:
            project.close()
