"""The pytest plugin of jobq: a queue for each test that asks for one."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from jobq.queue import JobQueue


@pytest.fixture
def jobq_queue(request: pytest.FixtureRequest) -> "Iterator[JobQueue]":
    """Make a queue in a temporary directory, with the job types of the project: `jobq.testing.queue`."""
    from jobq import testing  # tests that do without it are spared it

    with testing.queue(project=request.config.rootpath) as queue:
        yield queue
