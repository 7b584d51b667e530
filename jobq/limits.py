"""Size limits of what is kept on a job, and of what is shown; values are cut to them. Pure."""

import json
from collections.abc import Collection
from itertools import islice
from typing import Any, TypeVar

MAX_ARGS_BYTES = 2_000_000
"""As JSON. Longer arguments belong in a file."""

MAX_RESULT_BYTES = 1_000_000
"""As JSON."""

MAX_ERROR_CHARS = 10_000
"""Of an error or a reason; the whole error is in stderr.log."""

MAX_MESSAGE_CHARS = 200
"""Of a progress message."""

MAX_DEPTH = 100
"""Levels of lists and objects within each other."""

MAX_COUNT = 1_000_000_000
"""The largest count that an option takes: larger ones are typing errors, and overflow the database."""

MAX_ID = 2**63 - 1
"""The largest id that a store can hold."""

MAX_AMOUNT = 10.0**18
"""Of progress: more is an error of counting, and text of hundreds of digits."""

MAX_LISTED = 5
"""Most jobs, supervisors or names that a sentence lists; a job may have 100,000 parents."""

DROPPED_KEY = "jobq:dropped"
"""The only key of the object that stands in for a result that was too large."""

_CUT_END = " characters left out)"
_MAX_CUT_CHARS = len(_CUT_END) + 40

_Text = TypeVar("_Text", str, str | None)


def bounded_text(text: _Text, max_chars: int) -> _Text:
    """Return the text, cut to about ``max_chars`` characters; its end says how many were left out."""
    if text is None or len(text) <= max_chars:
        return text
    if text.endswith(_CUT_END) and len(text) <= max_chars + _MAX_CUT_CHARS:
        return text  # cut already
    return f"{text[:max_chars]}… ({len(text) - max_chars:,}{_CUT_END}"


def listed(items: Collection[object]) -> str:
    """Return items joined by commas: the first `MAX_LISTED`, and how many more there are."""
    more = len(items) - MAX_LISTED
    shown = ", ".join(map(str, islice(items, MAX_LISTED)))
    return f"{shown} and {more:,} more" if more > 0 else shown


def shown_value(value: object) -> str:
    """Return what an error shows of a value of whatever type; Python can't write every number out."""
    try:
        return f"{value!r:.80}"
    except ValueError:
        return "of thousands of digits"


def bounded_result(result: Any) -> Any:
    """Return the result; if it is too large or nested too deep, an object that says so.

    Raises:
        TypeError: JSON can't hold it.
        ValueError: likewise.
    """
    if is_too_deep(result):
        return {DROPPED_KEY: f"the result: nested more than {MAX_DEPTH} deep"}
    if (size := json_size(result)) > MAX_RESULT_BYTES:
        kept = f"at most {MAX_RESULT_BYTES:,} are kept"
        return {DROPPED_KEY: f"the result: {size:,} bytes, and {kept}: write it to a file"}
    return result


def json_size(value: Any) -> int:
    """Return the number of bytes of a value as JSON.

    Raises:
        TypeError: JSON can't hold it.
        ValueError: likewise.
    """
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def is_too_deep(value: Any, levels: int = MAX_DEPTH) -> bool:
    """Return whether a JSON value has more than ``levels`` lists and objects within each other."""
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return False
    return levels == 0 or any(is_too_deep(below, levels - 1) for below in value)
