"""What is asked for as the job that is stored: checked, every default filled in. No I/O.

A default comes from what says it most closely: the job, its type in jobq.toml, its worker class,
its queue, its priority.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from jobq.config.settings import Settings
from jobq.errors import ArgsError, UsageError
from jobq.job_types import shell
from jobq.jobs.queue_limits import effective_queue
from jobq.jobs.spec import (
    JobSpec,
    checked_args,
    checked_number,
    checked_tags,
    checked_text,
    first_given,
    keys_of,
    parent_refs,
    parents_first,
    require_shape,
    run_at_of,
)
from jobq.models import JsonObject, NewJob, Queue, parse_priority
from jobq.units import parse_duration, parse_limit

if TYPE_CHECKING:
    from jobq.job_types.registry import JobType


class PreparedJobs(NamedTuple):
    """Jobs that are good to insert."""

    jobs: Sequence[NewJob]
    order: Sequence[int]  # their places, parents before children
    unused_queues: Sequence[Queue]  # those of jobq.toml that they are the first to use


def prepare(
    specs: Sequence[JobSpec],
    job_types: "Callable[[str], JobType]",
    queues: Callable[[Collection[str]], Mapping[str, Queue]],
    settings: Settings,
    now: datetime,
) -> PreparedJobs:
    """Check jobs that are to be added together, and fill in every default.

    ``job_types`` gives the type of a name; ``queues`` those of some names that are stored.

    Raises:
        UsageError: a type, an argument or an option is wrong, or jobs wait for each other in a
            circle.
        NotFound: a queue does not exist.
    """
    for spec in specs:
        require_shape(spec)
    keys = keys_of(specs)
    names = {spec.queue for spec in specs}
    stored = queues(names)
    effective = {name: effective_queue(name, stored, settings) for name in names}
    jobs = [
        _new_job(spec, job_types(spec.type), effective[spec.queue], settings, keys, now)
        for spec in specs
    ]
    unused = [queue for name, queue in effective.items() if queue != stored.get(name)]
    return PreparedJobs(jobs, parents_first(jobs), unused)


def _new_job(
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
    return NewJob(
        **_options(spec, job_type, queue, settings, now),
        args=parsed_args(job_type, spec.args or {}, settings),
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
    return NewJob(**_options(spec, job_type, queue, settings, now), args={})


def _options(
    spec: JobSpec, job_type: "JobType", queue: Queue, settings: Settings, now: datetime
) -> dict[str, Any]:
    """The fields of a job but for its arguments and parents."""
    worker = job_type.worker
    priority = parse_priority(spec.priority)
    retries = first_given(spec.max_retries, worker and worker.max_retries, queue.max_retries)
    if retries is not None:
        checked_number("retries", retries, 0)
    base = first_given(spec.retry_base, worker and worker.retry_base, settings.retry_base)
    if spec.at is not None and spec.delay is not None:
        raise UsageError("a job has either a time (at) or a delay, not both")
    return {
        "type": spec.type,
        "queue": spec.queue,
        "priority": priority,
        "max_retries": settings.max_retries if retries is None else retries,
        "retry_base": parse_duration(base),
        "name": checked_text("name", spec.name),
        "tags": {**checked_tags(spec.tags or {}), **job_type.secret_tag()},
        "unique_key": checked_text("unique key", spec.unique),
        "added_by": spec.added_by,
        "run_at": run_at_of(spec, now),
        "timeout": _timeout(spec, job_type, queue, settings, priority) or None,
    }


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
