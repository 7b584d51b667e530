"""The rules for single values of a job: what each may be. Each raises `UsageError` if broken."""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from types import NoneType
from typing import Any

from jobq.errors import ArgsError, UsageError
from jobq.job_types import shell
from jobq.limits import (
    MAX_ARGS_BYTES,
    MAX_COUNT,
    MAX_DEPTH,
    MAX_ID,
    is_too_deep,
    json_size,
    shown_value,
)
from jobq.models import JobFilter, JsonObject
from jobq.redaction import is_redacted
from jobq.secret_text import REDACTED
from jobq.units import require_sane

MAX_TAGS = 100
MAX_TEXT_CHARS = 1000
"""Of names, keys, tags and reasons."""

_ENDLESS = 10**100
"""From here on, a number is too long to be shown in a message."""

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,63}")

_SHAPES: Mapping[str, tuple[tuple[type, ...], str]] = {
    "type": ((str,), "text"),
    "queue": ((str,), "text"),
    "key": ((str, NoneType), "text"),
    "args": ((dict, Mapping), "an object"),  # dict first: it is the quick one to tell
    "message": ((str,), "text"),
    "error": ((str,), "text"),
    "tags": ((dict, Mapping), "an object of texts"),
}


def checked_shape(field: str, value: Any) -> Any:
    """Return the value of a field, refused if it is of a type that the field can't have."""
    kinds, what = _SHAPES[field]
    if not isinstance(value, kinds):
        raise UsageError(f"{field}: expected {what}, got {shown_value(value)}")
    return value


def checked_text(what: str, text: str | None) -> str | None:
    """Return a short text, refused if it could not be stored or shown."""
    if text is None:
        return None
    if not isinstance(text, str) or "\0" in text or len(text) > MAX_TEXT_CHARS:
        raise UsageError(
            f"{what} {_shown(text)}: give text of up to {MAX_TEXT_CHARS:,} characters without NUL"
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{what} {text!r:.80}: not valid UTF-8") from None
    return text


def checked_unique(key: str | None) -> str | None:
    """Return a unique key. An empty one is a variable that was not set: jobs must not share it."""
    if key == "":
        raise UsageError("unique key '': give text, or leave it out")
    return checked_text("unique key", key)


def _shown(value: Any) -> str:
    """Return what an error shows of what should have been a short text: no part of a secret."""
    if isinstance(value, str):
        return f"of {len(value):,} characters" if len(value) > MAX_TEXT_CHARS else repr(value)[:80]
    return (
        f"that is a {type(value).__name__}"
        if isinstance(value, list | dict)
        else shown_value(value)
    )


def checked_number(what: str, value: Any, least: int) -> int:
    """Return a whole number, refused if it is less than ``least`` or absurdly large."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_COUNT:
        raise UsageError(
            f"{what} {shown_value(value)}: give a whole number of at least {least} "
            f"and at most {MAX_COUNT:,}"
        )
    return value


def checked_ids(ids: Iterable[Any]) -> None:
    """Refuse what can't be the id of a job. One that is too large is only that of no job."""
    for job_id in ids:
        if isinstance(job_id, bool) or not isinstance(job_id, int) or job_id >= _ENDLESS:
            raise UsageError(f"id {shown_value(job_id)}: give a whole number")


def checked_id(what: str, job_id: Any) -> int:
    """Return a number to compare ids with, refused if no store could hold it."""
    if isinstance(job_id, bool) or not isinstance(job_id, int) or abs(job_id) > MAX_ID:
        raise UsageError(f"{what} {shown_value(job_id)}: give a whole number of at most {MAX_ID:,}")
    return job_id


def checked_filter(jobs: JobFilter, limit: int | None = None) -> JobFilter:
    """Return a selection of jobs, refused if it, or the most to take of it, can't be meant."""
    if limit is not None:
        checked_number("limit", limit, 0)
    checked_ids(jobs.ids or ())
    for what, job_id in (("after_id", jobs.after_id), ("before_id", jobs.before_id)):
        if job_id is not None:
            checked_id(what, job_id)
    for what in ("since", "until", "finished_before"):
        if getattr(jobs, what) is not None:
            _require_zone(what, getattr(jobs, what))
    for what in ("queue", "type"):
        if getattr(jobs, what) is not None:
            checked_shape(what, getattr(jobs, what))
    checked_shape("tags", jobs.tags)
    return jobs


def checked_owner(owner: Any) -> str:
    """Return the name of a worker of one's own."""
    if not isinstance(owner, str) or not owner:
        raise UsageError(f"owner {shown_value(owner)}: give a name of its own to each worker")
    checked_text("owner", owner)
    return owner


def checked_tags(tags: Any) -> dict[str, str]:
    """Return tags, refused if there are too many or one is malformed."""
    checked_shape("tags", tags)
    if len(tags) > MAX_TAGS:
        raise UsageError(f"{len(tags):,} tags: a job takes at most {MAX_TAGS}")
    for key, value in tags.items():
        if not isinstance(key, str) or not _TAG.fullmatch(key):
            raise UsageError(
                f"tag {shown_value(key)}: a key is made of letters, digits, '_', '.', ':', '-'"
            )
        if checked_text(f"tag {key}", value) is None:
            raise UsageError(f"tag {key}: expected text, got null")
    return dict(tags)


def checked_moment(at: Any) -> datetime:
    """Return a time in UTC, refused without a time zone."""
    _require_zone("at", at)
    with suppress(OverflowError):  # of the first year or the last, which is refused
        at = at.astimezone(UTC)
    return require_sane(at)


def _require_zone(what: str, moment: Any) -> None:
    if not isinstance(moment, datetime):
        raise UsageError(f"{what}: expected a datetime, got {shown_value(moment)}")
    if moment.tzinfo is None:
        raise UsageError(f"{what}={moment.isoformat()}: give a time with a time zone")


def checked_refs(field: str, refs: Any) -> list[int | str]:
    """Return the parents that a field names: ids and keys."""
    if isinstance(refs, str | Mapping) or not isinstance(refs, Iterable):
        raise UsageError(f"{field}: expected a list of ids and keys, got {shown_value(refs)}")
    found = list(refs)
    for ref in found:
        if isinstance(ref, str) and ref:
            checked_text("key", ref)
        elif isinstance(ref, int) and not isinstance(ref, bool):
            checked_number("id", ref, 1)
        else:
            raise UsageError(f"parent {shown_value(ref)}: give the id or the key of a job")
    return found


def checked_json(what: str, value: Any, kind: type[UsageError] = UsageError) -> int:
    """Return the bytes that a value takes as JSON, refused if JSON can't hold it."""
    try:
        return json_size(value)
    except RecursionError:
        raise kind(f"{what}: nested more than {MAX_DEPTH} deep") from None
    except (TypeError, ValueError) as error:
        raise kind(f"{what}: JSON can't hold it: {error!s:.80}") from None


def checked_args(job_type: str, args: JsonObject) -> JsonObject:
    """Return arguments as they are stored, refused if they are too large or were redacted."""
    what = f"{job_type}: the arguments"
    if job_type != shell.JOB_TYPE:  # which has a form of its own, and bounds that the system sets
        if is_too_deep(args):
            raise ArgsError(f"{what}: nested more than {MAX_DEPTH} deep: put them in a file")
        size = checked_json(what, args, ArgsError)
        if size > MAX_ARGS_BYTES:
            raise ArgsError(
                f"{what}: {size:,} bytes, and a job takes at most {MAX_ARGS_BYTES:,}: "
                "put the data in a file, and give its path"
            )
    if is_redacted(args):
        raise ArgsError(
            f"{what}: {REDACTED} stands where a secret was: "
            "put the secret there, or export with --with-secrets"
        )
    return args
