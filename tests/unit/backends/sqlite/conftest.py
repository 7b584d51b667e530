"""A SQLite database for each test."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from jobq.backends.sqlite.backend import SqliteBackend
from tests.contract.driver import Jobs


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobq.db"


@pytest.fixture
def jobs(path: Path) -> Iterator[Jobs]:
    with ExitStack() as stack:
        yield Jobs(lambda: stack.enter_context(closing(SqliteBackend(path))))
