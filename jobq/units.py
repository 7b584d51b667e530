"""Durations, sizes, rates, priorities and moments: parsed from what people write, and formatted."""

import math
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, UTC, datetime, time, timedelta
from enum import IntEnum
from typing import Any, overload

from jobq.errors import UsageError
from jobq.limits import MAX_AMOUNT, shown_value

Duration = float | int | str | timedelta
"""A time that something takes, as users write it: seconds, text such as "5m", or a timedelta."""

_SECONDS_OF = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_UNIT_NAMES = {"min": "m", "sec": "s", "hour": "h", "day": "d", "week": "w"}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)\s*")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*([KMGT]?)(?:I?B)?", re.ASCII | re.IGNORECASE)
_BYTES_OF = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

_CLOCK_NAMES = {"noon": "12:00", "midnight": "0:00"}

MAX_DURATION_S = 100 * 365 * 86400.0
"""A hundred years: longer spans are typing errors, and would overflow a date."""


def parse_duration(value: object) -> float:
    """Return seconds from a number of seconds, or text such as ``"90"``, ``"10m"`` or ``"1h 30m"``.

    Raises:
        UsageError: it is not a duration, is negative, or is longer than a hundred years.
    """
    seconds: float | None = None
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError):
            seconds = float(value)
    elif isinstance(value, str):
        seconds = _duration_from_text(value.strip())
    if seconds is None or not 0 <= seconds <= MAX_DURATION_S:
        raise UsageError(
            f'{shown_value(value)} is not a duration: give seconds, or text such as "10m"'
        )
    return seconds


def _duration_from_text(text: str) -> float | None:
    if _NUMBER.fullmatch(text):
        return float(text)
    total, at = 0.0, 0
    while match := _PART.match(text, at):
        total += float(match[1]) * _SECONDS_OF[match[2]]
        at = match.end()
    return total if text and at == len(text) else None


def checked_amount(what: str, value: Any) -> float:
    """Return a number of things done, or to do.

    Raises:
        UsageError: it is no number from 0 to `MAX_AMOUNT`.
    """
    try:
        number = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number <= MAX_AMOUNT:
        raise UsageError(f"{what} {shown_value(value)}: give a number from 0 to {MAX_AMOUNT:.0e}")
    return value if isinstance(value, int | float) else number


def parse_limit(value: object) -> float:
    """Return seconds as `parse_duration` does; for ``"none"``, 0: no limit."""
    return 0.0 if value in ("none", "None") else parse_duration(value)


def format_duration(seconds: float) -> str:
    """Return seconds in their two largest units: ``0.4s``, ``3m 05s``, ``2h 14m``, ``5d 3h``."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def format_elapsed(since: datetime, until: datetime) -> str:
    """Return the time between two moments as `format_duration` does, never below 0."""
    return format_duration(max(0.0, (until - since).total_seconds()))


def parse_size(value: object) -> int:
    """Return bytes from a number, or text such as ``"500M"`` or ``"1.5 GiB"``; a K is 1,024.

    Raises:
        UsageError: it is neither.
    """
    number = isinstance(value, int | str) and not isinstance(value, bool)
    match = _SIZE.fullmatch(str(value).strip()) if number else None
    if match is None:
        raise UsageError('not a size: give bytes, or text such as "500M" or "10G"')
    return int(float(match[1]) * _BYTES_OF[match[2].upper()])


def format_size(size: float) -> str:
    """Return bytes in the largest unit that fits, as `parse_size` reads it: ``0 B``, ``4.2 MB``."""
    prefix = next((each for each in "TGMK" if abs(size) >= _BYTES_OF[each]), "")
    number = f"{size / _BYTES_OF[prefix]:.1f}".removesuffix(".0")
    return f"{number} {prefix}B"


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit of ``count`` starts in any span of ``seconds``."""

    count: int
    seconds: float

    def __str__(self) -> str:
        for name, unit in (("s", 1.0), ("min", 60.0), ("h", 3600.0), ("d", 86400.0)):
            if self.seconds == unit:
                return f"{self.count}/{name}"
        seconds = f"{self.seconds:.6f}".rstrip("0").rstrip(".")
        return f"{self.count}/{seconds}s"


def parse_rate(text: str) -> Rate:
    """Parse a rate such as ``"10/min"``, ``"2/s"`` or ``"5/30s"``.

    Raises:
        UsageError: it is not a rate.
    """
    match = re.fullmatch(r"\s*(\d{1,9})\s*/\s*((?:\d*\.)?\d+)?\s*([a-z]+)\s*", text)
    if match:
        unit = _UNIT_NAMES.get(match[3], match[3])
        seconds = float(match[2] or 1) * _SECONDS_OF.get(unit, 0.0)
        if int(match[1]) > 0 and 0.001 <= seconds <= MAX_DURATION_S:
            return Rate(int(match[1]), seconds)
    raise UsageError(
        f'{text!r:.80} is not a rate: give a count and a span, such as "10/min" or "5/30s"'
    )


class Priority(IntEnum):
    """Names of priorities, which are whole numbers from 0 to 9; 9 runs first."""

    LOW = 2
    NORMAL = 5
    HIGH = 7
    CRITICAL = 9


def parse_priority(value: int | str) -> int:
    """Return a priority from 0 to 9, from a number or one of the four names.

    Raises:
        UsageError: it is neither.
    """
    text = shown_value(value) if type(value) is int else str(value).strip()
    if text.upper() in Priority.__members__:
        return int(Priority[text.upper()])
    if len(text) == 1 and text in "0123456789":
        return int(text)
    raise UsageError(
        f"priority {text!r:.80}: give 0 to 9 (9 runs first), or low, normal, high or critical"
    )


def parse_moment(text: str, now: datetime) -> datetime:
    """Return a moment in UTC from ISO 8601 text, in local time unless it names a zone.

    ``HH:MM`` (the next time that the clock shows it), ``today HH:MM``, ``tomorrow HH:MM`` and
    ``now`` are understood, too; so are ``yesterday HH:MM``, ``noon`` and ``midnight``.

    Raises:
        UsageError: it is none of these.
    """
    words = text.strip().lower().split()
    if words == ["now"]:
        return now
    words = [_CLOCK_NAMES.get(word, word) for word in words]
    day = {"yesterday": -1, "today": 0, "tomorrow": 1}.get(words[0]) if words else None
    clock_text = words[-1] if words and (len(words) == 1 or (day is not None)) else ""
    if match := re.fullmatch(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", clock_text):
        hour, minute, second = int(match[1]), int(match[2]), int(match[3] or 0)
        if hour < 24 and minute < 60 and second < 60:
            return _from_clock(time(hour, minute, second), day, now)
    try:
        moment = require_sane(datetime.fromisoformat(text.strip()))
        return _from_local(moment) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"{text!r:.80} is not a time: give '2026-12-24 18:00', '18:00' or 'tomorrow 7:00'"
        ) from None


def require_sane(moment: datetime) -> datetime:
    """Return the moment, unless some time zone could not show it.

    Raises:
        UsageError: it is in the first or the last year of the calendar.
    """
    if not MINYEAR < moment.year < MAXYEAR:
        shown = moment.isoformat()
        raise UsageError(f"{shown} is not a time: give a year from {MINYEAR + 1} to {MAXYEAR - 1}")
    return moment


def _from_clock(shown: time, day: int | None, now: datetime) -> datetime:
    """Return the moment of a local time, ``day`` days from today; without a day, its next one.

    A time that is shown twice, when daylight saving ends, is the first one still to come.
    """
    today = now.astimezone().date()
    days = (0, 1) if day is None else (day,)
    moments = [
        _from_local(datetime.combine(today + timedelta(days=ahead), shown.replace(fold=fold)))
        for ahead in days
        for fold in (0, 1)
    ]
    return next((moment for moment in moments if moment > now), moments[0])


def _from_local(wall: datetime) -> datetime:
    """Return the moment of a local time; one that daylight saving skips is right after the change."""
    moment = wall.astimezone(UTC)
    while moment.astimezone().replace(tzinfo=None, fold=0) != wall.replace(fold=0):
        wall = wall.replace(second=0, microsecond=0) + timedelta(minutes=1)
        moment = wall.astimezone(UTC)
    return moment


def parse_since(text: str, now: datetime) -> datetime:
    """Return a moment in the past from a duration ago (``1h``), or text for `parse_moment`.

    ``yesterday`` and ``today`` are the beginning of the day.

    Raises:
        UsageError: it is neither.
    """
    seconds = _duration_from_text(text.strip())
    if seconds is not None:
        return now - timedelta(seconds=parse_duration(text))
    is_day = text.strip().lower() in ("yesterday", "today")
    return parse_moment(f"{text} midnight" if is_day else text, now)


@overload
def format_moment(moment: datetime) -> str: ...


@overload
def format_moment(moment: datetime | None) -> str | None: ...


def format_moment(moment: datetime | None) -> str | None:
    """Return a moment in UTC as ISO 8601, as documents give it: ``2026-12-24T17:00:00Z``."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
