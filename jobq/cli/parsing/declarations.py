"""Declarations of options and arguments that need no Typer.

They stand in the signature of a verb, as Typer's would: ``Annotated[str, option("--name", …)]``.
A parameter whose type is a `Group` stands for several: each attribute of the group is an option.
`jobq.cli.parsing.typer_adapter` turns declarations into Typer's; `jobq.cli.parsing.fast_parser`
reads plain command lines by them.
"""

from collections.abc import Mapping
from functools import cache
from types import CodeType
from typing import Annotated, Any, NamedTuple, Protocol, get_args, get_origin

from jobq.cli.context import Cli


class Option(NamedTuple):
    """An option: a flag if its type is bool; repeatable if its type is a list."""

    names: tuple[str, ...]
    help: str
    metavar: str | None = None
    completion: str | None = None  # the name of a finder of `jobq.cli.parsing.completers`
    least: int | None = None  # of a number


class Argument(NamedTuple):
    """A word that is no option; all of them if its type is a list."""

    metavar: str
    help: str
    completion: str | None = None


class CommandLine:
    """The words after ``--``: a command of its own, kept word for word; None without ``--``."""


class Group:
    """A group of options and arguments, declared as attributes with their defaults.

    It is no NamedTuple or dataclass: those generate code on import, and every command would wait
    for that.
    """

    def __init__(self, **values: Any) -> None:
        """Set the values that are given; the others have their defaults."""
        self.__dict__.update(values)


class Context(NamedTuple):
    """The options before the verb, which every verb is called with."""

    obj: Cli


class Command(Protocol):
    """A verb's function."""

    __name__: str
    __doc__: str | None
    __code__: CodeType
    __defaults__: tuple[Any, ...] | None

    def __call__(self, ctx: Context, /, **options: Any) -> int | None: ...

    def __hash__(self) -> int: ...


REQUIRED = object()
"""The default of an option or argument that must be given."""


class Parameter(NamedTuple):
    """An option or argument of a verb, with the name that its value is passed by."""

    name: str
    kind: Any  # its type, as it is annotated
    declared: Option | Argument | CommandLine
    default: Any
    group: str | None  # the parameter of the verb's function that it is part of


def option(*names: str, help: str, **more: Any) -> Option:  # noqa: A002 - as Typer has it
    """Return an `Option` with these names."""
    return Option(names, help, **more)


@cache
def parameters_of(command: Command) -> tuple[Parameter, ...]:
    """Return all options and arguments of a verb, those of its groups included."""
    code, defaults = command.__code__, command.__defaults__ or ()
    names = code.co_varnames[: code.co_argcount]
    by_default = dict(zip(names[len(names) - len(defaults) :], defaults, strict=True))
    found: list[Parameter] = []
    for name, hint in command.__annotations__.items():
        if get_origin(hint) is Annotated:
            found.append(_parameter(name, hint, by_default.get(name, REQUIRED), None))
        elif isinstance(hint, type) and issubclass(hint, Group):
            found += [
                _parameter(each, declared, getattr(hint, each, REQUIRED), name)
                for each, declared in hint.__annotations__.items()
            ]
    return tuple(found)


def _parameter(name: str, hint: Any, default: Any, group: str | None) -> Parameter:
    kind, declared = get_args(hint)
    return Parameter(name, kind, declared, default, group)


def arguments_of(command: Command, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments to call a verb with, from the values of its options and arguments.

    Values that are missing are left to the defaults of the function and of its groups.
    """
    arguments: dict[str, Any] = {}
    grouped: dict[str, dict[str, Any]] = {}
    for parameter in parameters_of(command):
        if parameter.group is not None:
            grouped.setdefault(parameter.group, {})
        if parameter.name in values:
            into = arguments if parameter.group is None else grouped[parameter.group]
            into[parameter.name] = values[parameter.name]
    for name, fields in grouped.items():
        arguments[name] = command.__annotations__[name](**fields)
    return arguments
