"""Requests to stop: drain, release, kill."""

from typing import cast

import pytest

from jobq import JobStatus
from jobq.errors import DatabaseUnreachableError
from jobq.execution.events import EventSender
from jobq.execution.shutdown import Shutdown, Stop
from jobq.execution.slots import Slots
from jobq.execution.supervisor import Supervisor
from jobq.jobs.outcome import StopReason
from tests.support.supervisor import Host
from tests.support.supervisor import host as host  # noqa: PLC0414 - a fixture


def test_who_is_told_to_leave_at_once_does_although_nobody_answers(host: Host) -> None:
    job = host.shell("touch up; exec sleep 600")

    async def disturb(supervisor: Supervisor) -> None:
        await host.until("up")
        host.server.away = DatabaseUnreachableError("nobody answers")
        while supervisor.request_stop() is not Stop.KILL:
            pass

    with pytest.raises(DatabaseUnreachableError):
        host.work(disturb)
    assert host.backend.get([job.id])[job.id].status is JobStatus.RUNNING  # for who comes next


class Recorder:
    """Slots and their runs, as far as a shutdown knows them."""

    def __init__(self, running: int = 0) -> None:
        self.calls: list[object] = []
        self.running = running
        self.runs = self
        self.grace = 5.0

    def __len__(self) -> int:
        return self.running

    def drain(self) -> None:
        self.calls.append("drain")

    def release(self, reason: StopReason) -> None:
        self.calls.append((reason, self.grace))


def shutdown_of(slots: Recorder, *, cancel: bool = False) -> tuple[Shutdown, list[str]]:
    shown: list[str] = []
    sender = EventSender(lambda event: shown.append(event.text))
    shutdown = Shutdown(cast("Slots", slots), sender, cancel=cancel, on_request=slots.calls.append)
    return shutdown, shown


def test_each_request_goes_one_step_further() -> None:
    slots = Recorder()
    shutdown, _ = shutdown_of(slots)
    assert shutdown.step is Stop.NO
    assert [shutdown.request() for _ in range(4)] == [
        Stop.DRAIN,
        Stop.RELEASE,
        Stop.KILL,
        Stop.KILL,
    ]
    assert slots.calls == [
        "drain", True,
        "drain", (StopReason.SHUTDOWN, 5.0), False,
        "drain", (StopReason.SHUTDOWN, 0.0), False,
        "drain", (StopReason.SHUTDOWN, 0.0), False,
    ]  # fmt: skip


def test_one_that_cancels_ends_what_runs_at_the_first_request() -> None:
    slots = Recorder()
    shutdown, _ = shutdown_of(slots, cancel=True)
    assert shutdown.request() is Stop.RELEASE
    assert slots.calls == ["drain", (StopReason.CANCELLED, 5.0), True]


@pytest.mark.parametrize(("running", "noun"), [(1, "job"), (2, "jobs")])
def test_a_signal_says_what_the_next_one_does(running: int, noun: str) -> None:
    shutdown, shown = shutdown_of(Recorder(running))
    for _ in range(3):
        shutdown._on_signal("SIGTERM")
    assert not shutdown.interrupted
    assert shown == [
        f"waiting for {running} running {noun}; SIGTERM again gives them back",
        f"stopping {running} running {noun}; SIGTERM again kills them",
    ]
    shutdown._on_signal("Ctrl-C")
    assert shutdown.interrupted


def test_a_terminal_that_is_gone_drains_however_often_that_is_told() -> None:
    slots = Recorder(running=1)
    shutdown, shown = shutdown_of(slots)
    for _ in range(3):
        shutdown._on_hangup()
    assert slots.calls == ["drain", True]
    assert shown == []
    shutdown._on_signal("SIGTERM")
    assert shutdown.step is Stop.RELEASE


def test_a_terminal_that_is_gone_cancels_where_the_first_request_does() -> None:
    slots = Recorder(running=1)
    shutdown, _ = shutdown_of(slots, cancel=True)
    shutdown._on_hangup()
    assert slots.calls[:2] == ["drain", (StopReason.CANCELLED, 5.0)]
