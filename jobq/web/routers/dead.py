"""The dead letter queue: failed jobs, in groups of one kind of failure."""

from typing import Annotated

from fastapi import Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from jobq.errors import UsageError
from jobq.jobs.failure_group import group_document
from jobq.models import JobStatus, JsonObject
from jobq.queue import JobQueue
from jobq.units import parse_since
from jobq.web.auth import READER
from jobq.web.problems import FieldError, Problem
from jobq.web.routing import api_router
from jobq.web.schemas import Output, answer
from jobq.web.state import get_server

MAX_GROUPS = 200

router = api_router("dead")


class DeadQuery(BaseModel):
    """The parameters that select groups."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    since: str | None = Field(
        None, max_length=100, description="With a failure since this time, or this long ago."
    )
    limit: int = Field(50, ge=1, le=MAX_GROUPS)


class GroupOut(Output):
    """Failed jobs with one fingerprint. `/jobs?signature=` lists them."""

    fingerprint: str
    type: str
    error: str
    count: int
    first_at: str
    last_at: str
    sample: list[int]
    by_hour: list[int]


class LookedOut(Output):
    """What the groups are of: all failed jobs, and how many of them are in these groups."""

    failed: int
    grouped: int


class DeadOut(Output):
    """Groups of failed jobs, those with most jobs first."""

    groups: list[GroupOut]
    looked: LookedOut


@router.get("/dead", response_model=DeadOut, dependencies=[READER])
async def list_dead(request: Request, query: Annotated[DeadQuery, Query()]) -> Response:
    """Return the failed jobs in groups: those of one type that failed in the same way."""
    queue = get_server(request).queue
    return answer(await get_server(request).work.read(lambda: dead_document(queue, query)))


def dead_document(queue: JobQueue, query: DeadQuery) -> JsonObject:
    """Return failed jobs in groups.

    Raises:
        Problem: the time is wrong: 422.
    """
    try:
        since = None if query.since is None else parse_since(query.since, queue.now())
    except UsageError as error:
        field = FieldError("query:since", str(error))
        raise Problem(422, "invalid", str(error), errors=[field]) from None
    groups = queue.failures(since=since, limit=query.limit)
    documents = []
    for group in groups:
        document = group_document(group)
        documents.append({"fingerprint": document.pop("signature"), **document})
    grouped = sum(group.size for group in groups)
    failed = queue.counts()[JobStatus.FAILED]
    return {"groups": documents, "looked": {"failed": failed, "grouped": grouped}}
