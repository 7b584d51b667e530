"""Parsers for words on the command line: ids, pairs, durations, stdin."""

import sys
from collections.abc import Sequence
from typing import TextIO

from jobq.errors import NotFound, UsageError
from jobq.models import JobFilter
from jobq.queue import JobQueue
from jobq.units import parse_duration


def parse_pairs(pairs: Sequence[str] | None, what: str) -> dict[str, str]:
    """Return ``KEY=VALUE`` words as a dict.

    Raises:
        UsageError: a word has no key or no ``=``, or a key is given twice.
    """
    parsed = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"{what} {pair!r}: expected KEY=VALUE")
        if key in parsed:
            raise UsageError(f"{what} {key!r} is given twice")
        parsed[key] = value
    return parsed


def parse_span(option: str, text: str) -> float:
    """Return the seconds that an option's text stands for.

    Raises:
        UsageError: it is not a duration; the message names the option.
    """
    try:
        return parse_duration(text)
    except UsageError as error:
        raise UsageError(f"{option}: {error}") from None


def piped_in() -> TextIO:
    """Return stdin.

    Raises:
        UsageError: stdin is closed.
    """
    if sys.stdin is None:
        raise UsageError("stdin is closed: there is nothing to read")
    return sys.stdin


def own_stdin() -> int | None:
    """Return the descriptor of stdin; None if it is closed."""
    try:
        return None if sys.stdin is None else sys.stdin.fileno()
    except (OSError, ValueError):  # replaced by something that is no file
        return None


def parse_ids(words: Sequence[str], queue: JobQueue) -> list[int]:
    """Return the ids that ``42``, ``3-9``, ``3,5,8``, ``last`` and ``-`` (stdin) stand for.

    They are in order, each once. A range stands for the jobs in it that exist.

    Raises:
        UsageError: a word is none of these.
        NotFound: ``last`` or a range of no jobs.
    """
    ids: list[int] = []
    for word in words:
        if word == "-":
            ids += parse_ids(piped_in().read().split(), queue)
            continue
        for part in word.split(","):
            ids += _parse_id(part, queue)
    return list(dict.fromkeys(ids))


def parse_one_id(word: str, queue: JobQueue) -> int:
    """Return the id that ``42`` or ``last`` stands for.

    Raises:
        UsageError: it is not one id.
    """
    ids = parse_ids([word], queue)
    if len(ids) != 1:
        raise UsageError(f"{word!r}: expected one job id")
    return ids[0]


def _parse_id(part: str, queue: JobQueue) -> list[int]:
    if part == "last":
        newest = queue.find(limit=1, newest=True)
        if not newest:
            raise NotFound("no jobs yet: jobq add -- echo hello")
        return [newest[0].id]
    first, dash, last = part.partition("-")
    if _is_id(first) and not dash:
        return [int(first)]
    if _is_id(first) and _is_id(last):
        within = JobFilter(after_id=int(first) - 1, before_id=int(last) + 1)
        found = [job.id for job in queue.each(within)]
        if not found:
            raise NotFound(f"no jobs from {first} to {last}: see `jobq list`")
        return found
    raise UsageError(f"{part!r:.80} is not a job id: give 42, 3-9, 3,5,8, last or -")


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19
