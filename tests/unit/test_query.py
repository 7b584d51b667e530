from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobq.errors import UsageError
from jobq.models import JobFilter, JobStatus, TextSearch
from jobq.query import format_query, parse_query
from tests.support.queues import NOON


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", JobFilter()),
        ("  \n\t ", JobFilter()),
        (
            "state:failed,retrying queue:gpu type:fetch",
            JobFilter(
                statuses=frozenset({JobStatus.FAILED, JobStatus.RETRYING}),
                queue="gpu",
                type="fetch",
            ),
        ),
        ("STATUS:Failed", JobFilter(statuses=frozenset({JobStatus.FAILED}))),
        ("tag:batch=7 tag:a=b=c", JobFilter(tags={"batch": "7", "a": "b=c"})),
        ('tag:"who=a b"', JobFilter(tags={"who": "a b"})),
        ("since:2h until:2026-01-01T10:30:00Z", JobFilter(
            since=NOON - timedelta(hours=2), until=datetime(2026, 1, 1, 10, 30, tzinfo=UTC),
        )),
        ("ended_since:1d ended_before:1h", JobFilter(
            ended_since=NOON - timedelta(days=1), finished_before=NOON - timedelta(hours=1),
        )),
        ("id:1,2,9-11,2", JobFilter(ids=(1, 2, 9, 10, 11))),
        ("parent:7 added_by:8", JobFilter(parent=7, added_by=8)),
        ("signature:3FA9C1AA", JobFilter(signature="3fa9c1aa")),
        ("a b", JobFilter(text=TextSearch(words=("a", "b")))),
        ('"a b" 12:30 "x:y"', JobFilter(text=TextSearch(words=("a b", "12:30", "x:y")))),
        (r'"say \"a\" \\ b"', JobFilter(text=TextSearch(words=('say "a" \\ b',)))),
        ("name:clip error:3fa9c1 error:429", JobFilter(
            text=TextSearch(name=("clip",), error=("3fa9c1", "429"))
        )),
        ('args.url:foo args.a.0:"b c" args."odd name":1', JobFilter(
            text=TextSearch(args=(("url", "foo"), ("a.0", "b c"), ("odd name", "1")))
        )),
    ],
)  # fmt: skip
def test_a_query_is_read(text: str, wanted: JobFilter) -> None:
    assert parse_query(text, NOON) == wanted
    assert parse_query(format_query(wanted), NOON) == wanted


@pytest.mark.parametrize(
    ("text", "word", "what"),
    [
        ("a quue:gpu b", "quue:gpu", "no such condition"),
        ("see https://example.com", "https://example.com", "double quotes"),
        ("state:done", "state:done", "unknown status"),
        ("state:", "state:", "value is missing"),
        ("signature:3fa9", "signature:3fa9", "not a signature"),
        ('queue:"" x', 'queue:""', "value is missing"),
        ("queue:a queue:b", "queue:b", "given twice"),
        ("status:failed state:failed", "state:failed", "given twice"),
        ("tag:a=1 tag:a=2", "tag:a=2", "given twice"),
        ("tag:a", "tag:a", "KEY=VALUE"),
        ("tag:=a", "tag:=a", "KEY=VALUE"),
        ("since:soon", "since:soon", "not a time"),
        ("id:x", "id:x", "not a job id"),
        ("id:1-", "id:1-", "not a job id"),
        ("ids:1-5000", "ids:1-5000", "more than 1,000 ids"),
        ("parent:-1", "parent:-1", "not a job id"),
        ("args:x", "args:x", "args.NAME"),
        ("queue.a:x", "queue.a:x", "no such condition"),
        ("name.a:x", "name.a:x", "no such condition"),
        ('a "b c', '"b', "quote"),
        ('a"b', 'a"b', "quote"),
        ('queue:"a"b', 'queue:"a"b', "quote"),
    ],
)
def test_an_error_names_the_word(text: str, word: str, what: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_query(text, NOON)
    assert repr(word) in str(raised.value)
    assert what in str(raised.value)


@pytest.mark.parametrize(
    "wanted",
    [JobFilter(after_id=1), JobFilter(before_id=1), JobFilter(ids=()),
     JobFilter(statuses=frozenset())],
)  # fmt: skip
def test_what_no_query_says_is_not_left_out(wanted: JobFilter) -> None:
    with pytest.raises(ValueError, match="query"):
        format_query(wanted)


_TEXT = st.text(min_size=1, max_size=20)
_TAG_KEY = st.text("abcXYZ019_.:-", min_size=1, max_size=8)
_TIME = st.datetimes(
    datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC)  # noqa: DTZ001 - of the next argument
)  # fmt: skip
_ID = st.integers(1, 2**53 - 1)


def _texts(each: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(each, max_size=3).map(tuple)


def test_patterns_have_no_query() -> None:
    with pytest.raises(ValueError, match="no patterns"):
        format_query(JobFilter(text=TextSearch(name_patterns=("a*",))))


SEARCHES: st.SearchStrategy[TextSearch | None] = st.builds(
    TextSearch,
    words=_texts(_TEXT),
    name=_texts(_TEXT),
    error=_texts(_TEXT),
    args=_texts(st.tuples(_TEXT, _TEXT)),
    name_patterns=st.just(()),
).map(lambda search: search if any(search) else None)

FILTERS = st.builds(
    JobFilter,
    ids=st.none() | st.lists(_ID, min_size=1, max_size=5, unique=True).map(tuple),
    statuses=st.none() | st.frozensets(st.sampled_from(JobStatus), min_size=1),
    queue=st.none() | _TEXT,
    type=st.none() | _TEXT,
    tags=st.dictionaries(_TAG_KEY, st.text(max_size=20), max_size=3),
    since=st.none() | _TIME,
    until=st.none() | _TIME,
    finished_before=st.none() | _TIME,
    ended_since=st.none() | _TIME,
    parent=st.none() | _ID,
    added_by=st.none() | _ID,
    text=SEARCHES,
)


@given(FILTERS)
def test_a_filter_is_the_same_after_its_query_is_read(wanted: JobFilter) -> None:
    assert parse_query(format_query(wanted), NOON) == wanted


@given(
    st.text()
    | st.lists(
        st.sampled_from(
            ["state:", "failed", '"', "\\", ":", " ", "args.", "tag:", "=", "x", "id:", "-"]
        )
    ).map("".join)
)
def test_any_text_is_a_query_or_a_usage_error(text: str) -> None:
    try:
        wanted = parse_query(text, NOON)
    except UsageError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
    else:
        assert parse_query(format_query(wanted), NOON) == wanted
