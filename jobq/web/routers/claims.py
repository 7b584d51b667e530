"""Pull workers: claim jobs, renew, report, upload output, and end attempts. All of it is fenced."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from pydantic import Field, JsonValue
from starlette.responses import Response

from jobq.backends.messages import ClaimRequest
from jobq.errors import JobqError
from jobq.limits import MAX_ERROR_CHARS, listed
from jobq.models import Claim, JobStatus, Outcome
from jobq.queue import JobQueue, backend_of
from jobq.redaction import ShownJob
from jobq.units import format_moment
from jobq.web.auth import Worker
from jobq.web.caller import Caller
from jobq.web.claim_token import (
    HeldClaim,
    claim_lost,
    claim_of,
    owner_of,
    read_claim,
    sign_claim,
)
from jobq.web.gate import BINARY_TYPE
from jobq.web.problems import FieldError, Problem
from jobq.web.routing import api_router
from jobq.web.schemas import Input, Job, Output, Span, answer, job_document, to_json
from jobq.web.state import Server, get_server
from jobq.web.uploads import UPLOADED, note, note_end, note_started, running, upload

MAX_CLAIMS = 100
MAX_WAIT_S = 60
MAX_NAMES = 100
MIN_LEASE_S = 1.0
MAX_LEASE_S = 86_400.0

router = api_router("pull workers")

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Instance = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9._-]{8,64}$", description="Random for each process of a worker."),
]
Names = Annotated[
    list[Annotated[str, Field(max_length=200)]], Field(min_length=1, max_length=MAX_NAMES)
]
Lease = Annotated[Span, Field(ge=MIN_LEASE_S, le=MAX_LEASE_S)]


class ClaimIn(Input):
    """The jobs that a worker has room for."""

    worker: Name
    instance: Instance
    types: Names
    queues: Names | None = None
    limit: int = Field(1, ge=1, le=MAX_CLAIMS)
    lease: Lease | None = Field(None, description="Time until the first heartbeat is due.")
    wait: float = Field(0, ge=0, le=MAX_WAIT_S, description="Seconds to wait for a job.")


class HeartbeatIn(Input):
    """A process of a worker that lives."""

    worker: Name
    instance: Instance
    lease: Lease | None = Field(None, description="Time until the next heartbeat is due.")


class ProgressIn(Input):
    done: float
    total: float | None = None
    message: str | None = None


class CompleteIn(Input):
    result: JsonValue = None


class FailIn(Input):
    error: str = Field(min_length=1, max_length=20 * MAX_ERROR_CHARS)
    retry: bool = Field(True, description="False: it would fail again.")


class ClaimOut(Output):
    """A job as its worker needs it: with its secrets."""

    claim: str
    job: Job
    attempt: int
    lease_until: str


class ClaimsOut(Output):
    claims: list[ClaimOut]


class HeldOut(Output):
    claim: str
    job: int
    lease_until: str
    cancel_requested: bool


class HeartbeatOut(Output):
    """The claims that a process still holds: one that is missing is lost."""

    held: list[HeldOut]


class UploadOut(Output):
    end: int


_Answers = dict[int | str, dict[str, Any]]
_NONE: _Answers = {204: {"description": "No job came in time."}}
_LOST: _Answers = {409: {"description": "The claim is lost."}}


# -- taking ----------------------------------------------------------------------------------


@router.post("/claims", response_model=ClaimsOut, responses=_NONE)
async def claim_jobs(request: Request, caller: Worker, wanted: ClaimIn) -> Response:
    """Claim jobs. With `wait`, the answer comes as soon as there is one."""
    server = get_server(request)
    demand = _demand(server, caller, wanted)
    key = request.headers.get("idempotency-key")
    make = partial(_take, request, caller, demand, wanted.wait)
    if key is None:
        document, replayed = await make(), False
    else:
        digest = hashlib.sha256(to_json(wanted.model_dump())).hexdigest()
        document, replayed = await server.claiming.replays.once((caller.sub, key), digest, make)
    if document is None:
        return Response(status_code=204)
    return answer(document, headers={"Idempotency-Replayed": "true"} if replayed else None)


def _demand(server: Server, caller: Caller, wanted: ClaimIn) -> ClaimRequest:
    """Return what a caller asks for, within what its token allows.

    Raises:
        Problem: it asks for more: 403.
    """
    _require_allowed("types", wanted.types, caller.types)
    queues = wanted.queues
    if queues is None:
        queues = list(caller.queues) or None
    _require_allowed("queues", queues or (), caller.queues)
    return ClaimRequest(
        owner=owner_of(caller, wanted.worker, wanted.instance),
        limit=wanted.limit,
        lease=_lease(server, wanted.lease),
        queues=queues,
        types=wanted.types,
    )


def _require_allowed(field: str, asked: Any, allowed: tuple[str, ...]) -> None:
    refused = [name for name in asked if allowed and name not in allowed]
    if refused:
        detail = f"the token may only claim from the {field} {listed(allowed)}"
        raise Problem(
            403, f"{field}_not_allowed", detail, errors=[FieldError(f"/{field}", "not allowed")]
        )


def _lease(server: Server, seconds: float | None) -> timedelta:
    return timedelta(seconds=server.settings.lease if seconds is None else seconds)


async def _take(
    request: Request, caller: Caller, demand: ClaimRequest, wait: float
) -> dict[str, Any] | None:
    """Return the document of new claims; None if there are none, or the client is gone."""
    server = get_server(request)
    async with _stop_of(request, server) as stop:
        claims = await server.claiming.take(demand, wait, stop)
        if claims and stop.done() and not server.leaving.is_set():
            await server.claiming.give_back(claims)
            return None
    if not claims:
        return None
    await _note(server, partial(note_started, server.queue, claims))
    server.audit.of(caller, "claim", "claimed", [claim.job.id for claim in claims])
    return {"claims": [_claim_document(server, claim, demand.lease) for claim in claims]}


def _claim_document(server: Server, claim: Claim, lease: timedelta) -> dict[str, Any]:
    """Return a claim. Its job is not redacted: the worker has to run it."""
    until = claim.key.started_at + lease
    return {
        "claim": sign_claim(server.tokens, claim_of(claim)),
        "job": job_document(ShownJob(claim.job)),
        "attempt": claim.attempt,
        "lease_until": format_moment(until),
    }


@asynccontextmanager
async def _stop_of(request: Request, server: Server) -> "AsyncIterator[asyncio.Future[Any]]":
    """Give a future that is done once the client is gone, or the server shuts down."""
    gone = asyncio.ensure_future(_until_gone(request))
    leaving = asyncio.ensure_future(server.leaving.wait())
    stop = asyncio.ensure_future(asyncio.wait({gone, leaving}, return_when=asyncio.FIRST_COMPLETED))
    try:
        yield stop
    finally:
        for task in (stop, gone, leaving):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@router.post("/claims/heartbeat", response_model=HeartbeatOut)
async def renew_leases(request: Request, caller: Worker, beat: HeartbeatIn) -> Response:
    """Renew the leases of all that a process of a worker holds, and return it."""
    server = get_server(request)
    owner, lease = owner_of(caller, beat.worker, beat.instance), _lease(server, beat.lease)

    def renew() -> dict[str, Any]:
        backend = backend_of(server.queue)
        now = backend.now()
        return {
            "held": [
                {
                    "claim": sign_claim(server.tokens, HeldClaim(held.key, owner)),
                    "job": held.key.job_id,
                    "lease_until": format_moment(now + lease),
                    "cancel_requested": held.cancel_requested,
                }
                for held in backend.heartbeat(owner, lease, now)
            ]
        }

    return answer(await server.work.write(renew))


# -- reporting -------------------------------------------------------------------------------


@router.post("/claims/{claim}/progress", status_code=204, responses=_LOST)
async def note_progress(request: Request, caller: Worker, claim: str, at: ProgressIn) -> Response:
    """Note how far an attempt has come."""
    server = get_server(request)
    held = read_claim(server.tokens, claim, caller)

    def report(queue: JobQueue = server.queue) -> bool:
        return queue.progress(_running(queue, held), at.done, at.total, at.message)

    if not await server.work.write(report):
        raise claim_lost(held)
    return Response(status_code=204)


@router.put(
    "/claims/{claim}/logs/{file}",
    response_model=UploadOut,
    responses={409: {"description": "The claim is lost, or earlier bytes are missing."}},
    openapi_extra={
        "requestBody": {
            "content": {BINARY_TYPE: {"schema": {"type": "string", "format": "binary"}}}
        }
    },
)
async def upload_output(
    request: Request,
    caller: Worker,
    claim: str,
    file: Literal["stdout", "stderr", "log"],
    offset: Annotated[int, Query(ge=0, le=2**53 - 1)],
) -> Response:
    """Append output of an attempt. `offset` counts the bytes of this attempt and file."""
    server = get_server(request)
    held = read_claim(server.tokens, claim, caller)
    data = await request.body()
    if data and request.headers.get("content-type") != BINARY_TYPE:
        raise Problem(415, "media_type", f"send the output as Content-Type: {BINARY_TYPE}")
    end = await server.work.read(lambda: upload(server.queue, held, UPLOADED[file], offset, data))
    return answer({"end": end})


# -- ending ----------------------------------------------------------------------------------


@router.post("/claims/{claim}/complete", response_model=Job, responses=_LOST)
async def complete(request: Request, caller: Worker, claim: str, end: CompleteIn) -> Response:
    """End an attempt well. The same once more changes nothing."""

    def run(queue: JobQueue, held: Claim) -> bool:
        return queue.complete(held, end.result)

    return await _end(request, caller, claim, Outcome.COMPLETED, run)


@router.post("/claims/{claim}/fail", response_model=Job, responses=_LOST)
async def fail(request: Request, caller: Worker, claim: str, end: FailIn) -> Response:
    """End an attempt badly: the job is retried, unless that is pointless or it was too often."""

    def run(queue: JobQueue, held: Claim) -> bool:
        return queue.fail(held, end.error, retry=end.retry)

    return await _end(request, caller, claim, Outcome.FAILED, run)


@router.post("/claims/{claim}/release", response_model=Job, responses=_LOST)
async def release(request: Request, caller: Worker, claim: str) -> Response:
    """Give a job back. It costs no retry."""
    return await _end(request, caller, claim, Outcome.RELEASED, JobQueue.release)


async def _end(
    request: Request,
    caller: Caller,
    text: str,
    outcome: Outcome,
    run: Callable[[JobQueue, Claim], bool],
) -> Response:
    """End an attempt; repeated, answer the same.

    Raises:
        Problem: the claim is lost, or it has ended in another way: 409.
    """
    server = get_server(request)
    held = read_claim(server.tokens, text, caller)

    def end(queue: JobQueue = server.queue) -> tuple[ShownJob, bool]:
        changed = not _has_ended(queue, held, outcome)
        if changed and not run(queue, _running(queue, held)):
            raise claim_lost(held)
        return queue.shown(queue.get(held.key.job_id)), changed

    job, changed = await server.work.write(end)
    if changed:
        await _note(server, partial(_note_end, server.queue, held, outcome, job))
        server.audit.of(caller, "end", outcome.value, [job.id])
    return answer(job_document(job))


def _running(queue: JobQueue, held: HeldClaim) -> Claim:
    """Return a claim as `JobQueue` takes it, with the job as it is now.

    Raises:
        Problem: it is lost: 409.
    """
    running(queue, held)
    return Claim(queue.get(held.key.job_id), held.key.attempt, held.owner)


def _has_ended(queue: JobQueue, held: HeldClaim, outcome: Outcome) -> bool:
    """Return whether an attempt has ended in this way already, by its own worker."""
    return any(
        (each.key, each.supervisor, each.outcome) == (held.key, held.owner, outcome)
        for each in backend_of(queue).attempts(held.key.job_id)
    )


async def _note(server: Server, append: Callable[[], None]) -> None:
    """Append to the events of jobs. What is claimed or ended by now is answered in any case."""
    with suppress(JobqError):
        await server.work.read(append)


def _note_end(queue: JobQueue, held: HeldClaim, outcome: Outcome, job: ShownJob) -> None:
    details: dict[str, Any] = {"outcome": outcome.value, "status": job.status.value}
    if outcome is Outcome.FAILED and job.error is not None:
        details["error"] = job.error
    note_end(queue, job, held.key, details)
    if job.status is JobStatus.RETRYING and job.run_at is not None:
        note(queue, job, held.key, "retry", run_at=job.run_at.isoformat())
