import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobq.errors import ArgsError
from jobq.job_types.shell import MAX_ARGUMENT_BYTES, ShellArgs, parse, schema

TRUE = {"argv": ["true"]}


def test_a_command_is_kept_as_the_list_that_it_is() -> None:
    argv = ["printf", "%s\n", "a b", "", "'\"$HOME*", "-", "żółw\n"]
    assert parse({"argv": argv}) == {"argv": argv}


def test_what_was_not_given_is_not_stored() -> None:
    assert parse({**TRUE, "env": {}, "cwd": None, "shell": None, "stdin": None}) == TRUE


def test_everything_that_was_given_is_stored() -> None:
    given_args = {"shell": "a | b", "cwd": "/tmp", "env": {"K": "", "L": "ż"}, "stdin": "-"}
    assert parse(given_args) == given_args


def test_a_shell_runs_only_where_it_is_asked_for() -> None:
    assert ShellArgs(argv=["echo", "$HOME"]).command() == ["echo", "$HOME"]
    assert ShellArgs(shell="echo $HOME").command() == ["/bin/sh", "-c", "echo $HOME"]
    assert parse({"shell": ":"}) == {"shell": ":"}


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        ({}, "give a command"),
        ({"argv": []}, "give a command"),
        ({"argv": ["", "a"]}, "the command is empty"),
        ({"shell": ""}, "shell: is empty"),
        ({"shell": " \n"}, "shell: is empty"),
        ({**TRUE, "shell": "true"}, "give a command"),
        ({"argv": "true"}, "argv: expected a list"),
        ({"argv": ["sleep", 5]}, "argv: expected a list"),
        ({"argv": ["a\0b"]}, r"argv\[0\]: contains a NUL"),
        ({"argv": ["a", "\udce9"]}, r"argv\[1\]: not valid UTF-8"),
        ({"argv": ["a", "x" * 131_072]}, r"argv\[1\]: 131,072 bytes"),
        ({"argv": ["a", "ż" * 70_000]}, r"argv\[1\]: 140,000 bytes"),
        ({"shell": "x" * 131_072}, "shell: 131,072 bytes"),
        ({"shell": 5}, "shell: expected text, got int"),
        ({"argv": ["x" * 100_000] * 20}, "2,000,180 bytes long"),
        ({**TRUE, "argc": 1}, "no argument 'argc'"),
        ({**TRUE, "cwd": "here"}, "cwd: 'here' is not an absolute path"),
        ({**TRUE, "cwd": 5}, "cwd: expected text"),
        ({**TRUE, "stdin": ["a"]}, "stdin: expected text"),
        ({**TRUE, "env": ["A=1"]}, "env: expected an object"),
        ({**TRUE, "env": {"A": 1}}, r"env\.A: expected text, got int"),
        ({**TRUE, "env": {"A=B": "1"}}, "'A=B' is not the name"),
        ({**TRUE, "env": {"": "1"}}, "'' is not the name"),
        ({**TRUE, "env": {"A": "\0"}}, r"env\.A: contains a NUL"),
        ({**TRUE, "env": {"A": "x" * 131_070}}, r"env\.A: 131,072 bytes"),
    ],
)
def test_what_no_system_could_run_is_refused_when_it_is_added(
    args: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ArgsError, match=complaint):
        parse(args)


def test_the_longest_argument_and_variable_that_are_taken_can_be_run() -> None:
    args = parse({"argv": ["true", "x" * MAX_ARGUMENT_BYTES], "env": {"A": "x" * 131_069}})
    subprocess.run(args["argv"], env={**os.environ, **args["env"]}, check=True)


def test_the_schema_names_every_argument() -> None:
    assert set(schema()["properties"]) == {"argv", "shell", "cwd", "env", "stdin"}


any_text = st.text(st.characters(exclude_categories=()) | st.just("\0"), max_size=5)


@given(st.lists(any_text, min_size=1, max_size=4))
def test_an_argv_is_stored_unchanged_or_refused(argv: list[str]) -> None:
    if not argv[0] or any(
        letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in "".join(argv)
    ):
        with pytest.raises(ArgsError):
            parse({"argv": argv})
    else:
        assert parse({"argv": argv}) == {"argv": argv}
