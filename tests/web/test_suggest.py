"""The query bar: suggestions at a place of a query."""

import pytest

from jobq.clock import utcnow
from jobq.query import parse_query
from tests.web.conftest import App


@pytest.mark.parametrize(
    ("query", "at", "expected"),
    [
        ("sta", 3, ["state:"]),
        ("queue:gpu st", 12, ["state:"]),
        ("state:fa", 8, ["state:failed"]),
        ("state:failed,re", 15, ["state:failed,retrying"]),
        ("queue:def rest", 9, ["queue:default "]),
        ("type:sh", 7, ["type:shell "]),
        ("tag:", 4, ['tag:"a=b c" ']),
        ("since:24", 8, ["since:24h "]),
        ('"a b" tag:"a=b', 14, ['tag:"a=b c" ']),
        ("owner:", 6, []),
        ("", 0, None),
    ],
)
def test_what_may_follow(app: App, query: str, at: int, expected: list[str] | None) -> None:
    app.queue.add("shell", {"argv": ["true"]}, tags={"a": "b c"}, delay="1h")
    path = "/api/v1/suggest"
    answer = app.call("GET", path, "read", params={"q": query, "at": at})
    assert answer.status_code == 200
    found = answer.json()
    if expected is not None:
        assert [each["insert"] for each in found] == expected
    for each in found:
        changed = query[: each["from"]] + each["insert"]
        if each["kind"] == "value":
            parse_query(changed, utcnow())
