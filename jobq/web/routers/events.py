"""Events: one stream of server-sent events for each client."""

from typing import Annotated

from fastapi import Header, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from jobq.web.auth import READER, Reader
from jobq.web.changes import StateKind
from jobq.web.events import HEADERS, EventStream
from jobq.web.routers.dead import DeadQuery, dead_document
from jobq.web.routers.queues import queues_document
from jobq.web.routers.schedules import schedules_document
from jobq.web.routers.workers import workers_document
from jobq.web.routing import api_router
from jobq.web.state import get_server
from jobq.web.states import Whole
from jobq.web.topics import MAX_TOPIC_CHARS, MAX_WATCHES

WORKERS_MAX_AGE_S = 5.0
"""A supervisor that dies changes nothing in the database."""

DEAD_GROUPS = 50

SCHEDULES_MAX_AGE_S = 60.0
"""The next times of a schedule change with the clock."""

router = api_router("events")


def document_topics() -> list[StateKind]:
    """Return the topics that are what a route answers with, sent again when it differs."""
    return [
        Whole("queues", queues_document),
        Whole("workers", workers_document, max_age_s=WORKERS_MAX_AGE_S),
        Whole("schedules", schedules_document, max_age_s=SCHEDULES_MAX_AGE_S),
        Whole("dead", lambda queue: dead_document(queue, DeadQuery(since=None, limit=DEAD_GROUPS))),
    ]


class EventsQuery(BaseModel):
    """The topics of a stream."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    watch: list[Annotated[str, Field(max_length=MAX_TOPIC_CHARS)]] = Field(
        min_length=1,
        max_length=MAX_WATCHES,
        description="`counts`, `queues`, `workers`, `schedules`, `dead`, `stats`, "
        "`ids:1,2,9-14`, `job/42`, `head:QUERY@ID`, `ended:QUERY` or `log/42/stdout@OFFSET`; may be repeated.",
    )


@router.get(
    "/events",
    status_code=200,  # it has no default to find
    response_class=EventStream,
    responses={
        200: {"description": "A stream.", "content": {"text/event-stream": {"schema": {}}}},
        503: {"description": "There are `max_streams` streams, or the server shuts down."},
    },
)
async def stream_events(
    request: Request,
    caller: Reader,
    query: Annotated[EventsQuery, Query()],
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Follow topics. With `Last-Event-ID`, feeds go on behind the last event that arrived."""
    return await get_server(request).streams.open(caller, query.watch, last_event_id)


@router.head("/events", include_in_schema=False, dependencies=[READER])
async def head_of_events(request: Request, query: Annotated[EventsQuery, Query()]) -> Response:
    """Return the headers of a stream, and open none."""
    await get_server(request).streams.check(query.watch)
    return Response(headers=HEADERS, media_type=EventStream.media_type)
