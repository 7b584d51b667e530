"""Shell completion of plain lines, without Typer.

Questions and answers have the form of the scripts of ``jobq --install-completion``, which are
Typer's. Lines that are not plain are left to Typer.
"""

import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple

from jobq.cli.command_table import VERBS, title_of
from jobq.cli.parsing.completers import FINDERS, Items, Line, harmless, offered
from jobq.cli.parsing.fast_parser import command_of, sought
from jobq.config.environment import COMPLETE_VAR

_HARD = frozenset("'\"\\#")
"""Characters that make it hard to split a line into words."""


class Answer(NamedTuple):
    """The text to print, and the exit code."""

    text: str
    code: int = 0

    def give(self) -> int:
        """Print the text and return the exit code."""
        sys.stdout.write(self.text)
        return self.code


def answer(environ: Mapping[str, str]) -> Answer | None:
    """Return the answer to a shell that asks through these variables; None if Typer has to."""
    shell = _SHELLS.get(environ.get(COMPLETE_VAR, ""))
    split = shell and _split(environ, shell.line)
    if not shell or not split:
        return None
    words, incomplete, joined = _joined(*split)
    items = _items(words, incomplete)
    if items is not None and joined:  # bash completes what follows the =
        items = [(value.partition("=")[2], about) for value, about in items]
    return None if items is None else shell.told(items, environ)


def _joined(words: list[str], incomplete: str) -> tuple[list[str], str, bool]:
    """Return the words with ``name = value``, which bash takes apart, as one; and if the last is."""
    parts: list[str] = []
    is_value = False
    for word in (*words, incomplete):
        if (word == "=" and parts and parts[-1].isidentifier()) or is_value:
            parts[-1] += word
        else:
            parts.append(word)
        is_value = word == "=" and parts[-1].endswith("=") and len(parts[-1]) > 1
    joined = (incomplete == "=" and len(parts[-1]) > 1) or parts[-1] != incomplete
    return parts[:-1], parts[-1], joined


def _split(environ: Mapping[str, str], variable: str) -> tuple[list[str], str] | None:
    """Return the words before the one that is being typed, and its beginning."""
    line = environ.get(variable, "")
    if variable == "COMP_WORDS":
        line = line.replace("\n", " ")  # which the script for bash puts between words
    if not line.isprintable() or _HARD.intersection(line):
        return None
    words = line.split()
    if variable == "COMP_WORDS":
        place = environ.get("COMP_CWORD", "")
        if not (place.isascii() and place.isdigit()):
            return None
        return words[1 : int(place)], "".join(words[int(place) : int(place) + 1])
    if len(words) > 1 and not line.endswith(" "):
        return words[1:-1], words[-1]
    return words[1:], ""


def _items(words: list[str], incomplete: str) -> Items | None:
    """Return the completions of a word; None if Typer has to find them."""
    if incomplete and not incomplete[0].isalnum():
        return None
    if not words:
        verbs = [verb for verb in VERBS if verb.startswith(incomplete)]
        return [(verb, harmless(title_of(verb))) for verb in verbs]
    if words[0] in ("add", "run") and words[-1] == "--":
        return offered(FINDERS["programs"], Line(words[0], ()), incomplete)
    command = command_of(words)
    asked = None if command is None else sought(command, words[1:])
    if asked is None:
        return None
    if asked.completion is None:
        return []
    return offered(FINDERS[asked.completion], Line(words[0], asked.words), incomplete)


# -- answers by shell -------------------------------------------------------------------------


def _bash(items: Items, environ: Mapping[str, str]) -> Answer:
    del environ
    return Answer("\n".join(value for value, _ in items) + "\n")


def _zsh(items: Items, environ: Mapping[str, str]) -> Answer:
    del environ
    specs = [f'"{value}"' + (f':"{about}"' if about else "") for value, about in _escaped(items)]
    text = "\n".join(specs)
    return Answer(f"_arguments '*: :(({text}))'\n" if specs else "_files\n")


def _escaped(items: Items) -> Items:
    return [(value, about.replace(":", r"\\:")) for value, about in items]


def _fish(items: Items, environ: Mapping[str, str]) -> Answer | None:
    match environ.get("_TYPER_COMPLETE_FISH_ACTION"):
        case "is-args":
            return Answer("", 0 if items else 1)
        case "get-args":
            lines = [f"{value}\t{about}" if about else value for value, about in items]
            return Answer("\n".join(lines) + "\n")
    return None


class _Shell(NamedTuple):
    line: str  # the variable that holds the line
    told: Callable[[Items, Mapping[str, str]], Answer | None]


_SHELLS = {
    "complete_bash": _Shell("COMP_WORDS", _bash),
    "complete_zsh": _Shell("_TYPER_COMPLETE_ARGS", _zsh),
    "complete_fish": _Shell("_TYPER_COMPLETE_ARGS", _fish),
}
