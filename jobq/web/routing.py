"""Routes of the API: the token and the role come before the body, and none is open by mistake."""

from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from jobq.web.auth import Requirement
from jobq.web.problems import MAX_POINTER_CHARS, PREFIX, FieldError, Problem
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
        known = None if not self.path.startswith(PREFIX) else _query_names(self)

        async def checked(request: Request) -> Response:
            requirement(request)
            if known is not None:
                _refuse_unknown(request, known)
            strict = JsonRequest(request.scope, request.receive)
            field = self.body_field
            if field is not None and (field.field_info.is_required() or await strict.body()):
                await strict.json()
            return await handle(strict)

        return checked


def _query_names(route: APIRoute) -> frozenset[str] | None:
    """Return the query parameters of a route; None if a model has them, which refuses others."""
    fields = [field for each in _dependants(route.dependant) for field in each.query_params]
    if any(_is_model(field.field_info.annotation) for field in fields):
        return None
    return frozenset(field.alias for field in fields)


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _dependants(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for each in dependant.dependencies:
        yield from _dependants(each)


def _refuse_unknown(request: Request, known: frozenset[str]) -> None:
    """Refuse query parameters that would be ignored: one may be a filter with a typing error.

    Raises:
        Problem: 422.
    """
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        errors = [FieldError(f"query:{name}"[:MAX_POINTER_CHARS], "unknown") for name in unknown]
        raise Problem(
            422, "invalid", f"unknown query parameter: {errors[0].pointer}", errors=errors
        )


def requirement_of(route: APIRoute) -> Requirement:
    """Return what a route requires of its caller.

    Raises:
        TypeError: nothing.
    """
    calls = (each.call for each in _dependants(route.dependant))
    found = [call for call in calls if isinstance(call, Requirement)]
    if len(found) != 1:
        raise TypeError(f"{route.path}: a route names the role of its caller once, or is OPEN")
    return found[0]


def api_router(*tags: str) -> APIRouter:
    """Return a router for a part of the API."""
    return APIRouter(prefix=PREFIX, tags=list(tags), route_class=ApiRoute)
