"""The only reader of wall time: nothing else, and no SQL, reads a clock."""

import time
from datetime import UTC, datetime

_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux's CLOCK_MONOTONIC stops during suspend."""


def utcnow() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)


def steady_time() -> float:
    """Return seconds of a clock that is never set, and that runs on during suspend."""
    return time.clock_gettime(_STEADY)
