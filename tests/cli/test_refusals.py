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
    cli.queue.close()
    (project / ".jobq" / "jobq.db").write_bytes(b"not a database at all" * 100)
    result = cli(*argv)
    assert (result.code, result.out) == (5, "")
    assert result.err.startswith("jobq: ")
    assert result.err.count("\n") == 1


def test_documents_are_utf_8_json(cli: Cli) -> None:
    cli.add(name="ü")
    assert json.loads(cli("list", "--json").out)[0]["name"] == "ü"
