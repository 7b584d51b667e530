"""The rules for jobs that come over HTTP: which types, and what a command may ask for."""

import os
from collections.abc import Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from jobq.config.settings import Serve
from jobq.job_types import shell
from jobq.jobs.spec import JobSpec
from jobq.web.caller import BY_TAG, Caller
from jobq.web.problems import FieldError, Problem
from jobq.web.schemas import JobIn

OWN_TAGS = "jobq:"
"""The prefix of tags that only jobq sets."""

VIA_TAG = "jobq:via"
"""The tag of a job that came from outside: its downloads do not reach private addresses."""


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
    if not may_submit(serve, job.type):
        raise Problem(
            403,
            "type_not_allowed",
            f"jobs of type {job.type!r:.80} may not be added over HTTP: name the type in "
            "[serve] submit of jobq.toml",
        )
    given = job.model_dump(exclude_unset=True)
    errors = [*_tag_errors(given.get("tags") or {})]
    if job.type == shell.JOB_TYPE:
        errors += _command_errors(given.get("args") or {}, serve)
    if errors:
        first = errors[0]
        raise Problem(422, "not_allowed", f"{first.pointer}: {first.message}", errors=errors)
    if given.get("at") is not None:
        given["at"] = datetime.fromisoformat(given["at"])
    own = {VIA_TAG: "http", BY_TAG: caller.sub}
    return JobSpec(**{**given, "tags": {**(given.get("tags") or {}), **own}})


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
