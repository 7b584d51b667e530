"""Modules that are imported late, ahead of time: the package may be replaced under a process that runs.

An import also takes descriptors, of which there may be none when it is needed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from jobq.backends.factory import import_backend
from jobq.config.settings import Settings
from jobq.errors import JobqError

_MODULES = (
    "difflib",
    "graphlib",
    "jobq.abandonment",
    "jobq.backends.outage",
    "jobq.execution.terminal",
    "jobq.job_types.arguments",
    "jobq.job_types.learned",
    "jobq.job_types.probe",
    "jobq.jobs.failure_group",
    "jobq.jobs.retry",
    "jobq.jobs.search",
    "jobq.logs.remote",
    "jobq.logs.stop_signal",
    "jobq.logs.truncation",
    "jobq.recovery",
    "jobq.scheduling.schedules",
    "jobq.system.directory_tree",
    "jobq.system.processes",
    "pydantic",
    "random",
    "shutil",
)


class ReplacedError(JobqError):
    """A module that is not there any more, or that does not fit what was imported before."""


def import_late_modules(settings: Settings) -> None:
    """Import what a process of these settings may come to need."""
    import_backend(settings)
    for name in _MODULES:
        import_module(name)


@contextmanager
def replacement_reported() -> Iterator[None]:
    """Raise in the place of a failed import what its user can do about it."""
    try:
        yield
    except ImportError as error:
        raise ReplacedError(
            f"{error}: jobq, or a library of its own, was replaced while it was running: "
            "start it again"
        ) from error
