"""Which processes belong to an attempt, and how all of them are ended.

A job's process leads a session and a process group of its own. What it starts is in that group,
unless it leaves it; carries the marks that jobq puts into its environment, unless it clears them
or never executes anything; and descends from the job's process, for as long as that and all in
between live. To end an attempt, all three are followed, and who once descended is remembered.
"""

import os
import signal
import socket
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

SUPERVISOR_MARK = "JOBQ_SUPERVISOR"
JOB_MARK = "JOBQ_JOB_ID"
ATTEMPT_MARK = "JOBQ_ATTEMPT"

_KILL_ROUNDS = 100
_PROC_SELF = Path("/proc/self/stat")
_DEAD_STATES = (b"Z", b"X")
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

    With the pid and the boot, it names one process for good: pids are used again, pairs are not.
    """
    try:
        return int(_stat_fields(pid)[19])
    except FileNotFoundError:
        if _PROC_SELF.exists():
            return None
    except (OSError, IndexError, ValueError):
        return None
    with suppress(psutil.Error):
        return int(psutil.Process(pid).create_time() * 100)
    return None


def _stat_fields(pid: int) -> list[bytes]:
    """What /proc tells of a process, from field 3 on: state, parent …, start time."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        # The name, in parentheses, may contain anything.
        return file.read().rpartition(b")")[2].split()


def parents() -> dict[int, tuple[int, int]]:
    """The parent and the start time of each live process, by its pid."""
    if not _PROC_SELF.exists():
        return _parents_by_psutil()
    found = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - thousands of entries, twice a second
        if name.isdigit():
            with suppress(OSError, IndexError, ValueError):
                fields = _stat_fields(int(name))
                if fields[0] not in _DEAD_STATES:
                    found[int(name)] = (int(fields[1]), int(fields[19]))
    return found


def _parents_by_psutil() -> dict[int, tuple[int, int]]:
    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = (process.ppid(), int(process.create_time() * 100))
    return found


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


def send_signal(pid: int, started: int | None, number: signal.Signals) -> None:
    """Send a signal to one process, unless that is gone and another has its pid."""
    with suppress(ProcessLookupError, PermissionError):
        if started is not None and start_time(pid) == started:
            os.kill(pid, number)


@dataclass(frozen=True, slots=True)
class ProcessTree:
    """The processes of one attempt."""

    owner: str
    job_id: int
    attempt: int
    pid: int | None = None  # the leader's, once known
    pid_started: int | None = None
    beyond_group: bool = True  # also what has left the process group
    descendants: dict[int, int] = field(default_factory=dict)  # pid and start time, once seen

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all of them."""
        outside = self._outside()  # before who is in the group can die, and be nobody's parent
        if self._leads():
            assert self.pid is not None
            signal_group(self.pid, number)
        for pid, started in outside.items():
            send_signal(pid, started, number)

    def exists(self) -> bool:
        """Whether any of them is left."""
        return self._leads() or bool(self._outside())

    def kill(self) -> None:
        """End all of them, those included that they start meanwhile."""
        for _ in range(_KILL_ROUNDS):
            self._freeze()
            self.signal(signal.SIGKILL)
            if not self._outside():
                return

    def look(
        self, living: Mapping[int, tuple[int, int]] | None = None, marked: Collection[int] = ()
    ) -> bool:
        """Remember who descends from the leader, or did; whether anybody is new.

        ``living`` is what `parents` tells, where the caller has just asked; from those that are
        ``marked`` others descend as well: the leader may not be on record yet.
        """
        living = parents() if living is None else living
        known = {
            pid: started
            for pid, started in self.descendants.items()
            if pid in living and living[pid][1] == started
        }
        seen = set(known)
        ancestors = [*known, *marked]
        leader = living.get(self.pid or 0)
        if leader is not None and self.pid_started in (None, leader[1]):
            ancestors.append(self.pid or 0)
        known.update(_descendants(ancestors, living))
        self.descendants.clear()
        self.descendants.update(known)
        return bool(known.keys() - seen)

    def _freeze(self) -> None:
        """Stop all of them, until nobody is left to start another or to lose its parent."""
        if not self.beyond_group:
            return
        for _ in range(_KILL_ROUNDS):
            self.signal(signal.SIGSTOP)
            if not self.look():
                return

    def _leads(self) -> bool:
        """Whether the group of this attempt is still there, rather than another with its number."""
        if self.pid is None or not group_exists(self.pid):
            return False
        # A number is not given again while its group has members: so without a leader it is ours.
        now = start_time(self.pid)
        return now is None or self.pid_started is None or now == self.pid_started

    def _outside(self) -> dict[int, int | None]:
        """Live processes that left the group: those that descend from it, or carry its marks."""
        if not self.beyond_group:
            return {}
        marks = {
            SUPERVISOR_MARK: self.owner,
            JOB_MARK: str(self.job_id),
            ATTEMPT_MARK: str(self.attempt),
        }
        marked = [process.pid for process in psutil.process_iter() if _carries(process, marks)]
        self.look(marked=marked)
        found: dict[int, int | None] = {pid: start_time(pid) for pid in marked}
        found.update(self.descendants)
        found.pop(os.getpid(), None)
        group = self.pid if self._leads() else None
        return {pid: at for pid, at in found.items() if group is None or _group_of(pid) != group}


def _descendants(ancestors: list[int], living: Mapping[int, tuple[int, int]]) -> dict[int, int]:
    """Who descends from these, with the start times; they themselves only if from each other."""
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in living.items():
        children.setdefault(parent, []).append(pid)
    found: dict[int, int] = {}
    open_ends = list(ancestors)
    while open_ends:
        for pid in children.get(open_ends.pop(), ()):
            if pid not in found:
                found[pid] = living[pid][1]
                open_ends.append(pid)
    return found


def kill_workers(owner: str) -> None:
    """End the fork server of a supervisor, and every process that runs a worker for it.

    They are known by the supervisor's mark alone: a process that was forked, and has executed
    nothing, still shows the environment of its fork server.
    """
    for process in psutil.process_iter():
        if _carries(process, {SUPERVISOR_MARK: owner, JOB_MARK: None}):
            send_signal(process.pid, start_time(process.pid), signal.SIGKILL)


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None


def _carries(process: psutil.Process, marks: Mapping[str, str | None]) -> bool:
    try:
        if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
            return False
        environ = process.environ()
    except (psutil.Error, OSError):
        return False
    return all(environ.get(name) == value for name, value in marks.items())
