"""The limits of a queue: where they come from, and what they may be. No I/O."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from jobq.config.settings import Settings
from jobq.errors import NotFound, UsageError
from jobq.jobs.validation import checked_number, checked_text
from jobq.limits import shown_value
from jobq.models import DEFAULT_QUEUE, Queue
from jobq.units import Rate, parse_limit, parse_priority, parse_rate

UNUSED_DEFAULT = Queue(name=DEFAULT_QUEUE)
"""The default queue as it is from the start: without limits, since it has not been used yet."""


def effective_queue(name: str, stored: Mapping[str, Queue], settings: Settings) -> Queue:
    """Return a queue as it is stored, or as jobq.toml describes it if it has not been used yet.

    Raises:
        NotFound: there is none of that name.
    """
    queue = stored.get(name)
    if queue is None or queue == UNUSED_DEFAULT:
        queue = settings.queues.get(name, queue)
    if queue is None:
        raise NotFound(f"no queue {name!r}: see `jobq queue list`, or `jobq queue create {name}`")
    return queue


def with_limits(queue: Queue, limits: Mapping[str, Any]) -> Queue:
    """Return a queue with these fields changed.

    Raises:
        UsageError: there is no such field, or its value is wrong.
    """
    known = Queue.__dataclass_fields__
    for name in limits:
        if name == "name" or name not in known:
            raise UsageError(f"a queue has no {name!r}: it has {', '.join(known)}")
    checked = dict(limits)
    for name, least in (("max_concurrent", 1), ("max_retries", 0)):
        if checked.get(name) is not None:
            checked_number(name, checked[name], least)
    checked_text("description", checked.get("description"))
    if not isinstance(checked.get("paused", False), bool):
        raise UsageError(f"paused {shown_value(checked['paused'])}: give True or False")
    if "priority" in checked:
        checked["priority"] = parse_priority(checked["priority"])
    if checked.get("timeout") is not None:
        checked["timeout"] = parse_limit(checked["timeout"])
    if isinstance(rate := checked.get("rate"), str):
        checked["rate"] = parse_rate(rate)
    elif rate is not None and not isinstance(rate, Rate):
        raise UsageError(f'rate {shown_value(rate)}: give text such as "10/min"')
    return replace(queue, **checked)
