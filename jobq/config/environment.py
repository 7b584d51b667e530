"""The environment variables that jobq sets for jobs, and reads."""

import os

from jobq.config.settings import Settings


def job_environment(settings: Settings) -> dict[str, str]:
    """What every job inherits: this process's environment, and where its queue is.

    So a job that calls ``jobq`` reaches the queue that it is from.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in _OF_ONE_JOB}
    here = {"JOBQ_DATABASE": str(settings.database.absolute())}
    if settings.path is not None:
        here["JOBQ_CONFIG"] = str(settings.path.absolute())
    return inherited | here


_OF_ONE_JOB = {"JOBQ_SUPERVISOR", "JOBQ_JOB_ID", "JOBQ_ATTEMPT", "JOBQ_LOG_DIR", "JOBQ_PROGRESS"}


SUPERVISOR_MARK = "JOBQ_SUPERVISOR"


JOB_MARK = "JOBQ_JOB_ID"


ATTEMPT_MARK = "JOBQ_ATTEMPT"
