import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobq.errors import UsageError
from jobq.units import (
    MAX_DURATION_S,
    Rate,
    format_duration,
    format_moment,
    format_size,
    parse_duration,
    parse_limit,
    parse_moment,
    parse_priority,
    parse_rate,
    parse_since,
    parse_size,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


# -- durations ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90), ("0", 0), ("1.5", 1.5), ("250ms", 0.25), ("10s", 10), ("10m", 600),
        ("2h", 7200), ("1d", 86400), ("2w", 1209600), ("1h 30m", 5400), ("1h30m", 5400),
        (" 10m ", 600), ("1.5h", 5400), (90, 90), (0.5, 0.5), (timedelta(minutes=1), 60),
    ],
)  # fmt: skip
def test_a_duration_is_seconds_or_text_with_units(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "odd",
    [
        "", " ", "m", "10x", "-5", "10m ago", "1,5h", "1e3", "nan", "inf", "10 20", None, True, [],
        -1, -0.5, float("nan"), float("inf"), MAX_DURATION_S + 1, "200000d", timedelta(-1),
        "9" * 5000, "9" * 5000 + "d",
    ],
)  # fmt: skip
def test_anything_else_is_no_duration(odd: object) -> None:
    with pytest.raises(UsageError, match="not a duration"):
        parse_duration(odd)


def test_a_limit_may_be_none() -> None:
    assert [parse_limit(value) for value in ("none", "None", 0, "0", "5m")] == [0, 0, 0, 0, 300]
    with pytest.raises(UsageError):
        parse_limit("never")


@given(st.floats(0, MAX_DURATION_S))
def test_a_duration_shown_is_read_back_up_to_what_was_left_out(seconds: float) -> None:
    shown = format_duration(seconds)
    smaller = {"s": 0.5, "m": 60.0, "h": 3600.0}[shown[-1]]
    assert abs(parse_duration(shown) - seconds) <= smaller + 0.5


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0s"), (0.44, "0.4s"), (12, "12s"), (59.7, "1m 00s"), (185, "3m 05s"),
        (3599.6, "1h 00m"), (8040, "2h 14m"), (86399.7, "1d 0h"), (442800, "5d 3h"),
    ],
)  # fmt: skip
def test_a_duration_is_shown_in_its_two_largest_units(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown


@given(st.integers(0, 10**9))
def test_whole_milliseconds_are_read_exactly_however_they_are_written(number: int) -> None:
    assert parse_duration(f"{number}ms") == pytest.approx(number / 1000)
    assert parse_duration(f"{number // 1000}s {number % 1000}ms") == pytest.approx(number / 1000)


# -- rates -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10/min", Rate(10, 60)), ("2/s", Rate(2, 1)), ("5/30s", Rate(5, 30)),
        ("1/hour", Rate(1, 3600)), (" 3 / 2 h ", Rate(3, 7200)), ("1/d", Rate(1, 86400)),
        ("9/.5s", Rate(9, 0.5)), ("4/2week", Rate(4, 1209600)), ("7/250ms", Rate(7, 0.25)),
    ],
)  # fmt: skip
def test_a_rate_is_a_count_and_a_span(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "odd",
    [
        "", "10", "10/", "/min", "0/s", "1/0s", "-1/s", "1/fortnight", "1.5/s", "1/.s", "1/s/s",
        "9" * 5000 + "/s", "1/" + "9" * 400 + "d", "1/99999999d", "99999999999999999999/s",
    ],
)  # fmt: skip
def test_anything_else_is_no_rate(odd: str) -> None:
    with pytest.raises(UsageError, match="not a rate"):
        parse_rate(odd)


@given(st.integers(1, 10**9 - 1), st.integers(1, int(MAX_DURATION_S * 1000)))
def test_a_rate_shown_is_read_back(count: int, milliseconds: int) -> None:
    rate = Rate(count, milliseconds / 1000)
    assert parse_rate(str(rate)) == rate


def test_common_rates_are_shown_as_people_write_them() -> None:
    shown = [str(parse_rate(text)) for text in ("10/min", "2/s", "5/30s", "1/hour", "1/2w")]
    assert shown == ["10/min", "2/s", "5/30s", "1/h", "1/1209600s"]


# -- moments -----------------------------------------------------------------------------------

# Offsets written the way POSIX wants them: west is positive. None of them has a summer time.
ZONES = {"UTC0": 0, "EAST-5:30": 330, "WEST9": -540, "FAR-14": 840}
minutes = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the zone comes beside them
clock = st.tuples(st.integers(0, 23), st.integers(0, 59))


@contextmanager
def local_time(zone: str) -> Iterator[timezone]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = zone
    time.tzset()
    try:
        yield timezone(timedelta(minutes=ZONES[zone]))
    finally:
        os.environ.pop("TZ")
        if before is not None:
            os.environ["TZ"] = before
        time.tzset()


@given(st.sampled_from(sorted(ZONES)), minutes, clock)
def test_a_time_of_day_is_the_next_time_that_the_clock_shows_it(
    zone: str, now: datetime, shows: tuple[int, int]
) -> None:
    with local_time(zone) as here:
        moment = parse_moment("{}:{:02}".format(*shows), now)
        assert timedelta(0) < moment - now <= timedelta(days=1)
        assert (moment.astimezone(here).hour, moment.astimezone(here).minute) == shows
        assert moment.tzinfo is UTC


@given(st.sampled_from(sorted(ZONES)), minutes, clock)
def test_today_and_tomorrow_are_days_of_local_time(
    zone: str, now: datetime, shows: tuple[int, int]
) -> None:
    with local_time(zone) as here:
        today = now.astimezone(here).replace(
            hour=shows[0], minute=shows[1], second=0, microsecond=0
        )
        text = "{:02}:{:02}".format(*shows)
        assert parse_moment(f"today {text}", now) == today
        assert parse_moment(f"Tomorrow {text}:00", now) == today + timedelta(days=1)


@given(st.sampled_from(sorted(ZONES)), st.sampled_from(sorted(ZONES)), minutes)
def test_a_moment_written_as_iso_8601_is_read_back(zone: str, other: str, moment: datetime) -> None:
    with local_time(zone) as here:
        there = timezone(timedelta(minutes=ZONES[other]))
        assert parse_moment(moment.astimezone(there).isoformat(), NOON) == moment
        naive = moment.astimezone(here).replace(tzinfo=None)
        assert parse_moment(naive.isoformat(" "), NOON) == moment


@pytest.mark.parametrize(
    "odd",
    [
        "", " ", "soon", "24:00", "12:60", "12:00:60", "tomorrow", "today 25:00", "2026-13-01",
        "12", "2026-01-01 25:00", "0001-01-01T00:00+14:00", "9999-12-31T23:59-12:00",
    ],
)  # fmt: skip
def test_anything_else_is_no_moment(odd: str) -> None:
    with pytest.raises(UsageError, match="not a time"):
        parse_moment(odd, NOON)


def test_now_is_now() -> None:
    assert parse_moment(" NOW ", NOON) == NOON


def test_since_is_a_duration_ago_or_a_moment() -> None:
    assert parse_since("1h 30m", NOON) == NOON - timedelta(minutes=90)
    assert parse_since("90", NOON) == NOON - timedelta(seconds=90)
    assert parse_since("2026-01-01T00:00Z", NOON) == NOON - timedelta(hours=12)
    a_day = timedelta(days=1)
    assert parse_since("yesterday", NOON) == parse_since("today", NOON) - a_day <= NOON - a_day
    for odd in ("200000d", "tomorrow", ""):
        with pytest.raises(UsageError):
            parse_since(odd, NOON)


@given(st.text(max_size=12))
def test_whatever_is_typed_is_a_value_or_a_usage_error(text: str) -> None:
    for parse in (
        parse_duration,
        parse_limit,
        parse_rate,
        lambda t: parse_moment(t, NOON),
        lambda t: parse_since(t, NOON),
    ):
        try:
            parse(text)
        except UsageError as error:
            assert repr(text) in str(error)  # noqa: PT017 - either outcome is right


# -- the two nights of the year ----------------------------------------------------------------


@contextmanager
def berlin() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


SUMMER = utc(2026, 3, 29, 1)  # the clock goes from 02:00 to 03:00
WINTER = utc(2026, 10, 25, 1)  # the clock goes from 03:00 back to 02:00


@pytest.mark.parametrize(
    ("text", "now", "moment"),
    [
        # A time that the clock jumps over comes when it has jumped, and never before.
        ("02:30", utc(2026, 3, 28, 23), SUMMER),
        ("2026-03-29 02:30", utc(2026, 3, 1), SUMMER),
        ("tomorrow 2:30", utc(2026, 3, 28, 6), SUMMER),
        ("03:00", utc(2026, 3, 28, 23), SUMMER),
        ("02:30", utc(2026, 3, 29, 1, 10), utc(2026, 3, 30, 0, 30)),
        # One that it shows twice is the next of the two.
        ("2026-10-25 02:30", utc(2026, 10, 1), utc(2026, 10, 25, 0, 30)),
        ("02:30", utc(2026, 10, 25, 0, 10), utc(2026, 10, 25, 0, 30)),
        ("02:30", utc(2026, 10, 25, 0, 40), utc(2026, 10, 25, 1, 30)),
        ("02:30", utc(2026, 10, 25, 1, 10), utc(2026, 10, 25, 1, 30)),
        ("today 02:30", utc(2026, 10, 25, 1, 10), utc(2026, 10, 25, 1, 30)),
        ("today 02:30", utc(2026, 10, 25, 9), utc(2026, 10, 25, 0, 30)),
        ("02:30", utc(2026, 10, 25, 1, 40), utc(2026, 10, 26, 1, 30)),
        # A day may have 23 or 25 hours; what names its zone is what it says.
        ("tomorrow 12:00", utc(2026, 3, 28, 11), utc(2026, 3, 29, 10)),
        ("tomorrow 12:00", utc(2026, 10, 24, 10), utc(2026, 10, 25, 11)),
        ("2026-03-29 02:30+01:00", utc(2026, 3, 1), utc(2026, 3, 29, 1, 30)),
    ],
)
def test_moments_on_the_nights_when_the_clock_is_changed(
    text: str, now: datetime, moment: datetime
) -> None:
    with berlin():
        assert parse_moment(text, now) == moment


@given(st.integers(0, 48 * 60), clock, st.sampled_from([SUMMER, WINTER]))
def test_a_time_of_day_is_always_to_come_and_within_25_hours(
    minute: int, shows: tuple[int, int], change: datetime
) -> None:
    now = change - timedelta(days=1) + timedelta(minutes=minute)
    with berlin():
        moment = parse_moment("{}:{:02}".format(*shows), now)
        assert timedelta(0) < moment - now <= timedelta(hours=25)
        shown = moment.astimezone()
        assert (shown.hour, shown.minute) == shows or moment == SUMMER


# -- sizes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0),
        ("0", 0),
        ("1024", 1024),
        ("1k", 1024),
        ("500M", 500 * 1024**2),
        ("1.5 GiB", 3 * 1024**3 // 2),
        (" 10GB ", 10 * 1024**3),
        ("2T", 2 * 1024**4),
        ("7B", 7),
    ],
)
def test_sizes(text: int | str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "G", "1P", "1e9", "-1", "٣", "1 0", "nan", "9" * 400, True, None, 1.5]
)
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(UsageError, match="not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"), (1023, "1023 B"), (4300, "4.2 KB"), (100 << 20, "100 MB"), (1.5, "1.5 B"),
        (3 << 29, "1.5 GB"), (3 << 40, "3 TB"), (5000 << 40, "5000 TB"),
    ],
)  # fmt: skip
def test_sizes_as_they_are_shown(size: float, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, 1023), st.sampled_from(["B", "KB", "MB", "GB", "TB"]))
def test_a_size_is_shown_as_it_is_written(number: int, unit: str) -> None:
    assert parse_size(format_size(parse_size(f"{number} {unit}"))) == parse_size(f"{number}{unit}")


# -- moments in documents ----------------------------------------------------------------------


def test_moments_in_documents() -> None:
    assert format_moment(NOON) == "2026-01-01T12:00:00Z"
    assert format_moment(None) is None
    assert parse_moment(format_moment(NOON), NOON + timedelta(days=1)) == NOON


# -- priorities --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_as", "priority"),
    [(0, 0), (9, 9), ("5", 5), ("low", 2), ("Normal", 5), (" high ", 7), ("CRITICAL", 9)],
)
def test_a_priority_is_a_digit_or_a_name(given_as: int | str, priority: int) -> None:
    assert parse_priority(given_as) == priority


@pytest.mark.parametrize("odd", [-1, 10, "", "11", "urgent", "5.0", 5.0, True, None, "٣", [5]])
def test_anything_else_is_no_priority(odd: int) -> None:
    with pytest.raises(UsageError, match="0 to 9"):
        parse_priority(odd)


@given(st.text(max_size=8) | st.integers())
def test_parsing_a_priority_gives_one_or_a_usage_error(value: str | int) -> None:
    try:
        assert 0 <= parse_priority(value) <= 9
    except UsageError as error:
        assert repr(str(value).strip()) in str(error)  # noqa: PT017 - either outcome is right
