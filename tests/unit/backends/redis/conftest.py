"""A Redis store for each test."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from jobq.backends.redis.backend import RedisBackend
from tests.contract.driver import Jobs
from tests.unit.backends.redis.servers import Open


@pytest.fixture
def open_on(tmp_path: Path) -> Iterator[Open]:
    """Open backends on servers, and close them."""
    opened: list[RedisBackend] = []

    def open_one(url: str, clock: str = "caller") -> RedisBackend:
        opened.append(RedisBackend(url, tmp_path, clock=clock))
        return opened[-1]

    yield open_one
    for backend in opened:
        backend.close()


@pytest.fixture
def jobs(redis_url: str, open_on: Open) -> Jobs:
    return Jobs(lambda: open_on(redis_url))


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as opened:
        yield opened
