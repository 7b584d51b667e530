"""Health: is the process alive, can it serve, and what is it."""

import asyncio
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from jobq.errors import JobqError
from jobq.units import format_moment
from jobq.web.auth import OPEN, READER
from jobq.web.problems import RETRY_AFTER_S
from jobq.web.requests import MAX_BODY_BYTES
from jobq.web.routing import ApiRoute, api_router
from jobq.web.schemas import Output, answer
from jobq.web.state import get_server

READY_TIMEOUT_S = 1.0
"""A backend that has not answered in this time can't be used for now."""

router = api_router("server")
probes = APIRouter(route_class=ApiRoute, tags=["server"], dependencies=[OPEN])


class Limits(Output):
    """The sizes and rates that the server accepts."""

    body_bytes: int
    rate: str
    streams: int


class ServerOut(Output):
    """A server of jobq."""

    jobq: str
    backend: str
    now: str
    started_at: str
    submit: list[str]
    read_only: bool
    limits: Limits


@probes.get("/livez", response_class=PlainTextResponse)
async def alive() -> Response:
    """Answer, as long as the process does."""
    return PlainTextResponse("ok\n")


@probes.get(
    "/readyz",
    response_class=PlainTextResponse,
    responses={503: {"description": "The backend does not answer, or the server shuts down."}},
)
async def ready(request: Request) -> Response:
    """Answer whether requests can be served."""
    server = get_server(request)
    why = "shutting down" if server.leaving.is_set() else ""
    if not why:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await server.work.read(server.queue.counts_by_queue)
        except (JobqError, OSError, TimeoutError):
            why = "the database can't be used"
    if why:
        headers = {"Retry-After": str(RETRY_AFTER_S)}
        return PlainTextResponse(f"not ready: {why}\n", 503, headers)
    return PlainTextResponse("ok\n")


@router.get("/server", response_model=ServerOut, dependencies=[READER])
async def describe_server(request: Request) -> Response:
    """Return the versions and limits of this server."""
    server = get_server(request)

    def read() -> dict[str, Any]:
        return {
            "jobq": version("jobq"),
            "backend": server.settings.backend_shown,
            "now": format_moment(server.queue.now()),
            "started_at": format_moment(server.started_at),
            "submit": list(server.serve.submit),
            "read_only": server.serve.read_only,
            "limits": {
                "body_bytes": MAX_BODY_BYTES,
                "rate": str(server.serve.rate),
                "streams": server.serve.max_streams,
            },
        }

    return answer(await server.work.read(read))
