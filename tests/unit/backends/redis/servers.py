"""Keys of the Redis stores of tests, and what opens them."""

from collections.abc import Callable

from jobq.backends.redis.backend import RedisBackend

Open = Callable[..., RedisBackend]


TAG = "{jobq}:"


LINE = f"{TAG}w:5|default|shell"
