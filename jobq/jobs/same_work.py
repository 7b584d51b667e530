"""The comparison of a new job with the one that holds its unique key: is it the same work?"""

from collections.abc import Mapping
from typing import Any

from jobq.config.settings import Settings
from jobq.job_types import shell
from jobq.models import Job, JsonObject
from jobq.redaction import ShownJob


def is_same_work(job: Job, job_type: str, args: Mapping[str, Any], settings: Settings) -> bool:
    """Return whether a job has this type and these arguments, as they are stored.

    The variables that are captured from the shell do not count: those of cron are others than a
    person's.
    """
    if job.type != job_type:
        return False
    if job_type != shell.JOB_TYPE:
        return job.args == args
    return _without_captured(job.args, settings) == _without_captured(args, settings)


def _without_captured(args: Mapping[str, Any], settings: Settings) -> JsonObject:
    env = args.get("env", {})
    captured = settings.captured(env)
    kept = {name: value for name, value in env.items() if name not in captured}
    return {**args, "env": kept}


def held_by_other(holder: ShownJob) -> str:
    """Return the message about a key whose holder does something else."""
    return (
        f"the key {holder.unique_key!r} is held by job {holder.id} ({holder.status}), which does "
        f"something else (`jobq show {holder.id}`): nothing was added; give another key"
    )
