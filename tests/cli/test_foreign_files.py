"""Files of other users are not obeyed, and code of a checkout runs only where work is asked for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobq import JobQueue
from jobq.errors import ConfigError
from jobq.job_types.learned import recall
from tests.support.cli_runner import Cli, on_terminal
from tests.support.users import STRANGER, as_root, common, jobq_as

__all__ = ["common"]

WORKER = """
from pathlib import Path
from pydantic import BaseModel
from jobq import JobWorker

with Path(__file__).with_name("ran").open("a") as ran:
    ran.write("x")

class Hello(JobWorker):
    "Greet."
    job_type = "hello"
    class Args(BaseModel):
        name: str
    def run(self, args, job): ...
"""


@pytest.fixture
def cli(
    queue: JobQueue, project: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Cli:  # fmt: skip
    monkeypatch.chdir(project)
    return Cli(queue, capsys)


def completions(cwd: Path, line: str) -> str:
    asked = {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = subprocess.run(
        [sys.executable, "-c", "from jobq.__main__ import main; main()"],
        cwd=cwd, env={**os.environ, **asked, "_JOBQ_COMPLETE": "complete_fish"},
        capture_output=True, encoding="utf-8", timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


def fresh(cwd: Path, *words: str) -> str:
    """Run a command in a process that has loaded no worker files yet."""
    return subprocess.run(
        [sys.executable, "-m", "jobq", *words],
        cwd=cwd, capture_output=True, encoding="utf-8", timeout=60, check=False,
    ).stdout  # fmt: skip


# -- jobq.toml ---------------------------------------------------------------------------------

VERBS = (
    ["list"], ["add", "--", "true"], ["work", "--drain"], ["run", "--", "true"], ["types"],
    ["config", "path"], ["config", "check"], ["export"], ["verify"],
)  # fmt: skip


@as_root
@pytest.mark.parametrize("words", VERBS, ids=lambda words: words[0])
def test_another_users_file_above_the_directory_is_not_used(
    common: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    words: list[str],
) -> None:  # fmt: skip
    ran, here = common / "ran", common / "mine"
    here.mkdir()
    (common / "workers").mkdir()
    (common / "workers" / "evil.py").write_text(f"open({str(ran)!r}, 'w')\n")
    (common / "jobq.toml").write_text(f"[hooks]\non_finish = ['touch', {str(ran)!r}]\n")
    os.chown(common / "jobq.toml", STRANGER, STRANGER)
    common.chmod(0o1777)
    monkeypatch.chdir(here)
    with pytest.raises(ConfigError, match="not used"):
        JobQueue.open()
    from jobq.cli.main import run

    assert run(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        f"jobq: {common}/jobq.toml: not used: it belongs to user {STRANGER}, and you are root "
        "(user 0): use one of your own; or name another one with --config\n"
    )
    assert "hello" not in completions(here, "jobq add ")
    assert not ran.exists()
    assert not (common / ".jobq").exists()


@as_root
@pytest.mark.parametrize("by", ["--config", "$JOBQ_CONFIG"])
def test_one_that_is_named_is_refused_with_the_reason(
    cli: Cli, project: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    other = project / "other.toml"
    other.write_text("")
    os.chown(other, STRANGER, STRANGER)
    if by == "--config":
        refused = cli("--config", "other.toml", "list")
    else:
        monkeypatch.setenv("JOBQ_CONFIG", str(other))
        refused = cli("list")
    assert refused.code == 2
    assert f"other.toml: not used: it belongs to user {STRANGER}" in refused.err
    assert refused.err.endswith(f" ({by})\n")


def test_one_that_others_may_write_to(cli: Cli, project: Path) -> None:
    (project / "jobq.toml").chmod(0o666)
    refused = cli("list")
    assert refused.code == 2
    assert "other users may write to it (mode 0666): run `chmod go-w " in refused.err
    doctor = cli("doctor")
    assert doctor.code == 1
    assert "jobq.toml: not used: other users may write to it" in doctor.out
    (project / "jobq.toml").chmod(0o644)
    project.chmod(0o777)
    assert f"other users may replace it in {project}" in cli("add", "--", "true").err


@as_root
def test_what_root_made_is_for_everybody_and_what_a_user_made_is_not_for_root(common: Path) -> None:
    (common / "jobq.toml").write_text("concurrency = 7\n")
    shown = jobq_as(STRANGER, common, "config", "show")
    assert shown.returncode == 0, shown.stderr
    assert "concurrency = 7" in shown.stdout
    own = common / "own"
    own.mkdir()
    (own / "jobq.toml").write_text("concurrency = 8\n")
    for path in (own, own / "jobq.toml"):
        os.chown(path, STRANGER, STRANGER)
    shown = jobq_as(STRANGER, own, "config", "show")
    assert "concurrency = 8" in shown.stdout
    shown = jobq_as(STRANGER, own, "add", "--", "true")
    assert shown.stdout == "1\n", shown.stderr
    for uid, who in ((STRANGER + 1, f"user {STRANGER + 1}"), (0, "root (user 0)")):
        refused = jobq_as(uid, own, "list")
        assert refused.returncode == 2
        assert f"belongs to user {STRANGER}" in refused.stderr
        assert f"you are {who}" in refused.stderr
        assert refused.stderr.count("\n") == 1


# -- the database, workers and hooks -----------------------------------------------------------


@as_root
def test_another_users_database(cli: Cli, project: Path) -> None:
    cli.add()
    os.chown(project / ".jobq" / "jobq.db", STRANGER, STRANGER)
    for words in (["list"], ["add", "--", "true"], ["work", "--drain"]):
        refused = cli(*words)
        assert refused.code == 5
        assert f"jobq.db: it belongs to user {STRANGER}" in refused.err
    assert cli("doctor").code in (0, 1)


def test_a_database_that_others_may_write_to_or_replace(cli: Cli, project: Path) -> None:
    cli.add()
    (project / ".jobq" / "jobq.db").chmod(0o666)
    assert "jobq.db: other users may write to it" in cli("list").err
    assert cli("doctor", "--fix").code == 0
    (project / ".jobq").chmod(0o777)
    refused = cli("list")
    assert (refused.code, refused.err.count("\n")) == (5, 1)
    assert "other users may replace it" in refused.err


@pytest.fixture
def worker(project: Path) -> Path:
    (project / "workers").mkdir()
    file = project / "workers" / "hello.py"
    file.write_text(WORKER)
    return file


@pytest.mark.parametrize("place", ["workers", "workers/hello.py", "workers/__pycache__"])
def test_worker_files_that_others_may_write_to(cli: Cli, worker: Path, place: str) -> None:
    path = worker.parent.parent / place
    path.mkdir(exist_ok=True) if place != "workers/hello.py" else None
    path.chmod(0o777)
    ran = worker.with_name("ran")
    refused = cli("add", "hello", "name=x")
    assert refused.code == 2
    assert (
        f"{path}: other users may write to it (mode 0777): run `chmod go-w {path}`" in refused.err
    )
    assert cli("types").err.count("other users may write to it") == 1
    said = {item["check"]: item for item in cli("doctor", "--json").json["findings"]}
    assert (said["workers"]["level"], said["workers"]["where"]) == ("problem", str(path))
    assert cli("config", "check").code == 2
    assert not ran.exists()
    path.chmod(0o755)
    assert cli("add", "hello", "name=x").code == 0
    assert ran.exists()


def test_what_a_worker_file_imports_must_be_trusted_too(cli: Cli, worker: Path) -> None:
    folder = worker.parent
    (folder / "parts").mkdir()
    (folder / "parts" / "deep.py").write_text("open(__file__ + '.ran', 'w')\n")
    worker.write_text(f"from .parts import deep\n{WORKER}")
    (folder / "parts" / "deep.py").chmod(0o666)
    refused = cli("add", "hello", "name=x")
    assert refused.code == 2
    assert "deep.py: other users may write to it" in refused.err
    assert not (folder / "parts" / "deep.py.ran").exists()
    (folder / "parts" / "deep.py").chmod(0o644)
    assert fresh(folder.parent, "add", "hello", "name=x") == "1\n"


@as_root
def test_a_link_to_another_users_worker_file(cli: Cli, worker: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.py"
    worker.rename(elsewhere)
    os.chown(elsewhere, STRANGER, STRANGER)
    worker.symlink_to(elsewhere)
    assert f"belongs to user {STRANGER}" in cli("add", "hello", "name=x").err


@pytest.mark.parametrize("argv", [["./hook"], ["sh", "hook"]])
def test_a_hook_that_others_may_write_to_is_not_run(
    cli: Cli, project: Path, argv: list[str]
) -> None:
    (project / "hook").write_text("#!/bin/sh\ntouch ran\n")
    (project / "hook").chmod(0o777)
    (project / "jobq.toml").write_text(f"[hooks]\non_finish = {argv}\n")
    cli("add", "--", "true")
    work = cli("work", "--drain")
    assert "other users may write to it" in work.out + work.err
    assert not (project / "ran").exists()
    (project / "hook").chmod(0o755)
    cli("add", "--", "true")
    assert cli("work", "--drain").code == 0
    assert (project / "ran").exists()


# -- a checkout that a stranger wrote ----------------------------------------------------------


def test_its_code_runs_only_where_work_is_asked_for(cli: Cli, project: Path, worker: Path) -> None:
    ran = worker.with_name("ran")
    job = cli.add()
    for words in (
        ["list"], ["show", "1"], ["explain", "1"], ["doctor"], ["config", "check"], ["verify"],
        ["config", "show"], ["stats"], ["export"], ["schedule", "list"], ["queue", "list"],
        ["add", "--", "true"], ["cancel", str(job.id)], ["retry", str(job.id)],
    ):  # fmt: skip
        assert cli(*words).code == 0, words
    for line in ("jobq add ", "jobq add hello ", "jobq types ", "jobq list --type "):
        assert "hello" not in completions(project, line)
    assert not ran.exists()
    assert cli("types").code == 0
    assert ran.read_text() == "xx"  # tried in another process, and loaded
    assert "hello\tGreet." in completions(project, "jobq add ")
    assert "name=" in completions(project, "jobq add hello ")
    assert ran.read_text() == "xx"  # tried in another process, and loaded


def test_completion_keeps_what_the_last_verb_learned(project: Path, worker: Path) -> None:
    assert fresh(project, "add", "hello", "name=x") == "1\n"
    assert "hello" in completions(project, "jobq add ")
    worker.write_text(WORKER.replace("hello", "goodbye") + "\n")
    assert "hello" in completions(project, "jobq add ")
    fresh(project, "types")
    found = completions(project, "jobq add ")
    assert "goodbye" in found
    assert "hello" not in found


def test_completion_keeps_what_work_learned(project: Path, worker: Path) -> None:
    fresh(project, "add", "hello", "name=x")
    (project / ".jobq" / "jobq.db.types.json").unlink()
    fresh(project, "work", "--drain")
    assert "hello" in completions(project, "jobq add ")


def test_an_error_that_shows_only_when_a_file_runs_is_remembered(
    cli: Cli, project: Path, worker: Path
) -> None:
    worker.write_text("import nothing_of_that_name\n")
    assert cli("doctor").code == 0
    assert "nothing_of_that_name" in cli("types").err
    said = cli("doctor")
    assert said.code == 1
    assert "hello.py:1: does not import: ModuleNotFoundError" in said.out
    worker.write_text(WORKER)
    assert cli("doctor").code == 0


def test_what_is_remembered_is_not_trusted(cli: Cli, project: Path, worker: Path) -> None:
    memory, precious = project / ".jobq" / "jobq.db.types.json", project / "precious"
    precious.write_text("precious")
    cli.add()
    for text in (
        "", "[]", "{", '{"types": {"$(touch ran)": {"description": "`x`", "arguments": {}}}}',
        '{"types": {"a": 1}, "errors": [], "state": [], "format": 1}', "[" * 100_000,
    ):  # fmt: skip
        memory.write_text(text)
        memory.chmod(0o600)
        assert "touch" not in completions(project, "jobq add ")
        assert cli("doctor").code == 0
    memory.unlink()
    memory.symlink_to(precious)
    assert cli("types").code == 0
    assert precious.read_text() == "precious"
    assert not memory.is_symlink()
    assert memory.stat().st_mode & 0o777 == 0o600
    assert "hello" in recall(cli.queue.settings).types


# -- where jobs are sent -----------------------------------------------------------------------


def test_the_server_of_a_file_that_was_found_is_said_once(project: Path, redis_url: str) -> None:
    (project / "jobq.toml").write_text(f'backend = "{redis_url}"\n')
    first = on_terminal(project, "add", "--", "true", columns=300).text
    assert "jobq.toml sends jobs" in first
    assert "redis://" in first
    assert "sends jobs" not in on_terminal(project, "add", "--", "true").text
    assert "sends jobs" not in on_terminal(project, "list").text


def test_it_is_not_said_of_a_file_that_was_named_or_without_a_terminal(
    project: Path, redis_url: str, cli: Cli
) -> None:
    (project / "jobq.toml").write_text(f'backend = "{redis_url}"\n')
    assert cli("add", "--", "true").err == ""
    said = on_terminal(project, "--config", "jobq.toml", "add", "--", "true").text
    assert "sends jobs" not in said
