"""A clock that stands still, and a project's queue with a jobq.toml of the test's own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from textwrap import dedent

import pytest
from freezegun import freeze_time
from freezegun.api import FrozenDateTimeFactory

from jobq import JobQueue
from tests.support.queues import NOON


@pytest.fixture
def clock() -> Iterator[FrozenDateTimeFactory]:
    with freeze_time(NOON) as frozen:
        assert isinstance(frozen, FrozenDateTimeFactory)
        yield frozen


@pytest.fixture
def configured(project: Path) -> Iterator[Callable[[str], JobQueue]]:
    """Opens the project's queue with this jobq.toml."""
    with ExitStack() as stack:

        def opened(text: str) -> JobQueue:
            (project / "jobq.toml").write_text(dedent(text))
            return stack.enter_context(JobQueue.open(project / "jobq.toml"))

        yield opened
