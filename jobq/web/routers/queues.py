"""Queues: create, list, limit, pause and delete them."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Annotated

from fastapi import Path, Request
from pydantic import Field
from starlette.responses import Response

from jobq.models import JobStatus, JsonObject, Queue
from jobq.queue import JobQueue, backend_of
from jobq.serializers import queue_document
from jobq.web.auth import READER, Operator
from jobq.web.caller import Caller
from jobq.web.problems import PREFIX
from jobq.web.routing import api_router
from jobq.web.schemas import (
    Input,
    Output,
    Span,
    answer_tagged,
    has_condition,
    require_match,
)
from jobq.web.state import get_server

router = api_router("queues")

Name = Annotated[str, Path(max_length=64, description="The name of a queue.")]


class QueueLimits(Input):
    """The limits of a queue. Those that are not given stay as they are."""

    description: str | None = Field(None, max_length=1000)
    max_concurrent: int | None = Field(None, description="Jobs that run at a time.")
    priority: int | str = 5
    paused: bool = False
    rate: str | None = Field(None, description="Starts in a span.", examples=["10/min"])
    timeout: Span | None = Field(None, description="Of its jobs; 0: none; null: the default.")
    max_retries: int | None = None


class QueueIn(QueueLimits):
    """A queue to create."""

    name: str


class QueueOut(Output):
    """A queue and the number of its jobs in each status."""

    name: str
    description: str | None
    max_concurrent: int | None
    priority: int
    paused: bool
    rate: str | None
    timeout: float | None
    max_retries: int | None
    counts: dict[str, int]


class QueuesOut(Output):
    """All queues, those that are served first on top."""

    queues: list[QueueOut]


@router.get("/queues", response_model=QueuesOut, dependencies=[READER])
async def list_queues(request: Request) -> Response:
    """Return all queues, with those of jobq.toml that have not been used yet."""
    server = get_server(request)
    return answer_tagged(request, await server.work.read(lambda: queues_document(server.queue)))


def queues_document(queue: JobQueue) -> JsonObject:
    """Return all queues with their counts."""
    counts = queue.counts_by_queue()
    return {"queues": [queue_document(q, counts.get(q.name, {})) for q in queue.queues()]}


@router.get("/queues/{name}", response_model=QueueOut, dependencies=[READER])
async def show_queue(request: Request, name: Name) -> Response:
    """Return a queue."""
    server = get_server(request)
    document = await server.work.read(lambda: _document(server.queue, name))
    return answer_tagged(request, document, version=_limits_of(document))


@router.post("/queues", status_code=201, response_model=QueueOut)
async def create_queue(request: Request, caller: Operator, queue: QueueIn) -> Response:
    """Create a queue."""
    server = get_server(request)
    given = queue.model_dump(exclude_unset=True)

    def create() -> JsonObject:
        return queue_document(server.queue.create_queue(**given), {})

    document = await server.work.write(create)
    server.audit.of(caller, "queue create", "created", [queue.name])
    headers = {"Location": f"{PREFIX}/queues/{queue.name}"}
    return answer_tagged(
        request, document, version=_limits_of(document), status=201, headers=headers
    )


@router.patch("/queues/{name}", response_model=QueueOut)
async def change_queue(
    request: Request, caller: Operator, name: Name, limits: QueueLimits
) -> Response:
    """Change limits of a queue, for all starts from now on."""
    given = limits.model_dump(exclude_unset=True)
    queue = get_server(request).queue
    return await _change(request, caller, name, "set", lambda: queue.set_queue(name, **given))


@router.post("/queues/{name}/pause", response_model=QueueOut)
async def pause_queue(request: Request, caller: Operator, name: Name) -> Response:
    """Start no jobs of a queue until it is resumed; running jobs go on."""
    queue = get_server(request).queue
    return await _change(request, caller, name, "pause", lambda: queue.pause(name))


@router.post("/queues/{name}/resume", response_model=QueueOut)
async def resume_queue(request: Request, caller: Operator, name: Name) -> Response:
    """Start jobs of a paused queue again."""
    queue = get_server(request).queue
    return await _change(request, caller, name, "resume", lambda: queue.resume(name))


@router.delete("/queues/{name}", status_code=204)
async def delete_queue(request: Request, caller: Operator, name: Name) -> Response:
    """Delete a queue that has no jobs."""
    queue = get_server(request).queue
    await _change(request, caller, name, "delete", lambda: queue.delete_queue(name))
    return Response(status_code=204)


async def _change(
    request: Request,
    caller: Caller,
    name: str,
    action: str,
    change: Callable[[], Queue | None],
) -> Response:
    """Change a queue, if it is as the client has seen it, and return it.

    Raises:
        Problem: its limits have changed since: 412.
    """
    server = get_server(request)

    def write(queue: JobQueue = server.queue) -> JsonObject:
        with backend_of(queue).group() if has_condition(request) else nullcontext():
            if has_condition(request):
                document = _document(queue, name)
                require_match(request, document, _limits_of(document))
            changed = change()
            return {} if changed is None else queue_document(changed, _counts(queue, name))

    document = await server.work.write(write)
    server.audit.of(caller, f"queue {action}", "done", [name])
    return answer_tagged(request, document, version=_limits_of(document))


def _document(queue: JobQueue, name: str) -> JsonObject:
    return queue_document(queue.queue(name), _counts(queue, name))


def _counts(queue: JobQueue, name: str) -> dict[JobStatus, int]:
    return queue.counts_by_queue().get(name, {})


def _limits_of(document: JsonObject) -> JsonObject:
    return {field: value for field, value in document.items() if field != "counts"}
