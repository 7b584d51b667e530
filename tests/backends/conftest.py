"""Every backend, through the same tests: another one joins by a line in BACKENDS."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backends.driver import Jobs
from jobq.backends.base import Backend
from jobq.backends.sqlite import SqliteBackend

BACKENDS: dict[str, Callable[[Path], Backend]] = {
    "sqlite": lambda folder: SqliteBackend(folder / "jobq.db"),
}


@pytest.fixture(params=sorted(BACKENDS))
def open_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Backend]]:
    """Opens the same store again and again, as one process after another does."""
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
