"""A worker to copy: put this file into the ``workers/`` folder beside jobq.toml and change it.

``jobq types`` lists the job types found, ``jobq add example steps=5`` adds a job of this one.
"""

from typing import Any

from pydantic import BaseModel, Field

from jobq import JobContext, JobWorker


class Example(JobWorker):
    """Count to a number."""  # shown by `jobq types`

    job_type = "example"  # as in `jobq add example`
    max_retries = 2  # instead of the default in jobq.toml; timeout and retry_base work likewise

    class Args(BaseModel):
        """The arguments of a job, checked when it is added."""

        steps: int = Field(default=3, ge=1, description="how far to count")

    def run(self, args: Args, job: JobContext) -> dict[str, Any]:
        """Do the work. An exception fails the attempt, and the job is retried later.

        ``raise RetryAfter(30)`` retries in 30 seconds; ``raise Permanent("no such file")`` fails
        the job without a retry. Both come from ``jobq``, as do ``Snooze`` and ``Cancelled``.
        """
        for step in range(1, args.steps + 1):
            job.log.info("step %d of %d", step, args.steps)  # `jobq tail` shows it, and print()
            job.progress(step, args.steps, "counting")  # `jobq list` shows it
        return {"counted_to": args.steps}  # `jobq show` shows it; anything that fits in JSON
