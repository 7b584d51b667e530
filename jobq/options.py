"""The keyword options of verbs, for type checkers: nothing imports them when it runs.

Each has the fields of what it describes; a test compares them.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TypedDict

from jobq.models import TextSearch
from jobq.units import Duration, Rate


class ChildOptions(TypedDict, total=False):
    """The options of a job that another one adds: the fields of `JobSpec` that are left to it."""

    key: str | None
    queue: str
    priority: int | str
    name: str | None
    tags: Mapping[str, str] | None
    unique: str | None
    after: Iterable[int | str]
    after_any: Iterable[int | str]
    after_fail: Iterable[int | str]
    after_one: Iterable[int | str]
    at: datetime | None
    delay: Duration | None
    timeout: Duration | None
    max_retries: int | None
    retry_base: Duration | None


class JobOptions(ChildOptions, total=False):
    """The options of `add`: the fields of `JobSpec` but for its type and arguments."""

    added_by: int | None


class QueueLimits(TypedDict, total=False):
    """The options of `create_queue` and `set_queue`: the fields of `Queue` but for its name."""

    description: str | None
    max_concurrent: int | None
    priority: int | str
    paused: bool
    rate: Rate | str | None
    timeout: Duration | None
    max_retries: int | None


class FilterFields(TypedDict, total=False):
    """The fields of `JobFilter` but for its statuses, which verbs take as ``status``."""

    ids: tuple[int, ...] | None
    queue: str | None
    type: str | None
    tags: Mapping[str, str]
    signature: str | None
    since: datetime | None
    until: datetime | None
    finished_before: datetime | None
    ended_since: datetime | None
    parent: int | None
    added_by: int | None
    after_id: int | None
    before_id: int | None
    text: TextSearch | None
