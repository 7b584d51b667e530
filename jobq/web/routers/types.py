"""Job types: their arguments, and which of them may be added over HTTP."""

from typing import Annotated, Any

from fastapi import Path, Request
from starlette.responses import Response

from jobq.errors import NotFound
from jobq.job_types.registry import JobType
from jobq.models import JsonObject
from jobq.web.auth import READER
from jobq.web.routing import api_router
from jobq.web.schemas import Output, answer
from jobq.web.state import Server, get_server
from jobq.web.submission import may_submit

router = api_router("types")


class TypeOut(Output):
    """A job type, and the JSON schema of its arguments."""

    type: str
    description: str
    args_schema: dict[str, Any]
    submittable: bool


class TypesOut(Output):
    """The job types, and files that could not be loaded."""

    types: list[TypeOut]
    errors: list[str]


@router.get("/types", response_model=TypesOut, dependencies=[READER])
async def list_types(request: Request) -> Response:
    """Return the job types."""
    server = get_server(request)

    def read() -> JsonObject:
        registry = server.queue.registry
        types = [_document(server, registry.types[name]) for name in sorted(registry.types)]
        return {"types": types, "errors": [str(error) for error in registry.errors]}

    return answer(await server.work.read(read))


@router.get("/types/{type}", response_model=TypeOut, dependencies=[READER])
async def show_type(request: Request, type: Annotated[str, Path(max_length=64)]) -> Response:  # noqa: A002 - as the path has it
    """Return a job type."""
    server = get_server(request)

    def read() -> JsonObject:
        found = server.queue.registry.types.get(type)
        if found is None:
            raise NotFound(f"no job type {type!r:.80}: see `jobq types`")
        return _document(server, found)

    return answer(await server.work.read(read))


def _document(server: Server, job_type: JobType) -> JsonObject:
    return {
        "type": job_type.name,
        "description": job_type.description,
        "args_schema": job_type.schema(),
        "submittable": may_submit(server.serve, job_type.name),
    }
