"""Holds: how many jobs may run while the host is short of something, and what is said of it."""

import errno
import os
from pathlib import Path

import pytest

from jobq import JobQueue
from jobq.execution.hold import QUIET_S, RETRY_INTERVAL_S, Hold, reason_to_wait
from tests.support.log_owners import owner


class Scene:
    """A hold, the time, and what was said."""

    def __init__(self, slots: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.said: list[str] = []
        monkeypatch.setattr("jobq.execution.hold.steady_time", lambda: self.now)
        self.hold = Hold(slots, self.said.append)


def test_what_runs_goes_on_and_one_more_is_tried_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(20, monkeypatch)
    assert scene.hold.limit == 20
    scene.hold.refused(5, "no processes")
    assert (scene.hold.is_on, scene.hold.limit) == (True, 5)
    scene.hold.started(5)  # in the place of one that has ended
    assert scene.hold.limit == 5
    scene.now += RETRY_INTERVAL_S
    assert scene.hold.limit == 6
    scene.hold.refused(5, "no processes")
    assert scene.hold.limit == 5
    assert scene.said == ["jobs wait, since no more can be started now: no processes"]


def test_a_hold_that_there_is_no_reason_for_any_more_ends_step_by_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(3, monkeypatch)
    scene.hold.refused(0, "no processes")
    assert scene.hold.limit == 0
    scene.now += RETRY_INTERVAL_S
    scene.hold.started(1)
    assert (scene.hold.is_on, scene.hold.limit) == (True, 3)
    scene.hold.started(2)
    assert scene.hold.limit == 3
    assert scene.said[1:] == ["there is room again: jobs are started"]


def test_a_hold_ends_after_a_while_although_few_jobs_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(100, monkeypatch)
    scene.hold.refused(0, "no processes")
    scene.now += QUIET_S + 1
    found = [scene.hold.is_on]  # nothing was tried
    scene.hold.started(1)
    found += [scene.hold.is_on]
    assert found == [True, False]
    assert scene.said[1:] == ["there is room again: jobs are started"]


@pytest.mark.parametrize(
    ("number", "name", "waits"),
    [
        (errno.EAGAIN, None, True),
        (errno.ENOSPC, None, True),
        (errno.EDQUOT, "logs/jobs/1", True),
        (errno.EIO, "logs/jobs/1/stdout.log", True),
        (errno.EROFS, "logs/jobs/1/stdout.log", True),
        (errno.EIO, "/mnt/of-the-job/input", False),
        (errno.EACCES, "logs/jobs/1/stdout.log", False),  # which the job has taken away itself
        (errno.ENOENT, "/no/such/program", False),
    ],
)
def test_a_job_waits_for_the_host_and_not_for_what_is_its_own(
    queue: JobQueue, number: int, name: str | None, waits: bool
) -> None:
    queue.logs.create(owner(1)).close()
    path = None if name is None else str(queue.logs.root.parent / name)
    error = OSError(number, os.strerror(number), path)
    assert (reason_to_wait(error, queue.logs) is not None) is waits


def test_a_job_waits_for_a_place_for_its_logs(queue: JobQueue, tmp_path: Path) -> None:
    error = OSError(errno.EACCES, "Permission denied", str(queue.logs.root / "jobs" / "1"))
    queue.logs.create(owner(1)).close()
    assert reason_to_wait(error, queue.logs) is None
    os.rename(queue.logs.root / "jobs", tmp_path / "away")
    (queue.logs.root / "jobs").symlink_to(tmp_path / "away")
    assert "make it a directory that you can write to" in (reason_to_wait(error, queue.logs) or "")
