"""Authentication and roles: who calls, and what they may do. Every route names its roles."""

from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from jobq.web.caller import Caller
from jobq.web.problems import Problem, request_id_of
from jobq.web.state import Server, get_server
from jobq.web.tokens import InvalidToken, Role

SAFE_METHODS = frozenset({"GET", "HEAD"})


class Requirement:
    """A dependency of a route: the roles of which a caller needs one.

    `ApiRoute` calls it before the body is read; then FastAPI calls it for its value.
    """

    def __init__(self, *roles: Role) -> None:
        self.roles = roles

    def __call__(self, request: Request) -> Caller:
        """Return the caller.

        Raises:
            Problem: no valid token (401), or not one of the roles (403).
        """
        caller: Caller | None = request.scope["state"].get("caller")
        if caller is None:
            caller = authenticate(request)
            request.scope["state"]["caller"] = caller
            self._check(request, caller)
        return caller

    def _check(self, request: Request, caller: Caller) -> None:
        server = get_server(request)
        wait = server.rates.take(caller.jti)
        if self.roles and not any(caller.has(role) for role in self.roles):
            if not wait:  # or refusals could fill the audit log
                audit_refusal(server, request, "role", caller)
            needed = " or ".join(self.roles)
            raise Problem(403, "role", f"this needs a token with the role {needed}")
        if server.serve.read_only and self.roles and request.method not in SAFE_METHODS:
            raise Problem(403, "read_only", "this server is read-only")
        if wait:
            raise too_many(wait)


class Open(Requirement):
    """The requirement of a route that needs no token."""

    def __call__(self, request: Request) -> None:  # type: ignore[override]
        """Let everyone in."""


def require(*roles: Role) -> Requirement:
    """Return the dependency of a route that any of these roles may call; without one, any token."""
    return Requirement(*roles)


AnyCaller = Annotated[Caller, Depends(require())]
Reader = Annotated[Caller, Depends(require(Role.READ))]
Operator = Annotated[Caller, Depends(require(Role.OPERATE))]
Submitter = Annotated[Caller, Depends(require(Role.SUBMIT))]
ReaderOrSubmitter = Annotated[Caller, Depends(require(Role.READ, Role.SUBMIT))]
Worker = Annotated[Caller, Depends(require(Role.WORKER))]
"""The callers of routes, by the role that they need: the type of a handler's parameter."""

READER = Depends(require(Role.READ))
"""For ``dependencies=[READER]``, where the handler does not use its caller."""

OPEN = Depends(Open())
"""For ``dependencies=[OPEN]``: a route without a token."""


def authenticate(request: Request) -> Caller:
    """Return the caller of a request.

    Raises:
        Problem: there is no token, or it is not valid (401); or there were too many of these (429).
    """
    server = get_server(request)
    given = request.headers.getlist("authorization")
    scheme, _, text = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not text:
        raise unauthorized("token_missing", "send a token as Authorization: Bearer …")
    try:
        token = server.tokens.verify(text.strip())
    except InvalidToken as error:
        raise refused(request, "token_invalid", error) from None
    return Caller(token, address_of(request), request_id_of(request))


def refused(request: Request, code: str, error: InvalidToken) -> Problem:
    """Return the problem of a token or code that is not accepted: 401, or 429 after too many.

    Valid ones are accepted meanwhile: one client with an old token must not lock out its host.
    """
    server = get_server(request)
    if wait := server.failures.take(address_of(request)):
        return too_many(wait)
    audit_refusal(server, request, code)
    return unauthorized(code, str(error))


def unauthorized(code: str, detail: str) -> Problem:
    """Return the problem of a caller that is not known."""
    return Problem(401, code, detail, headers={"WWW-Authenticate": 'Bearer realm="jobq"'})


def too_many(wait: float) -> Problem:
    """Return the problem of a caller that has to wait for some seconds."""
    seconds = str(max(1, round(wait + 0.5)))
    return Problem(
        429, "too_many", f"too many requests: wait {seconds} s", headers={"Retry-After": seconds}
    )


def address_of(request: Request) -> str:
    """Return where a request came from; `unix` for the Unix socket."""
    return request.client.host if request.client and request.client.host else "unix"


def audit_refusal(server: Server, request: Request, why: str, caller: Caller | None = None) -> None:
    """Note a refusal in the audit log."""
    route = request.scope.get("route")
    server.audit.write(
        f"{request.method} {getattr(route, 'path', '-')}",
        f"refused: {why}",
        token=None if caller is None else caller.sub,
        address=address_of(request),
        request_id=request_id_of(request),
    )
