"""Cron expressions in a time zone: a thin layer over the library that reads them. Pure.

Where the hours are not restricted, ticks go on by elapsed time: ``*/15 * * * *`` is every quarter
of an hour, whatever is done to the clock. Otherwise they are times on the wall: one that the clock
jumps over when summer time begins comes as soon as the jump is over, and one that it shows twice
when summer time ends comes the first time only.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from jobq.errors import UsageError

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
    "Bad minute": "the minute, the 1st field, is 0-59",
    "Bad hour": "the hour, the 2nd field, is 0-23",
    "Bad day-of-month": "the day of the month, the 3rd field, is one that there is: 1-31, L or LW",
    "Bad month": "the month, the 4th field, is 1-12 or JAN-DEC",
    "Bad day-of-week": "the day of the week, the 5th field, is 0-7 or SUN-SAT",
}
_FORM = "give 'MINUTE HOUR DAY MONTH WEEKDAY' in quotes, such as '30 2 * * *', or @daily"
_MINUTE = timedelta(minutes=1)
_DAY_HOURS = set(range(24))
_PARSED_AT = datetime(2000, 1, 1, tzinfo=UTC)


class Cron:
    """When something is to happen, over and over."""

    def __init__(self, text: str, tz: str) -> None:
        """Read an expression and the name of its time zone.

        Raises:
            UsageError: one of them is wrong, or there is no such time.
        """
        self.zone = zone(tz)
        self._fields = _fields(text)
        parsed = _parse(text, self._fields)
        self._by_wall = parsed.hours != _DAY_HOURS
        if not self._by_wall:
            # Spelled out as 0-23, it is the same: the library goes by the star.
            minute, _, *days = self._fields.split()
            self._fields = " ".join((minute, "*", *days))

    def ticks_after(self, moment: datetime) -> Iterator[datetime]:
        """The times after a moment, in UTC, ascending; it ends where none comes for 50 years."""
        last = moment
        local = moment.astimezone(self.zone)
        start = local.replace(tzinfo=None) if self._by_wall else local
        for tick in _following(self._fields, start):
            found = self._on_the_clock(tick) if self._by_wall else tick.astimezone(UTC)
            if found > last:  # not one that the clock shows again, or jumped over like the last
                last = found
                yield found

    def next_after(self, moment: datetime) -> datetime | None:
        """The first time after a moment, in UTC; None if there is none for 50 years."""
        return next(self.ticks_after(moment), None)

    def last_between(self, start: datetime, end: datetime, most: int) -> list[datetime]:
        """The times from ``start`` to ``end``, both included; of many, the last so many."""
        span = _MINUTE * most
        while True:
            # Looked for backwards: a schedule may have slept for years.
            since = max(start, end - span)
            found = []
            for tick in self.ticks_after(since - timedelta.resolution):
                if tick > end:
                    break
                found.append(tick)
            if since == start or len(found) >= most:
                return found[-most:]
            span *= 2

    def next_times(self, moment: datetime, number: int) -> list[datetime]:
        """The next so many times after a moment."""
        return list(islice(self.ticks_after(moment), number))

    def in_words(self) -> str:
        """The expression as people would say it."""
        return _parse(self._fields, self._fields).explain()

    def _on_the_clock(self, wall: datetime) -> datetime:
        """When a clock in the zone shows a time first; if it jumps over it, when it has jumped."""
        while True:
            moment = wall.replace(tzinfo=self.zone).astimezone(UTC)
            if moment.astimezone(self.zone).replace(tzinfo=None) == wall:
                return moment
            wall += _MINUTE


@lru_cache(maxsize=256)
def cron(text: str, tz: str) -> Cron:
    """An expression that was read before, as supervisors do again and again."""
    return Cron(text, tz)


def zone(name: str) -> ZoneInfo:
    """A time zone by its name.

    Raises:
        UsageError: there is none of that name.
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
            "cron '@reboot': a schedule goes by the clock, not by when the machine starts: "
            "put `@reboot jobq add …` into your crontab"
        )
    if words and words[0].startswith("@"):
        if len(words) > 1 or words[0].lower() not in ALIASES:
            raise UsageError(f"cron {text!r}: known are {', '.join(ALIASES)}")
        return ALIASES[words[0].lower()]
    if len(words) != 5:
        raise UsageError(f"cron {text!r}: expected 5 fields, got {len(words)}: {_FORM}")
    return " ".join(words)


def _parse(text: str, fields: str) -> CronSim:
    try:
        next(CronSim(fields, _PARSED_AT))
        return CronSim(fields, _PARSED_AT)
    except CronSimError as error:
        raise UsageError(f"cron {text!r}: {_EXPECTED.get(str(error), error)}: {_FORM}") from None
    except StopIteration:
        raise UsageError(f"cron {text!r}: there is no such day: {_FORM}") from None
    except (ValueError, TypeError, AssertionError):  # what the library does not expect
        raise UsageError(f"cron {text!r}: can't be read: {_FORM}") from None


def _following(fields: str, start: datetime) -> Iterator[datetime]:
    """What the library finds; it ends, rather than fails, at the end of the calendar."""
    found = CronSim(fields, start)
    while True:
        try:
            yield next(found)
        except (StopIteration, OverflowError, ValueError):
            return
