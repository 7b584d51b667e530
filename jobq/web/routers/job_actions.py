"""What is done with one job: cancel, retry, delete and clone."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

from fastapi import Request
from starlette.responses import Response

from jobq.errors import NotFound, WrongState
from jobq.jobs.retry import retry_refusal
from jobq.jobs.spec import JobSpec
from jobq.logs.owner import Owner
from jobq.models import FINISHED, JsonObject, RetryEffect
from jobq.queue import JobQueue, backend_of, delete_rows
from jobq.web import schemas
from jobq.web.auth import Operator, Submitter
from jobq.web.caller import Caller
from jobq.web.once import AddedJobs, add_one, key_of
from jobq.web.problems import Problem
from jobq.web.routers.jobs import answer_added, visible_job
from jobq.web.routing import api_router
from jobq.web.schemas import (
    AddedJob,
    Input,
    JobId,
    JobOptions,
    answer_tagged,
    has_condition,
    job_document,
    require_match,
)
from jobq.web.state import Server, get_server
from jobq.web.submission import clone_of, naming_fields

T = TypeVar("T")

RETRY_CODES = {
    RetryEffect.IMPOSSIBLE: "parent_excludes",
    RetryEffect.KEY_TAKEN: "key_taken",
    RetryEffect.REFUSED: "wrong_state",
    RetryEffect.MISSING: "not_found",
}
"""The codes of jobs that are not retried."""

router = api_router("jobs")

_ASKED_TO_STOP: dict[int | str, dict[str, Any]] = {
    202: {"model": schemas.Job, "description": "It runs, and was asked to stop."}
}


class CancelIn(Input):
    """How a job is cancelled."""

    reason: str | None = None
    cascade: bool = False  # also those that wait for it


@router.post("/jobs/{id}/cancel", response_model=schemas.Job, responses=_ASKED_TO_STOP)
async def cancel_job(
    request: Request,
    caller: Operator,
    id: JobId,  # noqa: A002 - as the path has it
    how: CancelIn | None = None,
) -> Response:
    """Cancel a job; one that runs is asked to stop."""
    return await _cancel(request, caller, id, how or CancelIn())


@router.delete("/jobs/{id}", response_model=schemas.Job, responses=_ASKED_TO_STOP)
async def cancel_by_delete(request: Request, caller: Operator, id: JobId) -> Response:  # noqa: A002
    """Cancel a job, as `/cancel` does. This never deletes a record."""
    return await _cancel(request, caller, id, CancelIn())


async def _cancel(request: Request, caller: Caller, job_id: int, how: CancelIn) -> Response:
    server = get_server(request)

    def cancel(queue: JobQueue = server.queue) -> JsonObject:
        job = queue.cancel(job_id, how.reason, cascade=how.cascade)
        return job_document(queue.shown(job))

    document = await _change(request, job_id, cancel)
    ended = document["status"] in FINISHED
    server.audit.of(caller, "cancel", "cancelled" if ended else "asked to stop", [job_id])
    return answer_tagged(request, document, status=200 if ended else 202)


@router.post("/jobs/{id}/retry", response_model=schemas.Job)
async def retry_job(request: Request, caller: Operator, id: JobId) -> Response:  # noqa: A002
    """Run a failed or cancelled job again."""
    server = get_server(request)

    def retry(queue: JobQueue = server.queue) -> JsonObject:
        (retried,) = queue.retry_many([id])
        job = queue.get(id)
        if retried.effect in RETRY_CODES:
            raise Problem(409, RETRY_CODES[retried.effect], retry_refusal(retried, job.status))
        return job_document(queue.shown(job))

    document = await _change(request, id, retry)
    server.audit.of(caller, "retry", document["status"], [id])
    return answer_tagged(request, document)


@router.post("/jobs/{id}/delete", status_code=204)
async def delete_job(request: Request, caller: Operator, id: JobId) -> Response:  # noqa: A002
    """Delete a job that has ended, with its logs."""
    server = get_server(request)

    def delete(queue: JobQueue = server.queue) -> list[Owner]:
        job = queue.get(id)
        if job.status not in FINISHED:
            raise WrongState(f"job {id} is {job.status}: cancel it first")
        owners = delete_rows(queue, [id])
        if not owners:
            raise NotFound(f"no job {id}: see `jobq list`")
        return owners

    left = await delete_logs(server, await _change(request, id, delete))
    server.audit.of(caller, "delete", "deleted, logs left" if left else "deleted", [id])
    return Response(status_code=204)


async def delete_logs(server: Server, owners: Sequence[Owner]) -> list[int]:
    """Delete the logs of jobs that are gone; return those whose logs could not be."""

    def delete() -> list[int]:
        left = []
        for owner in owners:
            try:
                server.queue.logs.delete(owner)
            except OSError:
                left.append(owner.job_id)
        return left

    return await server.work.read(delete)


@router.post(
    "/jobs/{id}/clone",
    status_code=201,
    response_model=AddedJob,
    responses={200: {"model": AddedJob, "description": "It was there already."}},
)
async def clone_job(
    request: Request,
    caller: Submitter,
    id: JobId,  # noqa: A002 - as the path has it
    changes: JobOptions | None = None,
) -> Response:
    """Add a copy of a job, with changed fields. Its secrets stay here, and are copied with it."""
    server = get_server(request)
    queue = server.queue
    key = key_of(request, caller)

    def copy() -> JobSpec:
        job = visible_job(queue, caller, id)
        return clone_of(
            job, queue.shown(job), changes or JobOptions.model_validate({}), caller, server.serve
        )

    spec = await server.work.read(copy)

    def add() -> tuple[AddedJobs, JsonObject]:
        with naming_fields(queue, [spec], prefix=""):
            added = add_one(queue, spec, key)
        new_id = added.jobs[0].id
        assert new_id is not None
        return added, job_document(queue.shown(queue.get(new_id)))

    return answer_added(server, caller, *await server.work.write(add), action=f"clone {id}")


async def _change(request: Request, job_id: int, change: Callable[[], T]) -> T:
    """Change a job, if it is as the client has seen it.

    Raises:
        Problem: it has changed since: 412.
    """
    server = get_server(request)

    def write(queue: JobQueue = server.queue) -> T:
        with backend_of(queue).group() if has_condition(request) else nullcontext():
            if has_condition(request):
                require_match(request, job_document(queue.shown(queue.get(job_id))))
            return change()

    return await server.work.write(write)
