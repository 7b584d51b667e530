"""Every backend, through the same tests: a line in BACKENDS adds another one."""

from collections.abc import Callable, Iterator
from hashlib import sha1
from pathlib import Path

import pytest

from jobq.backends.base import Backend
from jobq.backends.redis.backend import RedisBackend
from jobq.backends.sqlite.backend import SqliteBackend
from tests.contract.driver import Jobs
from tests.support.redis_server import SharedServer

_redis: SharedServer | None = None


def _on_redis(folder: Path) -> Backend:
    """Return a store of its own for each folder, on a server that the tests of this process share."""
    assert _redis is not None
    name = sha1(str(folder).encode()).hexdigest()
    return RedisBackend(f"{_redis.url}?name={name}", folder, clock="caller")


BACKENDS: dict[str, Callable[[Path], Backend]] = {
    "redis": _on_redis,
    "sqlite": lambda folder: SqliteBackend(folder / "jobq.db"),
}


@pytest.fixture(scope="session", autouse=True)
def _server(shared_redis: SharedServer) -> None:
    global _redis  # noqa: PLW0603 - the machines of the models find their backend by name alone
    _redis = shared_redis


@pytest.fixture(params=sorted(BACKENDS))
def open_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Backend]]:
    """Open the same store again and again, as one process after another does."""
    opened: list[Backend] = []

    def open_one() -> Backend:
        opened.append(BACKENDS[request.param](tmp_path))
        return opened[-1]

    yield open_one
    for backend in opened:
        backend.close()


@pytest.fixture
def backend(open_backend: Callable[[], Backend]) -> Backend:
    return open_backend()


@pytest.fixture
def jobs(open_backend: Callable[[], Backend]) -> Jobs:
    return Jobs(open_backend)
