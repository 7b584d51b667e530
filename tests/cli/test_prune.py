import sys
from pathlib import Path

import pytest

from jobq.queue import backend_of
from tests.support.cli_runner import Cli, on_terminal
from tests.support.nested import nest
from tests.support.restricted import NEEDS_MOUNTS, with_mounts


def test_prune_goes_by_the_configured_retention(cli: Cli, project: Path) -> None:
    for _ in range(3):
        cli.completed()
    cli.add()
    assert cli("prune").err == "No jobs to delete.\n"
    (project / "jobq.toml").write_text("[retention]\nolder_than = 0.000001\nkeep_last = 1\n")
    result = cli("prune")
    assert (result.code, result.out) == (0, "Deleted 2 jobs (1-2)\n")
    assert [job.id for job in cli.queue.find()] == [3, 4]


def test_prune_takes_the_logs_along(cli: Cli) -> None:
    cli.completed()
    cli.queue.logs.create(cli.queue.get(1)).close()
    assert cli("prune", "--older-than", "0").code == 0
    assert not cli.queue.logs.path(1).exists()


def test_prune_of_a_selection(cli: Cli) -> None:
    cli.completed(tags={"a": "1"})
    cli.failed(tags={"a": "1"})
    cli.failed()
    cli.add()
    assert cli("prune", "--status", "failed", "--tag", "a=1", "--json").json == {
        "deleted": [2],
        "dry_run": False,
    }
    assert cli("prune", "--keep-last", "1").out == "Deleted job 1\n"
    assert cli("prune", "--older-than", "1h").err == "No jobs to delete.\n"
    assert cli("prune", "--queue", "default").out == "Deleted job 3\n"


def test_prune_only_says_what_it_would_delete(cli: Cli) -> None:
    for _ in range(3):
        cli.completed()
    assert cli("prune", "--older-than", "0", "--dry-run").out == "Would delete 3 jobs (1-3)\n"
    assert cli("prune", "--older-than", "0", "-n", "2", "--dry-run", "--json").json == {
        "deleted": [1, 2],
        "dry_run": True,
    }
    assert len(cli.queue.find()) == 3


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--status", "pending"], "cancel them first"),
        (["--older-than", "old"], "--older-than: 'old' is not"),
        (["--keep-last", "-1"], "--keep-last"),
    ],
)
def test_prune_refuses(cli: Cli, argv: list[str], says: str) -> None:
    cli.completed()
    result = cli("prune", *argv)
    assert result.code == 2
    assert says in result.err
    assert cli.queue.get(1)


def test_prune_asks_on_a_terminal(cli: Cli, project: Path) -> None:
    cli.completed()
    screen = on_terminal(project, "prune", "--older-than", "0", typed="n\n")
    assert "Delete 1 job and their logs? [y/N]" in screen.text
    assert screen.code == 1
    assert on_terminal(project, "prune", "--older-than", "0", "--yes").text == "Deleted job 1\n"


def test_many_jobs_are_deleted_in_batches(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(backend_of(cli.queue)), "batch_size", 2)
    for _ in range(5):
        cli.completed()
    assert cli("prune", "--older-than", "0", "--json").json["deleted"] == [1, 2, 3, 4, 5]


def test_a_job_that_left_directories_nested_by_the_thousand(cli: Cli) -> None:
    for job in (cli.completed(), cli.completed()):
        cli.queue.logs.create(job).close()
    nest(cli.queue.logs.path(1) / "artifacts", 2000)
    assert cli("stats").code == 0
    assert cli("prune", "--older-than", "0").out == "Deleted 2 jobs (1-2)\n"
    assert list(cli.queue.logs.path(1).parent.iterdir()) == []


@NEEDS_MOUNTS
def test_what_stays_of_a_job_costs_one_line_with_its_whole_path(
    cli: Cli, project: Path, tmp_path: Path
) -> None:
    for job in (cli.completed(), cli.completed()):
        cli.queue.logs.create(job).close()
    points = [cli.queue.logs.path(1) / "artifacts" / name for name in ("a", "b")]
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "film.mkv").touch()
    for point in points:
        point.mkdir(parents=True)
    done = with_mounts(
        [("--bind", tmp_path / "library", point) for point in points],
        *(sys.executable, "-m", "jobq", "prune", "--older-than", "0"),
        cwd=project,
    )
    assert (done.returncode, done.stdout) == (1, "Deleted 2 jobs (1-2)\n")
    folder = cli.queue.logs.path(1) / "artifacts"
    assert done.stderr in {
        f"jobq: the log of job 1 could not be deleted: [Errno 16] Device or resource busy: {str(folder / name)!r}\n"
        for name in ("a", "b")
    }
    assert (tmp_path / "library" / "film.mkv").exists()
    assert not cli.queue.logs.path(2).exists()
