"""The documents that routers share: pydantic models, which describe and check them.

What comes in is checked strictly: no unknown fields, no number for a text. What goes out is built
as a dictionary and sent as it is; its model only describes it in openapi.json, and a test compares.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue
from starlette.requests import Request
from starlette.responses import Response

from jobq.describe import describe
from jobq.errors import UsageError
from jobq.limits import bounded_text
from jobq.models import FINISHED, JobStatus, JsonObject
from jobq.redaction import ShownJob
from jobq.serializers import job_fields
from jobq.units import parse_duration, parse_moment
from jobq.web.problems import PREFIX, Problem

MAX_ID = 2**53 - 1
"""Larger numbers are not exact in JavaScript."""

MAX_SUMMARY_CHARS = 300


def _plain_number(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch("[1-9][0-9]*", value):  # "1.0", "+1", " 1"
        raise ValueError("give a number, such as 42")
    return value


JobId = Annotated[
    int,
    BeforeValidator(_plain_number),
    Field(ge=1, le=MAX_ID, description="The number of a job."),
]


def _duration(value: Any) -> Any:
    try:
        return parse_duration(value)
    except UsageError:
        raise ValueError('give a duration: seconds, or text such as "10m"') from None


Span = Annotated[
    float,
    BeforeValidator(_duration, json_schema_input_type=float | str),
    Field(description='Seconds, or text such as "10m".', examples=["10m", 30]),
]


def _text_of_a_time(value: Any) -> Any:
    from jobq.clock import utcnow

    if not isinstance(value, str):
        raise ValueError("give a time as text, such as 2026-12-24T18:00:00Z")  # noqa: TRY004 - as pydantic has it
    try:
        return parse_moment(value, utcnow()).isoformat()
    except UsageError:
        raise ValueError("give a time, such as 2026-12-24T18:00:00Z") from None


Moment = Annotated[
    str, BeforeValidator(_text_of_a_time), Field(json_schema_extra={"format": "date-time"})
]


class Input(BaseModel):
    """A body or query that is checked strictly."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class Output(BaseModel):
    """A document that is sent. Fields are only added."""

    model_config = ConfigDict(extra="allow")


# -- jobs ------------------------------------------------------------------------------------

Status = Literal[
    "blocked", "scheduled", "pending", "running", "retrying", "completed", "failed", "cancelled"
]
Parents = Annotated[list[int], Field(max_length=1000)]


class JobOptions(Input):
    """The fields of `JobSpec` besides the type."""

    args: dict[str, JsonValue] | None = None
    queue: str = "default"
    priority: int | str = 5
    name: str | None = None
    tags: dict[str, str] | None = None
    unique: str | None = Field(None, description="At most one unfinished job has this key.")
    after: Parents = Field([], description="Jobs that must have completed.")
    after_any: Parents = Field([], description="Jobs that must have ended.")
    after_fail: Parents = Field([], description="Jobs that must have failed.")
    after_one: Parents = Field([], description="Jobs of which one must have completed.")
    at: Moment | None = Field(None, description="Not before this time.")
    delay: Span | None = None
    timeout: Span | None = None
    max_retries: int | None = None
    retry_base: Span | None = None
    added_by: JobId | None = None


class JobIn(JobOptions):
    """A job to add: the fields of `JobSpec`."""

    type: str


class ParentOut(Output):
    id: int
    condition: Literal["succeeded", "ended", "failed"]


class ProgressOut(Output):
    done: float
    total: float | None
    message: str | None


class Job(Output):
    """A job."""

    id: int
    type: str
    name: str | None
    status: Status
    summary: str
    queue: str
    priority: int
    args: dict[str, Any]
    tags: dict[str, str]
    unique_key: str | None
    parents: list[ParentOut]
    unmet_parents: int
    added_by: int | None
    attempts: int
    failures: int
    crashes: int
    max_retries: int
    retry_base: float
    timeout: float | None
    created_at: str
    run_at: str | None
    started_at: str | None
    finished_at: str | None
    cancel_requested: bool
    cancelled_by: int | None
    progress: ProgressOut | None
    exit_code: int | None
    signal: int | None
    error: str | None
    signature: str | None
    reason: str | None
    result: Any
    can: list[Literal["cancel", "retry", "delete", "clone"]]
    links: dict[str, str]


class LightJob(Output):
    """A job in a list: without arguments, result and parents, and with texts of 300 characters."""

    id: int
    type: str
    name: str | None
    status: Status
    summary: str
    queue: str
    priority: int
    tags: dict[str, str]
    unique_key: str | None
    unmet_parents: int
    added_by: int | None
    attempts: int
    failures: int
    crashes: int
    max_retries: int
    retry_base: float
    timeout: float | None
    created_at: str
    run_at: str | None
    started_at: str | None
    finished_at: str | None
    cancel_requested: bool
    cancelled_by: int | None
    progress: ProgressOut | None
    exit_code: int | None
    signal: int | None
    error: str | None
    signature: str | None
    reason: str | None
    can: list[Literal["cancel", "retry", "delete", "clone"]]
    links: dict[str, str]


class AddedJob(Job):
    """A job that was added, or the one that holds its unique key."""

    existing: bool = False


def job_document(job: ShownJob) -> JsonObject:
    """Return a job with everything that is shown of it."""
    own = f"{PREFIX}/jobs/{job.id}"
    return {
        **job_fields(job),
        "retry_base": job.retry_base,
        "failures": job.failures,
        "crashes": job.crashes,
        "cancel_requested": job.cancel_requested,
        "cancelled_by": job.cancelled_by,
        "unmet_parents": job.unmet_parents,
        "summary": bounded_text(describe(job), MAX_SUMMARY_CHARS),
        "can": actions_on(job.status),
        "links": {"self": own, "attempts": f"{own}/attempts", "logs": f"{own}/logs"},
    }


def light_document(job: ShownJob) -> JsonObject:
    """Return a job as lists have it."""
    document = job_document(job)
    for field in ("args", "result", "parents"):
        del document[field]
    for field in ("name", "unique_key", "error", "reason"):
        document[field] = bounded_text(document[field], MAX_SUMMARY_CHARS)
    document["tags"] = {
        bounded_text(key, MAX_SUMMARY_CHARS): bounded_text(value, MAX_SUMMARY_CHARS)
        for key, value in document["tags"].items()
    }
    return document


def actions_on(status: JobStatus) -> list[str]:
    """Return what may be done with a job in a status."""
    if status not in FINISHED:
        return ["cancel", "clone"]
    retry = ["retry"] if status in (JobStatus.FAILED, JobStatus.CANCELLED) else []
    return [*retry, "delete", "clone"]


# -- errors ----------------------------------------------------------------------------------


class FieldErrorOut(Output):
    pointer: str
    message: str


class ProblemOut(Output):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldErrorOut] | None = None


# -- answers ---------------------------------------------------------------------------------


def to_json(document: Any) -> bytes:
    """Return a document as it is sent."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "backslashreplace"
    )


def indented(document: Any) -> str:
    """Return a document as text for people, in which JavaScript does not round the numbers."""
    return json.dumps(document, ensure_ascii=False, indent=2)


def answer(
    document: Any, status: int = 200, *, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a JSON document as an answer."""
    return Response(to_json(document), status, headers, media_type="application/json")


def etag_of(document: Any, version: Any = None) -> str:
    """Return the entity tag of a document: equal as long as nothing of it changes.

    ``version``: the part of it that clients change. `If-Match` compares that part alone: counts and
    next times change by themselves.
    """
    digest = hashlib.sha256(to_json(document)).hexdigest()[:24]
    if version is None:
        return f'"{digest}"'
    return f'"{hashlib.sha256(to_json(version)).hexdigest()[:24]}.{digest}"'


def answer_tagged(
    request: Request,
    document: Any,
    *,
    version: Any = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a document with its ETag; 304 if a client that reads it has it already."""
    tag = etag_of(document, version)
    if request.method in ("GET", "HEAD") and tag in _tags(request, "if-none-match"):
        return Response(status_code=304, headers={"ETag": tag})
    return answer(document, status, headers={"ETag": tag, **(headers or {})})


def has_condition(request: Request) -> bool:
    """Return whether a change depends on the version that the client has seen."""
    return "if-match" in request.headers


def require_match(request: Request, document: Any, version: Any = None) -> None:
    """Refuse a change if the client has seen another version of the document.

    Raises:
        Problem: `If-Match` names none of its tags: 412.
    """
    if not has_condition(request):
        return
    wanted = _tags(request, "if-match")
    known = {tag.strip('"').partition(".")[0] for tag in wanted}
    if "*" not in wanted and etag_of(document, version).strip('"').partition(".")[0] not in known:
        raise Problem(412, "changed", "it has changed since you read it: read it again")


def _tags(request: Request, header: str) -> set[str]:
    return {
        tag.strip().removeprefix("W/")
        for value in request.headers.getlist(header)
        for tag in value.split(",")
        if tag.strip()
    }
