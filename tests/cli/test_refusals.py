import json
from pathlib import Path

import pytest

from tests.support.cli_runner import Cli, on_terminal


def test_refusals_are_one_line_on_a_terminal_too(cli: Cli, project: Path) -> None:
    screen = on_terminal(project, "show", "99", columns=200)
    assert screen.code == 3
    assert screen.lines == ["jobq: no job 99: see `jobq list`"]


@pytest.mark.parametrize(
    "argv", [["list"], ["show", "1"], ["stats"], ["queue", "list"], ["cancel", "1"], ["prune"]]
)
def test_a_damaged_database_is_exit_code_5(cli: Cli, project: Path, argv: list[str]) -> None:
    cli.add()
    cli.queue.close()
    (project / ".jobq" / "jobq.db").write_bytes(b"not a database at all" * 100)
    result = cli(*argv)
    assert (result.code, result.out) == (5, "")
    assert result.err.startswith("jobq: ")
    assert result.err.count("\n") == 1


def test_documents_are_utf_8_json(cli: Cli) -> None:
    cli.add(name="ü")
    assert json.loads(cli("list", "--json").out)[0]["name"] == "ü"


@pytest.mark.parametrize(
    "argv",
    [
        ["list", "--limit"],
        ["cancel", "--queue", "default", "--limit"],
        ["export", "--limit"],
        ["prune", "--keep-last"],
        ["work", "--drain", "--max-jobs"],
        ["work", "--drain", "--jobs"],
        ["tail", "1", "--lines"],
        ["wait", "1", "--timeout"],
        ["list", "--since"],
        ["queue", "set", "default", "--max-concurrent"],
    ],
    ids=" ".join,
)
def test_a_number_out_of_range_is_refused_in_one_line(cli: Cli, argv: list[str]) -> None:
    cli.add()
    for number in ("9223372036854775808", "9" * 5000, "1e999", "-1", "nan"):
        result = cli(*argv[:-1], f"{argv[-1]}={number}")
        assert (result.code, result.out) == (2, "")
        assert result.err.count("\n") == 1
        assert "bug" not in result.err
        assert "backup" not in result.err


def test_a_number_of_thousands_of_digits_in_a_file_is_refused_in_one_line(
    cli: Cli, project: Path
) -> None:
    digits = "9" * 5000
    (project / "jobs.jsonl").write_text(f'{{"argv": ["true"], "max_retries": {digits}}}\n')
    imported = cli("import", str(project / "jobs.jsonl"))
    assert imported.code == 2
    assert "jobs.jsonl:1: " in imported.err
    (project / "jobq.toml").write_text(f"[retry]\nmax_retries = {digits}\n")
    result = cli("list")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert result.err.startswith(f"jobq: {project / 'jobq.toml'}: a number is too long")
