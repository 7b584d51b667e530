"""Logs and artifacts: listed, read in pieces, searched, downloaded. Through `JobLog` alone."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple, TypeVar
from urllib.parse import quote

from fastapi import Query, Request
from pydantic import Field
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from jobq.errors import NotFound
from jobq.logs.artifacts import Artifact, list_artifacts, open_artifact
from jobq.logs.directory import JobLog
from jobq.logs.remote import RemoteLog
from jobq.models import Job, JobStatus
from jobq.queue import JobQueue
from jobq.units import format_moment
from jobq.web.auth import READER
from jobq.web.log_reader import (
    COUNT_LIMIT_S,
    FILES,
    Readable,
    Span,
    read_part,
    search,
    span_of,
    spans,
)
from jobq.web.problems import FieldError, Problem
from jobq.web.routing import api_router
from jobq.web.schemas import MAX_ID, Input, JobId, Output, answer
from jobq.web.state import Server, get_server

T = TypeVar("T")

MAX_PART_BYTES = 256 << 10
MAX_TAIL_LINES = 100_000
MAX_TEXT_CHARS = 1000
TEXT_TYPE = "text/plain; charset=utf-8"
BINARY_TYPE = "application/octet-stream"
SANDBOX = {"Content-Security-Policy": "sandbox; default-src 'none'"}
"""What a job wrote is no page of ours, whatever a browser takes it for."""

router = api_router("logs")

File = Literal["stdout", "stderr", "log", "events"]
Offset = Annotated[int, Field(ge=0, le=MAX_ID)]


class PartQuery(Input, strict=False):
    """The piece of a file to read: from an offset, a line, or the last lines."""

    start: Offset | None = Field(None, alias="from", description="An offset in bytes.")
    tail: int | None = Field(None, ge=0, le=MAX_TAIL_LINES, description="The last lines.")
    line: int | None = Field(None, ge=1, le=MAX_ID, description="The number of a line, from 1.")
    limit: int = Field(MAX_PART_BYTES, ge=1, le=MAX_PART_BYTES, description="Bytes at most.")
    attempt: int | None = Field(None, ge=1, le=MAX_ID)


class SearchQuery(Input, strict=False):
    """A text to search for, as it is."""

    text: str = Field(min_length=1, max_length=MAX_TEXT_CHARS)
    start: Offset = Field(0, alias="from", description="An offset in bytes.")
    ignore_case: bool = Field(False, description="Of ASCII letters.")


class AttemptSpan(Output):
    attempt: int
    begin: int = Field(alias="from")
    to: int


class LogFileOut(Output):
    """A file: its offsets count all that was ever written to it."""

    name: File
    begin: int
    end: int
    dropped: int
    growing: bool
    here: bool
    attempts: list[AttemptSpan]


class LogFilesOut(Output):
    files: list[LogFileOut]


class HitOut(Output):
    offset: int
    line: int | None
    text: str


class HitsOut(Output):
    hits: list[HitOut]
    next: int | None


class ArtifactOut(Output):
    name: str
    size: int
    modified_at: str


class ArtifactsOut(Output):
    artifacts: list[ArtifactOut]
    here: bool


class _Open(NamedTuple):
    """A job, and its log as this host sees it."""

    job: Job
    log: JobLog | RemoteLog | None


@contextmanager
def _opened(queue: JobQueue, job_id: int, attempt: int | None = None) -> Iterator[_Open]:
    job = queue.get(job_id)
    log = queue.open_log(job, attempt)
    try:
        yield _Open(job, log)
    finally:
        if log is not None:
            log.close()


@contextmanager
def _file(log: JobLog | RemoteLog, name: str) -> Iterator[Readable | None]:
    """Open a file; None if it is not there.

    Raises:
        Problem: the job has put something else in its place: 404.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(log.read(name))
        except OSError:
            raise Problem(404, "no_file", f"{name} is not a regular file") from None
        yield file


# -- files -----------------------------------------------------------------------------------


@router.get("/jobs/{id}/logs", response_model=LogFilesOut, dependencies=[READER])
async def list_logs(request: Request, id: JobId) -> Response:  # noqa: A002 - as the path has it
    """Return the files that a job has written, and where the output of each attempt is in them."""
    server = get_server(request)

    def read() -> list[dict[str, Any]]:
        with _opened(server.queue, id) as (job, log):
            if log is None:
                return []
            found = (_file_document(server.queue, job, log, name) for name in FILES)
            return [each for each in found if each is not None]

    return answer({"files": await server.work.read(read)})


def _file_document(
    queue: JobQueue, job: Job, log: JobLog | RemoteLog, name: str
) -> dict[str, Any] | None:
    """Return a file with its attempts; None if there is none, or the job has put a link there."""
    here = isinstance(log, JobLog)
    try:
        with _file(log, FILES[name]) as file:
            if file is None:
                return None
            layout = file.layout()
            first, behind = file.read(0, 1)
    except Problem:
        return None
    end = layout.end
    return {
        "name": name,
        "begin": 0 if here else behind - len(first),
        "end": end,
        "dropped": 0 if layout.gap is None else layout.gap.dropped,
        "growing": job.status is JobStatus.RUNNING,
        "here": here,
        "attempts": [
            {"attempt": number, "from": span.start, "to": end if span.stop is None else span.stop}
            for number, span in spans(queue, job, log, FILES[name]).items()
        ],
    }


class _Part(NamedTuple):
    data: bytes
    first: int
    next: int
    end: int
    line: int | None


@router.get(
    "/jobs/{id}/logs/{file}",
    dependencies=[READER],
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {}}, "description": "Bytes, as the job wrote them."},
        416: {"description": "The file ends before `from`."},
    },
)
async def read_log(
    request: Request,
    id: JobId,  # noqa: A002 - as the path has it
    file: File,
    query: Annotated[PartQuery, Query()],
) -> Response:
    """Return a piece of a file; `Jobq-Next` is the offset to go on from."""
    given = [name for name in ("start", "tail", "line") if getattr(query, name) is not None]
    if len(given) > 1:
        errors = [
            FieldError("query:" + name.replace("start", "from"), "one only") for name in given
        ]
        raise Problem(422, "invalid", "give one of from, tail and line", errors=errors)
    server = get_server(request)
    part = await server.work.read(partial(_read_part, server, id, FILES[file], query))
    headers = {
        **SANDBOX,
        "Jobq-From": str(part.first),
        "Jobq-Next": str(part.next),
        "Jobq-End": str(part.end),
    }
    if part.line is not None:
        headers["Jobq-Line"] = str(part.line)
    return Response(part.data, headers=headers, media_type=TEXT_TYPE)


def _read_part(server: Server, job_id: int, name: str, query: PartQuery) -> _Part:
    with ExitStack() as stack:
        job, log = stack.enter_context(_opened(server.queue, job_id, query.attempt))
        file = None if log is None else stack.enter_context(_file(log, name))
        if log is None or file is None:
            if query.start:
                raise _past_end(query.start, 0)
            return _Part(b"", 0, 0, 0, 1)
        span = span_of(server.queue, job, log, name, query.attempt)
        index = server.line_indexes.of(job, log, name)
        end = file.layout().end if span.stop is None else span.stop
        first = _first(file, index.offset_of, span, end, query)
        data, behind = read_part(file, first, end, query.limit)
        if isinstance(log, RemoteLog):
            first = max(first, behind - len(data))
        line = query.line
        if line is None or first == end:
            line = index.line_at(file, first, COUNT_LIMIT_S)
        return _Part(data, first, behind, end, line)


def _first(
    file: Readable,
    offset_of_line: Callable[[Readable, int], int],
    span: Span,
    end: int,
    query: PartQuery,
) -> int:
    """Return the offset at which a piece begins.

    Raises:
        Problem: the file, or the attempt, ends before it: 416.
    """
    if query.tail is not None:
        return file.last_lines(query.tail, span.start, end)
    if query.line is not None:
        return min(max(offset_of_line(file, query.line), span.start), end)
    first = span.start if query.start is None else query.start
    if first > end:
        raise _past_end(first, end)
    return max(first, span.start)


def _past_end(first: int, end: int) -> Problem:
    return Problem(
        416,
        "past_end",
        f"there are {end:,} bytes, and byte {first:,} was asked for",
        headers={"Jobq-End": str(end)},
        end=end,
    )


@router.get("/jobs/{id}/logs/{file}/search", response_model=HitsOut, dependencies=[READER])
async def search_log(
    request: Request,
    id: JobId,  # noqa: A002 - as the path has it
    file: File,
    query: Annotated[SearchQuery, Query()],
) -> Response:
    """Return the lines that have a text, as far as 200 ms go; `next` is where to go on."""
    server = get_server(request)

    def read() -> dict[str, Any]:
        with ExitStack() as stack:
            job, log = stack.enter_context(_opened(server.queue, id))
            opened = None if log is None else stack.enter_context(_file(log, FILES[file]))
            if log is None or opened is None:
                return {"hits": [], "next": None}
            index = server.line_indexes.of(job, log, FILES[file])
            line = index.line_at(opened, query.start, COUNT_LIMIT_S)
            text = query.text.encode("utf-8", "surrogatepass")
            found = search(opened, text, query.start, line, ignore_case=query.ignore_case)
            return {"hits": [each._asdict() for each in found.hits], "next": found.next}

    return answer(await server.work.read(read))


@router.get(
    "/jobs/{id}/logs/{file}/download",
    dependencies=[READER],
    response_class=Response,
    responses={200: {"content": {BINARY_TYPE: {}}, "description": "The file, as it is now."}},
)
async def download_log(request: Request, id: JobId, file: File) -> Response:  # noqa: A002 - as the path has it
    """Return a file as an attachment."""
    server = get_server(request)
    stack = ExitStack()

    def begin() -> tuple[Readable | None, int]:
        _, log = stack.enter_context(_opened(server.queue, id))
        opened = None if log is None else stack.enter_context(_file(log, FILES[file]))
        return opened, 0 if opened is None else opened.layout().end

    try:
        opened, end = await server.work.read(begin)
    except BaseException:
        stack.close()
        raise

    def part(at: int) -> tuple[bytes, int]:
        return (b"", at) if opened is None else read_part(opened, at, end, MAX_PART_BYTES)

    return _Attachment(server, stack, f"job-{id}-{FILES[file]}", part)


# -- artifacts -------------------------------------------------------------------------------


@router.get("/jobs/{id}/artifacts", response_model=ArtifactsOut, dependencies=[READER])
async def list_files(request: Request, id: JobId) -> Response:  # noqa: A002 - as the path has it
    """Return the files that a job has left."""
    server = get_server(request)

    def read() -> tuple[list[Artifact], bool]:
        with _opened(server.queue, id) as (_, log):
            here = isinstance(log, JobLog)
            return list_artifacts(log) if isinstance(log, JobLog) else [], here

    found, here = await server.work.read(read)
    documents = [
        {"name": each.name, "size": each.size, "modified_at": format_moment(each.modified_at)}
        for each in found
    ]
    return answer({"artifacts": documents, "here": here})


@router.get(
    "/jobs/{id}/artifacts/{name}",
    dependencies=[READER],
    response_class=Response,
    responses={200: {"content": {BINARY_TYPE: {}}, "description": "The file."}},
)
async def download_artifact(request: Request, id: JobId, name: str) -> Response:  # noqa: A002 - as the path has it
    """Return a file that a job has left, as an attachment."""
    server = get_server(request)
    stack = ExitStack()

    def begin() -> tuple[Artifact, int]:
        _, log = stack.enter_context(_opened(server.queue, id))
        found = None
        if isinstance(log, JobLog):
            found = stack.enter_context(open_artifact(log, name))
        if found is None:
            raise NotFound(f"job {id} has no such artifact on this host")
        return found

    try:
        artifact, descriptor = await server.work.read(begin)
    except BaseException:
        stack.close()
        raise

    def part(at: int) -> tuple[bytes, int]:
        data = os.pread(descriptor, min(MAX_PART_BYTES, artifact.size - at), at)
        return data, at + len(data)

    return _Attachment(server, stack, artifact.name, part, artifact.size)


class _Attachment(StreamingResponse):
    """A file that is sent as it is read, and closed whatever becomes of the client."""

    def __init__(
        self,
        server: Server,
        opened: ExitStack,
        name: str,
        part: Callable[[int], tuple[bytes, int]],
        size: int | None = None,
    ) -> None:
        self._opened = opened
        disposition = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
        headers = {**SANDBOX, "Content-Disposition": disposition}
        if size is not None:
            headers["Content-Length"] = str(size)
        super().__init__(_parts(server, part), headers=headers, media_type=BINARY_TYPE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._opened:
            await super().__call__(scope, receive, send)


async def _parts(server: Server, part: Callable[[int], tuple[bytes, int]]) -> AsyncIterator[bytes]:
    at = 0
    while True:
        data, at = await server.work.read(partial(part, at))
        if not data:
            return
        yield data
