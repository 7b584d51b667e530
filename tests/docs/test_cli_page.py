from collections.abc import Iterator
from typing import Any

import pytest

from jobq.cli.command_table import VERBS
from jobq.cli.main import run
from jobq.cli.parsing.typer_app import command_of
from tests.support.paths import DOCS

PAGE = DOCS / "cli.md"
OF_TYPER = {"--help", "--install-completion", "--show-completion"}


def _commands(verb: str) -> Iterator[tuple[str, Any]]:
    """A verb and its sub-verbs."""
    command = command_of(verb)
    yield verb, command
    for name, below in getattr(command, "commands", {}).items():
        yield f"{verb} {name}", below


def section(verb: str) -> str:
    """What docs/cli.md says under a verb's heading."""
    _, _, rest = PAGE.read_text("utf-8").partition(f"\n## jobq {verb}\n")
    return rest.partition("\n## ")[0]


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_has_help(verb: str) -> None:
    for name, command in _commands(verb):
        first = (command.help or "").split("\n")[0]
        assert first.endswith("."), name
        assert len(first) <= 100, name


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_has_help(verb: str) -> None:
    for name, command in _commands(verb):
        for parameter in command.params:
            assert parameter.help, f"{name} {parameter.name}"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_and_option_stands_in_the_docs(verb: str) -> None:
    text = section(verb)
    assert f"jobq {verb}" in text
    everywhere = PAGE.read_text("utf-8").partition("\n## jobq ")[0]
    for name, command in _commands(verb):
        assert f"jobq {name}" in text or f"[{name.partition(' ')[2]}" in text, name
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--") and option not in OF_TYPER:
                    assert f"`{option}" in text + everywhere or f"{option}]" in text, option


@pytest.mark.parametrize("verb", VERBS)
def test_help_and_docs_show_the_same_two_examples(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([verb, "--help"]) == 0
    _, _, shown = capsys.readouterr().out.partition("\n Examples:\n")
    examples = [line.strip() for line in shown.splitlines()]
    assert len(examples) == 2
    assert all(example.startswith(f"jobq {verb}") for example in examples)
    first = section(verb).partition("```sh\n")[2].partition("```")[0]
    assert first.splitlines() == examples


@pytest.mark.parametrize("verb", VERBS)
def test_help_fits_80_columns(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name, _ in _commands(verb):
        assert run([*name.split(), "--help"]) == 0
        assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_the_docs_have_no_verb_or_option_that_is_not_there() -> None:
    import re

    text = PAGE.read_text("utf-8")
    assert set(re.findall(r"^## jobq (\w+)$", text, re.MULTILINE)) == set(VERBS)
    for verb in VERBS:
        known = {o for _, command in _commands(verb) for p in command.params for o in p.opts}
        for option in re.findall(r"^\| .*?\|", section(verb), re.MULTILINE):
            for word in re.findall(r"`(--?[a-z][a-z-]*)", option):
                assert word in known, f"{verb} {word}"


@pytest.mark.parametrize("argv", [["--help"], *([verb, "--help"] for verb in VERBS)])
def test_help_is_printed(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(argv) == 0
    out, err = capsys.readouterr()
    assert "Usage: jobq" in out
    assert err == ""
    if argv == ["--help"]:
        assert all(f" {verb} " in out for verb in VERBS)
