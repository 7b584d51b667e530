"""Jobs: add them, list them, and read one."""

import asyncio
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from jobq.diagnostics.explain import explain
from jobq.diagnostics.explain_facts import gather
from jobq.errors import NotFound
from jobq.models import FINISHED, Job, JsonObject
from jobq.queue import JobQueue, prepare_jobs
from jobq.redaction import ShownJob
from jobq.serializers import attempt_document
from jobq.web import schemas
from jobq.web.auth import READER, ReaderOrSubmitter, Submitter
from jobq.web.caller import Caller
from jobq.web.once import AddedJobs, add_one, add_together, key_of
from jobq.web.problems import PREFIX
from jobq.web.routing import api_router
from jobq.web.schemas import (
    AddedJob,
    Input,
    JobId,
    JobIn,
    Output,
    answer,
    answer_tagged,
    etag_of,
    job_document,
)
from jobq.web.selection import JobPage, PageQuery, read_page
from jobq.web.state import Server, get_server
from jobq.web.submission import naming_fields, to_spec, to_specs

MAX_BATCH_JOBS = 1000
MAX_WAIT_S = 60

POLL_INTERVAL_S = 0.1
"""Time between two looks for the end of a job that a client waits for."""

REPLAYED = {"Idempotency-Replayed": "true"}
"""The header of an answer to a request that was made before, with the same key."""

router = api_router("jobs")

_NOT_CHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "Not changed."}}


class JobOfBatchIn(JobIn):
    """A job to add together with others, which may wait for it by its key."""

    key: str | None = Field(None, description="A name within this request.")
    after: list[int | str] = Field([], max_length=1000)  # type: ignore[assignment]
    after_any: list[int | str] = Field([], max_length=1000)  # type: ignore[assignment]
    after_fail: list[int | str] = Field([], max_length=1000)  # type: ignore[assignment]
    after_one: list[int | str] = Field([], max_length=1000)  # type: ignore[assignment]


class BatchIn(Input):
    """Jobs to add together: all of them, or none."""

    jobs: list[JobOfBatchIn] = Field(min_length=1, max_length=MAX_BATCH_JOBS)
    dry_run: bool = Field(False, description="Check them, and add nothing.")


class AddedOut(Output):
    """A job of a batch; without an id if nothing was added, or it has been deleted since."""

    id: int | None
    created: bool


class BatchOut(Output):
    """The jobs of a batch, in the order given."""

    jobs: list[AddedOut]
    dry_run: bool


class ShowQuery(BaseModel):
    """How a job is read."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    wait: float = Field(
        0, ge=0, le=MAX_WAIT_S, description="Answer when it has ended, or after these seconds."
    )
    include: str | None = Field(
        None,
        pattern="^(history|explain|text)(,(history|explain|text))*$",
        description="`history`, `explain` and `text` (arguments and result as indented JSON).",
    )


class AttemptOut(Output):
    """An attempt at running a job."""

    attempt: int
    supervisor: str
    pid: int | None
    started_at: str
    ended_at: str | None
    outcome: (
        Literal[
            "completed",
            "failed",
            "timed_out",
            "crashed",
            "lost",
            "cancelled",
            "released",
            "snoozed",
        ]
        | None
    )
    exit_code: int | None
    signal: int | None
    error: str | None
    max_rss_bytes: int | None
    cpu_seconds: float | None


class AttemptsOut(Output):
    """The attempts of a job, the first one first."""

    id: int
    history: list[AttemptOut]


class ReasonOut(Output):
    """A reason why a job does not run, runs or has ended, and the command that helps."""

    code: str
    message: str
    command: str | None


class ExplainOut(Output):
    """Why a job is as it is, the most important reason first."""

    id: int
    status: schemas.Status
    reasons: list[ReasonOut]


class JobOut(schemas.Job):
    """A job, with what was asked for."""

    history: list[AttemptOut] | None = None
    explain: list[ReasonOut] | None = None
    text: dict[str, str] | None = None


# -- adding ----------------------------------------------------------------------------------


@router.post(
    "/jobs",
    status_code=201,
    response_model=AddedJob,
    responses={200: {"model": AddedJob, "description": "A job holds the unique key already."}},
)
async def add_job(request: Request, caller: Submitter, job: JobIn) -> Response:
    """Add a job. With an `Idempotency-Key`, it is added once, however often this is sent."""
    server = get_server(request)
    spec = to_spec(job, caller, server.serve)
    key = key_of(request, caller)

    def add(queue: JobQueue = server.queue) -> tuple[AddedJobs, JsonObject]:
        with naming_fields(queue, [spec], prefix=""):
            added = add_one(queue, spec, key)
        job_id = added.jobs[0].id
        assert job_id is not None
        return added, job_document(queue.shown(queue.get(job_id)))

    return answer_added(server, caller, *await server.work.write(add))


def answer_added(
    server: Server, caller: Caller, added: AddedJobs, document: JsonObject, action: str = "add"
) -> Response:
    """Return the answer to a request that adds one job: 201, or 200 if it was there."""
    created = added.jobs[0].created
    outcome = "added" if created else "replayed" if added.replayed else "existing"
    server.audit.of(caller, action, outcome, [document["id"]])
    headers = {
        "Location": f"{PREFIX}/jobs/{document['id']}",
        "ETag": etag_of(document),
        **(REPLAYED if added.replayed else {}),
    }
    existing = not created and not added.replayed
    return answer({**document, "existing": existing}, 201 if created else 200, headers=headers)


@router.post(
    "/jobs/batch",
    status_code=201,
    response_model=BatchOut,
    responses={200: {"model": BatchOut, "description": "A dry run, or they were added before."}},
)
async def add_batch(request: Request, caller: Submitter, batch: BatchIn) -> Response:
    """Add up to 1,000 jobs, all of them or none."""
    server = get_server(request)
    specs = await server.work.read(lambda: to_specs(batch.jobs, caller, server.serve))
    key = key_of(request, caller)

    def add(queue: JobQueue = server.queue) -> AddedJobs:
        with naming_fields(queue, specs):
            return add_together(queue, specs, key)

    def check(queue: JobQueue = server.queue) -> None:
        with naming_fields(queue, specs):
            prepared = prepare_jobs(queue, specs, queue.now())
            wanted = {ref.id for job in prepared.jobs for ref in job.parents if ref.id is not None}
            queue.get_many(sorted(wanted))

    if batch.dry_run:
        await server.work.read(check)
        nothing = [{"id": None, "created": False}] * len(specs)
        return answer({"jobs": nothing, "dry_run": True})
    added = await server.work.write(add)
    ids = [each.id for each in added.jobs if each.id is not None]
    server.audit.of(caller, "add", "replayed" if added.replayed else "added", ids)
    document = {"jobs": [each._asdict() for each in added.jobs], "dry_run": False}
    if added.replayed:
        return answer(document, headers=REPLAYED)
    return answer(document, 201)


# -- reading ---------------------------------------------------------------------------------


@router.get("/jobs", response_model=JobPage, dependencies=[READER])
async def list_jobs(request: Request, query: Annotated[PageQuery, Query()]) -> Response:
    """Return a page of the jobs that match.

    It ends with `limit` jobs, or when enough has been read: then `looked.complete` is false, and
    `next` goes on, whether any were found or not.
    """
    server = get_server(request)
    read = partial(read_page, server.queue, server.light_jobs, query)
    return Response(await server.work.read(read), media_type="application/json")


@router.get("/jobs/{id}", response_model=JobOut, responses=_NOT_CHANGED)
async def show_job(
    request: Request,
    caller: ReaderOrSubmitter,
    id: JobId,  # noqa: A002 - as the path has it
    query: Annotated[ShowQuery, Query()],
) -> Response:
    """Return a job, when it has ended if `wait` is given."""
    server = get_server(request)
    await _until_ended(server, caller, id, query.wait)
    wanted = set((query.include or "").split(","))

    def read(queue: JobQueue = server.queue) -> tuple[JsonObject, JsonObject]:
        job = visible_job(queue, caller, id)
        shown = queue.shown(job)
        document = job_document(shown)
        return document, {**document, **_included(queue, job, shown, wanted)}

    plain, document = await server.work.read(read)
    return answer_tagged(request, document, version=plain if query.include else None)


async def _until_ended(server: Server, caller: Caller, job_id: int, seconds: float) -> None:
    """Wait until a job has ended, the time is over, or the server shuts down."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while (left := deadline - loop.time()) > 0 and not server.leaving.is_set():
        job = await server.work.read(partial(visible_job, server.queue, caller, job_id))
        if job.status in FINISHED:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(min(left, POLL_INTERVAL_S)):
                await server.leaving.wait()


def visible_job(queue: JobQueue, caller: Caller, job_id: int) -> Job:
    """Return a job that the caller may read.

    Raises:
        NotFound: there is none.
    """
    job = queue.get(job_id)
    if not caller.may_see(job):
        raise NotFound(f"no job {job_id}: see `jobq list`")
    return job


def _included(queue: JobQueue, job: Job, shown: ShownJob, wanted: set[str]) -> JsonObject:
    included: JsonObject = {}
    if "history" in wanted:
        included["history"] = _history(queue, job)
    if "explain" in wanted:
        included["explain"] = _reasons(queue, job)
    if "text" in wanted:
        included["text"] = {
            "args": schemas.indented(shown.args),
            "result": schemas.indented(shown.result),
        }
    return included


def _history(queue: JobQueue, job: Job) -> list[JsonObject]:
    redactor = queue.settings.redactor
    return [attempt_document(redactor.attempt(each, job)) for each in queue.attempts(job.id)]


def _reasons(queue: JobQueue, job: Job) -> list[JsonObject]:
    return [reason.document() for reason in explain(gather(queue, job, queue.now()))]


@router.get("/jobs/{id}/attempts", response_model=AttemptsOut)
async def list_attempts(request: Request, caller: ReaderOrSubmitter, id: JobId) -> Response:  # noqa: A002
    """Return the attempts of a job."""
    server = get_server(request)

    def read(queue: JobQueue = server.queue) -> JsonObject:
        return {"id": id, "history": _history(queue, visible_job(queue, caller, id))}

    return answer(await server.work.read(read))


@router.get("/jobs/{id}/explain", response_model=ExplainOut)
async def explain_job(request: Request, caller: ReaderOrSubmitter, id: JobId) -> Response:  # noqa: A002
    """Return why a job does not run, how it runs, or how it ended."""
    server = get_server(request)

    def read(queue: JobQueue = server.queue) -> JsonObject:
        job = visible_job(queue, caller, id)
        return {"id": id, "status": job.status.value, "reasons": _reasons(queue, job)}

    return answer(await server.work.read(read))
