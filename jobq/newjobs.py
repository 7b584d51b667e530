"""What is asked for as the job that is stored: checked, every default filled in. No I/O.

A default comes from what says it most closely: the job, its type in jobq.toml, its worker class,
its queue, its priority.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from jobq import shell
from jobq.config import Settings
from jobq.errors import ArgsError, UsageError
from jobq.models import JsonObject, NewJob, Queue, parse_priority
from jobq.specs import (
    JobSpec,
    checked_args,
    checked_number,
    checked_tags,
    checked_text,
    first_given,
    parent_refs,
    run_at_of,
)
from jobq.timespec import parse_duration, parse_limit

if TYPE_CHECKING:
    from jobq.registry import JobType


def new_job(
    spec: JobSpec,
    job_type: "JobType",
    queue: Queue,
    settings: Settings,
    keys: Mapping[str, int],
    now: datetime,
) -> NewJob:
    """A job to insert; ``keys`` are the places of those in the same batch that have one.

    Raises:
        UsageError: an argument or an option is wrong.
    """
    plain = template(spec, job_type, queue, settings, now)
    return replace(
        plain,
        args=parsed_args(job_type, spec.args or {}, settings),
        tags={**plain.tags, **job_type.secret_tag()},
        parents=parent_refs(spec, keys),
    )


def parsed_args(job_type: "JobType", args: Mapping[str, Any], settings: Settings) -> JsonObject:
    """The arguments of a job as they are stored.

    Raises:
        ArgsError: they do not fit the type, are too large, or secrets are missing in them.
    """
    try:
        stored = job_type.parse(args, settings.redactor)
    except RecursionError:
        raise ArgsError(f"{job_type.name}: the arguments: nested too deep") from None
    return checked_args(job_type.name, stored)


def template(
    spec: JobSpec, job_type: "JobType", queue: Queue, settings: Settings, now: datetime
) -> NewJob:
    """A job without its arguments and parents.

    Raises:
        UsageError: an option is wrong.
    """
    worker = job_type.worker
    priority = parse_priority(spec.priority)
    retries = first_given(spec.max_retries, worker and worker.max_retries, queue.max_retries)
    if retries is not None:
        checked_number("retries", retries, 0)
    base = first_given(spec.retry_base, worker and worker.retry_base, settings.retry_base)
    if spec.at is not None and spec.delay is not None:
        raise UsageError("a job has either a time (at) or a delay, not both")
    return NewJob(
        type=spec.type,
        args={},
        queue=spec.queue,
        priority=priority,
        max_retries=settings.max_retries if retries is None else retries,
        retry_base=parse_duration(base),
        name=checked_text("name", spec.name),
        tags=checked_tags(spec.tags or {}),
        unique_key=checked_text("unique key", spec.unique),
        added_by=spec.added_by,
        run_at=run_at_of(spec, now),
        timeout=_timeout(spec, job_type, queue, settings, priority) or None,
    )


def _timeout(
    spec: JobSpec, job_type: "JobType", queue: Queue, settings: Settings, priority: int
) -> float:
    """Seconds. A command has no limit by its priority: most people would not expect one."""
    timeouts = settings.timeouts
    chosen = first_given(
        spec.timeout,
        timeouts.types.get(spec.type),
        job_type.worker and job_type.worker.timeout,
        queue.timeout,
        0.0 if spec.type == shell.JOB_TYPE else timeouts.of_priority(priority),
    )
    return parse_limit(chosen)
