"""Two roads to one request: what is read without Typer is what Typer would have read."""

import inspect
from importlib import import_module
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cli_runner import Cli
from jobq import JobQueue
from jobq.cli.app import command_of
from jobq.cli.quick import call_of, read
from jobq.cli.verbs import QUICK, VERBS

ADD = import_module(VERBS["add"]).command
OPTIONS = sorted(name for param in command_of("add").params for name in param.opts if "-" in name)
VALUES = ("x", "key=value", "3", "-1", "+3", "", "-", "é", " 7 ", "normal", "--", "-x", "0x3", "٣")

words = st.one_of(
    st.sampled_from(OPTIONS),
    st.sampled_from(VALUES),
    st.builds("{}={}".format, st.sampled_from(OPTIONS), st.sampled_from(VALUES)),
    st.builds("{}{}".format, st.sampled_from(OPTIONS), st.sampled_from(VALUES)),
    st.builds(lambda name, end: name[:end], st.sampled_from(OPTIONS), st.integers(2, 8)),
    st.text(max_size=6),
)


def request_of_typer(verb: str, argv: list[str]) -> tuple[list[str] | None, dict[str, Any]]:
    """What Typer calls the verb with: the command after --, and the options."""
    context = command_of(verb).make_context(verb, list(argv))
    return context.meta.get("argv"), dict(context.params)


def with_defaults(options: dict[str, Any]) -> dict[str, Any]:
    """The options that a call of the verb sees; no words, and none given, are the same to it."""
    parameters = list(inspect.signature(ADD).parameters.values())[1:]
    given = {each.name: options.get(each.name, each.default) for each in parameters}
    lists = {name: list(value) for name, value in given.items() if isinstance(value, list | tuple)}
    return given | {name: value or None for name, value in lists.items()}


@given(st.lists(words, max_size=7))
@example(["--", "echo", "--name", "x"])
@example(["--name", "a", "--name", "b", "--tag", "a=b", "--tag", "c=d", "-q", "-f"])
@example(["shell", "argv=[]", "--retries", "0", "--json", "--each", "-0"])
@example(["--name", "--", "x"])
def test_both_roads_give_the_same_request(argv: list[str]) -> None:
    quick = read(ADD, argv)
    if quick is None:
        return
    context, options = quick
    command, typers = request_of_typer("add", argv)
    assert context.meta.get("argv") == command
    assert with_defaults(options) == with_defaults(typers)


PLAIN = [
    ["--", "true"],
    ["-q", "--", "true"],
    ["--name", "x", "--tag", "a=b", "--tag=c=d", "-Q", "fast", "--after", "3-9", "--", "true"],
    ["cleanup", "older_than=30d", "--at", "tomorrow 7:00", "--retries", "3", "--json"],
    ["--shell", "a | b", "--priority=high", "--unique", "k", "--follow"],
]


@pytest.mark.parametrize("argv", PLAIN, ids=" ".join)
def test_what_scripts_type_is_read_without_typer(argv: list[str]) -> None:
    assert read(ADD, argv) is not None


NOT_PLAIN = [
    ["--help"], ["-h"], ["--nam", "x"], ["--name"], ["--name", "-x"], ["-Qfast"], ["-qf"],
    ["--retries", "x"], ["--retries", "-1"], ["--json=1"], ["-"], ["--no-such"], ["-Q=fast"],
]  # fmt: skip


@pytest.mark.parametrize("argv", NOT_PLAIN, ids=" ".join)
def test_all_else_is_left_to_typer(argv: list[str]) -> None:
    assert read(ADD, argv) is None


def test_other_verbs_and_options_before_the_verb_are_left_to_typer() -> None:
    assert call_of([]) is None
    assert call_of(["list"]) is None
    assert call_of(["--config", "x", "add", "--", "true"]) is None
    assert {*QUICK} == {"add"}


def test_the_quick_road_leads_there(
    queue: JobQueue,
    project: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(project)
    call = call_of(["add", "--name", "quick", "--", "true"])
    assert call is not None
    assert call() == 0
    (job,) = queue.find()
    assert capsys.readouterr().out == f"{job.id}\n"
    assert job.name == "quick"
    assert Cli(queue, capsys)("add", "--name", "quick", "--retries", "x", "--", "true").code == 2
