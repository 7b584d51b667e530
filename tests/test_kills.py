"""Killed at any step, an operation leaves everything in order. `make soak` tries every step."""

import subprocess
import sys
from pathlib import Path

import pytest

from kills.operations import OPERATIONS

EVERY = {"work": "40"}
"""Here, only every so many steps of an operation are tried: a whole supervisor takes a while."""


def kills(*args: str) -> str:
    """Run them in a process of their own, which has no threads when it forks."""
    done = subprocess.run(
        [sys.executable, "-m", "kills", *args],
        cwd=Path(__file__).parent,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("operation", OPERATIONS)
def test_killed_at_any_step_everything_is_in_order(operation: str) -> None:
    assert " 0 failures" in kills(operation, "--every", EVERY.get(operation, "7"))


def test_torn_by_a_power_cut_everything_is_in_order() -> None:
    assert " 0 failures" in kills("finish", "--torn", "--every", "4")
