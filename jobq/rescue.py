"""Which supervisors can't be alive any more, and the end of what they left running here."""

from collections.abc import Sequence

from jobq.backends.base import Backend
from jobq.models import Attempt, Job, SupervisorInfo


def dead(backend: Backend, supervisors: Sequence[SupervisorInfo]) -> set[str]:
    """Those that can't be alive: nobody holds their lock, or the machine was started anew."""
    if not supervisors:
        return set()
    from jobq.processes import boot_id, host_name  # psutil: 15 ms that few calls need

    host, boot = host_name(), boot_id()
    restarted = {info.id for info in supervisors if info.host == host and info.boot_id != boot}
    return restarted | backend.dead([info.id for info in supervisors])


def kill_left(backend: Backend, lost: Sequence[tuple[Job, Attempt]]) -> None:
    """End what still runs here of attempts that nobody holds: before they run again.

    A pid means something only on the machine, and in the boot, that it was given in.
    """
    if not lost:
        return
    from jobq.processes import ProcessTree, boot_id, host_name, kill_workers

    host, boot = host_name(), boot_id()
    here = {info.id for info in backend.supervisors() if (info.host, info.boot_id) == (host, boot)}
    for job, attempt in lost:
        pid = attempt.pid if attempt.supervisor in here else None
        ProcessTree(attempt.supervisor, job.id, attempt.attempt, pid, attempt.pid_started).kill()
    for owner in here & {attempt.supervisor for _, attempt in lost}:
        kill_workers(owner)  # one may have been handed an attempt without its pid on record
