from typing import Any

import pytest

from jobq.jobs.search import Search
from jobq.limits import DROPPED_KEY
from jobq.models import Job, JobStatus, TextSearch
from jobq.redaction import Redactor
from tests.support.queues import NOON


def found(search: TextSearch, **fields: Any) -> bool:
    plain: dict[str, Any] = {
        "id": 1, "type": "fetch", "status": JobStatus.FAILED, "queue": "gpu", "priority": 5,
        "args": {}, "tags": {}, "max_retries": 3, "retry_base": 10.0, "created_at": NOON,
    }  # fmt: skip
    return Search(search).matches(Redactor().job(Job(**{**plain, **fields})))


ARGS = {
    "url": "https://Example.com/a",
    "sizes": [10, 2.5],
    "deep": {"list": [{"name": "żółw"}], "on": True, "none": None},
    "with.dot": "x1",
}


@pytest.mark.parametrize(
    ("path", "text", "matches"),
    [
        ("url", "EXAMPLE", True),
        ("url", "exam.le", False),
        ("sizes", "10 2.5", True),
        ("sizes.1", "2.5", True),
        ("sizes.1", "10", False),
        ("sizes.7", "10", False),
        ("sizes.-1", "2.5", False),
        ("deep.list.0.name", "ŻÓŁW", True),
        ("deep.list", "żółw", True),
        ("deep.on", "true", True),
        ("deep.none", "null", True),
        ("with.dot", "x1", True),
        ("with", "x1", False),
        ("missing", "x", False),
        ("url.more", "x", False),
    ],
)
def test_an_argument_is_found_by_its_path(path: str, text: str, matches: bool) -> None:
    assert found(TextSearch(args=((path, text),)), args=ARGS) is matches


@pytest.mark.parametrize(
    "word", ["fetch", "gpu", "a name", "the key", "exit code 3", "why", "batch=7", "2.5", "żółw"]
)
def test_words_are_found_anywhere(word: str) -> None:
    fields = {
        "name": "A Name", "unique_key": "the key", "error": "exit code 3", "reason": "Why",
        "tags": {"batch": "7"}, "args": ARGS,
    }  # fmt: skip
    assert found(TextSearch(words=(word, word.upper())), **fields)
    assert not found(TextSearch(words=(word, "nowhere")), **fields)


def test_names_and_errors_are_found_apart() -> None:
    fields = {"name": "one", "error": "two"}
    assert found(TextSearch(name=("ONE",), error=("tw", "wo")), **fields)
    assert not found(TextSearch(name=("two",)), **fields)
    assert not found(TextSearch(error=("one",)), **fields)
    assert not found(TextSearch(name=("x",)))
    assert not found(TextSearch(error=("x",)))


def test_large_arguments_and_captured_variables_are_not_searched() -> None:
    dropped = {DROPPED_KEY: "the arguments: more than 16,384 bytes"}
    assert not found(TextSearch(words=("arguments",)), args=dropped)
    assert not found(TextSearch(args=((DROPPED_KEY, "bytes"),)), args=dropped)
    command = {"argv": ["ffmpeg", "-i", "a b.mov"], "env": {"PATH": "/usr/bin"}}
    assert found(TextSearch(words=("ffmpeg -i a b.mov",)), type="shell", args=command)
    assert not found(TextSearch(words=("/usr/bin",)), type="shell", args=command)
    assert found(TextSearch(args=(("env.PATH", "/usr/bin"),)), type="shell", args=command)
    assert found(TextSearch(words=("/usr/bin",)), args=command)
