"""A job in one line."""

import json
import shlex
from typing import Any

from jobq.inert import inert
from jobq.job_types import shell
from jobq.redaction import ShownJob


def describe(job: ShownJob) -> str:
    """Return what a job does: its command as you would type it, or its type and arguments."""
    if job.type == shell.JOB_TYPE:
        text = job.args.get("shell")
        return inert(text if text is not None else shlex.join(job.args.get("argv", ())))
    return inert(" ".join([job.type, *(f"{k}={_plain(v)}" for k, v in job.args.items())]))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
