"""Exports of jobs: all of a selection, streamed."""

import csv
import io
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from pydantic import Field
from starlette.responses import StreamingResponse

from jobq.backends.lists import Order
from jobq.models import JobFilter
from jobq.queue import JobQueue
from jobq.web.auth import READER
from jobq.web.routing import api_router
from jobq.web.schemas import job_document, to_json
from jobq.web.selection import JobQuery, each_page
from jobq.web.state import Server, get_server

MAX_EXPORTED_JOBS = 100_000

PAGE_SIZE = 50
"""Jobs read at a time, whole: each may have some megabytes."""

COLUMNS = (
    "id", "type", "name", "status", "queue", "priority", "summary", "args", "tags", "unique_key",
    "attempts", "failures", "crashes", "max_retries", "created_at", "run_at", "started_at",
    "finished_at", "exit_code", "signal", "error", "reason", "result",
)  # fmt: skip
"""The columns of a CSV file."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""The first characters by which a spreadsheet takes a cell for a formula."""

router = api_router("jobs")


class ExportQuery(JobQuery):
    """The parameters of an export."""

    format: Literal["jsonl", "csv"] = "jsonl"
    order: Literal["-id", "id", "-finished"] = "id"
    limit: int = Field(MAX_EXPORTED_JOBS, ge=1, le=MAX_EXPORTED_JOBS)


_FILES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A line for each job.",
        "content": {
            "application/x-ndjson": {"schema": {"type": "string"}},
            "text/csv": {"schema": {"type": "string"}},
        },
    }
}


@router.get(
    "/jobs/export", dependencies=[READER], response_class=StreamingResponse, responses=_FILES
)
async def export_jobs(
    request: Request, query: Annotated[ExportQuery, Query()]
) -> StreamingResponse:
    """Return all jobs that match, up to 100,000, as JSON lines or CSV."""
    server = get_server(request)
    jobs = query.job_filter(await server.work.read(server.queue.now))
    kind = "text/csv; charset=utf-8" if query.format == "csv" else "application/x-ndjson"
    headers = {"Content-Disposition": f'attachment; filename="jobs.{query.format}"'}
    return StreamingResponse(_parts(server, jobs, query), media_type=kind, headers=headers)


async def _parts(server: Server, jobs: JobFilter, query: ExportQuery) -> AsyncIterator[bytes]:
    left = query.limit
    if query.format == "csv":
        yield _csv_row(COLUMNS)
    async for page in each_page(server, jobs, order=Order(query.order), limit=PAGE_SIZE):
        ids = [job.id for job in page.jobs[:left]]
        if ids:
            yield await server.work.read(partial(_rows, server.queue, ids, query.format))
        left -= len(ids)
        if not left:
            return


def _rows(queue: JobQueue, ids: list[int], kind: str) -> bytes:
    there = queue.existing(ids)
    found = [job_document(queue.shown(there[job_id])) for job_id in ids if job_id in there]
    if kind == "csv":
        return b"".join(_csv_row([job[name] for name in COLUMNS]) for job in found)
    return b"".join(to_json(job) + b"\n" for job in found)


def _csv_row(values: Any) -> bytes:
    file = io.StringIO()
    csv.writer(file, lineterminator="\r\n").writerow(map(csv_cell, values))
    return file.getvalue().encode("utf-8", "backslashreplace")


def csv_cell(value: Any) -> Any:
    """Return a value as a cell that no spreadsheet takes for a formula."""
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value
