"""The signal that a cancelled command is sent first, left in its log directory."""

from jobq.errors import UsageError
from jobq.logs.directory import STOP_SIGNAL, JobLogs, write_all
from jobq.models import Job

STOP_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGKILL")
"""The signals that may ask a command to stop."""


def checked_signal(name: str) -> str:
    """Return the full name of a signal, such as SIGINT for ``int``.

    Raises:
        UsageError: there is no such signal, or it stops nothing.
    """
    wanted = f"SIG{name.upper().removeprefix('SIG')}"
    if wanted not in STOP_SIGNALS:
        known = ", ".join(each.removeprefix("SIG") for each in STOP_SIGNALS)
        raise UsageError(f"signal {name!r:.80}: give one of {known}")
    return wanted


def leave(logs: JobLogs, job: Job, wanted: str) -> bool:
    """Leave the name of a signal for the supervisor of a command; return whether it runs here."""
    log = logs.open(job)
    if log is None:
        return False
    with log:
        log.replace(STOP_SIGNAL, lambda file: write_all(file, wanted.encode()))
    return True
