"""A worker of your own: `jobq add hello name=you`. Change it, or delete it."""

from pydantic import BaseModel

from jobq import JobContext, JobWorker


class Hello(JobWorker):
    """Greet somebody."""

    job_type = "hello"

    class Args(BaseModel):
        """What `jobq add hello` takes: checked before the job is added."""

        name: str = "world"

    def run(self, args: Args, job: JobContext) -> dict[str, str]:
        """Do the work of one try. What it returns is kept on the job; an exception fails the try."""
        job.log.info("greeting %s", args.name)
        job.progress(1, 1, "greeted")
        return {"greeting": f"Hello, {args.name}!"}
