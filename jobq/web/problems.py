"""Errors as problem documents (RFC 9457): `application/problem+json`."""

import errno
import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from jobq.errors import (
    ArgsError,
    ConfigError,
    DatabaseError,
    DatabaseUnavailableError,
    JobqError,
    KeyReusedError,
    LogDirectoryError,
    NotFound,
    UsageError,
    WrongState,
)
from jobq.limits import bounded_text

PREFIX = "/api/v1"
"""The beginning of all paths of the API."""

MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 20
"""Errors that one document lists."""

MAX_POINTER_CHARS = 200
MAX_DETAIL_CHARS = 2000
RETRY_AFTER_S = 1
"""Time after which a client may try again, where the database can't be used for now."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class FieldError(NamedTuple):
    """What is wrong with one field: its JSON pointer in the body, or `query:NAME` and the like."""

    pointer: str
    message: str


class Problem(HTTPException):
    """An answer that is an error, with a code of its own that programs can rely on."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(status, detail, headers)
        self.code = code
        self.errors = errors
        self.more = more  # further members of the document

    def document(self, request_id: str) -> dict[str, Any]:
        """Return the problem document."""
        document: dict[str, Any] = {
            "type": f"urn:jobq:{self.code}",
            "title": HTTPStatus(self.status_code).phrase,
            "status": self.status_code,
            "detail": bounded_text(self.detail, MAX_DETAIL_CHARS),
            "code": self.code,
            "request_id": request_id,
            **self.more,
        }
        if self.errors:
            listed = self.errors[:MAX_ERRORS]
            document["errors"] = [{"pointer": p, "message": m} for p, m in listed]
        return document


_OF_ERRORS: Sequence[tuple[type[JobqError], int, str]] = (
    (ConfigError, 500, "configuration"),  # the server's, not the caller's
    (ArgsError, 422, "invalid_args"),
    (KeyReusedError, 422, "key_reused"),
    (UsageError, 422, "invalid"),
    (NotFound, 404, "not_found"),
    (WrongState, 409, "wrong_state"),
    (DatabaseUnavailableError, 503, "unavailable"),
    (DatabaseError, 500, "database"),
    (LogDirectoryError, 503, "logs_unavailable"),
)
"""The status and code of each error: the first line that fits."""


def problem_of(error: Exception) -> Problem:
    """Return the problem that stands for an error."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, JobqError):
        status, code = next(
            ((status, code) for kind, status, code in _OF_ERRORS if isinstance(error, kind)),
            (500, "internal"),
        )
        headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else None
        return Problem(status, code, str(error), headers=headers)
    if isinstance(error, RequestValidationError):
        return invalid(error.errors(), error.body)
    if isinstance(error, HTTPException):
        return _plain_problem(error)
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        detail = "the server's disk is full: free some space and try again"
        return Problem(503, "disk_full", detail, headers={"Retry-After": str(RETRY_AFTER_S)})
    return Problem(500, "internal", "a bug in jobq: the server's output has the details")


def _plain_problem(error: HTTPException) -> Problem:
    details = {
        404: ("no_such_path", f"no such path: see {PREFIX}/openapi.json"),
        405: ("method_not_allowed", "no such method here: see the Allow header"),
    }
    code, detail = details.get(error.status_code, ("malformed", "the request is malformed"))
    return Problem(error.status_code, code, detail, headers=error.headers)


def invalid(errors: Sequence[Any], body: Any = None) -> Problem:
    """Return the problem of what pydantic found; it never repeats the input."""
    listed = [
        FieldError(_pointer(error["loc"], body), bounded_text(error["msg"], 300))
        for error in errors[:MAX_ERRORS]
    ]
    first = f"{listed[0].pointer or 'the body'}: {listed[0].message}" if listed else "not valid"
    return Problem(422, "invalid", first, errors=listed)


def _pointer(loc: Sequence[Any], body: Any) -> str:
    """Return where an error is: pydantic adds the names of a union's members, which are left out."""
    place, *path = loc
    if place != "body":
        return f"{place}:{'.'.join(map(str, path))}"[:MAX_POINTER_CHARS]
    pointer = ""
    for number, step in enumerate(path):
        known = isinstance(body, dict) and step in body
        known = known or (isinstance(body, list) and isinstance(step, int) and step < len(body))
        missing = isinstance(body, dict) and number == len(path) - 1
        if not (known or missing):
            break
        pointer += "/" + str(step).replace("~", "~0").replace("/", "~1")
        body = body[step] if known else None
    return pointer[:MAX_POINTER_CHARS]


def request_id_of(request: Request) -> str:
    """Return the id that `Gate` gave a request."""
    return str(request.scope.get("state", {}).get("request_id", ""))


def print_bug(error: Exception, where: str) -> None:
    """Print where a bug is, without the error's text: it may hold arguments of a job."""
    print(f"jobq: {where}: {type(error).__name__}, a bug in jobq:", file=sys.stderr)  # noqa: T201
    traceback.print_tb(error.__traceback__)


async def answer_problem(request: Request, error: Exception) -> Response:
    """Return the problem document of an error, as an exception handler."""
    problem = problem_of(error)
    body = json.dumps(problem.document(request_id_of(request)))
    return Response(body, problem.status_code, problem.headers, media_type=MEDIA_TYPE)
