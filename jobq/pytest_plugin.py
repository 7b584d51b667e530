"""The pytest plugin of jobq: a queue for each test that asks for one, and imports from `workers`."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from jobq.queue import JobQueue


def pytest_configure(config: pytest.Config) -> None:
    """Let tests in a project import `workers.NAME`, which plain `pytest` does not find."""
    root = config.rootpath
    if (root / "jobq.toml").is_file() and str(root) not in sys.path:
        sys.path.insert(0, str(root))


@pytest.fixture
def jobq_queue(request: pytest.FixtureRequest) -> "Iterator[JobQueue]":
    """Make a queue in a temporary directory, with the job types of the project: `jobq.testing.queue`."""
    from jobq import testing  # tests that do without it are spared it

    with testing.queue(project=request.config.rootpath) as queue:
        yield queue
