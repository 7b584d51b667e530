"""Schedules: jobs that are added at the times of a cron expression."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Annotated, Any, Literal

from fastapi import Path, Request
from pydantic import Field, JsonValue
from starlette.responses import Response

from jobq.models import JsonObject, Schedule
from jobq.queue import JobQueue, backend_of
from jobq.redaction import SECRETS_TAG
from jobq.scheduling.schedules import Schedules, in_words, next_runs
from jobq.serializers import schedule_document
from jobq.units import format_moment
from jobq.web.auth import READER, Operator, audit_refusal
from jobq.web.caller import Caller
from jobq.web.once import Added, AddedJobs
from jobq.web.problems import PREFIX, Problem
from jobq.web.routers.jobs import answer_added
from jobq.web.routing import api_router
from jobq.web.schemas import (
    AddedJob,
    Input,
    Output,
    Span,
    answer_tagged,
    has_condition,
    job_document,
    require_match,
)
from jobq.web.state import Server, get_server
from jobq.web.submission import (
    OWN_TAGS,
    drop_unchanged,
    own_tags,
    refuse_forbidden,
    require_submittable,
)
from jobq.web.tokens import Role

NEXT_RUNS = 5
MAX_FIRINGS = 20

router = api_router("schedules")

Name = Annotated[str, Path(max_length=64, description="The name of a schedule.")]


class ScheduleFields(Input):
    """The fields of a schedule, and of the jobs that it adds."""

    cron: str = Field("", max_length=1000, examples=["30 2 * * *"])
    tz: str | None = Field(None, max_length=100, examples=["Europe/Berlin"])
    missed: Literal["skip", "once", "all"] = "once"
    overlap: Literal["skip", "allow"] | None = None
    type: str = "shell"
    args: dict[str, JsonValue] | None = None
    queue: str = "default"
    priority: int | str = 5
    tags: dict[str, str] | None = None
    timeout: Span | None = None
    max_retries: int | None = None
    retry_base: Span | None = None


class ScheduleIn(ScheduleFields):
    """A schedule to add."""

    name: str
    cron: str = Field(max_length=1000, examples=["30 2 * * *"])
    type: str


class FiringOut(Output):
    """A time that a schedule has fired for; `added`: false if the last job had not ended."""

    at: str
    job_id: int
    added: bool


class ScheduleOut(Output):
    """A schedule, and its next times."""

    name: str
    cron: str
    in_words: str
    tz: str
    type: str
    args: dict[str, Any]
    queue: str
    priority: int
    tags: dict[str, str]
    timeout: float | None
    max_retries: int | None
    retry_base: float | None
    missed: Literal["skip", "once", "all"]
    overlap: Literal["skip", "allow"]
    paused: bool
    next_runs: list[str]
    created_at: str
    last_run_at: str | None
    last_job_id: int | None
    last_error: str | None
    history: list[FiringOut] | None = None


class SchedulesOut(Output):
    """All schedules, by name."""

    schedules: list[ScheduleOut]


# -- reading ---------------------------------------------------------------------------------


@router.get("/schedules", response_model=SchedulesOut, dependencies=[READER])
async def list_schedules(request: Request) -> Response:
    """Return all schedules."""
    server = get_server(request)
    return answer_tagged(request, await server.work.read(lambda: schedules_document(server.queue)))


def schedules_document(queue: JobQueue) -> JsonObject:
    """Return all schedules, without their secrets."""
    return {"schedules": [_document(queue, each) for each in Schedules(queue).all()]}


@router.get("/schedules/{name}", response_model=ScheduleOut, dependencies=[READER])
async def show_schedule(request: Request, name: Name) -> Response:
    """Return a schedule, and the last times that it has fired for."""
    server = get_server(request)

    def read(queue: JobQueue = server.queue) -> JsonObject:
        document = _document(queue, Schedules(queue).get(name))
        history = [
            {"at": format_moment(fired.at), "job_id": fired.job_id, "added": fired.created}
            for fired in Schedules(queue).firings(name, MAX_FIRINGS)
        ]
        return {**document, "history": history}

    document = await server.work.read(read)
    return answer_tagged(request, document, version=_set_by_clients(document))


def _document(queue: JobQueue, schedule: Schedule) -> JsonObject:
    shown = queue.settings.redactor.schedule(schedule)
    return schedule_document(shown, in_words(shown), next_runs(shown, queue.now(), NEXT_RUNS))


_BY_ITSELF = ("next_runs", "last_run_at", "last_job_id", "last_error", "history")


def _set_by_clients(document: JsonObject) -> JsonObject:
    """Return the part of a schedule that does not change by itself."""
    return {field: value for field, value in document.items() if field not in _BY_ITSELF}


# -- changing --------------------------------------------------------------------------------


@router.post("/schedules", status_code=201, response_model=ScheduleOut)
async def add_schedule(request: Request, caller: Operator, schedule: ScheduleIn) -> Response:
    """Add a schedule. It needs the role `submit`, too, since it adds jobs."""
    server = get_server(request)
    _require_submit(request, server, caller)
    given = schedule.model_dump(exclude_unset=True)
    require_submittable(server.serve, schedule.type)
    refuse_forbidden(schedule.type, given, server.serve)
    given["tags"] = {**(given.get("tags") or {}), **own_tags(caller)}
    times = {field: given.pop(field) for field in ("tz", "missed", "overlap") if field in given}
    name, cron = given.pop("name"), given.pop("cron")

    def add(queue: JobQueue = server.queue) -> JsonObject:
        return _document(queue, Schedules(queue).add(name, cron, given, **times))

    document = await server.work.write(add)
    server.audit.of(caller, "schedule add", "added", [name])
    headers = {"Location": f"{PREFIX}/schedules/{name}"}
    version = _set_by_clients(document)
    return answer_tagged(request, document, version=version, status=201, headers=headers)


@router.patch("/schedules/{name}", response_model=ScheduleOut)
async def change_schedule(
    request: Request, caller: Operator, name: Name, changes: ScheduleFields
) -> Response:
    """Change fields of a schedule. It needs the role `submit`, too, since it adds jobs."""
    server = get_server(request)
    _require_submit(request, server, caller)
    schedules = Schedules(server.queue)

    def change() -> Schedule:
        before = schedules.get(name)
        given = changes.model_dump(exclude_unset=True)
        shown = server.settings.redactor.schedule(before)
        for field in ("tz", "overlap"):
            if given.get(field, ...) is None:
                del given[field]  # null: as it is
        drop_unchanged(given, shown, ("args", "tags"))
        job_type = given.get("type", before.type)
        if job_type != before.type:
            given.setdefault("args", {})  # those of another type would not fit
        require_submittable(server.serve, job_type)
        refuse_forbidden(job_type, given, server.serve)
        given["tags"] = _tags(before, given, caller)
        return schedules.change(name, **given)

    return await _change(request, caller, name, "change", change)


def _tags(before: Schedule, given: JsonObject, caller: Caller) -> dict[str, str]:
    kept = {k: v for k, v in before.tags.items() if not k.startswith(OWN_TAGS)}
    named = {k: v for k, v in before.tags.items() if k == SECRETS_TAG}
    return {**(given.get("tags", kept) or {}), **named, **own_tags(caller)}


@router.post("/schedules/{name}/pause", response_model=ScheduleOut)
async def pause_schedule(request: Request, caller: Operator, name: Name) -> Response:
    """Add no jobs until the schedule is resumed; those that it has added go on."""
    schedules = Schedules(get_server(request).queue)
    return await _change(request, caller, name, "pause", lambda: schedules.pause(name))


@router.post("/schedules/{name}/resume", response_model=ScheduleOut)
async def resume_schedule(request: Request, caller: Operator, name: Name) -> Response:
    """Let a paused schedule add jobs again; times that passed meanwhile are skipped."""
    schedules = Schedules(get_server(request).queue)
    return await _change(request, caller, name, "resume", lambda: schedules.resume(name))


@router.delete("/schedules/{name}", status_code=204)
async def delete_schedule(request: Request, caller: Operator, name: Name) -> Response:
    """Delete a schedule; its jobs stay."""
    schedules = Schedules(get_server(request).queue)
    await _change(request, caller, name, "delete", lambda: schedules.remove(name))
    return Response(status_code=204)


@router.post(
    "/schedules/{name}/run",
    status_code=201,
    response_model=AddedJob,
    responses={200: {"model": AddedJob, "description": "Its last job has not ended."}},
)
async def run_schedule(request: Request, caller: Operator, name: Name) -> Response:
    """Add a job of a schedule now. It needs the role `submit`, too."""
    server = get_server(request)
    _require_submit(request, server, caller)

    def run(queue: JobQueue = server.queue) -> tuple[AddedJobs, JsonObject]:
        require_submittable(server.serve, Schedules(queue).get(name).type)
        inserted = Schedules(queue).run_now(name)
        added = AddedJobs([Added(inserted.id, inserted.created)], replayed=False)
        return added, job_document(queue.shown(queue.get(inserted.id)))

    added, document = await server.work.write(run)
    return answer_added(server, caller, added, document, action=f"schedule run {name}")


def _require_submit(request: Request, server: Server, caller: Caller) -> None:
    """Refuse a caller that may not add jobs.

    Raises:
        Problem: 403.
    """
    if not caller.has(Role.SUBMIT):
        audit_refusal(server, request, "role", caller)
        raise Problem(403, "role", "this adds jobs: it needs a token with the role submit, too")


async def _change(
    request: Request,
    caller: Caller,
    name: str,
    action: str,
    change: Callable[[], Schedule | None],
) -> Response:
    """Change a schedule, if it is as the client has seen it, and return it.

    Raises:
        Problem: it has changed since: 412.
    """
    server = get_server(request)

    def write(queue: JobQueue = server.queue) -> JsonObject:
        with backend_of(queue).group() if has_condition(request) else nullcontext():
            if has_condition(request):
                document = _document(queue, Schedules(queue).get(name))
                require_match(request, document, _set_by_clients(document))
            changed = change()
            return {} if changed is None else _document(queue, changed)

    document = await server.work.write(write)
    server.audit.of(caller, f"schedule {action}", "done", [name])
    return answer_tagged(request, document, version=_set_by_clients(document))
