"""Names and helpers shared by the tests of the bundled workers."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobq.testing import Run

Clean = Callable[..., Run]
Download = Callable[..., Run]
Channel = Callable[..., Run]
Extract = Callable[..., Run]

LEAKY = pytest.mark.filterwarnings(
    "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"
)
"""Goes with the fixture `leaky`."""

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def make_file(path: Path, *, age: timedelta = timedelta(0), size: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    then = (datetime.now(UTC) - age).timestamp()
    os.utime(path, (then, then))
    return path


def listed(done: Run) -> tuple[int, int, int]:
    """Return how many items a list had, how many were new, and how many were skipped."""
    assert done.error is None, done.error
    return done.result["found"], done.result["new"], done.result["skipped"]


def titles_in(folder: Path) -> list[str]:
    """Return the names of the files in a folder, without the ids."""
    return sorted(f"{path.name.partition(' [')[0]}{path.suffix}" for path in folder.iterdir())
