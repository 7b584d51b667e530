"""Jobs as callers describe them, and statuses as they name them."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from jobq.errors import UsageError
from jobq.job_types import shell
from jobq.models import DEFAULT_QUEUE, Condition, JobStatus
from jobq.units import Duration

CONDITIONS = {
    "after": Condition.SUCCEEDED,
    "after_any": Condition.ENDED,
    "after_fail": Condition.FAILED,
    "after_one": Condition.ONE_SUCCEEDED,
}
"""The fields that name parents, and what is required of those."""


RUN_TAG = "jobq:run"
"""The tag of a job that `jobq run` added: its value is the supervisor that the job belongs to.

Such a job runs in the sight of the person or script that started it, or not at all: no other
supervisor runs it later.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """A job to add, as `add_many` takes it. What is None falls back to a default.

    ``after``, ``after_any`` and ``after_fail`` name parents that must have succeeded, ended or
    failed, ``after_one`` parents of which one must have succeeded: by id, or by the ``key`` of another job in the same call.
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
    after_one: Iterable[int | str] = ()
    at: datetime | None = None
    delay: Duration | None = None
    timeout: Duration | None = None
    max_retries: int | None = None
    retry_base: Duration | None = None
    added_by: int | None = None


_FIELDS = tuple(JobSpec.__dataclass_fields__)


def to_spec(spec: JobSpec | Mapping[str, Any]) -> JobSpec:
    """Return a job's description as a `JobSpec`.

    Raises:
        UsageError: it has an option that a job does not take.
    """
    if isinstance(spec, JobSpec):
        return spec
    try:
        return JobSpec(**spec)
    except TypeError:
        odd = ", ".join(key for key in spec if key not in _FIELDS)
        raise UsageError(f"no such option: {odd}: a job takes {', '.join(_FIELDS)}") from None


def given_fields(spec: JobSpec) -> dict[str, Any]:
    """Return the fields that a description gives, by name."""
    values = ((name, getattr(spec, name)) for name in _FIELDS)
    return {name: value for name, value in values if value is not None}


def with_lists(spec: JobSpec) -> JobSpec:
    """Return a description that can be read twice: an iterator of parents can't."""
    parents = ((name, getattr(spec, name)) for name in CONDITIONS)
    lists: dict[str, Any] = {n: list(each) for n, each in parents if isinstance(each, Iterator)}
    return replace(spec, **lists)


def digest_of(spec: JobSpec) -> str:
    """Return a digest that is equal for descriptions that give the same fields the same values."""
    from hashlib import sha256  # `add` does without

    text = json.dumps(given_fields(spec), sort_keys=True, default=_as_json)
    return sha256(text.encode()).hexdigest()


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, Iterable) else str(value)


def parse_statuses(
    status: str | JobStatus | Iterable[str | JobStatus] | None,
) -> frozenset[JobStatus] | None:
    """Return statuses by their names; None if none is named.

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
