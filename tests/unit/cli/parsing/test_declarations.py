from typing import Annotated, Any

from typer.main import get_command

from jobq.cli.parsing.declarations import (
    REQUIRED,
    Argument,
    CommandLine,
    Context,
    Group,
    arguments_of,
    option,
    parameters_of,
)
from jobq.cli.parsing.fast_parser import read
from jobq.cli.parsing.typer_adapter import app_of, help_of


class Size(Group):
    """A group of two options."""

    width: Annotated[int, option("--width", help="Set the width.")] = 80
    names: Annotated[list[str] | None, option("--name", help="Add a name.")] = None


class Rest(Group):
    """A group of words."""

    word: Annotated[str, Argument(metavar="WORD", help="A word.")]
    argv: Annotated[list[str] | None, CommandLine()] = None


SEEN: list[tuple[Any, ...]] = []


def something(
    ctx: Context,
    size: Size,
    rest: Rest,
    wrap: Annotated[bool, option("--wrap", help="Wrap lines.")] = False,
) -> int:
    """Do something.

    At length.

    Examples:
        jobq something x
        jobq something y --wrap
    """
    del ctx
    SEEN.append((size.width, size.names, rest.word, rest.argv, wrap))
    return 0


command: Any = something  # as the modules of verbs are imported: by name


def test_each_attribute_of_a_group_is_an_option() -> None:
    found = {each.name: (each.group, each.default) for each in parameters_of(command)}
    assert found == {
        "width": ("size", 80),
        "names": ("size", None),
        "word": ("rest", REQUIRED),
        "argv": ("rest", None),
        "wrap": (None, False),
    }


def test_values_go_into_their_groups_and_the_rest_is_left_to_defaults() -> None:
    arguments = arguments_of(command, {"width": 5, "word": "x", "wrap": True})
    assert list(arguments) == ["wrap", "size", "rest"]
    assert (arguments["size"].width, arguments["size"].names) == (5, None)
    assert (arguments["rest"].word, arguments["rest"].argv) == ("x", None)


def test_both_parsers_fill_groups() -> None:
    line = ["x", "--width", "3", "--name", "a", "--name", "b", "--", "--wrap", "--"]
    SEEN.clear()
    values = read(command, line)
    assert values is not None
    command(Context(None), **arguments_of(command, values))  # type: ignore[arg-type]
    get_command(app_of(command))(line, standalone_mode=False)
    assert SEEN == [(3, ["a", "b"], "x", ["--wrap", "--"], False)] * 2


def test_an_attribute_without_a_default_is_required() -> None:
    assert read(command, ["--width", "3"]) is None


def test_examples_are_no_part_of_the_help_text() -> None:
    text, examples = help_of(command)
    assert text == "Do something.\n\nAt length."
    assert examples == ["jobq something x", "jobq something y --wrap"]
