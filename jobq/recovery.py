"""Which supervisors can't be alive any more, and the end of what they left running here."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from jobq.backends.base import Backend
from jobq.logs import descendants
from jobq.logs.directory import STDOUT, JobLogs
from jobq.models import Attempt, Job, SupervisorInfo

if TYPE_CHECKING:
    from jobq.system.processes import ProcessTree


def dead(backend: Backend, supervisors: Sequence[SupervisorInfo]) -> set[str]:
    """Those that can't be alive: nobody holds their lock, or the machine was started anew.

    Where machines share a server, two may have the same name: there, the locks alone tell.
    """
    if not supervisors:
        return set()
    from jobq.system.processes import boot_id, host_name  # psutil: 15 ms that few calls need

    host, boot = host_name(), boot_id()
    before = [info for info in supervisors if info.host == host and info.boot_id != boot]
    restarted = set() if backend.spans_hosts else {info.id for info in before}
    return restarted | backend.supervisors.dead([info.id for info in supervisors])


def kill_left(backend: Backend, logs: JobLogs, lost: Sequence[tuple[Job, Attempt]]) -> None:
    """End what still runs here of attempts that nobody holds: before they run again.

    A pid means something only on the machine, and in the boot, that it was given in.
    """
    if not lost:
        return
    from jobq.system.processes import ProcessTree, boot_id, host_name, kill_all, kill_workers

    host, boot = host_name(), boot_id()
    here = {
        info.id for info in backend.supervisors.all() if (info.host, info.boot_id) == (host, boot)
    }
    kill_all(
        [
            tree_left(logs, job, attempt)
            if attempt.supervisor in here
            else ProcessTree(attempt.supervisor, job.id, attempt.attempt)
            for job, attempt in lost
        ]
    )
    for job, attempt in lost:
        with suppress(OSError):
            if log := logs.open(job.id):
                with log:
                    descendants.remove(log, attempt.attempt)
    for owner in here & {attempt.supervisor for _, attempt in lost}:
        kill_workers(owner)  # one may have been handed an attempt without its pid on record


def kill_marked(owners: Collection[str]) -> None:
    """End what still runs here of dead supervisors, though others may have their jobs by now."""
    from jobq.system.processes import kill_all, marked_trees

    for owner in owners:
        kill_all(marked_trees(owner))


def was_begun(logs: JobLogs, job: Job, attempt: Attempt) -> bool:
    """Whether an attempt of a supervisor that died may have been started.

    Its files are made just before. Where they may be on another machine, or an earlier attempt has
    made them, it counts as begun.
    """
    from jobq.system.processes import host_name

    here = attempt.supervisor.startswith(f"{host_name()}:")
    if attempt.pid is not None or attempt.attempt > 1 or not here:
        return True
    with suppress(OSError):
        log = logs.open(job.id)
        if log is None:
            return False
        with log:
            return log.exists(STDOUT)
    return True


def tree_left(logs: JobLogs, job: Job, attempt: Attempt) -> "ProcessTree":
    """The processes of an attempt of this machine and boot whose supervisor is gone."""
    from jobq.system.processes import ProcessTree

    seen: dict[int, int] = {}
    with suppress(OSError):
        if log := logs.open(job.id):
            with log:
                seen = descendants.read(log, attempt.attempt)
    return ProcessTree(
        attempt.supervisor,
        job.id,
        attempt.attempt,
        attempt.pid,
        attempt.pid_started,
        descendants=seen,
    )
