"""How a verb declares its options and arguments without Typer, for those who can't wait for it.

They stand in the signature of the verb, as Typer's would: ``Annotated[str, option("--name", …)]``.
`jobq.cli.parsing.typer_adapter` makes Typer's of them; `jobq.cli.parsing.fast_parser` reads plain command lines by them.
"""

from typing import Any, NamedTuple

from jobq.cli.context import Cli


class Option(NamedTuple):
    """An option: a flag if its type is bool; to be repeated if it is a list."""

    names: tuple[str, ...]
    help: str
    metavar: str | None = None
    completion: str | None = None  # the name of a function of `jobq.cli.parsing.completers`
    least: int | None = None  # of a number


class Argument(NamedTuple):
    """A word that is no option; all of them if its type is a list."""

    metavar: str
    help: str
    completion: str | None = None
    then_command: bool = False  # what stands after -- is another command, and no argument


class Context(NamedTuple):
    """What a verb is called with, besides its options: as much of Typer's context as it needs."""

    obj: Cli
    meta: dict[str, Any]  # "argv": the words after --


def option(*names: str, help: str, **more: Any) -> Option:  # noqa: A002 - as Typer has it
    """An `Option`, by its names."""
    return Option(names, help, **more)
