"""Start-up time: hot verbs import nothing heavy."""

import subprocess
import sys
from pathlib import Path

import pytest

from jobq import JobQueue

HEAVY = {"typer", "pydantic", "rich", "sqlite_utils", "asyncio", "psutil", "redis"}
"""Modules that hot verbs do not import: each takes as long as everything else, or longer."""

SLOW = {"random", "shutil", "traceback"}
"""Modules that `jobq add` does not import either: scripts call it a thousand times."""


@pytest.mark.parametrize(
    "words",
    [
        ["add", "--", "true"],
        ["list"],
        ["show", "1"],
        ["tail", "1"],
        ["cancel", "1"],
        ["retry", "1"],
        ["wait", "1", "--timeout", "0"],
        ["explain", "1"],
        ["stats"],
    ],
    ids=lambda words: words[0],
)
def test_hot_verbs_import_nothing_heavy(project: Path, queue: JobQueue, words: list[str]) -> None:
    queue.add("shell", {"argv": ["true"]})
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "jobq", *words],
        cwd=project,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    imported = {
        line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()
    }
    assert "jobq" in imported
    assert not imported & HEAVY
    assert words[0] != "add" or not imported & SLOW
