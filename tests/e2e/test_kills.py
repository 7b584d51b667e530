"""Killed at any step, an operation leaves everything in order."""

import subprocess
import sys

import pytest

from tests.support.paths import ROOT
from tools.soak.kills.operations import OPERATIONS

LONG = ["create", "migrate"]
GROUPS = {
    "a new database": LONG,
    "verbs": [name for name in OPERATIONS if name not in (*LONG, "work")],
    "work": ["work", "--every", "15"],  # each time, a whole supervisor
}


def kills(*args: str) -> str:
    """Run them in a process of their own, which has no threads when it forks."""
    done = subprocess.run(
        [sys.executable, "-m", "tools.soak.kills", *args],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("group", GROUPS)
def test_killed_wherever_it_matters_everything_is_in_order(group: str) -> None:
    """Before each step that finds something changed; without ``--brief``, before any."""
    assert " 0 failures" in kills("--brief", *GROUPS[group])


def test_torn_by_a_power_cut_everything_is_in_order() -> None:
    assert " 0 failures" in kills("finish", "--torn", "--every", "4")
