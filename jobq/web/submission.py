"""The rules for jobs that come over HTTP: which types, and what a command may ask for."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from jobq.config.settings import Serve
from jobq.errors import NotFound, UsageError
from jobq.job_types import shell
from jobq.job_types.worker import VIA_TAG
from jobq.jobs.prepare import InvalidJob, Preparer
from jobq.jobs.spec import JobSpec, given_fields
from jobq.models import Job
from jobq.queue import JobQueue
from jobq.redaction import SECRETS_TAG, ShownJob, is_redacted
from jobq.web.caller import BY_TAG, Caller
from jobq.web.problems import FieldError, Problem, problem_of
from jobq.web.schemas import JobIn, JobOptions

OWN_TAGS = "jobq:"
"""The prefix of tags that only jobq sets."""


def may_submit(serve: Serve, job_type: str) -> bool:
    """Return whether jobs of a type may be added; commands only where `shell` is named in full."""
    if job_type == shell.JOB_TYPE:
        return shell.JOB_TYPE in serve.submit
    return any(fnmatchcase(job_type, pattern) for pattern in serve.submit)


def to_spec(job: JobIn, caller: Caller, serve: Serve) -> JobSpec:
    """Return what is added for a job that a caller describes.

    Raises:
        Problem: its type may not be added (403), or it asks for what is not allowed (422).
    """
    require_submittable(serve, job.type)
    given = job.model_dump(exclude_unset=True)
    refuse_forbidden(job.type, given, serve)
    return JobSpec(
        **_with_time({**given, "tags": {**(given.get("tags") or {}), **own_tags(caller)}})
    )


def require_submittable(serve: Serve, job_type: str) -> None:
    """Refuse a type of which no jobs may be added.

    Raises:
        Problem: 403.
    """
    if not may_submit(serve, job_type):
        raise Problem(
            403,
            "type_not_allowed",
            f"jobs of type {job_type!r:.80} may not be added over HTTP: name the type in "
            "[serve] submit of jobq.toml",
        )


def refuse_forbidden(job_type: str, given: Mapping[str, Any], serve: Serve) -> None:
    """Refuse tags that are jobq's, and what commands may not ask for.

    Raises:
        Problem: 422, with each field.
    """
    errors = [*_tag_errors(given.get("tags") or {})]
    if job_type == shell.JOB_TYPE:
        errors += _command_errors(given.get("args") or {}, serve)
    if errors:
        first = errors[0]
        raise Problem(422, "not_allowed", f"{first.pointer}: {first.message}", errors=errors)


def own_tags(caller: Caller) -> dict[str, str]:
    """Return the tags that say where a job came from."""
    return {VIA_TAG: "http", BY_TAG: caller.sub}


def _with_time(given: dict[str, Any]) -> dict[str, Any]:
    if given.get("at") is not None:
        given["at"] = datetime.fromisoformat(given["at"])
    return given


def to_specs(jobs: Sequence[JobIn], caller: Caller, serve: Serve) -> list[JobSpec]:
    """Return what is added for jobs that a caller describes together.

    Raises:
        Problem: one is refused: see `to_spec`; the pointers say which.
    """
    specs = []
    for place, job in enumerate(jobs):
        try:
            specs.append(to_spec(job, caller, serve))
        except Problem as problem:
            errors = problem.errors or [FieldError("/type", problem.detail)]
            problem.errors = [FieldError(f"/jobs/{place}{p}", m) for p, m in errors]
            raise
    return specs


def clone_of(
    job: Job, shown: ShownJob, changes: JobOptions, caller: Caller, serve: Serve
) -> JobSpec:
    """Return what is added as a copy of a job, with changed fields.

    Secrets are copied with what they are in; a field that is changed has to name them anew, so that
    nobody can send a secret that they can't read to another place. A unique key and parents are
    not copied.

    Raises:
        Problem: its type may not be added (403), it has an input of its own (409), or a change is
            not allowed (422).
    """
    require_submittable(serve, job.type)
    given = changes.model_dump(exclude_unset=True)
    drop_unchanged(given, shown, ("args", "tags", "name"))
    refuse_forbidden(job.type, given, serve)
    if "args" not in given and job.args.get("stdin") == shell.OWN_STDIN:
        raise Problem(409, "own_stdin", f"job {job.id} read a stdin that is not kept for others")
    kept = {k: v for k, v in job.tags.items() if not k.startswith(OWN_TAGS)}
    named = {k: v for k, v in job.tags.items() if k == SECRETS_TAG}
    tags = {**(given.pop("tags", kept) or {}), **named, **own_tags(caller)}
    return JobSpec(**_with_time({**_copied(job), **given, "tags": tags}))


def drop_unchanged(given: dict[str, Any], shown: object, fields: Sequence[str]) -> None:
    """Drop fields that are given as they were shown: with their secrets, they stay as stored.

    Raises:
        Problem: another value has a mark in place of a secret: 422.
    """
    for field in fields:
        if field in given and given[field] == getattr(shown, field):
            del given[field]
        elif is_redacted(given.get(field)):
            text = "it has a secret that was left out: give the secret itself"
            error = FieldError(f"/{field}", text)
            raise Problem(422, "redacted", f"/{field}: {text}", errors=[error])


def _copied(job: Job) -> dict[str, Any]:
    fields = ("type", "args", "queue", "priority", "name", "max_retries", "retry_base")
    return {**{name: getattr(job, name) for name in fields}, "timeout": job.timeout or 0}


@contextmanager
def naming_fields(
    queue: JobQueue, specs: Sequence[JobSpec], prefix: str = "/jobs/{}"
) -> Iterator[None]:
    """Add the fields that are wrong to the problem of jobs that can't be added.

    Raises:
        Problem: one can't be.
    """
    try:
        yield
    except (UsageError, NotFound) as error:
        problem = problem_of(error)
        for place, spec in enumerate(specs):
            problem.errors = _field_errors(queue, spec, prefix.format(place))
            if problem.errors:
                break
        raise problem from None


def _field_errors(queue: JobQueue, spec: JobSpec, prefix: str) -> list[FieldError]:
    preparer = Preparer(queue.job_type, queue.queue, queue.settings, queue.now())
    try:
        preparer.prepare(given_fields(spec))
    except InvalidJob as invalid:
        return [FieldError(f"{prefix}/{field}", str(error)) for field, error in invalid.errors]
    return []


def _tag_errors(tags: Mapping[str, str]) -> list[FieldError]:
    return [
        FieldError("/tags", f"tags that begin with {OWN_TAGS} are set by jobq alone")
        for tag in tags
        if tag.strip().lower().startswith(OWN_TAGS)
    ][:1]


def _command_errors(args: Mapping[str, Any], serve: Serve) -> list[FieldError]:
    errors = []
    env = args.get("env")
    if isinstance(env, dict) and not set(env) <= set(serve.submit_env):
        errors.append(FieldError("/args/env", "a variable is not in [serve] submit_env"))
    cwd = args.get("cwd")
    if isinstance(cwd, str) and not _is_below(cwd, serve.submit_cwd):
        errors.append(FieldError("/args/cwd", "the directory is not in [serve] submit_cwd"))
    if args.get("stdin") is not None:
        errors.append(FieldError("/args/stdin", "a command has no stdin over HTTP"))
    return errors


def _is_below(cwd: str, allowed: tuple[Path, ...]) -> bool:
    if "\0" in cwd or not os.path.isabs(cwd):
        return False
    real = Path(os.path.realpath(cwd))
    return any(real.is_relative_to(os.path.realpath(each)) for each in allowed)
