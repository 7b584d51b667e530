"""Events: one stream of server-sent events for each client."""

from typing import Annotated

from fastapi import Header, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from jobq.web.auth import READER, Reader
from jobq.web.events import HEADERS, EventStream
from jobq.web.routing import api_router
from jobq.web.state import get_server
from jobq.web.topics import MAX_TOPIC_CHARS, MAX_WATCHES

router = api_router("events")


class EventsQuery(BaseModel):
    """The topics of a stream."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    watch: list[Annotated[str, Field(max_length=MAX_TOPIC_CHARS)]] = Field(
        min_length=1,
        max_length=MAX_WATCHES,
        description="`counts`, `queues`, `workers`, `schedules`, `ids:1,2,9-14`, `job/42`, "
        "`head:QUERY@ID`, `ended:QUERY` or `log/42/stdout@OFFSET`; may be repeated.",
    )


@router.get(
    "/events",
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
