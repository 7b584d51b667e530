"""The application: routers behind the gate, and errors as problem documents."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from jobq.errors import JobqError
from jobq.queue import JobQueue
from jobq.web.auth import OPEN, READER
from jobq.web.gate import Gate, Origins, origins_of
from jobq.web.maintenance import COUNT_INTERVAL_S, count_ends, maintain
from jobq.web.old_paths import moved_to, place_of
from jobq.web.problems import Problem, answer_problem, problem_of
from jobq.web.routers import (
    bulk,
    claims,
    dead,
    events,
    export,
    health,
    job_actions,
    jobs,
    logs,
    queues,
    schedules,
    session,
    stats,
    suggest,
    types,
    workers,
)
from jobq.web.routing import ApiRoute, api_router
from jobq.web.schemas import ProblemOut, answer
from jobq.web.state import Server, create_server, get_server
from jobq.web.states import Whole

ROUTERS: Sequence[APIRouter] = (
    session.router,
    health.router,
    health.probes,
    export.router,  # before /jobs/{id}
    jobs.router,
    job_actions.router,
    bulk.router,
    dead.router,
    suggest.router,
    queues.router,
    schedules.router,
    types.router,
    workers.router,
    claims.router,
    logs.router,
    events.router,
    stats.router,
    stats.probes,
)
"""The parts of the API."""

CLOSE_TIMEOUT_S = 1.0
"""Time for writes that wait, when the server ends."""

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "An error.",
        "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemOut"}}
        },
    }
}


def create_app(
    queue: JobQueue,
    *,
    origins: Origins | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> FastAPI:
    """Return the application for a queue.

    Args:
        queue: the jobs that it serves.
        origins: the names that clients may use; None: those of the configured port.
        log: called with a line for each request.

    Raises:
        ConfigError: the key is too short, or others may read it.
    """
    server = create_server(queue)
    app = FastAPI(
        title="jobq",
        summary="Durable jobs over HTTP",
        version=version("jobq"),
        docs_url=None,  # those pages load from a content delivery network
        redoc_url=None,
        openapi_url=None,  # it needs a token: see below
        telemetry={"tracing": False, "metrics": False, "logs": False},
        redirect_slashes=False,
        lifespan=_lifespan,
        responses=_PROBLEMS,
    )
    app.state.server = server
    for topic in events.document_topics():
        server.streams.changes.add(topic)
    server.streams.changes.add(
        Whole("stats", lambda _: stats.stats_document(server, "24h"), max_age_s=COUNT_INTERVAL_S)
    )
    for router in (*ROUTERS, _own_routes(app)):
        app.include_router(router)
    app.add_exception_handler(404, answer_missing)
    for error in (JobqError, HTTPException, RequestValidationError, OSError):
        app.add_exception_handler(error, answer_problem)
    app.add_middleware(
        Gate,
        origins=origins or origins_of(server.serve, server.serve.port),
        log=log,
        count=server.metrics.count_request,
    )
    return app


def _own_routes(app: FastAPI) -> APIRouter:
    """Return the routes of the application itself: its description, and the page's place."""
    router = api_router("server")
    page = APIRouter(route_class=ApiRoute, include_in_schema=False, dependencies=[OPEN])

    @router.get("/openapi.json", response_model=dict[str, Any], dependencies=[READER])
    async def openapi() -> Response:
        """Return the description of this API (OpenAPI 3.1)."""
        return answer(openapi_of(app))

    @page.api_route("/", methods=["GET", "HEAD"])
    async def shell(request: Request) -> Response:
        if not get_server(request).serve.page:
            raise HTTPException(404)
        return PlainTextResponse("jobq: the API is below /api/v1; the web page is not there yet\n")

    both = APIRouter()
    both.include_router(router)
    both.include_router(page)
    return both


async def answer_missing(request: Request, error: Exception) -> Response:
    """Return where the path has moved to, or what does the same here; else the problem."""
    if isinstance(error, Problem):
        return await answer_problem(request, error)
    path = request.scope["path"]
    if target := moved_to(path, request.scope["query_string"]):
        return Response(status_code=308, headers={"Location": target})
    problem = problem_of(error)
    if place := place_of(path):
        problem.more = {"see": place}
    return await answer_problem(request, problem)


def openapi_of(app: FastAPI) -> dict[str, Any]:
    """Return the description of the API, with the model of its errors."""
    document = app.openapi()
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    if "ProblemOut" not in schemas:
        model = ProblemOut.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(model.pop("$defs", {}))
        schemas["ProblemOut"] = model
    return document


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    server: Server = app.state.server
    upkeep = asyncio.gather(maintain(server), count_ends(server))
    streams = asyncio.create_task(server.streams.tend(server.leaving))
    try:
        yield
    finally:
        server.leaving.set()
        await streams
        await server.streams.changes.close()
        upkeep.cancel()
        with suppress(asyncio.CancelledError):
            await upkeep
        await server.claiming.wakeups.close()
        await asyncio.to_thread(server.work.close, CLOSE_TIMEOUT_S)
        server.audit.close()
