"""Processes: which of them belong to an attempt, and how all of them are ended.

A job's process leads a session and a process group of its own. What it starts is in that group,
unless it leaves it; carries the marks that jobq puts into its environment, unless it clears them
or never executes anything; and descends from the job's process, for as long as that and all in
between live. To end an attempt, all three are followed, and who once descended is remembered.
"""

import errno
import os
import signal
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from jobq.config.environment import ATTEMPT_VAR, JOB_ID_VAR, SUPERVISOR_VAR

Marks = tuple[str, str | None, str | None]
"""The values of the three marks."""

_KILL_ROUNDS = 100
_HOOK = "hook-"
_PIDFD_SIGNAL_PROCESS_GROUP = 1 << 2  # of <linux/pidfd.h>
_PROC_SELF = Path("/proc/self/stat")
_DEAD_STATES = (b"Z", b"X")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def host_name() -> str:
    """Return the name of this host."""
    return socket.gethostname()


def boot_id() -> str:
    """Return what tells this boot of the host from the one before."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return str(int(psutil.boot_time()))


def start_time(pid: int) -> int | None:
    """Return when a process started, in a unit of the system's; None if there is no such process.

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
    """Return what /proc has of a process, from field 3 on: state, parent …, start time."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        # The name, in parentheses, may contain anything.
        return file.read().rpartition(b")")[2].split()


def parents() -> dict[int, tuple[int, int]]:
    """Return the parent and the start time of each live process, by its pid."""
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


def zombies_of(parent: int) -> set[int]:
    """Return the children of a process that have died, and were not waited for. Linux only."""
    found = set()
    for name in os.listdir("/proc") if _PROC_SELF.exists() else ():  # noqa: PTH208 - as `parents`
        if name.isdigit():
            with suppress(OSError, IndexError, ValueError):
                fields = _stat_fields(int(name))
                if fields[0] in _DEAD_STATES and int(fields[1]) == parent:
                    found.add(int(name))
    return found


def group_exists(pid: int) -> bool:
    """Return whether any live process is left in the group that this pid leads or led."""
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # Something is there. It may be dead, and not waited for by init yet.
    return any(_group_of(each) == pid for each in parents())


def send_signal(pid: int, started: int | None, number: int) -> None:
    """Send a signal to one process, unless that is gone and another has its pid."""
    if started is None:
        return
    with suppress(ProcessLookupError, PermissionError), open_pidfd(pid) as pidfd:
        if start_time(pid) != started:  # compared after opening: the pidfd stays with what it is of
            return
        if pidfd is None:
            os.kill(pid, number)
        else:
            signal.pidfd_send_signal(pidfd, number)


def signal_group(pid: int, started: int | None, number: signal.Signals) -> None:
    """Send a signal to the process group that a process leads or led; to none if it is gone."""
    with suppress(ProcessLookupError, PermissionError), open_pidfd(pid) as pidfd:
        if _is_another(pid, started):
            return
        if pidfd is None or not _signal_group_of(pidfd, number):
            os.killpg(pid, number)


@contextmanager
def open_pidfd(pid: int) -> Iterator[int | None]:
    """Open a descriptor that names a process for good, whatever gets its pid later.

    None where there is none: the process is gone, the system has no pidfd (macOS, Linux before
    5.3, some sandboxes), or no descriptor is left.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except (AttributeError, OSError):
        pidfd = None
    try:
        yield pidfd
    finally:
        if pidfd is not None:
            os.close(pidfd)


def _signal_group_of(pidfd: int, number: signal.Signals) -> bool:
    """Signal the group of a leader; return False where the kernel can't (Linux before 6.9)."""
    try:
        signal.pidfd_send_signal(pidfd, number, None, _PIDFD_SIGNAL_PROCESS_GROUP)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOSYS}:
            raise
        return False
    return True


def _is_another(pid: int, started: int | None) -> bool:
    """Return whether a pid is that of another process by now than of the one that started then.

    The number of a group is not given again while the group has members: so a group that has lost
    its leader is still the same.
    """
    now = start_time(pid)
    return now is not None and started is not None and now != started


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The processes of this host at one moment. Taking one takes a while."""

    living: Mapping[int, tuple[int, int]]  # as `parents` returns
    marked: Mapping[Marks, list[int]]  # the pids of processes that carry marks, but for this one


def snapshot() -> Snapshot:
    """Take a snapshot of all processes."""
    living = parents()
    marked: dict[Marks, list[int]] = {}
    for pid in living:
        with suppress(OSError, psutil.Error):
            environ = _environ(pid) if pid != os.getpid() else {}
            if owner := environ.get(SUPERVISOR_VAR):
                marks = owner, environ.get(JOB_ID_VAR), environ.get(ATTEMPT_VAR)
                marked.setdefault(marks, []).append(pid)
    return Snapshot(living, marked)


def _environ(pid: int) -> dict[str, str]:
    """Return the marks in the environment that a process was started with; or all of that."""
    if not _PROC_SELF.exists():
        return psutil.Process(pid).environ()
    with open(f"/proc/{pid}/environ", "rb") as file:
        entries = file.read().split(b"\0")
    pairs = (
        entry.decode("utf-8", "surrogateescape").split("=", 1)
        for entry in entries
        if entry.startswith(b"JOBQ_")
    )
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


@dataclass(frozen=True, slots=True)
class ProcessTree:
    """The processes of one attempt."""

    owner: str
    job_id: int | None  # None: it is a hook
    attempt: int | str  # a hook has a name of its own
    pid: int | None = None  # the leader's, once known
    pid_started: int | None = None
    beyond_group: bool = True  # also what has left the process group
    descendants: dict[int, int] = field(default_factory=dict)  # pid and start time, once seen

    def signal(self, number: signal.Signals, now: Snapshot | None = None) -> None:
        """Send a signal to all of them."""
        outside = self.outside(now)  # before the group can die, and leave them without a parent
        if self.pid is not None:
            signal_group(self.pid, self.pid_started, number)
        for pid, started in outside.items():
            send_signal(pid, started, number)

    def exists(self, now: Snapshot | None = None) -> bool:
        """Return whether any of them is left."""
        group = self._group()
        return (group is not None and group_exists(group)) or bool(self.outside(now))

    def kill(self) -> None:
        """End all of them, those included that they start meanwhile."""
        kill_all([self])

    def note_descendants(
        self, living: Mapping[int, tuple[int, int]] | None = None, marked: Collection[int] = ()
    ) -> bool:
        """Remember what descends from the leader, or did; return whether there is anything new.

        ``living`` is what `parents` returns, where the caller has just asked. What descends from
        ``marked`` processes counts as well: the leader may not be on record yet.
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

    def _group(self) -> int | None:
        """Return the number of its process group; None if that is another's by now."""
        if self.pid is None or _is_another(self.pid, self.pid_started):
            return None
        return self.pid

    def outside(self, now: Snapshot | None) -> dict[int, int]:
        """Return live processes that left the group: that descend from it, or carry its marks."""
        if not self.beyond_group:
            return {}
        now = now or snapshot()
        job_id = None if self.job_id is None else str(self.job_id)
        marked = now.marked.get((self.owner, job_id, str(self.attempt)), [])
        self.note_descendants(now.living, marked)
        found = {pid: now.living[pid][1] for pid in marked} | self.descendants
        found.pop(os.getpid(), None)
        group = self._group()
        return {pid: at for pid, at in found.items() if group is None or _group_of(pid) != group}


def kill_all(trees: Sequence[ProcessTree]) -> None:
    """End the processes of many attempts, with as many snapshots as for one."""
    for _ in range(_KILL_ROUNDS):
        hiding = [tree for tree in trees if tree.beyond_group]
        _freeze(hiding)
        _signal_all(trees, signal.SIGKILL)
        now = snapshot() if hiding else None
        trees = [tree for tree in hiding if tree.outside(now)]
        if not trees:
            return


def _freeze(trees: Sequence[ProcessTree]) -> None:
    """Stop all of them, until none is left that can start another or lose its parent."""
    for _ in range(_KILL_ROUNDS if trees else 0):
        _signal_all(trees, signal.SIGSTOP)
        living = parents()
        anew = [tree.note_descendants(living) for tree in trees]
        if not any(anew):
            return


def _signal_all(trees: Sequence[ProcessTree], number: signal.Signals) -> None:
    now = snapshot() if any(tree.beyond_group for tree in trees) else None
    for tree in trees:
        tree.signal(number, now)


def _descendants(ancestors: list[int], living: Mapping[int, tuple[int, int]]) -> dict[int, int]:
    """Return what descends from these, with start times; themselves only if from each other."""
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


def marked_trees(owner: str) -> list[ProcessTree]:
    """Return the attempts of a supervisor that have a running process with their marks."""
    return [
        ProcessTree(owner, int(job), int(attempt))
        for supervisor, job, attempt in snapshot().marked
        if supervisor == owner and job is not None and attempt is not None
    ]


def hook_mark(number: int) -> str:
    """Return what a hook has in the place of an attempt's number."""
    return f"{_HOOK}{number}"


def hook_trees(owners: Collection[str]) -> list[ProcessTree]:
    """Return the hooks of supervisors that have a running process with their marks."""
    return [
        ProcessTree(supervisor, None, hook)
        for supervisor, job, hook in snapshot().marked
        if supervisor in owners and job is None and hook is not None and hook.startswith(_HOOK)
    ]


def kill_workers(owner: str) -> None:
    """End the fork server of a supervisor, and every process that runs a worker for it.

    They are known by the supervisor's mark alone: a process that was forked, and has executed
    nothing, still shows the environment of its fork server.
    """
    now = snapshot()
    for pid in now.marked.get((owner, None, None), []):
        send_signal(pid, now.living[pid][1], signal.SIGKILL)


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None
