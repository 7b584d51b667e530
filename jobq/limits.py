"""How much of anything is kept on a job, and what stands where the rest was. Pure."""

import json
from typing import Any, TypeVar

LONGEST_ARGS = 2_000_000
"""Bytes of JSON in a job's arguments: what is longer belongs in a file."""

LONGEST_RESULT = 1_000_000
"""Bytes of JSON in a result."""

LONGEST_ERROR = 10_000
"""Characters of an error or a reason; the whole is in stderr.log."""

LONGEST_MESSAGE = 200
"""Characters of a progress message."""

DEEPEST = 100
"""Lists and objects within each other."""

DROPPED = "jobq:dropped"
"""The only key of what stands where a result was."""

_Text = TypeVar("_Text", str, str | None)


def bounded_text(text: _Text, most: int) -> _Text:
    """A text of about ``most`` characters; what was longer says how much is left out."""
    if text is None or len(text) <= most:
        return text
    if text.endswith(_END) and len(text) <= most + _LONGEST_MARK:
        return text  # it has been through here before
    return f"{text[:most]}… ({len(text) - most:,}{_END}"


_END = " characters left out)"
_LONGEST_MARK = len(_END) + 40


def bounded_result(result: Any) -> Any:
    """A result; or where that is too large or nested too deep, an object that says so.

    Raises:
        TypeError: JSON can't hold it.
        ValueError: likewise.
    """
    if is_too_deep(result):
        return {DROPPED: f"the result: nested more than {DEEPEST} deep"}
    if (size := json_size(result)) > LONGEST_RESULT:
        kept = f"at most {LONGEST_RESULT:,} are kept"
        return {DROPPED: f"the result: {size:,} bytes, and {kept}: write it to a file"}
    return result


def json_size(value: Any) -> int:
    """The bytes that a value takes as JSON.

    Raises:
        TypeError: JSON can't hold it.
        ValueError: likewise.
    """
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def is_too_deep(value: Any, left: int = DEEPEST) -> bool:
    """Whether a JSON value has more than so many lists and objects within each other."""
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return False
    return left == 0 or any(is_too_deep(below, left - 1) for below in value)


MOST = 1_000_000_000
"""The largest number of anything; larger ones are typing errors, and overflow the database."""
