import io
from collections.abc import Callable
from pathlib import Path

import pytest

from jobq import JobQueue
from tests.support.cli_runner import Cli


@pytest.fixture
def cli(
    queue: JobQueue,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Cli:
    """Return the command line of a project, which is the working directory."""
    monkeypatch.chdir(project)
    return Cli(queue, capsys)


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Return a function that pipes bytes in."""

    def pipe(data: bytes) -> None:
        source = io.BufferedReader(io.BytesIO(data))
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(source))

    return pipe
