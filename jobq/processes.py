"""Which processes belong to an attempt, and how all of them are ended.

A job's process leads a session and a process group of its own. What it starts is in that group,
unless it leaves it; and carries the marks that jobq puts into its environment, unless it clears
them. To end an attempt, both are followed.
"""

import os
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

SUPERVISOR_MARK = "JOBQ_SUPERVISOR"
JOB_MARK = "JOBQ_JOB_ID"
ATTEMPT_MARK = "JOBQ_ATTEMPT"

_KILL_ROUNDS = 100
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def host_name() -> str:
    """The name of this machine."""
    return socket.gethostname()


def boot_id() -> str:
    """What tells this run of the machine from the one before."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return str(int(psutil.boot_time()))


def start_time(pid: int) -> int | None:
    """When a process started, in a unit of the system's; None if there is no such process.

    With the pid, it names one process for good: pids are used again, pairs are not.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name, in parentheses, may contain anything; field 22 is the 20th after it.
            return int(file.read().rpartition(b")")[2].split()[19])
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    except (OSError, IndexError, ValueError):
        return None
    with suppress(psutil.Error):
        return int(psutil.Process(pid).create_time() * 100)
    return None


def group_exists(pid: int) -> bool:
    """Whether any live process is left in the group that this pid leads or led."""
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # Rare: something is there. It may be dead, and only not waited for by init yet.
    return any(_is_live_member(process, pid) for process in psutil.process_iter())


def _is_live_member(process: psutil.Process, group: int) -> bool:
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to a whole process group; to none if it is gone."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


@dataclass(frozen=True, slots=True)
class ProcessTree:
    """The processes of one attempt."""

    owner: str
    job_id: int
    attempt: int
    pid: int | None = None  # the leader's, once known
    pid_started: int | None = None
    follow_marks: bool = True  # beyond the process group

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all of them."""
        if self._leads():
            assert self.pid is not None
            signal_group(self.pid, number)
        for process in self._marked():
            with suppress(psutil.Error):
                process.send_signal(number)

    def exists(self) -> bool:
        """Whether any of them is left."""
        return self._leads() or bool(self._marked())

    def kill(self) -> None:
        """End all of them, those included that they start meanwhile."""
        for _ in range(_KILL_ROUNDS):
            self.signal(signal.SIGKILL)
            if not self._marked():
                return

    def _leads(self) -> bool:
        """Whether the group of this attempt is still there, rather than another with its number."""
        if self.pid is None or not group_exists(self.pid):
            return False
        # A number is not given again while its group has members: so without a leader it is ours.
        now = start_time(self.pid)
        return now is None or self.pid_started is None or now == self.pid_started

    def _marked(self) -> list[psutil.Process]:
        """Live processes with this attempt's marks, outside of the group or in it."""
        if not self.follow_marks:
            return []
        wanted = {
            SUPERVISOR_MARK: self.owner,
            JOB_MARK: str(self.job_id),
            ATTEMPT_MARK: str(self.attempt),
        }
        return [process for process in psutil.process_iter() if _carries(process, wanted)]


def _carries(process: psutil.Process, marks: Mapping[str, str]) -> bool:
    try:
        if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
            return False
        environ = process.environ()
    except (psutil.Error, OSError):
        return False
    return all(environ.get(name) == value for name, value in marks.items())
