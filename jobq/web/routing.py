"""Routes of the API: the token and the role come before the body, and none is open by mistake."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from jobq.web.auth import Requirement
from jobq.web.problems import PREFIX
from jobq.web.requests import JsonRequest

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class ApiRoute(APIRoute):
    """A route that checks its caller before FastAPI reads the body."""

    def get_route_handler(self) -> Handler:
        """Return the handler: caller, then body, then the function.

        Raises:
            TypeError: the route names no requirement: it would be open by mistake.
        """
        requirement = requirement_of(self)
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            requirement(request)
            strict = JsonRequest(request.scope, request.receive)
            field = self.body_field
            if field is not None and (field.field_info.is_required() or await strict.body()):
                await strict.json()
            return await handle(strict)

        return checked


def requirement_of(route: APIRoute) -> Requirement:
    """Return what a route requires of its caller.

    Raises:
        TypeError: nothing.
    """
    found = [call for call in _calls(route.dependant) if isinstance(call, Requirement)]
    if len(found) != 1:
        raise TypeError(f"{route.path}: a route names the role of its caller once, or is OPEN")
    return found[0]


def _calls(dependant: Dependant) -> list[Any]:
    return [call for each in dependant.dependencies for call in (each.call, *_calls(each))]


def api_router(*tags: str) -> APIRouter:
    """Return a router for a part of the API."""
    return APIRouter(prefix=PREFIX, tags=list(tags), route_class=ApiRoute)
