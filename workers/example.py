"""A worker to copy: put the file into the ``workers/`` folder beside your jobq.toml and change it.

``jobq types`` lists what was found, ``jobq add example steps=5`` adds a job of this type.
"""

from typing import Any

from pydantic import BaseModel, Field

from jobq import JobContext, JobWorker


class Example(JobWorker):
    """Count to a number."""  # shown by `jobq types`

    job_type = "example"  # the name that jobs are added by
    max_retries = 2  # instead of the default in jobq.toml; so can timeout and retry_base be

    class Args(BaseModel):
        """What a job is given. It is checked when the job is added."""

        steps: int = Field(default=3, ge=1, description="how far to count")

    def run(self, args: Args, job: JobContext) -> dict[str, Any]:
        """Do the work. An exception fails the attempt, and it is tried again after a while.

        ``raise RetryAfter(30)`` chooses when, in seconds; ``raise Permanent("no such file")``
        gives up at once. Both come from ``jobq``, as do ``Snooze`` and ``Cancelled``.
        """
        for step in range(1, args.steps + 1):
            job.log.info("step %d of %d", step, args.steps)  # in `jobq tail`; print() is, too
            job.progress(step, args.steps, "counting")  # in `jobq list`
        return {"counted_to": args.steps}  # kept on the job, as JSON: `jobq show`
