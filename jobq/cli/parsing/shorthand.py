"""Short forms of command lines: synonyms of verbs, `jobq help VERB`, commands without ``--``."""

import sys
from collections.abc import Sequence

from jobq.cli.command_table import SYNONYMS

_GLOBAL_FLAGS = frozenset({"--no-color", "--debug"})
_GLOBAL_OPTION = "--config"
_ADDING = frozenset({"add", "run"})
_HELP = frozenset({"--help", "-h"})


def expanded(argv: Sequence[str]) -> list[str]:
    """Return a command line with its verb under the name that it is known by."""
    words = list(argv)
    at = _verb_place(words)
    if at is None:
        return words
    if words[at] == "help":
        words = [*words[:at], *words[at + 1 :], "--help"]
        if words[at] == "--help":
            return words
    return [*words[:at], SYNONYMS.get(words[at], words[at]), *words[at + 1 :]]


def _verb_place(words: Sequence[str]) -> int | None:
    """Return the place of the verb, behind the options that come before it; None without one."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        name, equals, _ = words[at].partition("=")
        if name == _GLOBAL_OPTION:
            at += 1 if equals else 2
        elif words[at] in _GLOBAL_FLAGS:
            at += 1
        else:
            return None
    return at if at < len(words) else None


# -- commands without -- -----------------------------------------------------------------------


def with_separator(argv: Sequence[str]) -> list[str]:
    """Return a line of `add` or `run` with the ``--`` that was left out before a command.

    Words are a command if the first is no job type, and is a program, or a line of shell. On a
    terminal they are taken for one, with a note; scripts are told what to write.

    Raises:
        UsageError: the line is a script's.
    """
    words = list(argv)
    at = _verb_place(words)
    if at is None or words[at] not in _ADDING or "--" in words or _HELP.intersection(words):
        return words
    first = _first_word(words[at], words[at + 1 :])
    if first is None:
        return words
    first += at + 1
    meant = _meant(words, first)
    if meant is None or _is_type(words[:at], words[first]):
        return words
    import shlex  # only where it was left out

    line = shlex.join(["jobq", *meant])
    if sys.stdout.isatty() and sys.stderr.isatty():
        from jobq.cli.rendering.output import note

        note(f"Read as: {line}")
        return meant
    from jobq.errors import UsageError

    what = "a line of shell" if "--shell" in meant else "a command"
    raise UsageError(f"no job type {words[first]!r:.80}: to {words[at]} {what}: {line}")


def _first_word(verb: str, words: Sequence[str]) -> int | None:
    """Return the place of the first word that is no option; None if another form says more."""
    from jobq.cli.parsing.declarations import Option, parameters_of
    from jobq.cli.parsing.fast_parser import command_of

    command = command_of([verb])
    assert command is not None
    options = {
        name: each
        for each in parameters_of(command)
        if isinstance(each.declared, Option)
        for name in each.declared.names
    }
    at = 0
    while at < len(words) and words[at].startswith("-"):
        name, equals, _ = words[at].partition("=")
        option = options.get(name) or options.get(name[:2])
        if option is None or name in ("--shell", "--args"):
            return None
        attached = equals or (name not in options)
        at += 1 if option.kind is bool or attached else 2
    return at if at < len(words) else None


def _meant(words: list[str], first: int) -> list[str] | None:
    """Return the line as it was meant; None if its words are no command."""
    import shutil

    if len(words[first].split()) > 1:
        is_only = all(word.startswith("-") for word in words[first + 1 :])
        return [*words[:first], "--shell", *words[first:]] if is_only else None
    if "=" in words[first] or shutil.which(words[first]) is None:
        return None
    return [*words[:first], "--", *words[first:]]


def _is_type(options: Sequence[str], word: str) -> bool:
    """Return whether a word is a job type, or may be one of a worker file that does not load."""
    if len(word.split()) > 1:
        return False
    from jobq.cli.context import cli_of
    from jobq.job_types.learned import load_project

    config = next((_value(options, at) for at, each in enumerate(options) if _named(each)), None)
    registry = load_project(cli_of(config).settings())
    return word in registry.types or bool(registry.errors)


def _named(word: str) -> bool:
    return word.partition("=")[0] == _GLOBAL_OPTION


def _value(words: Sequence[str], at: int) -> str | None:
    _, equals, value = words[at].partition("=")
    return value if equals else next(iter(words[at + 1 : at + 2]), None)
