"""Options that take one value are given once, whichever parser reads the line."""

from pathlib import Path

import pytest

from jobq import JobQueue
from tests.support.cli_runner import Cli


@pytest.fixture
def cli(
    queue: JobQueue,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Cli:
    monkeypatch.chdir(project)
    return Cli(queue, capsys)


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("add -Q a -Q b -- true", "--queue"), ("add --queue=a -Q b -- true", "--queue"),
        ("add --name a --name a -- true", "--name"), ("list --limit 1 --limit 2", "--limit"),
        ("list -Q a --queue b", "--queue"), ("work -j 1 --jobs 2 --drain", "--jobs"),
        ("tail 1 -n 1 -n 2", "--lines"), ("wait 1 --timeout 1 --timeout 2", "--timeout"),
        ("schedule add @daily --name x --name y -- true", "--name"),
        ("queue create q --rate 1/s --rate 2/s", "--rate"),
        ("--config a --config b list", "--config"),
    ],
)  # fmt: skip
def test_an_option_that_is_given_twice_is_refused(cli: Cli, line: str, option: str) -> None:
    refused = cli(*line.split())
    assert (refused.code, refused.out) == (2, "")
    assert f"Option '{option}' is given twice: see `jobq" in refused.err


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("add --tag a=1 --tag a=2 -- true", "tag 'a' is given twice"),
        ("list --tag a=1 --tag a=2", "tag 'a' is given twice"),
        ("add --env A=1 --env A=2 -- true", "--env A is given twice"),
    ],
)
def test_a_key_that_is_given_twice_is_refused(cli: Cli, line: str, what: str) -> None:
    refused = cli(*line.split())
    assert (refused.code, what in refused.err) == (2, True)


@pytest.mark.parametrize(
    "line",
    ["add -q -q -- true", "add --tag a=1 --tag b=2 -- -Q a -Q b", "list -s pending -s running"],
)
def test_flags_and_options_of_several_values_may_be_repeated(cli: Cli, line: str) -> None:
    assert cli(*line.split()).code == 0


@pytest.mark.parametrize("name", ["A B", "A-B", "1A", "A.B", "\u00c4", ""])
def test_what_is_no_name_of_a_variable_is_refused(cli: Cli, name: str) -> None:
    refused = cli("add", "--env", f"{name}=x", "--", "true")
    assert refused.code == 2
    assert f"{name!r} is not the name of a variable: give letters, digits and" in refused.err
