"""Suggestions for the query bar."""

from typing import Annotated, Literal

from fastapi import Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from jobq.models import JsonObject
from jobq.queue import JobQueue
from jobq.web.auth import READER
from jobq.web.routing import api_router
from jobq.web.schemas import Output, answer
from jobq.web.selection import MAX_QUERY_CHARS
from jobq.web.state import get_server
from jobq.web.suggestions import suggest

SAMPLE_SIZE = 200
"""The newest jobs, whose tags are suggested."""

MAX_TAG_CHARS = 100

router = api_router("jobs")


class SuggestQuery(BaseModel):
    """A query, and the place in it."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    q: str = Field("", max_length=MAX_QUERY_CHARS)
    at: int | None = Field(None, ge=0, description="In characters (code points); else the end.")


class SuggestionOut(Output):
    """A text that may stand in place of that from `from` to the cursor."""

    insert: str
    hint: str
    kind: Literal["field", "value"]


@router.get("/suggest", response_model=list[SuggestionOut], dependencies=[READER])
async def suggest_terms(request: Request, query: Annotated[SuggestQuery, Query()]) -> Response:
    """Return what may stand at a place of a query."""
    queue = get_server(request).queue
    at = len(query.q) if query.at is None else query.at

    def read() -> list[JsonObject]:
        values = {
            "queue": lambda: [each.name for each in queue.queues()],
            "type": lambda: queue.registry.types,
            "tag": lambda: _recent_tags(queue),
        }
        return [each.document() for each in suggest(query.q, at, values)]

    return answer(await get_server(request).work.read(read))


def _recent_tags(queue: JobQueue) -> list[str]:
    jobs = map(queue.shown, queue.page(limit=SAMPLE_SIZE).jobs)
    found = (f"{key}={value}" for job in jobs for key, value in job.tags.items())
    return [tag for tag in found if len(tag) <= MAX_TAG_CHARS]
