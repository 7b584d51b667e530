"""Scripts call ``jobq add`` a thousand times: what it must not import, it does not."""

import subprocess
import sys
from pathlib import Path

import pytest

from jobq import JobQueue

HEAVY = {"rich", "sqlite_utils", "asyncio"}
SLOW = {"typer", "pydantic", "shutil", "psutil"}
"""What a plain `jobq add` does without: each takes longer than the add itself."""


@pytest.mark.parametrize(
    "words",
    [
        ["add", "--", "true"],
        ["list"],
        ["show", "1"],
        ["tail", "1"],
        ["cancel", "1"],
        ["retry", "1"],
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
