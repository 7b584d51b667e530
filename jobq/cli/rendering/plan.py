"""A job that would be added: as a line, and as a document."""

from jobq.describe import describe
from jobq.inert import inert
from jobq.limits import listed
from jobq.models import JsonObject
from jobq.redaction import ShownJob
from jobq.serializers import job_fields
from jobq.units import format_duration, format_moment


def plan_document(job: ShownJob) -> JsonObject:
    """Return a job that would be added as JSON; the holder of its unique key as it is."""
    fields = job_fields(job)
    if not job.existing:
        del fields["id"]
    return {**fields, "existing": job.existing}


def plan_line(job: ShownJob) -> str:
    """Return what a job would do, and what was chosen for it."""
    parts = [f"queue {job.queue}", f"priority {job.priority}"]
    if job.parents:
        parts.append(f"after {listed([parent.id for parent in job.parents])}")
    if job.run_at is not None:
        parts.append(f"not before {format_moment(job.run_at)}")
    if job.timeout is not None:
        parts.append(f"timeout {format_duration(job.timeout)}")
    parts.append(f"retries {job.max_retries}")
    parts += [f"{name}={value}" for name, value in job.tags.items()]
    name = f"{job.name}: " if job.name else ""
    return inert(f"{name}{describe(job)} ({', '.join(parts)})")
