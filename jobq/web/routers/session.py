"""Sessions: exchange a login code for a token, ask who one is, log out."""

from datetime import timedelta

from fastapi import Request
from pydantic import Field
from starlette.responses import Response

from jobq.units import format_moment
from jobq.web.auth import OPEN, AnyCaller, address_of, refused
from jobq.web.problems import request_id_of
from jobq.web.routing import api_router
from jobq.web.schemas import Input, Output, answer
from jobq.web.state import get_server
from jobq.web.tokens import InvalidToken

router = api_router("session")


class CodeIn(Input):
    """A login code, as `jobq web` makes it."""

    code: str = Field(max_length=200)


class NewSession(Output):
    """A token, which is shown this once."""

    token: str
    expires_at: str
    roles: list[str]


class Session(Output):
    """A token, without its text."""

    name: str
    jti: str
    roles: list[str]
    queues: list[str]
    types: list[str]
    created_at: str
    expires_at: str
    session: bool
    read_only: bool


@router.post("/session", response_model=NewSession, dependencies=[OPEN])
async def log_in(request: Request, code: CodeIn) -> Response:
    """Exchange a login code for a token. A code is taken once, within 60 seconds."""
    server = get_server(request)
    life = timedelta(seconds=server.serve.session)
    try:
        text, token = await server.work.read(lambda: server.tokens.log_in(code.code, life))
    except InvalidToken as error:
        raise refused(request, "code_invalid", error) from None
    server.audit.write(
        "login",
        "accepted",
        token=token.sub,
        address=address_of(request),
        request_id=request_id_of(request),
    )
    document = {
        "token": text,
        "expires_at": format_moment(token.expires_at),
        "roles": sorted(token.roles),
    }
    return answer(document)


@router.get("/session", response_model=Session)
async def who_am_i(request: Request, caller: AnyCaller) -> Response:
    """Return the caller's token, without its text."""
    document = caller.token.document()
    del document["kid"]
    return answer({**document, "read_only": get_server(request).serve.read_only})


@router.delete("/session", status_code=204)
async def log_out(request: Request, caller: AnyCaller) -> Response:
    """Revoke the caller's token."""
    server = get_server(request)
    await server.work.read(lambda: server.tokens.revoke(caller.token))
    server.audit.of(caller, "logout", "revoked")
    return Response(status_code=204)
