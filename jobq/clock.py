"""The only reader of wall time. Nothing else, and no SQL, asks what time it is."""

import time
from datetime import UTC, datetime

_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux's CLOCK_MONOTONIC stands still while the machine sleeps."""


def utcnow() -> datetime:
    """The time now, aware, in UTC."""
    return datetime.now(UTC)


def steady_time() -> float:
    """Seconds by a clock that nobody sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(_STEADY)
