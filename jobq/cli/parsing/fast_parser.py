"""Plain command lines, read without Typer.

Typer, with all that it imports, takes longer than everything else that most verbs do. What is read
here is only what can't be meant otherwise: words, options written out in full, and a command after
``--``. All else, wrong input and help included, is left to Typer, by the same declarations.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from types import CodeType
from typing import Annotated, Any, NamedTuple, Protocol, get_args, get_origin

from jobq.cli.command_table import GROUPS, VERBS
from jobq.cli.context import cli_of
from jobq.cli.parsing.declarations import Argument, Context, Option


class Command(Protocol):
    """A verb's function."""

    __code__: CodeType
    __defaults__: tuple[Any, ...] | None

    def __call__(self, ctx: Context, /, **options: Any) -> int | None: ...


def call_of(argv: Sequence[str]) -> Callable[[], int] | None:
    """The call that a command line stands for, which returns the exit code; None: ask Typer."""
    command = command_of(argv)
    request = None if command is None else read(command, argv[1:])
    if command is None or request is None:
        return None
    context, options = request
    return lambda: command(context, **options) or 0


def command_of(argv: Sequence[str]) -> Command | None:
    """The function of the verb that a command line begins with, if that is plain."""
    if not argv or argv[0] not in VERBS or argv[0] in GROUPS:
        return None
    command: Command = import_module(VERBS[argv[0]]).command
    return command


def read(command: Command, argv: Sequence[str]) -> tuple[Context, dict[str, Any]] | None:
    """What to call a verb with, as Typer would; None where only Typer can tell."""
    try:
        return _Reader(command).request(argv)
    except _NotPlainError:
        return None


class Sought(NamedTuple):
    """What a word that is being typed is: by what it is completed, and the words before it."""

    completion: str | None
    words: tuple[str, ...]


def sought(command: Command, argv: Sequence[str]) -> Sought | None:
    """What the word after these is, as Typer would; None where only Typer can tell."""
    try:
        return _Reader(command).sought(argv)
    except _NotPlainError:
        return None


class _NotPlainError(Exception):
    """This may mean several things, or nothing: Typer knows."""


class _Declared(NamedTuple):
    name: str  # of the parameter
    kind: Any  # bool, str, int, or list
    extra: Any  # the declaration


class _Reader:
    """Reads words by the declarations in a verb's signature."""

    def __init__(self, command: Command) -> None:
        self._options: dict[str, _Declared] = {}
        self._argument: _Declared | None = None
        code, defaults = command.__code__, command.__defaults__ or ()
        self._required = code.co_varnames[1 : code.co_argcount - len(defaults)]
        for name, hint in command.__annotations__.items():
            if get_origin(hint) is not Annotated:
                continue
            kind, extra = get_args(hint)
            declared = _Declared(name, _kind_of(kind), extra)
            if isinstance(extra, Argument):
                self._argument = declared
            elif isinstance(extra, Option):
                self._options.update(dict.fromkeys(extra.names, declared))

    def request(self, argv: Sequence[str]) -> tuple[Context, dict[str, Any]]:
        """The context and the options to call the verb with."""
        words, meta = list(argv), dict[str, Any]()
        if "--" in words:
            if self._argument is None or not self._argument.extra.then_command:
                raise _NotPlainError
            at = words.index("--")
            words, meta["argv"] = words[:at], words[at + 1 :]
        read = self._read(words)
        if any(name not in read for name in self._required):
            raise _NotPlainError
        return Context(cli_of(), meta), read

    def sought(self, words: Sequence[str]) -> Sought:
        """By what the word after these is completed."""
        option = self._options.get(words[-1]) if words else None
        if option is not None and option.kind is not bool:
            completion, read = option.extra.completion, self._read(words[:-1])
        else:
            read = self._read(words)
            if self._argument is None or isinstance(read.get(self._argument.name), str):
                raise _NotPlainError
            completion = self._argument.extra.completion
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
        name, kind, _ = self._argument
        if kind is list:
            read.setdefault(name, []).append(word)
        elif name in read:
            raise _NotPlainError
        else:
            read[name] = word


def _kind_of(declared: Any) -> Any:
    """bool, str, int or list: of an optional type, the one that is not None."""
    kinds = [kind for kind in get_args(declared) or (declared,) if kind is not type(None)]
    return list if get_origin(declared) is list else get_origin(kinds[0]) or kinds[0]


def _note(read: dict[str, Any], option: _Declared, value: str, *, given: bool) -> None:
    if value.startswith("-") and not given:
        raise _NotPlainError  # the value, or another option
    if option.kind is list:
        read.setdefault(option.name, []).append(value)
    elif option.kind is int:
        read[option.name] = _number(value, option.extra.least)
    else:
        read[option.name] = value


def _number(text: str, least: int | None) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise _NotPlainError
    if least is not None and int(text) < least:
        raise _NotPlainError
    return int(text)
