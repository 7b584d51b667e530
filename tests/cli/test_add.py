"""`jobq add`: unique keys, paused queues, what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli_runner import Cli

HELD = "jobq: the key 'k' is held by job 1 (pending), which does something else"


def test_a_unique_key_with_the_same_command_adds_nothing(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["add", "--unique", "k", "--env", "MODE=fast", "--", "sync", "a"]
    assert cli(*command).out == "1\n"
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # as under cron
    monkeypatch.setenv("LANG", "C")
    again = cli(*command)
    assert (again.code, again.out, again.err) == (0, "1\n", "")
    document = cli("add", "--json", *command[1:]).json
    assert (document["id"], document["existing"]) == (1, True)
    assert cli("add", "--json", "--", "true").json["existing"] is False
    cli.queue.cancel(1)
    assert cli(*command).out == "3\n"


@pytest.mark.parametrize(
    "words",
    [
        ["--", "rm", "x"], ["--", "sync", "b"], ["--shell", "sync a"], ["hello"],
        ["--cwd", "/", "--", "sync", "a"], ["--env", "MODE=slow", "--", "sync", "a"],
        ["--stdin", "/dev/null", "--", "sync", "a"],
    ],
    ids=" ".join,
)  # fmt: skip
@pytest.mark.parametrize("verb", ["add", "run"])
def test_a_unique_key_that_another_command_holds_is_told(
    cli: Cli, project: Path, verb: str, words: list[str]
) -> None:
    (project / "workers").mkdir()
    (project / "workers" / "hello.py").write_text(
        "from jobq import JobWorker\n"
        "class Hello(JobWorker):\n    job_type = 'hello'\n    def run(self, args, job): pass\n"
    )
    cli("add", "--unique", "k", "--", "sync", "a")
    told = cli(verb, "--unique", "k", *words)
    assert told.code == 4
    assert told.err.startswith(HELD)
    assert len(cli.queue.find()) == 1
    if verb == "add":
        assert told.out == "1\n"
        document = json.loads(cli("add", "--json", "--unique", "k", *words).out)
        assert (document["id"], document["existing"]) == (1, True)


def test_a_unique_key_with_other_input_is_told(cli: Cli, piped: Callable[[bytes], None]) -> None:
    command = ["add", "--unique", "k", "--stdin", "-", "--", "load"]
    piped(b"a")
    assert cli(*command).code == 0
    piped(b"a")
    assert cli(*command).code == 0
    piped(b"b")
    told = cli(*command)
    assert told.code == 4
    assert told.err.startswith(HELD)


def test_lines_and_rows_whose_unique_key_another_command_holds_are_told(
    cli: Cli, project: Path, piped: Callable[[bytes], None]
) -> None:
    piped(b"a\na\nb\n")
    each = cli("add", "--each", "--unique", "k", "--", "echo")
    assert (each.code, each.out) == (4, "1\n1\n1\n")
    assert each.err.startswith("jobq: stdin:3: unique: the key 'k' is held by job 1 (pending)")
    assert len(each.err.splitlines()) == 1
    rows = [{"argv": ["echo", word], "unique": "k"} for word in "abc"]
    (project / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    imported = cli("import", "rows.jsonl", "--ids")
    assert (imported.code, imported.out) == (4, "1\n1\n1\n")
    assert [line.split(": unique")[0] for line in imported.err.splitlines()] == [
        "jobq: rows.jsonl:2", "jobq: rows.jsonl:3",
    ]  # fmt: skip


def test_a_paused_queue_is_told_of(cli: Cli, piped: Callable[[bytes], None]) -> None:
    assert cli("add", "--", "true").err == ""
    cli.queue.pause("default")
    hint = "1 job waits, and queue default is paused: jobq queue resume default\n"
    for words in (["add"], ["add", "--delay", "1h"], ["add", "--json"]):
        told = cli(*words, "--", "true")
        assert (told.code, told.err) == (0, hint)
    piped(b"a\nb\n")
    assert cli("add", "--each", "--", "echo").err == hint.replace("1 job waits", "2 jobs wait")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"d": {"x": 1e999}}', "1e999 is too large for a number"),
        ('{"d": {"x": -1e999}}', "-1e999 is too large for a number"),
        ('{"d": {"x": 1, "x": 2}}', "'x' is given twice"),
        ('{"d": 1, "d": 2}', "'d' is given twice"),
    ],
)
def test_json_that_would_be_changed_is_refused(
    cli: Cli, piped: Callable[[bytes], None], text: str, what: str
) -> None:
    piped(b"\xef\xbb\xbf" + text.encode())
    for args in (text, "-"):
        refused = cli("add", "any", "--args", args)
        assert (refused.code, refused.err) == (2, f"jobq: --args: not valid JSON: {what}\n")
