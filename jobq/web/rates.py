"""Rates: a token bucket for each key."""

import time
from collections import OrderedDict
from collections.abc import Callable

from jobq.units import Rate

MAX_BUCKETS = 10_000
"""Keys remembered; one that was forgotten has a full bucket again."""


class RateLimiter:
    """Buckets that fill at a rate, and hold a burst."""

    def __init__(self, rate: Rate, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = rate.count / rate.seconds
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> float:
        """Take one from a bucket; return 0.0, or the seconds until there is one."""
        now = self._clock()
        left, at = self._buckets.pop(key, (float(self._burst), now))
        left = min(self._burst, left + (now - at) * self._per_second)
        wait = 0.0 if left >= 1 else (1 - left) / self._per_second
        self._buckets[key] = (left if wait else left - 1, now)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        return wait
