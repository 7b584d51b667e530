"""A parser for plain command lines that does without Typer.

Typer, with all that it imports, takes longer than everything else that most verbs do. This parser
reads only what has one meaning: words, options written out in full, and a command after ``--``.
All else, wrong input and help included, is left to Typer, which reads by the same declarations.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple, get_args, get_origin

from jobq.cli.command_table import GROUPS, VERBS
from jobq.cli.context import cli_of
from jobq.cli.parsing.declarations import (
    REQUIRED,
    Argument,
    Command,
    CommandLine,
    Context,
    Option,
    Parameter,
    arguments_of,
    parameters_of,
)


def call_of(argv: Sequence[str]) -> Callable[[], int] | None:
    """Return the call that a command line stands for; None if Typer has to read the line.

    The call returns the exit code.
    """
    command = command_of(argv)
    values = None if command is None else read(command, argv[1:])
    if command is None or values is None:
        return None
    return lambda: command(Context(cli_of()), **arguments_of(command, values)) or 0


def command_of(argv: Sequence[str]) -> Command | None:
    """Return the function of the verb that a command line begins with, if it begins with one."""
    if not argv or argv[0] not in VERBS or argv[0] in GROUPS:
        return None
    command: Command = import_module(VERBS[argv[0]]).command
    return command


def read(command: Command, argv: Sequence[str]) -> dict[str, Any] | None:
    """Return the values of options and arguments; None if Typer has to read the line."""
    try:
        return _Reader(command).values(argv)
    except _NotPlainError:
        return None


class Sought(NamedTuple):
    """The completion of the word that is being typed, and the words before it."""

    completion: str | None
    words: tuple[str, ...]


def sought(command: Command, argv: Sequence[str]) -> Sought | None:
    """Return what completes the word after these; None if Typer has to read the line."""
    try:
        return _Reader(command).sought(argv)
    except _NotPlainError:
        return None


class _NotPlainError(Exception):
    """A line that may mean several things, or nothing."""


class _Reader:
    """A reader of words, by the declarations in a verb's signature."""

    def __init__(self, command: Command) -> None:
        self._options: dict[str, Parameter] = {}
        self._argument: Parameter | None = None
        self._command_line: str | None = None
        parameters = parameters_of(command)
        self._required = [each.name for each in parameters if each.default is REQUIRED]
        for each in parameters:
            if isinstance(each.declared, Argument):
                self._argument = each
            elif isinstance(each.declared, CommandLine):
                self._command_line = each.name
            elif isinstance(each.declared, Option):
                self._options.update(dict.fromkeys(each.declared.names, each))

    def values(self, argv: Sequence[str]) -> dict[str, Any]:
        """Return the values of the options and arguments that are given."""
        words, rest = list(argv), None
        if "--" in words:
            if self._command_line is None:
                raise _NotPlainError
            at = words.index("--")
            words, rest = words[:at], words[at + 1 :]
        read = self._read(words)
        if any(name not in read for name in self._required):
            raise _NotPlainError
        if self._command_line is not None:
            read[self._command_line] = rest
        return read

    def sought(self, words: Sequence[str]) -> Sought:
        """Return what completes the word after these."""
        option = self._options.get(words[-1]) if words else None
        if option is not None and option.kind is not bool:
            completion, read = _completion_of(option), self._read(words[:-1])
        else:
            read = self._read(words)
            if self._argument is None or isinstance(read.get(self._argument.name), str):
                raise _NotPlainError
            completion = _completion_of(self._argument)
        return Sought(completion, tuple(read.get("words", ())))

    def _read(self, words: Sequence[str]) -> dict[str, Any]:
        read: dict[str, Any] = {}
        left = iter(words)
        for word in left:
            if not word.startswith("-"):
                self._note_word(read, word)
                continue
            name, equals, value = word.partition("=")
            option = self._options.get(name)
            if option is None or (equals and not name.startswith("--")):
                raise _NotPlainError
            if option.kind is bool:
                if equals:
                    raise _NotPlainError
                read[option.name] = True
            else:
                _note(read, option, value if equals else next(left, "-"), given=bool(equals))
        return read

    def _note_word(self, read: dict[str, Any], word: str) -> None:
        if self._argument is None:
            raise _NotPlainError
        name = self._argument.name
        if _kind_of(self._argument.kind) is list:
            read.setdefault(name, []).append(word)
        elif name in read:
            raise _NotPlainError
        else:
            read[name] = word


def _kind_of(declared: Any) -> Any:
    """Return bool, str, int or list: of an optional type, the one that is not None."""
    kinds = [kind for kind in get_args(declared) or (declared,) if kind is not type(None)]
    return list if get_origin(declared) is list else get_origin(kinds[0]) or kinds[0]


def _completion_of(parameter: Parameter) -> str | None:
    assert not isinstance(parameter.declared, CommandLine)
    return parameter.declared.completion


def _note(read: dict[str, Any], option: Parameter, value: str, *, given: bool) -> None:
    if value.startswith("-") and not given:
        raise _NotPlainError  # the value, or another option
    kind = _kind_of(option.kind)
    if kind is not list and option.name in read:
        raise _NotPlainError
    if kind is list:
        read.setdefault(option.name, []).append(value)
    elif kind is int:
        assert isinstance(option.declared, Option)
        read[option.name] = _number(value, option.declared.least)
    else:
        read[option.name] = value


def _number(text: str, least: int | None) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise _NotPlainError
    if least is not None and int(text) < least:
        raise _NotPlainError
    return int(text)
