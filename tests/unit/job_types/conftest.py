"""A folder of workers, and none that come with jobq."""

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from jobq.job_types import registry
from tests.unit.job_types.worker_files import HEAD, Write


@pytest.fixture(autouse=True)
def nothing_bundled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    (tmp_path / "bundled").mkdir()
    monkeypatch.setattr(registry, "bundled_folder", lambda: tmp_path / "bundled")
    yield
    for name in [name for name in sys.modules if name.startswith("jobq_project_workers")]:
        del sys.modules[name]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_one(name: str, text: str) -> Path:
        file = tmp_path / "workers" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(HEAD + dedent(text))
        return file

    return write_one
