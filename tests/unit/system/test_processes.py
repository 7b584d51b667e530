"""Ending the processes of attempts."""

import subprocess

import pytest

from jobq.system import processes
from jobq.system.processes import ProcessTree, kill_all, start_time


def test_many_attempts_are_ended_with_as_many_looks_around_as_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A look takes as long as the machine has processes; a dead supervisor had many attempts."""
    looks = []

    def counted() -> processes.Snapshot:
        looks.append(1)
        return look()

    look = processes.snapshot
    monkeypatch.setattr(processes, "snapshot", counted)
    script = "setsid sleep 600 & wait"
    started = [subprocess.Popen(["sh", "-c", script], start_new_session=True) for _ in range(12)]
    kill_all([ProcessTree("me", each.pid, 1, each.pid, start_time(each.pid)) for each in started])
    assert [each.wait(20) for each in started] == [-9] * 12
    assert len(looks) < 12
