"""The environment variables that jobq reads, and those that it sets for jobs."""

import os
from collections.abc import Mapping
from pathlib import Path

from jobq.config.settings import Settings

CONFIG_VAR = "JOBQ_CONFIG"
DATABASE_VAR = "JOBQ_DATABASE"
LOG_DIR_VAR = "JOBQ_LOG_DIR"
"""The directory of all logs; within a job, that job's own directory."""

CONCURRENCY_VAR = "JOBQ_CONCURRENCY"
BACKEND_VAR = "JOBQ_BACKEND"
SUPERVISOR_VAR = "JOBQ_SUPERVISOR"
JOB_ID_VAR = "JOBQ_JOB_ID"
ATTEMPT_VAR = "JOBQ_ATTEMPT"
PROGRESS_VAR = "JOBQ_PROGRESS"
ARRAY_INDEX_VAR = "JOBQ_ARRAY_INDEX"
"""The index of a command among those of `jobq add --array`."""

SIGNATURE_VAR = "JOBQ_SIGNATURE"
SIGNATURE_NEW_VAR = "JOBQ_SIGNATURE_NEW"
START_LOCK_VAR = "JOBQ_START_LOCK"
"""The descriptor of the lock that a supervisor holds while it is being started."""
URL_VAR = "JOBQ_URL"
TOKEN_VAR = "JOBQ_TOKEN"  # noqa: S105 - the name of a variable
"""Where `jobq.client` finds a server, and its token there."""

STOP_PIPE_VAR = "JOBQ_STOP_PIPE"
"""The descriptor of a pipe: once its other end is closed, a supervisor is to stop."""

COMPLETE_VAR = "_JOBQ_COMPLETE"
"""Set by a shell that asks for completions; the name is Typer's."""

_ONE_JOB_VARS = {SUPERVISOR_VAR, JOB_ID_VAR, ATTEMPT_VAR, LOG_DIR_VAR, PROGRESS_VAR}
_SET_VARS = {
    CONFIG_VAR: "JOBQ_SET_CONFIG",
    DATABASE_VAR: "JOBQ_SET_DATABASE",
    BACKEND_VAR: "JOBQ_SET_BACKEND",
    LOG_DIR_VAR: "JOBQ_SET_LOG_DIR",
}
"""The variables that say where a job's queue is, and beside each the one with the value that jobq
gave it: where the two differ, a person has set it since."""


def job_environment(settings: Settings) -> dict[str, str]:
    """Return what every job inherits: this process's environment, and where its queue is.

    So a job that calls ``jobq`` reaches the queue that it is from, unless it names another one.
    """
    replaced = {*_ONE_JOB_VARS, *_SET_VARS, *_SET_VARS.values(), START_LOCK_VAR, STOP_PIPE_VAR}
    inherited = {name: value for name, value in os.environ.items() if name not in replaced}
    here = {
        DATABASE_VAR: str(settings.database.absolute()),
        LOG_DIR_VAR: str(settings.log_dir.absolute()),
    }
    if settings.path is not None:
        here[CONFIG_VAR] = str(settings.path.absolute())
    if os.environ.get(BACKEND_VAR) == settings.backend:  # it is in the file otherwise
        here[BACKEND_VAR] = settings.backend
    copies = {_SET_VARS[name]: value for name, value in here.items()}
    return inherited | here | copies | _working_directory()


def _working_directory() -> dict[str, str]:
    """Return $PWD for this process: what it inherited may be that of the process that started it."""
    inherited = os.environ.get("PWD", "")
    try:
        here = os.getcwd()
    except OSError:  # it was deleted
        return {}
    is_here = inherited and _is_same_file(Path(inherited), here)
    return {"PWD": inherited if is_here else here}


def unless_another_is_named(
    environ: Mapping[str, str], path: Path | str | None, found: Path | None
) -> Mapping[str, str]:
    """Return the environment, without what jobq set for a job if that names another jobq.toml.

    It is named by its ``path``, or by a $JOBQ_CONFIG that was changed; ``found`` is the file.
    """
    before = environ.get(_SET_VARS[CONFIG_VAR])
    is_named = path or (environ.get(CONFIG_VAR) or None) != before
    if not is_named or (found and before and _is_same_file(found, before)):
        return environ
    own = _set_by_jobq(environ)
    return {name: value for name, value in environ.items() if name not in own} if own else environ


def _set_by_jobq(environ: Mapping[str, str]) -> set[str]:
    """Return the variables that lead to a job's queue, and have the values that jobq gave them."""
    own = set()
    for name, copy in _SET_VARS.items():
        if (given := environ.get(copy)) is not None and name in environ:
            of_job = log_dir_of_job(environ) if name == LOG_DIR_VAR else None
            if given in (environ[name], of_job):
                own.add(name)
    return own


def log_dir_of_job(environ: Mapping[str, str]) -> str | None:
    """Return the directory of all logs that a job's own one is in; None if that is not set."""
    folder = Path(environ.get(LOG_DIR_VAR, ""))
    if folder.parts[-2:] != ("jobs", environ.get(JOB_ID_VAR)):
        return None
    return str(folder.parent.parent)


def _is_same_file(one: Path, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
