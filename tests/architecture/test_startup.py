"""Start-up time: hot verbs import nothing heavy."""

import subprocess
import sys
from pathlib import Path

import pytest

from jobq import JobQueue
from jobq.cli.command_table import VERBS

HEAVY = {"typer", "pydantic", "rich", "sqlite_utils", "asyncio", "psutil", "redis"}
"""Modules that hot verbs do not import: each takes as long as everything else, or longer."""

SLOW = {"random", "shutil", "traceback"}
"""Modules that `jobq add` does not import either: scripts call it a thousand times."""


WEB = {"fastapi", "starlette", "uvicorn", "jwt", "prometheus_client", "httptools", "httpx2"}
"""Libraries of the HTTP API: only `serve` and `web` import them, and `token` imports jwt."""


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
    imported = packages(done.stderr)
    assert "jobq" in imported
    assert not imported & HEAVY
    assert words[0] != "add" or not imported & SLOW


def packages(importtime: str) -> set[str]:
    """Return the packages in what `-X importtime` prints."""
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in importtime.splitlines()}


def test_no_verb_but_those_of_the_web_imports_its_libraries(project: Path) -> None:
    others = [verb for verb in VERBS if verb not in ("serve", "web", "token")]
    modules = ", ".join([*map(VERBS.__getitem__, others), "jobq.cli.commands.serve"])
    script = f"import {modules}, jobq.queue, jobq.execution.supervisor"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", script],
        cwd=project,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert not packages(done.stderr) & WEB


def test_making_a_token_imports_no_server(project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "jobq", "token", "list"],
        cwd=project,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert packages(done.stderr) & WEB == {"jwt"}
