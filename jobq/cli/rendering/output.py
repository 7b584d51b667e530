"""Output: JSON documents, fields, messages, and text that is safe to print.

Text that comes from jobs is made inert: control characters are shown as visible signs.
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from jobq.inert import CONTROL, inert
from jobq.models import JobStatus
from jobq.units import format_duration

MAX_RUNS = 20
"""Most runs of consecutive ids that a line lists."""

COLOURS: Mapping[JobStatus, str] = {
    JobStatus.BLOCKED: "magenta",
    JobStatus.SCHEDULED: "blue",
    JobStatus.PENDING: "cyan",
    JobStatus.RUNNING: "yellow",
    JobStatus.RETRYING: "bright_yellow",
    JobStatus.COMPLETED: "green",
    JobStatus.FAILED: "red",
    JobStatus.CANCELLED: "bright_black",
}

_SGR_CODES: Mapping[str, str] = {
    "bold": "1",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
    "bright_black": "90",
    "bright_yellow": "93",
}
"""Styles by name, with their codes for a terminal."""


def is_terminal() -> bool:
    """Return whether stdout is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()  # None: it was closed


def print_json(document: Any) -> None:
    """Print one document."""
    print(_to_json(document))


def print_json_array(documents: Iterable[Any]) -> None:
    """Print an array as its elements come: it may be larger than memory."""
    separator = "["
    for document in documents:
        print(f"{separator}{_to_json(document)}", end="")
        separator = ",\n"
    print("]" if separator != "[" else "[]")


def print_jsonl(documents: Iterable[Any]) -> None:
    """Print one document per line."""
    for document in documents:
        print(_to_json(document, indent=None))


def _to_json(document: Any, indent: int | None = 2) -> str:
    """Return JSON text in which control characters are escaped, so that their values are kept."""
    text = json.dumps(document, ensure_ascii=False, indent=indent if is_terminal() else None)
    return CONTROL.sub(_json_escape, text)


def _json_escape(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1]


def note(message: str) -> None:
    """Print a message for people on stderr, apart from the data."""
    print(inert(message), file=sys.stderr)


def local_time(moment: datetime | None, now: datetime) -> str:
    """Return a local time: the clock for today, else the date, with its year, and the clock."""
    if moment is None:
        return ""
    here, today = moment.astimezone(), now.astimezone()
    if here.date() == today.date():
        return here.strftime("%H:%M:%S")
    return here.strftime("%Y-%m-%d %H:%M")


def full_time(moment: datetime, now: datetime) -> str:
    """Return a local time in full with its distance: ``2026-11-21 21:39:05 (3m 05s ago)``."""
    away = (now - moment).total_seconds()
    far = f"{format_duration(away)} ago" if away >= 0 else f"in {format_duration(-away)}"
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S} ({far})"


def format_bytes(size: float) -> str:
    """Return a size in the unit that gives it one to three digits: ``0 B``, ``4.2 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def format_ids(ids: Iterable[int]) -> str:
    """Return ids with runs shortened: ``3-9, 12``; after `MAX_RUNS` runs, the number of the rest."""
    runs: list[list[int]] = []
    for place, number in enumerate(numbers := sorted(ids)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        elif len(runs) == MAX_RUNS:
            return f"{_joined(runs)} and {len(numbers) - place:,} more"
        else:
            runs.append([number])
    return _joined(runs)


def _joined(runs: Iterable[Iterable[int]]) -> str:
    return ", ".join("-".join(map(str, run)) for run in runs)


def count_of(number: int, noun: str = "job") -> str:
    """Return a number with its noun: ``1 job``, ``1,234 jobs``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def confirmed(question: str) -> bool:
    """Return whether the person at the terminal says yes; without a terminal, do not ask."""
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)):
        return True
    print(f"{inert(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def width_of(text: str) -> int:
    """Return the columns that text takes on a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # 1 ms, and only where text is not plain

    return cell_len(text)


def cut(text: str, width: int) -> str:
    """Return text in exactly ``width`` columns: padded with spaces, or cut with an ellipsis."""
    text = text[: 4 * width]  # the rest could only fit if it had no width
    if (missing := width - width_of(text)) >= 0:
        return text + " " * missing
    from rich.cells import set_cell_size

    return set_cell_size(text, width - 1) + "…" if width > 0 else ""


def cut_middle(text: str, width: int) -> str:
    """Return text in exactly ``width`` columns: padded, or cut in the middle with an ellipsis."""
    if width_of(text) <= width or not text.isascii() or width < 8:
        return cut(text, width)
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def styled(text: str, style: str | None, *, color: bool) -> str:
    """Return text in a style, if colours are wanted."""
    if not (color and style and text):
        return text
    return f"\x1b[{_SGR_CODES[style]}m{text}\x1b[0m"


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print names and values, one below the other; leave out those without a value."""
    shown = [(name, value.split("\n")) for name, value in fields if value]
    width = max((width_of(name) for name, _ in shown), default=0)
    for name, lines in shown:
        for number, line in enumerate(lines):
            print(f"{cut('' if number else name, width)}  {inert(line)}")


def print_tabs(rows: Iterable[Sequence[str]]) -> None:
    """Print rows of cells separated by tabs."""
    for row in rows:
        print("\t".join(map(inert, row)))


def note_paused(name: str, count: int = 1) -> None:
    """Print a hint that jobs wait in a paused queue."""
    verb = "waits" if count == 1 else "wait"
    note(f"{count_of(count)} {verb}, and queue {name} is paused: jobq queue resume {name}")
