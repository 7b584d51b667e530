"""Cron expressions in words: made from the times that match, not from how they are written. Pure.

The library words each field by its text. So it calls ``0 0 1-31 * 1`` "on Monday", though either
kind of day is enough, and it runs daily; and ``*/45`` "every 45th minute", though it runs at 0 and
45. Here each field is written anew from its values, in the form that the library words correctly.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from cronsim import CronSim
from cronsim.explain import Expression

_MINUTES, _HOURS, _MONTHS = range(60), range(24), range(1, 13)
_DAYS, _WEEKDAYS = range(1, 32), range(7)
_MIN_PROGRESSION = 5
"""Fewer values than that are listed one by one."""


def in_words(parsed: CronSim) -> str:
    """Return an expression in words, such as "At 02:30 every day"."""
    expression = Expression(
        ["0", _text(parsed.minutes, _MINUTES), _text(parsed.hours, _HOURS), *_dates(parsed)]
    )
    expression.day_and = parsed.day_and
    return re.sub(r"(?<!1)[123]th\b", _ordinal, expression.explain())


def _ordinal(found: re.Match[str]) -> str:
    """Return the English ordinal of 21, 22, 23 and 31, for which the library says 21th."""
    return {"1": "1st", "2": "2nd", "3": "3rd"}[found[0][0]]


def _dates(parsed: CronSim) -> tuple[str, str, str]:
    """Return the fields of the day, the month and the day of the week."""
    months = _text(parsed.months, _MONTHS)
    special = [name for value, name in _SPECIAL_DAYS.items() if value in parsed.days]
    day = _text({value for value in parsed.days if value > 0}, _DAYS, special)
    week = {value % 7 for value in parsed.weekdays if isinstance(value, int)}
    nth = sorted(value for value in parsed.weekdays if isinstance(value, tuple))
    names = [f"{day}L" if n == CronSim.LAST else f"{day}#{n}" for day, n in nth]
    if week != set(_WEEKDAYS) and 6 in week:
        week = {value or 7 for value in week}  # Saturday and Sunday, in this order
    weekday = _text(week, _WEEKDAYS, names)
    if not parsed.day_and and "*" in (day, weekday):  # either kind of day is enough
        day = weekday = "*"
    return day, months, weekday


_SPECIAL_DAYS = {CronSim.LAST: "L", CronSim.LAST_WEEKDAY: "LW"}


def _text(values: Iterable[int], cycle: range, special: Sequence[str] = ()) -> str:
    """Return the field of these values, and of special ones."""
    numbers = sorted(values)
    if len(numbers) == len(cycle):
        return "*"
    steps = {b - a for a, b in pairwise(numbers)}
    if len(steps) == 1 and not special:
        (step,) = steps
        if step > 1 and numbers == list(cycle[::step]) and len(cycle) % step == 0:
            return f"*/{step}"
        if step > 1 and len(numbers) >= _MIN_PROGRESSION:
            return f"{numbers[0]}-{numbers[-1]}/{step}"
    return ",".join([*_ranges(numbers), *special])


def _ranges(numbers: Sequence[int]) -> list[str]:
    """Return sorted numbers, with those that follow each other written as ranges."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1].append(number)
        else:
            ranges.append([number])
    return [f"{each[0]}-{each[-1]}" if len(each) > 1 else str(each[0]) for each in ranges]
