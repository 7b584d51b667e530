"""Cron expressions in a time zone: a thin layer over the library that parses them. Pure.

With ``*`` as the hour, ticks follow elapsed time: ``*/15 * * * *`` runs every 15 minutes through
every clock change. Otherwise they follow local time: a time skipped by daylight saving runs right
after the change; a repeated time runs once, the first time.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from jobq.errors import UsageError
from jobq.scheduling import cron_words

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_EXPECTED = {
    "Bad minute": "the minute (1st field) must be 0-59",
    "Bad hour": "the hour (2nd field) must be 0-23",
    "Bad day-of-month": "the day of the month (3rd field) must be an existing day: 1-31, L or LW",
    "Bad month": "the month (4th field) must be 1-12 or JAN-DEC",
    "Bad day-of-week": "the day of the week (5th field) must be 0-7 or SUN-SAT",
}
_FORM = "give 'MINUTE HOUR DAY MONTH WEEKDAY' in quotes, such as '30 2 * * *', or @daily"
_PERIODS = (
    ("minute (1st field)", 60, "hour"),
    ("hour (2nd field)", 24, "day"),
    ("day of the month (3rd field)", 31, "month"),
    ("month (4th field)", 12, "year"),
    ("day of the week (5th field)", 7, "week"),
)
"""Each field: its name, the number of its values, and the period in which they come again."""

_STEP = re.compile(r"[^,]+/([0-9]{1,9})")
_TO_SUNDAY = re.compile(r"\b(MON|TUE|WED|THU|FRI|SAT|[1-7])-SUN\b", re.IGNORECASE)
_ZONE = re.compile(r"(?:CRON_)?TZ=(\S*)")
_MINUTE = timedelta(minutes=1)
_DAY_HOURS = set(range(24))
_PARSED_AT = datetime(2000, 1, 1, tzinfo=UTC)


class Cron:
    """A cron expression in a time zone."""

    def __init__(self, text: str, tz: str) -> None:
        """Parse an expression and the name of its time zone.

        Raises:
            UsageError: one of them is invalid, or the expression never matches.
        """
        self.zone = zone(tz)
        self._fields = _fields(text)
        parsed = _parse(text, self._fields)
        self._by_wall = parsed.hours != _DAY_HOURS
        if not self._by_wall:
            # Hours written out as 0-23 mean the same, but the library only recognizes the star.
            minute, _, *days = self._fields.split()
            self._fields = " ".join((minute, "*", *days))

    def ticks_after(self, moment: datetime) -> Iterator[datetime]:
        """Yield the times after a moment, in UTC, ascending, until none comes for 50 years."""
        last = moment
        local = moment.astimezone(self.zone)
        start = local.replace(tzinfo=None) if self._by_wall else local
        for tick in _following(self._fields, start):
            found = self._from_wall(tick) if self._by_wall else tick.astimezone(UTC)
            if found > last:  # not a repeated time, nor a second time skipped by the same change
                last = found
                yield found

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the first time after a moment, in UTC; None if none comes for 50 years."""
        return next(self.ticks_after(moment), None)

    def last_between(self, start: datetime, end: datetime, limit: int) -> list[datetime]:
        """Return the last ``limit`` times from ``start`` to ``end``, both included."""
        span = _MINUTE * limit
        while True:
            # Search backwards: a schedule may not have run for years.
            since = max(start, end - span)
            found = []
            for tick in self.ticks_after(since - timedelta.resolution):
                if tick > end:
                    break
                found.append(tick)
            if since == start or len(found) >= limit:
                return found[-limit:]
            span *= 2

    def next_times(self, moment: datetime, limit: int) -> list[datetime]:
        """Return the next ``limit`` times after a moment."""
        return list(islice(self.ticks_after(moment), limit))

    def in_words(self) -> str:
        """Return the expression in words, such as "At 02:30 every day"."""
        return cron_words.in_words(_parse(self._fields, self._fields))

    def uneven_steps(self) -> list[str]:
        """Return a line about each step that does not divide its period evenly, as ``*/45``."""
        return [
            f"{term} as the {name} starts again every {period}"
            for term, step, name, size, period in _steps(self._fields)
            if "-" not in term and size % step
        ]

    def _from_wall(self, wall: datetime) -> datetime:
        """Return a local time in UTC: the first of a repeated time, the end of a skipped one."""
        while True:
            moment = wall.replace(tzinfo=self.zone).astimezone(UTC)
            if moment.astimezone(self.zone).replace(tzinfo=None) == wall:
                return moment
            wall += _MINUTE


def refuse_long_steps(text: str) -> None:
    """Refuse steps that are longer than their period: ``*/90`` would run every hour.

    Raises:
        UsageError: there is such a step.
    """
    for term, step, name, size, period in _steps(_fields(text)):
        if step > size:
            raise UsageError(
                f"cron {text!r}: {term} as the {name}: steps start again every {period}, "
                f"so this is not every {step}: give a step of 1 to {size}"
            )


@lru_cache(maxsize=256)
def cron(text: str, tz: str) -> Cron:
    """Return a parsed expression from a cache: supervisors ask for the same ones repeatedly."""
    return Cron(text, tz)


def zone(name: str) -> ZoneInfo:
    """Return a time zone by its name.

    Raises:
        UsageError: there is no time zone of that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a directory, such as Europe
        raise UsageError(
            f"no time zone {name!r}: give one such as Europe/Berlin, America/New_York or UTC"
        ) from None


def _fields(text: str) -> str:
    words = text.strip().split()
    if words and words[0].lower() == "@reboot":
        raise UsageError(
            "cron '@reboot': schedules run by the clock, not when the machine starts: "
            "put `@reboot jobq add …` into your crontab instead"
        )
    if words and words[0].startswith("@"):
        if len(words) > 1 or words[0].lower() not in ALIASES:
            raise UsageError(f"cron {text!r}: unknown alias: give one of {', '.join(ALIASES)}")
        return ALIASES[words[0].lower()]
    if words and (given := _ZONE.match(words[0])):
        raise UsageError(
            f"cron {text!r}: the time zone is an option: give the 5 fields and "
            f"--tz {given[1].strip(chr(34)) or 'ZONE'}"
        )
    if len(words) != 5:
        raise UsageError(f"cron {text!r}: expected 5 fields, got {len(words)}: {_FORM}")
    words[4] = _TO_SUNDAY.sub(r"\1-7", words[4])
    return " ".join(words)


def _steps(fields: str) -> Iterator[tuple[str, int, str, int, str]]:
    """Yield each step: its term and number, its field, and how many make which period."""
    for field, period in zip(fields.split(), _PERIODS, strict=True):
        for term in _STEP.finditer(field):
            yield term[0], int(term[1]), *period


def _parse(text: str, fields: str) -> CronSim:
    try:
        next(CronSim(fields, _PARSED_AT))
        return CronSim(fields, _PARSED_AT)
    except CronSimError as error:
        expected = _EXPECTED.get(str(error), str(error))
        raise UsageError(f"cron {text!r}: {expected}{_ascending(fields)}: {_FORM}") from None
    except StopIteration:
        raise UsageError(f"cron {text!r}: this day never comes: {_FORM}") from None
    except (ValueError, TypeError, AssertionError):  # raised by the library on odd input
        raise UsageError(f"cron {text!r}: not a cron expression: {_FORM}") from None


def _ascending(fields: str) -> str:
    ranges = "; a range must ascend: FRI-SUN,MON instead of FRI-MON"
    return ranges if "-" in fields else ""


def _following(fields: str, start: datetime) -> Iterator[datetime]:
    """Yield the library's times; stop, rather than fail, at the end of the calendar."""
    found = CronSim(fields, start)
    while True:
        try:
            yield next(found)
        except (StopIteration, OverflowError, ValueError):
            return
