"""Plain command lines of the verbs that scripts call a thousand times, read without Typer.

Typer, with all that it imports, takes longer than everything else that `jobq add` does. What is
read here is only what can't be meant otherwise: words, options written out in full, and a command
after ``--``. All else, wrong input and help included, is left to Typer, by the same declarations.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

from jobq.cli.context import cli_of
from jobq.cli.declare import Argument, Context, Option
from jobq.cli.verbs import QUICK, VERBS


def call_of(argv: Sequence[str]) -> Callable[[], int] | None:
    """The call that a command line stands for, which returns the exit code; None: ask Typer."""
    if not argv or argv[0] not in QUICK:
        return None
    command = import_module(VERBS[argv[0]]).command
    request = read(command, argv[1:])
    if request is None:
        return None
    context, options = request
    return lambda: command(context, **options) or 0


def read(
    command: Callable[..., int | None], argv: Sequence[str]
) -> tuple[Context, dict[str, Any]] | None:
    """What to call a verb with, as Typer would; None where only Typer can tell."""
    words, meta = list(argv), dict[str, Any]()
    if "--" in words:
        at = words.index("--")
        words, meta["argv"] = words[:at], words[at + 1 :]
    try:
        options = _Reader(command).read(words)
    except _NotPlainError:
        return None
    return Context(cli_of(), meta), options


class _NotPlainError(Exception):
    """This may mean several things, or nothing: Typer knows."""


class _Declared(NamedTuple):
    name: str  # of the parameter
    kind: Any  # bool, str, int, or list


class _Reader:
    """Reads words by the declarations in a verb's signature."""

    def __init__(self, command: Callable[..., int | None]) -> None:
        self._options: dict[str, _Declared] = {}
        self._words = ""
        for name, hint in get_type_hints(command, include_extras=True).items():
            if get_origin(hint) is not Annotated:
                continue
            declared, extra, *_ = get_args(hint)
            if isinstance(extra, Argument):
                self._words = name
            elif isinstance(extra, Option):
                kind = _kind_of(declared)
                self._options.update((each, _Declared(name, kind)) for each in extra.names)

    def read(self, words: Sequence[str]) -> dict[str, Any]:
        read: dict[str, Any] = {}
        left = iter(words)
        for word in left:
            if not word.startswith("-"):
                read.setdefault(self._words, []).append(word)
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
        if not (value.isascii() and value.isdigit() and len(value) < 10):
            raise _NotPlainError
        read[option.name] = int(value)
    else:
        read[option.name] = value
