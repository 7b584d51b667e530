"""How the command shows things: tables on a terminal, plain columns in a pipe, JSON when asked.

Whatever comes from jobs is shown inert: control characters as visible signs, markup as text.
"""

import json
import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from jobq.models import JobStatus
from jobq.units import format_duration

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
"""The names of looks that this command uses, and what a terminal calls them."""

_CONTROL = re.compile(
    # C0 and C1, soft hyphen, marks of direction, separators, what takes no room or looks like none,
    # half a character, tags
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff"
    "\U0001d173-\U0001d17a\U000e0000-\U000e007f]"
)
_GAP = "  "
_LEAST = 12
"""Columns that a flexible column keeps before optional ones are left out."""


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    return f"\\x{code:02x}" if code < 0x100 else match[0].encode("unicode_escape").decode()


def visible(text: str) -> str:
    """Text with signs in the place of control characters; lines and tabs stay."""
    return _CONTROL.sub(_visible, text)


def inert(text: str) -> str:
    """Text on one line, that can do nothing to a terminal: control characters made visible."""
    return visible(text.replace("\n", "␊").replace("\t", " "))


def is_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()  # None: it was closed


def print_json(document: Any) -> None:
    """One document."""
    print(_to_json(document))


def print_json_array(documents: Iterable[Any]) -> None:
    """One document, an array, written as it grows: it may be longer than memory."""
    separator = "["
    for document in documents:
        print(f"{separator}{_to_json(document)}", end="")
        separator = ",\n"
    print("]" if separator != "[" else "[]")


def print_jsonl(documents: Iterable[Any]) -> None:
    """One document a line."""
    for document in documents:
        print(_to_json(document, indent=None))


def _to_json(document: Any, indent: int | None = 2) -> str:
    """JSON text; characters that could do something to a terminal are escaped, so intact."""
    text = json.dumps(document, ensure_ascii=False, indent=indent if is_terminal() else None)
    return _CONTROL.sub(_json_escape, text)


def _json_escape(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1]


def note(message: str) -> None:
    """A message for people, beside the data: on stderr."""
    print(inert(message), file=sys.stderr)


def local_time(moment: datetime | None, now: datetime) -> str:
    """A time as a person here reads it: the clock today, the day and the clock otherwise."""
    if moment is None:
        return ""
    here, today = moment.astimezone(), now.astimezone()
    if here.date() == today.date():
        return here.strftime("%H:%M:%S")
    return here.strftime("%b %d %H:%M" if here.year == today.year else "%Y-%m-%d %H:%M")


def full_time(moment: datetime, now: datetime) -> str:
    """A time in full, here, and how far from now: ``2026-11-21 21:39:05 (3m 05s ago)``."""
    away = (now - moment).total_seconds()
    far = f"{format_duration(away)} ago" if away >= 0 else f"in {format_duration(-away)}"
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S} ({far})"


def format_ids(ids: Iterable[int]) -> str:
    """Ids, runs of them shortened: ``3-9, 12``."""
    runs: list[list[int]] = []
    for number in sorted(ids):
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)


def count_of(number: int, noun: str = "job") -> str:
    """``1 job``, ``1,234 jobs``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def confirmed(question: str) -> bool:
    """Whether the person at the terminal says yes; without a terminal nobody is asked."""
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)):
        return True
    print(f"{inert(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def width_of(text: str) -> int:
    """The columns that text takes on a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # 1 ms, and only where text is not plain

    return cell_len(text)


def cut(text: str, width: int) -> str:
    """Text in exactly so many columns: filled up with spaces, or cut with an ellipsis."""
    text = text[: 4 * width]  # what is behind could only be seen if it took no room
    if (missing := width - width_of(text)) >= 0:
        return text + " " * missing
    from rich.cells import set_cell_size

    return set_cell_size(text, width - 1) + "…" if width > 0 else ""


def styled(text: str, style: str | None, *, color: bool) -> str:
    """Text with a look, where colours are wanted."""
    if not (color and style and text):
        return text
    return f"\x1b[{_SGR_CODES[style]}m{text}\x1b[0m"


def print_columns(
    columns: Mapping[str, Sequence[str]],
    *,
    color: bool = False,
    looks: Mapping[str, Sequence[str | None]] | None = None,
    flexible: Collection[str] = (),
    optional: Sequence[str] = (),
) -> None:
    """A table, by the titles of its columns; those with nothing in them are left out.

    In a pipe its lines are whole. On a terminal they are made to fit: the columns named
    ``flexible`` give way, and then the ``optional`` ones are left out, the first one first.
    """
    table = {title: [inert(cell) for cell in cells] for title, cells in columns.items()}
    widths = {t: max(map(width_of, (t, *cells))) for t, cells in table.items() if any(cells)}
    if is_terminal():
        import shutil  # and with it, all that unpacks archives: only where there is a terminal

        widths = fit(widths, shutil.get_terminal_size().columns, flexible, optional)
    color = color and is_terminal()
    print(_GAP.join(styled(cut(t, w), "bold", color=color) for t, w in widths.items()).rstrip())
    for number in range(max(map(len, table.values()))):
        cells = []
        for title, width in widths.items():
            look = looks[title][number] if looks and title in looks else None
            cells.append(styled(cut(table[title][number], width), look, color=color))
        print(_GAP.join(cells).rstrip())


def fit(
    widths: Mapping[str, int],
    room: int,
    flexible: Collection[str],
    optional: Sequence[str],
    least: int = _LEAST,
) -> dict[str, int]:
    """The columns to keep, with widths in which a line fits into ``room``."""
    fitted = {title: min(width, room) for title, width in widths.items()}

    def needed(kept: int) -> int:
        taken = [min(w, kept) if t in flexible else w for t, w in fitted.items()]
        return sum(taken) + len(_GAP) * (len(taken) - 1)

    for title in optional:
        if needed(least) > room:
            fitted.pop(title, None)
    shrinking = [title for title in fitted if title in flexible]
    while needed(room) > room and max(fitted.values()) > 1:
        if all(fitted[title] <= least for title in shrinking):
            shrinking = list(fitted)  # that was not enough: all must give way
        fitted[max(shrinking, key=fitted.__getitem__)] -= 1
    return fitted


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Names and values, one below the other; those without a value are left out."""
    shown = [(name, value.split("\n")) for name, value in fields if value]
    width = max((width_of(name) for name, _ in shown), default=0)
    for name, lines in shown:
        for number, line in enumerate(lines):
            print(f"{cut('' if number else name, width)}  {inert(line)}")


def print_tabs(rows: Iterable[Sequence[str]]) -> None:
    """Cells with a tab between them, for scripts."""
    for row in rows:
        print("\t".join(map(inert, row)))
