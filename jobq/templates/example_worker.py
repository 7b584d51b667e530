"""A worker of your own: `jobq add hello name=you`. Change it, or delete it."""

from pydantic import BaseModel

from jobq import JobContext, JobWorker


class Hello(JobWorker):
    """Greet a person by name."""

    job_type = "hello"

    class Args(BaseModel):
        """The arguments of `jobq add hello`, checked before the job is added."""

        name: str = "world"

    def run(self, args: Args, job: JobContext) -> dict[str, str]:
        """Run one attempt. The return value is kept on the job; an exception fails the attempt."""
        job.log.info("greeting %s", args.name)
        job.progress(1, 1, "greeted")
        return {"greeting": f"Hello, {args.name}!"}
