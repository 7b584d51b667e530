"""Lists of values for ``jobq add``: those behind ``:::`` and ``::::``, and the indexes of an array."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from jobq.errors import UsageError

MAX_ARRAY_SIZE = 1_000_000
"""Most indexes of an array."""

_VALUES, _FILES = ":::", "::::"
_RANGE = re.compile(r"(\d{1,12})(?:-(\d{1,12})(?::(\d{1,12}))?)?", re.ASCII)

Pieces = Callable[[BinaryIO], Iterator[str]]


def split_lists(words: Sequence[str]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return the words before the first ``:::`` or ``::::``, and each list with its sign."""
    before: list[str] = []
    lists: list[tuple[str, list[str]]] = []
    for word in words:
        if word in (_VALUES, _FILES):
            lists.append((word, []))
        else:
            (lists[-1][1] if lists else before).append(word)
    return before, lists


def values_of(lists: Sequence[tuple[str, list[str]]], pieces: Pieces) -> list[list[str]]:
    """Return the values of each list; those behind ``::::`` are files, each a list of its lines.

    Raises:
        UsageError: a file can't be read, or none is named.
    """
    found: list[list[str]] = []
    for sign, words in lists:
        if sign == _VALUES:
            found.append(words)
            continue
        if not words:
            raise UsageError(f"{_FILES}: name a file of values")
        for name in words:
            try:
                with open(name, "rb") as file:
                    found.append(list(pieces(file)))
            except OSError as error:
                raise UsageError(f"{_FILES} {name}: {error.strerror}") from None
    return found


def parse_array(text: str) -> list[int]:
    """Return the indexes that ``1-100``, ``0-90:10`` (every tenth) and ``1,5,9-12`` stand for.

    Raises:
        UsageError: it stands for none, or for too many.
    """
    indexes: dict[int, None] = {}
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None or match[3] == "0":
            raise UsageError(f"--array {text!r:.80}: give 1-100, 0-90:10 or 1,5,9-12")
        first, last = int(match[1]), int(match[2] or match[1])
        found = range(first, last + 1, int(match[3] or 1))
        if not found:
            raise UsageError(f"--array {text!r:.80}: {first} is more than {last}")
        if len(indexes) + len(found) > MAX_ARRAY_SIZE:
            raise UsageError(f"--array {text!r:.80}: more than {MAX_ARRAY_SIZE:,} jobs")
        indexes.update(dict.fromkeys(found))
    return list(indexes)
