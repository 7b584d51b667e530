"""Who runs jobs: supervisors, and pull workers by the attempts that they hold; the audit log."""

from typing import Annotated

from fastapi import Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from jobq.models import Attempt, Job, JsonObject
from jobq.queue import JobQueue, backend_of
from jobq.serializers import supervisor_document
from jobq.units import format_moment
from jobq.web.auth import READER, Operator
from jobq.web.routing import api_router
from jobq.web.schemas import Output, answer
from jobq.web.state import get_server

MAX_AUDIT_LINES = 1000

router = api_router("workers")


class SupervisorOut(Output):
    """A supervisor that is alive, and the jobs that it runs."""

    id: str
    host: str
    pid: int
    slots: int
    queues: list[str] | None
    types: list[str]
    started_at: str
    heartbeat_at: str
    running: list[int]


class PullWorkerOut(Output):
    """A program that holds jobs without being a supervisor."""

    owner: str
    running: list[int]
    since: str
    lease_until: str


class WorkersOut(Output):
    """Who runs jobs now."""

    supervisors: list[SupervisorOut]
    pull_workers: list[PullWorkerOut]


class AuditQuery(BaseModel):
    """How much of the audit log is read."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    limit: int = Field(100, ge=1, le=MAX_AUDIT_LINES)


class AuditLine(Output):
    """A change, login or refusal."""

    at: str
    action: str
    outcome: str
    token: str | None
    address: str | None
    request_id: str | None
    ids: list[int | str]


class AuditOut(Output):
    """The last lines of the audit log, the latest first."""

    lines: list[AuditLine]


@router.get("/workers", response_model=WorkersOut, dependencies=[READER])
async def list_workers(request: Request) -> Response:
    """Return the supervisors that are alive, and the pull workers that hold jobs."""
    server = get_server(request)
    return answer(await server.work.read(lambda: workers_document(server.queue)))


def workers_document(queue: JobQueue) -> JsonObject:
    """Return who runs jobs now."""
    supervisors = queue.supervisors()
    held: dict[str, list[tuple[Job, Attempt]]] = {}
    for job, attempt in backend_of(queue).open_attempts():
        held.setdefault(attempt.supervisor, []).append((job, attempt))
    known = {supervisor.id for supervisor in supervisors}
    return {
        "supervisors": [
            {**supervisor_document(each), "running": _ids(held.get(each.id, []))}
            for each in supervisors
        ],
        "pull_workers": [
            {
                "owner": owner,
                "running": _ids(attempts),
                "since": format_moment(min(attempt.started_at for _, attempt in attempts)),
                "lease_until": format_moment(max(attempt.lease_until for _, attempt in attempts)),
            }
            for owner, attempts in sorted(held.items())
            if owner not in known
        ],
    }


def _ids(attempts: list[tuple[Job, Attempt]]) -> list[int]:
    return sorted(job.id for job, _ in attempts)


@router.get("/audit", response_model=AuditOut)
async def read_audit(
    request: Request,
    caller: Operator,  # noqa: ARG001 - names the role
    query: Annotated[AuditQuery, Query()],
) -> Response:
    """Return the last lines of the audit log."""
    server = get_server(request)
    return answer({"lines": await server.work.read(lambda: server.audit.latest(query.limit))})
