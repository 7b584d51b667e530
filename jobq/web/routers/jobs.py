"""Jobs: add one, and read one. The pattern of every router."""

from typing import Any

from fastapi import Request
from starlette.responses import Response

from jobq.errors import NotFound
from jobq.queue import JobQueue
from jobq.web.auth import ReaderOrSubmitter, Submitter
from jobq.web.routing import PREFIX, api_router
from jobq.web.schemas import (
    AddedJob,
    Job,
    JobId,
    JobIn,
    answer,
    answer_tagged,
    etag_of,
    job_document,
)
from jobq.web.state import get_server
from jobq.web.submission import to_spec

router = api_router("jobs")


@router.post(
    "/jobs",
    status_code=201,
    response_model=AddedJob,
    responses={200: {"model": AddedJob, "description": "A job holds the unique key already."}},
)
async def add_job(request: Request, caller: Submitter, job: JobIn) -> Response:
    """Add a job."""
    server = get_server(request)
    spec = to_spec(job, caller, server.serve)

    def add(queue: JobQueue = server.queue) -> tuple[dict[str, Any], bool]:
        (inserted,) = queue.insert([spec])
        return job_document(queue.shown(queue.get(inserted.id))), inserted.created

    document, created = await server.work.write(add)
    job_id = document["id"]
    server.audit.of(caller, "add", "added" if created else "existing", [job_id])
    headers = {"Location": f"{PREFIX}/jobs/{job_id}", "ETag": etag_of(document)}
    if created:
        return answer({**document, "existing": False}, 201, headers=headers)
    return answer({**document, "existing": True}, 200, headers=headers)


@router.get("/jobs/{id}", response_model=Job, responses={304: {"description": "Not changed."}})
async def show_job(request: Request, caller: ReaderOrSubmitter, id: JobId) -> Response:  # noqa: A002 - as the path has it
    """Return a job."""
    server = get_server(request)

    def read(queue: JobQueue = server.queue) -> dict[str, Any]:
        job = queue.get(id)
        if not caller.may_see(job):
            raise NotFound(f"no job {id}: see `jobq list`")
        return job_document(queue.shown(job))

    return answer_tagged(request, await server.work.read(read))
