"""The environment variables that jobq reads, and those that it sets for jobs."""

import os

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
COMPLETE_VAR = "_JOBQ_COMPLETE"
"""Set by a shell that asks for completions; the name is Typer's."""

_ONE_JOB_VARS = {SUPERVISOR_VAR, JOB_ID_VAR, ATTEMPT_VAR, LOG_DIR_VAR, PROGRESS_VAR}


def job_environment(settings: Settings) -> dict[str, str]:
    """Return what every job inherits: this process's environment, and where its queue is.

    So a job that calls ``jobq`` reaches the queue that it is from.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in _ONE_JOB_VARS}
    here = {DATABASE_VAR: str(settings.database.absolute())}
    if settings.path is not None:
        here[CONFIG_VAR] = str(settings.path.absolute())
    return inherited | here
