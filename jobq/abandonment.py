"""Calls that no one waits for any more: what they wait for is not waited for to the end."""

from collections.abc import Callable
from contextvars import ContextVar

_check: ContextVar[Callable[[], bool]] = ContextVar("check", default=lambda: False)


def set_check(check: Callable[[], bool]) -> None:
    """Have `is_abandoned` ask this, in the current context."""
    _check.set(check)


def is_abandoned() -> bool:
    """Return whether the call that runs in this context was abandoned by its caller."""
    return _check.get()()
