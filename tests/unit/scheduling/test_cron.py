from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobq.errors import UsageError
from jobq.scheduling.cron import ALIASES, Cron, refuse_long_steps, zone

BERLIN = "Europe/Berlin"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


SPRING = at("2026-03-28 23:00"), at("2026-03-29 22:00")  # the 29th in Berlin: 23 hours
AUTUMN = at("2026-10-24 22:00"), at("2026-10-25 23:00")  # the 25th in Berlin: 25 hours


def ticks(text: str, span: tuple[datetime, datetime], tz: str = BERLIN) -> Iterator[datetime]:
    """The times from the start of a span up to its end."""
    after = Cron(text, tz).ticks_after(span[0] - timedelta.resolution)
    return takewhile(lambda tick: tick < span[1], after)


def walls(text: str, span: tuple[datetime, datetime]) -> list[str]:
    """What the clock in Berlin shows at those times."""
    return [f"{tick.astimezone(ZoneInfo(BERLIN)):%H:%M}" for tick in ticks(text, span)]


# -- the two nights of the year ----------------------------------------------------------------


@pytest.mark.parametrize("minute", ["0", "30", "59"])
@pytest.mark.parametrize("span", [SPRING, AUTUMN], ids=["spring", "autumn"])
def test_a_nightly_run_comes_once_on_either_night(
    minute: str, span: tuple[datetime, datetime]
) -> None:
    for hour in range(24):
        assert len(list(ticks(f"{minute} {hour} * * *", span))) == 1


def test_a_time_that_the_clock_jumps_over_comes_when_it_has_jumped() -> None:
    assert list(ticks("30 2 * * *", SPRING)) == [at("2026-03-29 01:00")]
    assert walls("30 2 * * *", SPRING) == ["03:00"]
    assert walls("*/15 2 * * *", SPRING) == ["03:00"]
    assert walls("0 2,3 * * *", SPRING) == ["03:00"]


def test_a_time_that_the_clock_shows_twice_comes_the_first_time() -> None:
    assert list(ticks("30 2 * * *", AUTUMN)) == [at("2026-10-25 00:30")]
    assert list(ticks("*/30 2 * * *", AUTUMN)) == [at("2026-10-25 00:00"), at("2026-10-25 00:30")]


@pytest.mark.parametrize(("text", "an_hour"), [
    ("0 * * * *", 1), ("30 * * * *", 1), ("30 0-23 * * *", 1), ("*/15 * * * *", 4),
    ("*/15 */1 * * *", 4), ("* * * * *", 60), ("7,23 * 25-29 * *", 2),
])  # fmt: skip
def test_what_is_not_bound_to_an_hour_goes_on_by_elapsed_time(text: str, an_hour: int) -> None:
    for span, hours in ((SPRING, 23), (AUTUMN, 25)):
        found = list(ticks(text, span))
        assert len(found) == an_hour * hours
        assert len(set(found)) == len(found)
        if not text.startswith("7,23"):
            assert {b - a for a, b in pairwise(found)} == {timedelta(hours=1) / an_hour}


def test_where_the_clock_is_changed_by_half_an_hour_an_hour_may_last_longer() -> None:
    for day in ("2026-04-04 13:00", "2026-10-03 13:00"):  # on Lord Howe Island
        hourly = Cron("45 * * * *", "Australia/Lord_Howe").next_times(at(day), 5)
        spans = {b - a for a, b in pairwise(hourly)}
        assert spans == {timedelta(hours=1), timedelta(hours=1.5)}
        often = Cron("*/15 * * * *", "Australia/Lord_Howe").next_times(at(day), 20)
        assert {b - a for a, b in pairwise(often)} == {timedelta(minutes=15)}


def test_every_second_hour_is_twelve_times_a_day_all_year() -> None:
    assert walls("0 */2 * * *", SPRING)[:3] == ["00:00", "03:00", "04:00"]
    assert walls("0 */2 * * *", AUTUMN)[:3] == ["00:00", "02:00", "04:00"]
    assert len(walls("0 */2 * * *", SPRING)) == len(walls("0 */2 * * *", AUTUMN)) == 12


def test_a_year_of_nights_is_365_runs_a_day_apart() -> None:
    year = at("2026-01-01 00:00"), at("2027-01-01 00:00")
    found = list(ticks("30 2 * * *", year))
    assert len(found) == 365
    days = {tick.astimezone(ZoneInfo(BERLIN)).date() for tick in found}
    assert len(days) == 365


@pytest.mark.parametrize("now", ["01:00", "01:10", "01:29", "01:30", "01:59", "02:00"])
def test_what_is_asked_for_in_the_second_of_two_hours_is_to_come(now: str) -> None:
    moment = at(f"2026-10-25 {now}")
    assert Cron("30 2 * * *", BERLIN).next_after(moment) == at("2026-10-26 01:30")
    assert Cron("*/10 2 * * *", BERLIN).next_after(moment) == at("2026-10-26 01:00")


@pytest.mark.parametrize(
    ("tz", "text", "day", "expected"),
    [
        # Midnight itself is jumped over, and shown twice.
        ("Asia/Beirut", "0 0 * * *", "2026-03-28 12:00", "2026-03-28 22:00"),
        ("America/Havana", "30 0 * * *", "2026-11-01 00:00", "2026-11-01 04:30"),
        # Half an hour.
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03 12:00", "2026-10-03 15:30"),
        # A whole day that never was.
        ("Pacific/Apia", "0 12 30 12 *", "2011-12-20 00:00", "2011-12-30 10:00"),
    ],
)
def test_clocks_that_are_changed_in_other_ways(tz: str, text: str, day: str, expected: str) -> None:
    assert Cron(text, tz).next_after(at(day)) == at(expected)


@given(
    st.sampled_from(["30 2 * * *", "*/15 2 * * *", "0 */2 * * *", "0 * * * *", "5 0,2,3 * * SUN"]),
    st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "America/Havana", "UTC"]),
)
def test_step_by_step_is_the_same_as_in_one_go(text: str, start: datetime, tz: str) -> None:
    cron = Cron(text, tz)
    in_one_go = cron.next_times(start, 8)
    assert in_one_go == sorted(set(in_one_go))
    assert in_one_go[0] > start
    moment = start
    steps: list[datetime] = []
    while len(steps) < 8:
        moment = cron.next_after(moment) or start
        steps.append(moment)
    assert steps == in_one_go


# -- looking back ------------------------------------------------------------------------------


@given(st.integers(0, 3000), st.integers(1, 100), st.sampled_from(["*/7 * * * *", "30 2 * * *"]))
def test_the_last_ones_of_a_span(minutes: int, most: int, text: str) -> None:
    cron, end = Cron(text, BERLIN), at("2026-10-26 00:00")
    start = end - timedelta(minutes=minutes)
    every = list(takewhile(lambda t: t <= end, cron.ticks_after(start - timedelta.resolution)))
    assert cron.last_between(start, end, most) == every[-most:]


def test_years_of_minutes_are_not_walked_through() -> None:
    cron = Cron("* * * * *", BERLIN)
    found = cron.last_between(at("1990-01-01 00:00"), at("2026-01-01 00:00"), 100)
    assert (len(found), found[-1]) == (100, at("2026-01-01 00:00"))


# -- what is read ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("30 2 * * *", "At 02:30 every day"), ("@daily", "At 00:00 every day"),
        ("@DAILY", "At 00:00 every day"), (" 0   3 * * * ", "At 03:00 every day"),
        ("0 9 * * MON-FRI", "At 09:00 on Monday through Friday"),
        ("0-59 0-23 * * *", "Every minute"),
        ("0 9 * * SAT-SUN", "At 09:00 on Saturday and Sunday"),
        ("0 9 * * 0,7", "At 09:00 on Sunday"), ("0 9 21,31 * *", "At 09:00 on the 21st and the 31st day of month"), ("0 9 11 * *", "At 09:00 on the 11th day of every month"),
        ("*/15 * * * *", "Every 15th minute of every hour"),
        ("*/45 * * * *", "At minutes 0 and 45 of every hour"),
        ("*/7 * * * *", "Every seventh minute from 0 through 56 of every hour"),
        ("0 */7 * * *", "At 00:00, 07:00, 14:00, and 21:00 every day"),
        ("0 9 1 */5 *", "At 09:00 on the first day of January, June, and November"),
        ("*/90 * * * *", "At the start of every hour"),
    ],
)  # fmt: skip
def test_an_expression_in_words(text: str, words: str) -> None:
    assert Cron(text, "UTC").in_words() == words


@pytest.mark.parametrize(
    "days",
    [
        "1-31 * 1", "1/1 * 1", "1-31 * 5L", "13 * 0-7", "13 * 0-6", "13 * 1-7",
        "L * SUN-SAT", "1,15 * MON-SUN", "* * 0-6", "*/1 * */1", "1-15,16-31 * MON",
        "13 * 0,1,2,3,4,5,6",
    ],
)  # fmt: skip
def test_what_runs_daily_is_called_daily(days: str) -> None:
    year = at("2026-01-01 00:00"), at("2027-01-01 00:00")
    assert len(list(ticks(f"0 0 {days}", year, "UTC"))) == 365
    assert Cron(f"0 0 {days}", "UTC").in_words() == "At 00:00 every day"


_DAYS = ["*", "1", "1-31", "*/2", "*/20", "1/1", "2-31", "L", "LW", "L,1", "1,15", "*,5", "*/31"]
_WEEKDAYS = [
    "*", "1", "0-6", "0-7", "MON-SUN", "*/2", "*/3", "1-5", "5L", "1#1", "SAT-SUN", "0,7", "1/2",
    "1-5/2", "*/1", "5L,1", "*/7",
]  # fmt: skip


def test_the_same_words_mean_the_same_days() -> None:
    span = at("2026-01-01 00:00"), at("2027-02-01 00:00")
    days_of: dict[str, list[datetime]] = {}
    for day in _DAYS:
        for weekday in _WEEKDAYS:
            text = f"0 0 {day} * {weekday}"
            try:
                found = list(ticks(text, span, "UTC"))
            except UsageError:  # it never comes, such as the last Friday on a 21st
                continue
            assert days_of.setdefault(Cron(text, "UTC").in_words(), found) == found, text


def test_a_day_field_that_begins_with_a_star_must_match_too() -> None:
    week = at("2026-06-01 00:00"), at("2026-06-15 00:00")  # from a Monday on
    assert [t.day for t in ticks("0 0 */2 * MON", week, "UTC")] == [1]
    assert [t.day for t in ticks("0 0 1/2 * MON", week, "UTC")] == [1, 3, 5, 7, 8, 9, 11, 13]


def test_sunday_ends_a_range_of_days() -> None:
    week = at("2026-06-01 00:00"), at("2026-06-08 00:00")
    for text, days in (
        ("SAT-SUN", [6, 7]), ("fri-sun", [5, 6, 7]), ("MON,SAT-SUN", [1, 6, 7]), ("5-SUN/2", [5, 7]),
        ("SUN-TUE", [1, 2, 7]), ("SUN-SUN", [7]), ("6-7", [6, 7]),
    ):  # fmt: skip
        assert [t.day for t in ticks(f"0 0 * * {text}", week, "UTC")] == days


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("*/90 * * * *", "steps start again every hour, so this is not every 90"),
        ("5/61 * * * *", "give a step of 1 to 60"), ("0 */36 * * *", "again every day"),
        ("0 0 */45 * *", "again every month"), ("0 0 1 */18 *", "again every year"),
        ("0 0 * * */14", "again every week"), ("0,*/90 * * * *", "*/90 as the minute"),
    ],
)  # fmt: skip
def test_a_step_longer_than_its_period_is_refused(text: str, what: str) -> None:
    with pytest.raises(UsageError) as refused:
        refuse_long_steps(text)
    assert what in str(refused.value)
    for fine in ("*/60 * * * *", "0 */24 * * *", "0 0 */31 */12 */7", "@daily", "0-30/45 * * * *"):
        refuse_long_steps(fine)


def test_a_step_that_does_not_divide_its_period_is_named() -> None:
    assert Cron("*/45 * * * *", "UTC").uneven_steps() == [
        "*/45 as the minute (1st field) starts again every hour"
    ]
    assert len(Cron("5/25 */5 */2 * *", "UTC").uneven_steps()) == 3
    assert Cron("*/15,0-40/7 */6 * */3 *", "UTC").uneven_steps() == []


def test_every_alias_is_an_expression() -> None:
    for alias, text in ALIASES.items():
        now = at("2026-05-05 05:05")
        assert Cron(alias, BERLIN).next_after(now) == Cron(text, BERLIN).next_after(now)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "expected 5 fields, got 0"), ("* * * *", "got 4"), ("* * * * * *", "got 6"),
        ("60 * * * *", "minute (1st field) must be 0-59"),
        ("* 24 * * *", "(2nd field) must be 0-23"),
        ("* * 0 * *", "(3rd field)"), ("* * * 13 *", "(4th field) must be 1-12"),
        ("* * * * 8", "(5th field) must be 0-7"), ("x * * * *", "(1st field)"),
        ("*/0 * * * *", "(1st"),
        ("0 0 30 2 *", "an existing day"), ("* * */20 * 1L", "this day never comes"),
        ("@reboot", "when the machine starts"), ("@reboot x", "when the machine starts"),
        ("CRON_TZ=Europe/Berlin 30 2 * * *", "--tz Europe/Berlin"), ("TZ=UTC @daily", "--tz UTC"),
        ("0 22-2 * * *", "a range must ascend"), ("0 0 * * FRI-MON", "FRI-SUN,MON instead"),
        ("@fortnightly", "give one of @hourly"), ("@daily x", "give one of @hourly"),
        ("9" * 5000 + " * * * *", "not a cron expression"), ("1-2-3 * * * *", "(1st"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_what_is_expected(text: str, what: str) -> None:
    with pytest.raises(UsageError, match="cron") as refused:
        Cron(text, "UTC")
    assert what in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "Europe", "Europe/Berln", "../etc/passwd", "/etc", "a\0b"])
def test_a_time_zone_that_is_none(name: str) -> None:
    with pytest.raises(UsageError, match="no time zone"):
        zone(name)


fields = st.text("0123456789*/-,#LWMONJAN?", max_size=6)


@given(st.lists(fields, min_size=5, max_size=5).map(" ".join) | st.text(max_size=20))
def test_whatever_is_typed_is_an_expression_or_a_usage_error(text: str) -> None:
    try:
        cron = Cron(text, BERLIN)
    except UsageError:
        return
    now = at("2026-05-05 05:05")
    assert (cron.next_after(now) or now) >= now
    assert cron.in_words()
