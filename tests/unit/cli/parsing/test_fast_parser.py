"""The fast parser and the Typer adapter: both read the same values from the same line."""

from functools import cache
from importlib import import_module
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer import _completion_classes as of_typer
from typer.main import get_command

from jobq import JobQueue
from jobq.cli.command_table import GROUPS, VERBS
from jobq.cli.parsing import completers as completion
from jobq.cli.parsing import shell_completion as shells
from jobq.cli.parsing import typer_app as app
from jobq.cli.parsing.declarations import parameters_of
from jobq.cli.parsing.fast_parser import call_of, read
from tests.support.cli_runner import Cli

QUICK = [verb for verb in VERBS if verb not in GROUPS]
VALUES = (
    "x", "key=value", "3", "0", "-1", "+3", "", "-", "é", " 7 ", "normal", "--", "-x", "0x3", "٣",
    "3-9", "last", "1,2",
)  # fmt: skip


@cache
def typers(verb: str) -> Any:
    """A verb as Typer has it."""
    return app.command_of(verb)


def function(verb: str) -> Any:
    """A verb's function."""
    return import_module(VERBS[verb]).command


def options_of(verb: str) -> list[str]:
    """The names of its options."""
    return sorted(name for param in typers(verb).params for name in param.opts if "-" in name)


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    """A verb, and words of which many are its options."""
    verb = draw(st.sampled_from(QUICK))
    name, value = st.sampled_from([*options_of(verb), "--help"]), st.sampled_from(VALUES)
    word = st.one_of(
        name,
        value,
        st.builds("{}={}".format, name, value),
        st.builds("{}{}".format, name, value),
        st.builds(lambda name, end: name[:end], name, st.integers(2, 8)),
        st.text(max_size=6),
    )
    return [verb, *draw(st.lists(word, max_size=6))]


def request_of_typer(argv: list[str]) -> tuple[list[str] | None, dict[str, Any]]:
    """Return what Typer calls a verb with: the command after --, and the options."""
    verb, *words = argv
    context = typers(verb).make_context(verb, words)
    return context.meta.get("jobq.argv"), dict(context.params)


def with_defaults(verb: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that a call of the verb sees; no words and None are the same to it."""
    parameters = parameters_of(function(verb))
    given = {each.name: options.get(each.name, each.default) for each in parameters}
    lists = {name: list(value) for name, value in given.items() if isinstance(value, list | tuple)}
    return given | {name: value or None for name, value in lists.items()}


@settings(max_examples=600)
@given(lines())
@example(["add", "--", "echo", "--name", "x"])
@example(["add", "--name", "a", "--name", "b", "--tag", "a=b", "--tag", "c=d", "-q", "-f"])
@example(["add", "shell", "argv=[]", "--retries", "0", "--json", "--each", "-0"])
@example(["add", "--name", "--", "x"])
@example(["show", "1", "2"])
@example(["show", "--", "1"])
@example(["show"])
@example(["tail", "1", "--attempt", "0"])
@example(["list", "1", "2", "-n", "0", "--limit", "5", "--status=failed", "-s", "x"])
@example(["work", "-j", "0"])
@example(["stats", "x"])
@pytest.mark.slow
def test_both_roads_give_the_same_request(argv: list[str]) -> None:
    options = read(function(argv[0]), argv[1:])
    if options is None:
        return
    command, typers_options = request_of_typer(argv)
    assert options.get("argv") == command
    typers_options |= {"argv": command} if "argv" in options else {}
    assert with_defaults(argv[0], options) == with_defaults(argv[0], typers_options)


PLAIN = [
    "add -- true",
    "add -q -- true",
    "add --name x --tag a=b --tag=c=d -Q fast --after 3-9 -- true",
    "add cleanup older_than=30d --at 7:00 --retries 3 --json",
    "add --shell ls --priority=high --unique k --follow",
    "list",
    "list 3-9 last --status failed,running -Q default --since 1h --json",
    "list --sort=-id -n 100",
    "show 42 --json",
    "explain last",
    "tail 42 -f -n 20",
    "tail last --stderr --attempt 2",
    "cancel 3 5 --reason stuck --cascade --yes",
    "retry --status failed --dry-run",
    "wait 3-9 --timeout 5m",
    "stats --json",
    "work -j 4 -Q fast --drain",
    "run --timeout 5m -- make",
    "import jobs.jsonl --dry-run",
    "prune --older-than 30d -y",
]


@pytest.mark.parametrize("line", PLAIN)
def test_what_people_and_scripts_type_is_read_without_typer(line: str) -> None:
    assert call_of(line.split()) is not None


NOT_PLAIN = [
    "add --help", "add -h", "add --nam x", "add --name", "add --name -x", "add -Qfast", "add -qf",
    "add --retries x", "add --retries -1", "add --json=1", "add -", "add --no-such", "add -Q=fast",
    "show", "show 1 2", "show -- 1", "tail 1 --attempt 0", "list -n -1", "stats x", "no-such-verb",
    "--config x add -- true", "--help", "queue list", "",
]  # fmt: skip


@pytest.mark.parametrize("line", NOT_PLAIN)
def test_all_else_is_left_to_typer(line: str) -> None:
    assert call_of(line.split()) is None


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


# -- completion ----------------------------------------------------------------------------------

ITEMS = [("1", "pending: ffmpeg -i a"), ("12", ""), ("last", "the newest job"), ("a=", "text")]
SHELLS: dict[str, Any] = {
    "bash": of_typer.BashComplete,
    "zsh": of_typer.ZshComplete,
    "fish": of_typer.FishComplete,
}


@pytest.fixture(scope="module")
def whole() -> Any:
    """All verbs as Typer has them."""
    return get_command(app.app)


def found(line: completion.Line, incomplete: str) -> Any:
    """Whatever is asked for, these; and what was asked."""
    return [*ITEMS, (incomplete or "0", f"{line.verb} {' '.join(line.words)}")]


def variables(shell: str, words: list[str]) -> dict[str, str]:
    """How a shell asks what the last word may become."""
    line = " ".join(["jobq", *words])
    if shell == "bash":
        return {"COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    return {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}


@settings(max_examples=300)
@given(argv=lines(), shell=st.sampled_from(sorted(SHELLS)))
@example([""], "zsh")
@example(["ex"], "fish")
@example(["show", ""], "zsh")
@example(["add", "x", "key=", "a"], "zsh")
@example(["list", "--status", "c"], "fish")
@example(["tail", "1", ""], "bash")
@example(["add", "--name", "x"], "zsh")
@example(["stats", ""], "zsh")
@pytest.mark.slow
def test_both_roads_complete_alike(whole: Any, argv: list[str], shell: str) -> None:
    asked = variables(shell, argv)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(completion, "FINDERS", dict.fromkeys(completion.FINDERS, found))
        patch.setattr(shells, "FINDERS", completion.FINDERS)
        patch.setattr("jobq.cli.parsing.typer_adapter.FINDERS", completion.FINDERS)
        patch.setattr(of_typer, "_sanitize_help_text", str)
        answer = shells.answer({"_JOBQ_COMPLETE": f"complete_{shell}", **asked})
        if answer is None:
            return
        for name, value in asked.items():
            patch.setenv(name, value)
        typers = SHELLS[shell](whole, {}, "jobq", "_JOBQ_COMPLETE").complete()
    assert answer.text == f"{typers}\n"


COMPLETED = [
    "",
    "ex",
    "show 1",
    "show ",
    "tail ",
    "list --status f",
    "add --after ",
    "cancel 3,",
    "add x a",
]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("line", COMPLETED)
def test_ids_and_names_are_completed_without_typer(line: str, shell: str) -> None:
    asked = variables(shell, line.split(" "))
    assert shells.answer({"_JOBQ_COMPLETE": f"complete_{shell}", **asked}) is not None
