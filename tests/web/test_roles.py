"""Every route without a token and with each role alone; and no route without a requirement."""

from collections.abc import Iterator

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from jobq.web.app import ROUTERS, _own_routes
from jobq.web.auth import OPEN, READER, Open, Reader
from jobq.web.routing import ApiRoute, api_router
from jobq.web.tokens import Role
from tests.web.conftest import App

ROLES = """
-    GET /
-    GET /livez
-    GET /readyz
-    POST /api/v1/session
any  GET /api/v1/session
any  DELETE /api/v1/session
r    GET /api/v1/server
r    GET /api/v1/openapi.json
r    GET /api/v1/types
r    GET /api/v1/types/{type}
r    GET /api/v1/jobs
r    GET /api/v1/jobs/export
s    POST /api/v1/jobs
s    POST /api/v1/jobs/batch
o    POST /api/v1/jobs/bulk
r,s  GET /api/v1/jobs/{id}
r,s  GET /api/v1/jobs/{id}/attempts
r,s  GET /api/v1/jobs/{id}/explain
o    POST /api/v1/jobs/{id}/cancel
o    DELETE /api/v1/jobs/{id}
o    POST /api/v1/jobs/{id}/retry
o    POST /api/v1/jobs/{id}/delete
s    POST /api/v1/jobs/{id}/clone
r    GET /api/v1/jobs/{id}/logs
r    GET /api/v1/jobs/{id}/logs/{file}
r    GET /api/v1/jobs/{id}/logs/{file}/search
r    GET /api/v1/jobs/{id}/logs/{file}/download
r    GET /api/v1/jobs/{id}/artifacts
r    GET /api/v1/jobs/{id}/artifacts/{name}
r    GET /api/v1/suggest
r    GET /api/v1/queues
o    POST /api/v1/queues
r    GET /api/v1/queues/{name}
o    PATCH /api/v1/queues/{name}
o    DELETE /api/v1/queues/{name}
o    POST /api/v1/queues/{name}/pause
o    POST /api/v1/queues/{name}/resume
r    GET /api/v1/queues/{name}/stats
r    GET /api/v1/stats
r    GET /api/v1/stats/series
r    GET /api/v1/dead
r    GET /api/v1/workers
o    GET /api/v1/audit
r    GET /api/v1/schedules
o    POST /api/v1/schedules
r    GET /api/v1/schedules/{name}
o    PATCH /api/v1/schedules/{name}
o    DELETE /api/v1/schedules/{name}
o    POST /api/v1/schedules/{name}/pause
o    POST /api/v1/schedules/{name}/resume
o+s  POST /api/v1/schedules/{name}/run
w    POST /api/v1/claims
w    POST /api/v1/claims/heartbeat
w    POST /api/v1/claims/{claim}/progress
w    PUT /api/v1/claims/{claim}/logs/{file}
w    POST /api/v1/claims/{claim}/complete
w    POST /api/v1/claims/{claim}/fail
w    POST /api/v1/claims/{claim}/release
r    GET /api/v1/events
r    GET /metrics
"""
"""The roles of which a caller of a route needs one, by their first letters; -: not even a token."""

SAMPLES = {"id": "1", "file": "stdout", "claim": "x", "name": "none", "type": "none"}


def expected() -> dict[str, str]:
    lines = (line.split(maxsplit=1) for line in ROLES.strip().splitlines())
    return {route: roles for roles, route in lines}


def routes(*routers: APIRouter) -> Iterator[APIRoute]:
    for router in routers:
        for route in router.routes:
            if inner := getattr(route, "original_router", None):  # an include, which is lazy
                yield from routes(inner)
            else:
                assert isinstance(route, ApiRoute), f"{route} has no requirement"
                yield route


def all_calls(app: FastAPI) -> list[str]:
    return [
        f"{method} {route.path}"
        for route in routes(*ROUTERS, _own_routes(app))
        for method in route.methods or ()
        if method != "HEAD"
    ]


def needed(roles: str) -> set[Role]:
    if roles == "any":
        return set(Role)
    if "+" in roles:  # one alone is not enough
        return set()
    given = {role for role in Role if role.value[0] in roles.split(",")}
    return given | {Role.OPERATE} if Role.READ in given else given


def code_of(app: App, call: str, token: str | None) -> str | None:
    """Send a request, without a body; return the code of the problem that is answered."""
    method, _, path = call.partition(" ")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = app.client.request(method, path.format_map(SAMPLES), headers=headers)
    kind = answer.headers.get("content-type", "")
    return str(answer.json()["code"]) if kind == "application/problem+json" else None


def test_every_route_is_in_the_table(app: App) -> None:
    calls = all_calls(app.app)
    assert sorted(calls) == sorted(expected())
    assert len(app.app.routes) == len(ROUTERS) + 1  # all are in a router: none stands alone
    assert all(hasattr(route, "original_router") for route in app.app.routes)


def test_without_a_token(app: App) -> None:
    for call, roles in expected().items():
        assert (code_of(app, call, None) == "token_missing") is not (roles == "-"), call


@pytest.mark.parametrize("role", Role)
def test_with_one_role(app: App, role: Role) -> None:
    token, leaving = app.token(role.value), app.token(role.value)
    for call, roles in expected().items():
        if roles != "-":
            code = code_of(
                app, call, leaving if call.startswith("DELETE /api/v1/session") else token
            )
            assert (code == "role") is not (role in needed(roles)), call
            assert code != "internal", call


def test_a_route_that_names_no_role_is_none() -> None:
    router = api_router("new")

    async def handler() -> None: ...

    with pytest.raises(TypeError, match="a route names the role of its caller once"):
        router.get("/open-by-mistake")(handler)

    async def twice(caller: Reader) -> None: ...

    with pytest.raises(TypeError):
        router.get("/twice", dependencies=[READER])(twice)
    router.get("/on-purpose", dependencies=[OPEN])(handler)


def test_what_is_open_is_little(app: App) -> None:
    from jobq.web.routing import requirement_of

    found = {
        route.path
        for route in routes(*ROUTERS, _own_routes(app.app))
        if isinstance(requirement_of(route), Open)
    }
    assert found == {"/", "/livez", "/readyz", "/api/v1/session"}
