"""Redis as it is run in earnest: with rights of its own for jobq, as a cluster, killed under load."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobq import JobQueue, JobStatus
from jobq.backends.redis.acl import DIRECT_COMMANDS, SCRIPT_COMMANDS
from jobq.cli.main import run
from jobq.diagnostics.verify import verify
from jobq.errors import ConfigError, DatabaseAwayError
from jobq.queue import backend_of
from tests.support.paths import ROOT
from tests.support.project import Project, wait_until
from tests.support.redis_server import AOF_ALWAYS, RedisServer, cluster

SETTINGS = """
backend = "{url}"
[lease]
seconds = 6
grace = 0.5
[retry]
base = 0.05
jitter = 0
"""
LUA = ROOT / "jobq" / "backends" / "lua"


@pytest.fixture
def make(tmp_path: Path) -> Iterator["Make"]:
    made = Make(tmp_path)
    yield made
    made.close()


class Make:
    """Makes a project with its jobs on a server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[Project] = []

    def __call__(self, url: str) -> Project:
        root = self._folder / f"project{len(self._made)}"
        root.mkdir()
        (root / "jobq.toml").write_text(SETTINGS.format(url=url))
        self._made.append(Project(root))
        return self._made[-1]

    def close(self) -> None:
        for project in self._made:
            project.close()


def use_everything(project: Project) -> None:
    """Each verb once, or nearly so, with a supervisor at work."""
    project.work(said="said")
    wait_until(lambda: "runs up to" in (project.root / "said").read_text())
    first = project.shell("[ $JOBQ_ATTEMPT = 2 ]", priority="high", unique="once", tags={"a": "b"})
    second = project.shell("echo 1/2 > $JOBQ_PROGRESS; echo done", after=[first.id])
    fails = project.shell("exit 3", max_retries=0)
    rows = project.root / "rows.jsonl"
    rows.write_text('{"key": "k", "args": {"argv": ["true"]}}\n')
    project.wait_for(second, JobStatus.COMPLETED)
    project.wait_for(fails, JobStatus.FAILED)
    for words in (
        ["queue", "create", "slow", "--max-concurrent", "1", "--rate", "10/s"],
        ["add", "-Q", "slow", "--delay", "1h", "--", "true"],
        ["cancel", "4"],
        ["retry", "3"],
        ["wait", "3", "--timeout", "30s"],
        ["schedule", "add", "0 0 * * *", "--name", "nightly", "--", "true"],
        ["schedule", "run-now", "nightly"],
        ["schedule", "list"],
        ["schedule", "remove", "nightly"],
        ["import", str(rows)],
        ["list"],
        ["stats"],
        ["show", "1"],
        ["explain", "1"],
        ["tail", "2"],
        ["export"],
        ["verify"],
        ["doctor"],
        ["prune", "--older-than", "0s", "--yes"],
    ):
        code = run(["--config", str(project.root / "jobq.toml"), *words])
        expected = {"wait": {3}, "doctor": {0, 1}}  # the job's; it has something to say of servers
        assert code in expected.get(words[0], {0}), words


def documented_rights() -> list[str]:
    """The command that makes a user for jobq, as the documentation has it."""
    text = (ROOT / "docs" / "redis.md").read_text("utf-8")
    (command,) = re.findall(r"^(ACL SETUSER .*?)^```", text, re.MULTILINE | re.DOTALL)
    return [word.replace(">PASSWORD", ">s3cret") for word in command.split()]


def test_the_rights_that_are_named_are_enough(make: Make) -> None:
    with RedisServer(password="admin") as server:
        server.client.execute_command(*documented_rights())
        use_everything(make(server.url_as("jobq", "s3cret")))
        denied = {str(each["object"]) for each in server.client.acl_log()}
        assert denied <= {"client"}  # redis-py says its name, and does without where it may not


def test_every_right_that_is_needed_is_documented() -> None:
    source = "\n".join(path.read_text() for path in LUA.glob("*.lua"))
    used = set(re.findall(r"(?:call|write|stream|note)\('([A-Z]+)'", source))
    assert used <= SCRIPT_COMMANDS.keys()
    named = {word[1:].upper() for word in documented_rights() if word.startswith("+")}
    assert {*DIRECT_COMMANDS, *SCRIPT_COMMANDS} <= named


def test_a_cluster(make: Make) -> None:
    with cluster() as nodes:
        for node in nodes:  # whichever is named, the one that has the keys is found
            assert make(node.url).queue.find() == []
        use_everything(make(nodes[0].url))
        assert sum(node.client.dbsize() > 0 for node in nodes) == 1
        (other, *_) = (node for node in nodes if not node.client.dbsize())
        with pytest.raises(ConfigError, match="wait= does not work with a cluster"):
            make(f"{other.url}?wait=1").queue.find()


def test_a_server_that_is_killed_has_all_that_it_acknowledged(make: Make) -> None:
    with RedisServer(*AOF_ALWAYS) as server:
        project = make(server.url)
        project.work("-j", "4", said="said")

        def add(number: int) -> list[int]:
            acknowledged: list[int] = []
            with JobQueue.open(project.root / "jobq.toml") as queue:
                try:
                    while True:
                        acknowledged.append(queue.add("shell", {"argv": ["true"]}).id)
                except DatabaseAwayError:
                    return acknowledged

        with ThreadPoolExecutor(4) as pool:
            adding = [pool.submit(add, number) for number in range(4)]
            wait_until(lambda: project.queue.counts()[JobStatus.COMPLETED] > 20)
            server.kill()
            ids = {job_id for each in adding for job_id in each.result()}
        server.start()
        there = {job.id: job for job in project.queue.find()}
        assert ids <= there.keys()
        assert len(there) <= len(ids) + 4  # one each that was stored, and not acknowledged
        project.queue.cancel_many(
            [i for i, job in there.items() if job.status is JobStatus.PENDING]
        )
        ended = {JobStatus.COMPLETED, JobStatus.CANCELLED}
        wait_until(lambda: {job.status for job in project.queue.find()} <= ended)
        assert verify(backend_of(project.queue)).violations == []
