from pathlib import Path
from typing import Any

import pytest

from jobq import JobQueue, JobSpec, NotFound, UsageError
from jobq.transfer.row_validation import InvalidRow, RowValidator, require_options
from tests.support.queues import NOON

ECHO = {"argv": ["echo", "hi"], "key": "k"}


def validator(queue: JobQueue, *, texts: bool = False) -> RowValidator:
    return RowValidator(queue, Path("/dir"), NOON, texts=texts)


@pytest.mark.parametrize(
    ("row", "digest"),
    [
        (ECHO, "71eca112122b9468"),
        ({**ECHO, "priority": "high", "timeout": "5m", "retries": 7, "retry_base": "2s",
          "queue": "lane", "name": "n", "tags": {"a": "b"}, "unique": "u"}, "35726a60689fa154"),
        ({**ECHO, "at": "tomorrow 07:00"}, "6ae74d32560ce8f4"),
        ({**ECHO, "at": "now"}, "8e759ec06e51c5e1"),
        ({**ECHO, "delay": "90m"}, "daf94117a3142ff4"),
        ({**ECHO, "delay": 5}, "62333f0c5a286f35"),
        ({**ECHO, "as_is": True}, "fb7e653c7a0fb048"),
        ({**ECHO, "as_is": "no"}, "afbf4a45db5b4188"),
        ({**ECHO, "after": ["x", 3], "after_any": "y, z", "after_fail": [9]}, "56a4af253ba438bf"),
        ({**ECHO, "cwd": "sub", "stdin": "in.txt", "env": {"X": "y"}}, "d6a6dd76d30d6490"),
        ({"shell": "a | b", "key": "k", "max_retries": 0, "tag.x": "1"}, "5bd3278bac9290f1"),
        ({"type": "metadata_extraction", "args": {"path": "/a.mkv"}, "key": "k"}, "d7f40f168776fefe"),
        ({**ECHO, "timeout": "none"}, "f1ffe42f0f6d84c0"),
        ({**ECHO, "priority": 5}, "71eca112122b9468"),
        ({**ECHO, "priority": "normal"}, "71eca112122b9468"),
        ({**ECHO, "timeout": 300}, "b14b044d2157c147"),
        ({"args": {"argv": ["true"]}, "key": "k"}, "f46abd8a8e62e1ef"),
        ({**ECHO, "type": "shell", "queue": "default"}, "71eca112122b9468"),
    ],
)  # fmt: skip
def test_the_digest_of_a_row_is_what_it_has_always_been(
    queue: JobQueue, row: dict[str, Any], digest: str
) -> None:
    """Or all rows that were imported before would be taken for other ones."""
    queue.create_queue("lane")
    assert validator(queue).check(row).digest == digest


@pytest.mark.parametrize(
    ("row", "digest"),
    [
        ({"argv": '["echo", "hi"]', "key": "k", "retries": "7", "tag.a": "1", "env.X": "y",
          "delay": "5", "after": "1 x", "priority": "low"}, "d74904b86f796480"),
        ({"type": "metadata_extraction", "args.path": "/a.mkv", "key": "k", "timeout": "1h",
          "as_is": "1", "tags": '{"b": "c"}'}, "564a1088f230b0e8"),
    ],
)  # fmt: skip
def test_the_digest_of_a_row_of_a_table_is_what_it_has_always_been(
    queue: JobQueue, row: dict[str, Any], digest: str
) -> None:
    assert validator(queue, texts=True).check(row).digest == digest


def test_a_row_is_plain_values_with_every_default_filled_in(queue: JobQueue) -> None:
    row = validator(queue).check({**ECHO, "delay": 60, "after": ["x", 3], "after_fail": "y"})
    assert (row.type, row.queue, row.priority, row.timeout) == ("shell", "default", 5, None)
    assert (row.max_retries, row.retry_base, row.tags, row.as_is) == (3, 10.0, None, False)
    assert row.run_at == NOON.timestamp() + 60
    assert row.refs == [("x", "succeeded"), (3, "succeeded"), ("y", "failed")]


def test_each_column_is_reported_once_and_in_its_own_words(queue: JobQueue) -> None:
    row = {
        "argv": ["a"], "env": "X", "queue": 5, "retries": "x", "unique": 1, "at": 5, "nope": 1,
        "after": 1.5, "as_is": "?", "key": "",
    }  # fmt: skip
    with pytest.raises(InvalidRow) as raised:
        validator(queue).check(row)
    found = dict(raised.value.columns)
    assert len(found) == len(raised.value.columns)
    assert found.keys() == row.keys() - {"argv"}
    assert found["queue"] == "expected text, got 5"
    assert found["retries"].startswith("'x': give a whole number")
    assert found["unique"].startswith("1: give text")
    assert found["after"].startswith("expected a list of ids and keys")


def test_options_are_refused_before_there_is_a_row(queue: JobQueue) -> None:
    require_options(queue, JobSpec(args={"argv": []}, after=["any"]), NOON)
    for wrong in (JobSpec(type="nope"), JobSpec(priority=10), JobSpec(tags={"a b": "c"})):
        with pytest.raises(UsageError):
            require_options(queue, wrong, NOON)
    with pytest.raises(NotFound, match="nowhere"):
        require_options(queue, JobSpec(queue="nowhere"), NOON)
