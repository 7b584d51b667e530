import sys
from io import StringIO
from pathlib import Path

import pytest

from tests.support.cli_runner import Cli, on_terminal


def test_a_limit_takes_the_oldest(cli: Cli) -> None:
    for _ in range(3):
        cli.add()
    assert cli("cancel", "--status", "pending", "--limit", "2").out == "1\n2\n"


def test_ids_can_be_narrowed(cli: Cli) -> None:
    cli.completed()
    cli.add()
    cli.add()
    assert cli("cancel", "1-2", "--queue", "default").out == "2\n"
    unknown = cli("cancel", "3", "99", "--queue", "default")
    assert (unknown.code, unknown.out) == (3, "")
    assert cli.status(3) == "pending"


@pytest.mark.parametrize("verb", ["cancel", "retry", "wait"])
def test_nothing_named_never_means_all(cli: Cli, verb: str) -> None:
    cli.add()
    for argv in ([], ["--limit", "5"]):
        result = cli(verb, *argv)
        assert result.code == 2
        assert "Give ids, or a selection" in result.err
    assert cli.status(1) == "pending"


@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_a_selection_that_matches_nothing(
    cli: Cli, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.add()
    result = cli(verb, "--type", "example")
    assert (result.code, result.out, result.err) == (0, "", "No job matches.\n")
    monkeypatch.setattr(sys, "stdin", StringIO(""))
    assert cli(verb, "-").code == 0


@pytest.mark.parametrize("verb", ["cancel", "retry", "wait", "prune"])
@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["--status", "bogus"], 2),
        (["--queue", "nowhere"], 3),
        (["--tag", "=x"], 2),
        (["--until", "never"], 2),
        (["--bogus"], 2),
    ],
)
def test_refused_selections(cli: Cli, verb: str, argv: list[str], code: int) -> None:
    cli.add()
    result = cli(verb, *argv)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("jobq: ")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("typed", "code", "status"),
    [("y\n", 0, "cancelled"), ("n\n", 1, "pending"), ("\n", 1, "pending"), ("\x04", 1, "pending")],
)
def test_a_bulk_change_asks_on_a_terminal(
    cli: Cli, project: Path, typed: str, code: int, status: str
) -> None:
    for _ in range(3):
        cli.add()
    screen = on_terminal(project, "cancel", "--status", "pending", typed=typed)
    assert "Cancel 3 jobs? [y/N]" in screen.text
    assert screen.code == code
    assert {cli.status(n) for n in (1, 2, 3)} == {status}


def test_ctrl_c_at_the_question_changes_nothing(cli: Cli, project: Path) -> None:
    cli.add()
    screen = on_terminal(project, "cancel", "--status", "pending", typed="\x03")
    assert screen.code == 130
    assert cli.status(1) == "pending"


@pytest.mark.parametrize("flag", ["--yes", "--dry-run"])
def test_a_bulk_change_does_not_ask_when_told(cli: Cli, project: Path, flag: str) -> None:
    cli.add()
    screen = on_terminal(project, "cancel", "--status", "pending", flag)
    assert screen.code == 0
    assert "?" not in screen.text


def test_named_jobs_are_not_asked_about(cli: Cli, project: Path) -> None:
    cli.add()
    assert on_terminal(project, "cancel", "1").text == "Cancelled job 1\n"


@pytest.fixture
def films(cli: Cli) -> Cli:
    cli.add("ffmpeg", "-i", "Alien.mkv", name="Encode Alien")
    cli.add("ffmpeg", "-i", "Brazil.mkv", name="Encode Brazil")
    cli.add("rm", "Alien.mkv", tags={"step": "clean"})
    return cli


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--name", "encode"], "1 2"),  # whatever its case
        (["--name", "encode b*"], "2"),
        (["--name", "*alien"], "1"),
        (["--name", "b*"], ""),  # a pattern is of the whole name
        (["--name", "100%"], ""),
        (["--text", "alien.mkv"], "1 3"),
        (["--text", "alien", "--text", "ffmpeg"], "1"),
        (["--text", "step=clean"], "3"),
        (["--text", "alien", "--name", "encode"], "1"),
        (["2-3", "--text", "alien"], "3"),
    ],
)
def test_jobs_are_selected_by_name_and_text(films: Cli, words: list[str], found: str) -> None:
    listed = films("list", "--plain", *words)
    assert " ".join(line.split("\t")[0] for line in listed.lines) == found
    cancelled = films("cancel", *words)
    assert " ".join(cancelled.lines) == found


@pytest.mark.parametrize("words", [["--name", ""], ["--text", ""]])
def test_an_empty_text_is_refused(films: Cli, words: list[str]) -> None:
    refused = films("cancel", *words)
    assert (refused.code, refused.err) == (
        2, f"jobq: {words[0]} '': give text, or leave it out\n",
    )  # fmt: skip


def test_pruning_goes_by_text_too(cli: Cli) -> None:
    cli.completed(name="one")
    cli.completed(name="two")
    assert cli("prune", "--name", "t*", "--dry-run", "--json").json["deleted"] == [2]
    assert cli("delete", "--name", "two", "--yes").code == 0
    assert [job.id for job in cli.queue.find()] == [1]
