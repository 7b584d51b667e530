"""Symbolic links that somebody planted among the logs or beside the database: no verb follows them."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobq import JobQueue
from jobq.logs.directory import EVENTS, LOG, STDERR, STDIN, STDOUT
from jobq.logs.progress import FILE as PROGRESS
from tests.support.cli_runner import Cli

SECRET = "77/100 precious"
"""Also what a progress file could say."""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A directory of somebody else's, with the names that jobq knows in it."""
    folder = tmp_path / "elsewhere"
    (folder / "1" / "artifacts").mkdir(parents=True)
    for name in (STDOUT, STDERR, LOG, EVENTS, STDIN, PROGRESS):
        (folder / "1" / name).write_text(SECRET)
        (folder / name).write_text(SECRET)
    return folder


def link_all(logs: Path, elsewhere: Path) -> None:
    logs.mkdir(0o700, exist_ok=True)
    (logs / "jobs").symlink_to(elsewhere)


def link_job(logs: Path, elsewhere: Path) -> None:
    (logs / "jobs").mkdir(0o700, parents=True, exist_ok=True)
    (logs / "jobs" / "1").symlink_to(elsewhere / "1")


def link_file(name: str) -> Callable[[Path, Path], None]:
    def link(logs: Path, elsewhere: Path) -> None:
        (logs / "jobs" / "1").mkdir(0o700, parents=True, exist_ok=True)
        (logs / "jobs" / "1" / name).unlink(missing_ok=True)
        (logs / "jobs" / "1" / name).symlink_to(elsewhere / name)

    return link


PLANTED = {
    "jobs": link_all,
    "jobs/1": link_job,
    **{name: link_file(name) for name in (STDOUT, STDERR, LOG, EVENTS, PROGRESS)},
}


def tree(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path): (path.read_text() if path.is_file() else "", path.stat().st_mode)
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("place", PLANTED)
def test_no_verb_follows_a_link(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    elsewhere: Path,
    place: str,
) -> None:
    monkeypatch.chdir(project)
    cli = Cli(JobQueue.open(), capsys)
    cli.queue.add("shell", {"argv": ["cat"]}, max_retries=0)
    cli.queue.close()
    PLANTED[place](project / "logs", elsewhere)
    before = tree(elsewhere)
    said = [
        cli("tail", "1", "-n", "all"),
        cli("tail", "1", "--events"),
        # With a link in the place of all logs, jobs wait until there is a directory.
        *([cli("work", "--drain")] if place != "jobs" else []),
        cli("tail", "1", "-n", "all"),
        cli("tail", "1", "--events", "--raw"),
        cli("show", "1", "--json"),
        cli("list", "--json"),
        cli("stats", "--json"),
        cli("prune", "--older-than", "1ms", "--yes"),
    ]
    for result in said:
        assert "precious" not in result.out + result.err
        assert '"done": 77' not in result.out
        assert result.err.count("\n") <= 1
    assert tree(elsewhere) == before
    assert not (project / "logs" / "jobs" / "1").is_symlink() or place == "jobs"


def test_stdin_is_not_read_through_a_link(project: Path, elsewhere: Path) -> None:
    def jobq(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "jobq", *words],
            cwd=project, input="mine", capture_output=True, encoding="utf-8", check=False,
        )  # fmt: skip

    assert jobq("add", "--stdin", "-", "--", "cat").stdout == "1\n"
    stdin = project / "logs" / "jobs" / "1" / STDIN
    assert stdin.read_text() == "mine"
    link_file(STDIN)(project / "logs", elsewhere)
    assert "Too many levels of symbolic links" in jobq("work", "--drain").stdout
    assert "precious" not in jobq("tail", "1").stdout


def test_stdin_takes_the_place_of_a_link_and_not_of_what_it_points_to(
    project: Path, elsewhere: Path, queue: JobQueue
) -> None:
    job = queue.add("shell", {"argv": ["cat"]})
    queue.logs.create(job).close()
    link_file(STDIN)(project / "logs", elsewhere)
    before = tree(elsewhere)
    spooled = project / "logs" / "stdin-1"
    spooled.write_text("mine")
    with queue.logs.create(job) as log:
        log.adopt(spooled, STDIN)
    assert (project / "logs" / "jobs" / "1" / STDIN).read_text() == "mine"
    assert tree(elsewhere) == before


@pytest.mark.parametrize("target", ["precious", "new"])
@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal", ".lock"])
@pytest.mark.parametrize("has_database", [True, False])
def test_a_link_beside_the_database_is_refused(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    target: str,
    has_database: bool,
) -> None:
    monkeypatch.chdir(project)
    elsewhere = project.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    with JobQueue.open() as queue:
        if has_database:
            queue.add("shell", {"argv": ["true"]})
    link = project / ".jobq" / f"jobq.db{suffix}"
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(elsewhere / target)
    before = tree(elsewhere)
    cli = Cli(queue, capsys)
    for words in (["add", "--", "true"], ["list"], ["work", "--drain"], ["prune", "--yes"]):
        refused = cli(*words)
        assert refused.code == 5
        assert refused.err == (
            f"jobq: {link}: a symbolic link, and not a file: find out what made it, and delete it\n"
        )
    assert "a symbolic link" in cli("doctor").out
    assert tree(elsewhere) == before
    assert link.is_symlink()


@pytest.mark.filterwarnings("always")
def test_a_wake_up_that_a_link_leads_away_is_told_and_the_job_is_added(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    precious = project.parent / "profile"
    precious.write_text("precious")
    cli = Cli(JobQueue.open(), capsys)
    assert cli("add", "--", "true").out == "1\n"
    folder = project / ".jobq" / "jobq.db.supervisors"
    folder.mkdir(0o700)
    (folder / "a.wake").symlink_to(precious)
    (project / "rows.jsonl").write_text('{"type": "shell", "argv": ["true"]}\n')
    for words in (["add", "--", "true"], ["cancel", "1"], ["import", "rows.jsonl"]):
        done = cli(*words)
        assert done.code == 0
        assert "a.wake: Too many levels of symbolic links: no supervisor can be woken" in done.err
    assert len(cli.queue.find()) == 3
    assert precious.read_text() == "precious"
