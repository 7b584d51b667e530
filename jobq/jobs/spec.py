"""What may be asked for: a job to add, a choice of statuses. Checks, and no I/O."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import UnionType
from typing import Any

from jobq.errors import ArgsError, UsageError
from jobq.job_types import shell
from jobq.limits import MAX_ARGS_BYTES, MAX_COUNT, MAX_DEPTH, is_too_deep, json_size
from jobq.models import (
    DEFAULT_QUEUE,
    Condition,
    JobStatus,
    JsonObject,
    NewJob,
    ParentRef,
)
from jobq.redaction import REDACTED, is_redacted
from jobq.units import parse_duration, require_sane

Duration = float | int | str | timedelta


MOST_TAGS = 100
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """A job to add, as `add_many` takes it. What is None falls back to a default.

    ``after``, ``after_any`` and ``after_fail`` name parents that must have succeeded, ended or
    failed: by id, or by the ``key`` of another job in the same call.
    """

    type: str = shell.JOB_TYPE
    args: Mapping[str, Any] | None = None
    key: str | None = None
    queue: str = DEFAULT_QUEUE
    priority: int | str = 5
    name: str | None = None
    tags: Mapping[str, str] | None = None
    unique: str | None = None
    after: Iterable[int | str] = ()
    after_any: Iterable[int | str] = ()
    after_fail: Iterable[int | str] = ()
    at: datetime | None = None
    delay: Duration | None = None
    timeout: Duration | None = None
    max_retries: int | None = None
    retry_base: Duration | None = None
    added_by: int | None = None

    def parents(self) -> list[tuple[int | str, Condition]]:
        """Every parent with its condition."""
        pairs = (
            (self.after, Condition.SUCCEEDED),
            (self.after_any, Condition.ENDED),
            (self.after_fail, Condition.FAILED),
        )
        return [(ref, condition) for refs, condition in pairs for ref in _refs(refs)]


def parse_statuses(
    status: str | JobStatus | Iterable[str | JobStatus] | None,
) -> frozenset[JobStatus] | None:
    """Statuses by name; None if none is named.

    Raises:
        UsageError: one of them is no status.
    """
    if status is None:
        return None
    names = [status] if isinstance(status, str) else list(status)
    try:
        return frozenset(JobStatus(name) for name in names)
    except ValueError:
        known = ", ".join(JobStatus)
        raise UsageError(f"unknown status in {names}: known are {known}") from None


def to_spec(spec: JobSpec | Mapping[str, Any]) -> JobSpec:
    if isinstance(spec, JobSpec):
        return spec
    try:
        return JobSpec(**spec)
    except TypeError:
        known = JobSpec.__dataclass_fields__
        odd = ", ".join(key for key in spec if key not in known)
        raise UsageError(f"no such option: {odd}: a job takes {', '.join(known)}") from None


_SHAPES: tuple[tuple[str, type | UnionType, str], ...] = (
    ("type", str, "text"),
    ("queue", str, "text"),
    ("key", str | None, "text"),
    ("args", Mapping | None, "an object"),
    ("tags", Mapping | None, "an object of texts"),
    ("at", datetime | None, "a datetime"),
)


def require_shape(spec: JobSpec) -> None:
    """Refuse values that nothing could be made of, as a file of jobs may have them."""
    for name, kind, what in _SHAPES:
        value = getattr(spec, name)
        if not isinstance(value, kind):
            raise UsageError(f"{name}: expected {what}, got {value!r:.80}")


def _refs(refs: Any) -> list[int | str]:
    if isinstance(refs, str | Mapping) or not isinstance(refs, Iterable):
        raise UsageError(f"after: expected a list of ids and keys, got {refs!r:.80}")
    found = list(refs)
    for ref in found:
        if isinstance(ref, bool) or not isinstance(ref, int | str):
            raise UsageError(f"parent {ref!r:.80}: give the id or the key of a job")
    return found


def checked_number(what: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_COUNT:
        raise UsageError(
            f"{what} {value!r:.80}: give a whole number of at least {least} and at most {MAX_COUNT:,}"
        )


def first_given(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def checked_json(what: str, value: Any, kind: type[UsageError] = UsageError) -> int:
    """The bytes that a value takes as JSON; refused if JSON can't hold it."""
    try:
        return json_size(value)
    except RecursionError:
        raise kind(f"{what}: nested more than {MAX_DEPTH} deep") from None
    except (TypeError, ValueError) as error:
        raise kind(f"{what}: JSON can't hold it: {error!s:.80}") from None


def checked_args(job_type: str, args: JsonObject) -> JsonObject:
    """Arguments as they are stored, refused if they are too large or were redacted."""
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


def checked_text(what: str, text: str | None) -> str | None:
    if text is None:
        return None
    if not isinstance(text, str) or "\0" in text or len(text) > 1000:
        raise UsageError(f"{what} {text!r:.80}: give text of up to 1,000 characters without NUL")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{what} {text!r:.80}: not valid UTF-8") from None
    return text


def checked_tags(tags: Mapping[str, str]) -> dict[str, str]:
    if len(tags) > MOST_TAGS:
        raise UsageError(f"{len(tags):,} tags: a job takes at most {MOST_TAGS}")
    for key, value in tags.items():
        if not isinstance(key, str) or not _TAG.fullmatch(key):
            raise UsageError(
                f"tag {key!r:.80}: a key is made of letters, digits, '_', '.', ':', '-'"
            )
        if checked_text(f"tag {key}", value) is None:
            raise UsageError(f"tag {key}: expected text, got null")
    return dict(tags)


def run_at_of(spec: JobSpec, now: datetime) -> datetime | None:
    if spec.at is not None:
        if spec.at.tzinfo is None:
            raise UsageError(f"at={spec.at.isoformat()}: give a time with a time zone")
        try:
            at = spec.at.astimezone(UTC)
        except OverflowError:
            at = spec.at
        return require_sane(at)
    if spec.delay is not None:
        return now + timedelta(seconds=parse_duration(spec.delay))
    return None


def keys_of(specs: Sequence[JobSpec]) -> dict[str, int]:
    keys: dict[str, int] = {}
    for place, spec in enumerate(specs):
        if spec.key is not None:
            if spec.key in keys:
                raise UsageError(f"key {spec.key!r} is given to two jobs")
            keys[spec.key] = place
    return keys


def parent_refs(spec: JobSpec, keys: Mapping[str, int]) -> tuple[ParentRef, ...]:
    refs: dict[int | str, ParentRef] = {}
    for ref, condition in spec.parents():
        if ref in refs and refs[ref].condition is not condition:
            raise UsageError(f"parent {ref} is named with two conditions: choose one")
        if isinstance(ref, str):
            if ref not in keys:
                raise UsageError(f"no job in this batch has the key {ref!r}")
            refs[ref] = ParentRef(condition=condition, index=keys[ref])
        else:
            refs[ref] = ParentRef(condition=condition, id=ref)
    return tuple(refs.values())


def parents_first(new: Sequence[NewJob]) -> Sequence[int]:
    """The places of jobs in an order in which parents come before children."""
    if all(
        ref.index is None or ref.index < place
        for place, job in enumerate(new)
        for ref in job.parents
    ):
        return range(len(new))
    from graphlib import CycleError, TopologicalSorter

    graph = {
        place: [ref.index for ref in job.parents if ref.index is not None]
        for place, job in enumerate(new)
    }
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = " → ".join(new[place].name or f"#{place + 1}" for place in error.args[1])
        raise UsageError(f"jobs wait for each other in a circle: {circle:.1000}") from None
