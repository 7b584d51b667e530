"""Short forms: commands without ``--``, synonyms and suggestions of verbs, `jobq help`."""

from pathlib import Path

import pytest

from tests.support.cli_runner import Cli, on_terminal


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["echo", "hi"], "jobq add -- echo hi"),
        (["ls", "-l", "x y"], "jobq add -- ls -l 'x y'"),
        (["-p", "9", "--name=n", "tar", "-cf", "x"], "jobq add -p 9 --name=n -- tar -cf x"),
        (["-p9", "echo"], "jobq add -p9 -- echo"),
        (["env", "A=b"], "jobq add -- env A=b"),
        (["ls -l | wc"], "jobq add --shell 'ls -l | wc'"),
        (["ls -l | wc", "-q"], "jobq add --shell 'ls -l | wc' -q"),
    ],
)
def test_a_script_is_told_how_to_add_a_command(cli: Cli, words: list[str], line: str) -> None:
    refused = cli("add", *words)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("jobq: no job type")
    assert refused.err.endswith(f": {line}\n")
    assert not cli.queue.find()


def test_options_before_the_verb_stay_there(cli: Cli) -> None:
    refused = cli("--config", "jobq.toml", "run", "echo", "hi")
    assert refused.err.endswith(": jobq --config jobq.toml run -- echo hi\n")


@pytest.mark.parametrize(
    ("words", "args"),
    [
        (["echo", "-n", "hi"], {"argv": ["echo", "-n", "hi"]}),
        (["echo one | cat"], {"shell": "echo one | cat"}),
    ],
)
def test_on_a_terminal_it_does_what_is_meant(
    cli: Cli, project: Path, words: list[str], args: dict[str, object]
) -> None:
    shown = on_terminal(project, "add", *words)
    assert shown.code == 0
    assert shown.lines[0].startswith("Read as: jobq add -")
    assert args.items() <= cli.queue.get(1).args.items()


def test_a_job_type_is_no_command_even_if_a_program_has_its_name(cli: Cli, project: Path) -> None:
    (project / "workers").mkdir()
    (project / "workers" / "own.py").write_text(
        "from jobq import JobWorker\n"
        "class Own(JobWorker):\n    job_type = 'echo'\n    def run(self, args, job): pass\n"
    )
    assert cli("add", "echo").code == 0
    assert cli.queue.get(1).type == "echo"


def test_a_worker_file_that_does_not_load_is_named(cli: Cli, project: Path) -> None:
    (project / "workers").mkdir()
    (project / "workers" / "broken.py").write_text("1 / 0\n")
    shown = on_terminal(project, "add", "echo", "a=b")
    assert shown.code == 2
    assert "broken.py" in shown.text.replace("\n", "")


def test_a_mistyped_type_is_suggested(cli: Cli) -> None:
    assert "did you mean 'cleanup'?" in cli("add", "clenup", "older_than=1d").err
    assert "did you mean" not in cli("add", "zzzzzz").err


def test_a_queue_given_with_small_q_is_told(cli: Cli) -> None:
    refused = cli("add", "-q", "default", "--", "true")
    assert "a queue is named with -Q default" in refused.err
    assert "-Q is short for --queue" in cli("list", "-q", "default").err


@pytest.mark.parametrize(
    ("words", "as_if"),
    [
        (["ls"], ["list"]), (["ps", "--json"], ["list", "--json"]), (["log", "1"], ["tail", "1"]),
        (["--no-color", "status"], ["list"]), (["queue", "ls"], ["queue", "list"]),
        (["help", "add"], ["add", "--help"]), (["help"], ["--help"]),
        (["help", "queue", "set"], ["queue", "set", "--help"]), (["help", "ls"], ["list", "--help"]),
    ],
)  # fmt: skip
def test_synonyms_do_the_same(cli: Cli, words: list[str], as_if: list[str]) -> None:
    cli.completed()  # the time of one that waits would go on
    assert cli(*words) == cli(*as_if)
    assert cli(*words).code == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["lst"], "did you mean `jobq list`?"),
        (["kill", "3"], "did you mean `jobq cancel`?"),
        (["echo", "a b"], "to run a command: jobq add -- echo 'a b'"),
        (["zzzz"], "see `jobq help`"),
        (["queue", "creat"], "did you mean `jobq queue create`?"),
        (["queue", "zzzz"], "give one of list, show"),
    ],
)
def test_an_unknown_verb_gets_a_suggestion(cli: Cli, words: list[str], told: str) -> None:
    refused = cli(*words)
    assert (refused.code, refused.out) == (2, "")
    assert told in refused.err


@pytest.mark.parametrize("words", [[], ["queue"], ["schedule"]])
def test_help_is_printed_once_where_the_verb_is_missing(cli: Cli, words: list[str]) -> None:
    shown = cli(*words)
    assert shown.out.count("Usage:") == 1
    assert shown.err == ""


def test_help_shows_text_as_it_was_written(cli: Cli) -> None:
    text = cli("prune", "--help").out
    assert "[retention] in jobq.toml decides" in text
    assert "<bool>" not in text
    assert "; it must not exist" not in cli("backup", "--help").out
