"""Signals that reach the right process and no other, and the end of the processes of attempts."""

import errno
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobq.config.environment import SUPERVISOR_VAR
from jobq.system import processes
from jobq.system.processes import (
    ProcessTree,
    kill_all,
    kill_workers,
    send_signal,
    signal_group,
    start_time,
)

Sleeper = subprocess.Popen[bytes]


@pytest.fixture
def sleeper() -> Iterator[Sleeper]:
    """A process that leads a group of its own."""
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


@pytest.fixture(params=["pidfd", "missing", errno.ENOSYS, errno.EPERM, errno.EMFILE])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system with pidfd, and those without: macOS, an old kernel, a sandbox, too many files."""
    if request.param == "pidfd":
        if not hasattr(os, "pidfd_open"):
            pytest.skip("this system has no pidfd")
    elif request.param == "missing":
        monkeypatch.delattr(os, "pidfd_open", raising=False)
        monkeypatch.delattr(signal, "pidfd_send_signal", raising=False)
    else:

        def refuse(*_: object) -> int:
            raise OSError(request.param, os.strerror(request.param))

        monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)


def is_alive(process: Sleeper) -> bool:
    return process.poll() is None


def replaced_at_the_look(
    sleeper: Sleeper, started: int | None, monkeypatch: pytest.MonkeyPatch
) -> list[object]:
    """Have a process end right after it was looked at, as if another got its pid then.

    Returns:
        The pids that were signalled by their number.
    """
    by_number: list[object] = []
    kill = os.kill

    def look_and_lose(_: int) -> int | None:
        kill(sleeper.pid, signal.SIGKILL)
        sleeper.wait()
        return started

    monkeypatch.setattr(processes, "start_time", look_and_lose)
    monkeypatch.setattr(os, "kill", lambda *given: by_number.append(given))
    monkeypatch.setattr(os, "killpg", lambda *given: by_number.append(given))
    return by_number


# -- one process -------------------------------------------------------------------------------


@pytest.mark.usefixtures("system")
def test_a_process_gets_a_signal(sleeper: Sleeper) -> None:
    send_signal(sleeper.pid, start_time(sleeper.pid), signal.SIGTERM)
    assert sleeper.wait(20) == -signal.SIGTERM


@pytest.mark.usefixtures("system")
def test_a_process_that_started_at_another_time_gets_none(sleeper: Sleeper) -> None:
    started = start_time(sleeper.pid)
    assert started is not None
    for wrong in (started - 1, started + 1, None):
        send_signal(sleeper.pid, wrong, signal.SIGKILL)
    time.sleep(0.1)
    assert is_alive(sleeper)


@pytest.mark.usefixtures("system")
def test_a_process_that_is_gone_gets_none_and_nothing_fails(sleeper: Sleeper) -> None:
    started = start_time(sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    send_signal(sleeper.pid, started, signal.SIGTERM)
    signal_group(sleeper.pid, started, signal.SIGTERM)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system has no pidfd")
def test_what_gets_a_pid_between_the_look_and_the_signal_is_not_hit(
    sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = start_time(sleeper.pid)
    with monkeypatch.context() as patch:
        by_number = replaced_at_the_look(sleeper, started, patch)
        send_signal(sleeper.pid, started, signal.SIGKILL)
    assert by_number == []


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system has no pidfd")
def test_no_descriptor_is_left_open(sleeper: Sleeper) -> None:
    before = list(Path("/proc/self/fd").iterdir())
    started = start_time(sleeper.pid)
    for _ in range(10):
        send_signal(sleeper.pid, started, signal.SIGCONT)
        signal_group(sleeper.pid, started, signal.SIGCONT)
        signal_group(sleeper.pid, 1, signal.SIGCONT)
    assert len(list(Path("/proc/self/fd").iterdir())) == len(before)


# -- a group -----------------------------------------------------------------------------------


def group_of_two() -> tuple[Sleeper, int]:
    """A leader, and another process in its group."""
    script = "sleep 600 & echo $!; exec sleep 600"
    leader = subprocess.Popen(["sh", "-c", script], start_new_session=True, stdout=subprocess.PIPE)
    assert leader.stdout is not None
    with leader.stdout:
        return leader, int(leader.stdout.readline())


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    while pid in processes.parents():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.usefixtures("system")
def test_a_group_gets_a_signal() -> None:
    leader, member = group_of_two()
    signal_group(leader.pid, start_time(leader.pid), signal.SIGTERM)
    assert leader.wait(20) == -signal.SIGTERM
    wait_until_gone(member)


@pytest.mark.usefixtures("system")
def test_a_group_that_has_lost_its_leader_gets_a_signal() -> None:
    leader, member = group_of_two()
    started = start_time(leader.pid)
    leader.kill()
    leader.wait()
    assert processes.group_exists(leader.pid)
    signal_group(leader.pid, started, signal.SIGTERM)
    wait_until_gone(member)
    assert not processes.group_exists(leader.pid)


@pytest.mark.usefixtures("system")
def test_the_group_of_another_leader_with_this_pid_gets_none(sleeper: Sleeper) -> None:
    started = start_time(sleeper.pid)
    assert started is not None
    signal_group(sleeper.pid, started - 1, signal.SIGKILL)
    ProcessTree("me", 1, 1, sleeper.pid, started - 1).kill()
    time.sleep(0.1)
    assert is_alive(sleeper)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system has no pidfd")
def test_a_kernel_that_signals_no_group_by_pidfd_is_given_its_number(
    sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(signal, "pidfd_send_signal", refuse)
    signal_group(sleeper.pid, start_time(sleeper.pid), signal.SIGTERM)
    assert sleeper.wait(20) == -signal.SIGTERM


# -- attempts ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("system")
def test_an_attempt_ends_with_what_left_its_group() -> None:
    script = "setsid sleep 600 & echo $!; exec sleep 600"
    leader = subprocess.Popen(["sh", "-c", script], start_new_session=True, stdout=subprocess.PIPE)
    assert leader.stdout is not None
    with leader.stdout:
        outside = int(leader.stdout.readline())
    tree = ProcessTree("me", leader.pid, 1, leader.pid, start_time(leader.pid))
    while tree.outside(None).keys() != {outside}:
        time.sleep(0.01)
    tree.kill()
    assert leader.wait(20) == -signal.SIGKILL
    wait_until_gone(outside)


def test_the_workers_of_one_supervisor_are_killed_by_its_mark() -> None:
    environment = dict(os.environ)
    mine, others = (
        subprocess.Popen(["sleep", "600"], env={**environment, SUPERVISOR_VAR: f"here:{name}"})
        for name in ("mine", "others")
    )
    while not all(
        processes.snapshot().marked.get((f"here:{name}", None, None)) for name in ("mine", "others")
    ):
        time.sleep(0.01)
    kill_workers("here:mine")
    assert mine.wait(20) == -signal.SIGKILL
    assert is_alive(others)
    others.kill()
    others.wait()


def test_many_attempts_are_ended_with_as_many_snapshots_as_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One takes as long as the host has processes; a dead supervisor had many attempts."""
    taken = []

    def counted() -> processes.Snapshot:
        taken.append(1)
        return take()

    take = processes.snapshot
    monkeypatch.setattr(processes, "snapshot", counted)
    script = "setsid sleep 600 & wait"
    started = [subprocess.Popen(["sh", "-c", script], start_new_session=True) for _ in range(12)]
    kill_all([ProcessTree("me", each.pid, 1, each.pid, start_time(each.pid)) for each in started])
    assert [each.wait(20) for each in started] == [-9] * 12
    assert len(taken) < 12
