"""Many jobs with one call: what would be done is shown first, and no more than that is done."""

import asyncio
import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Literal, NamedTuple

from fastapi import Request
from pydantic import Field
from starlette.responses import Response

from jobq.backends.lists import Position
from jobq.clock import utcnow
from jobq.logs.owner import Owner
from jobq.models import (
    FINISHED,
    UNFINISHED,
    CancelEffect,
    JobFilter,
    JobStatus,
    JsonObject,
)
from jobq.queue import JobQueue, delete_rows
from jobq.web.auth import Operator
from jobq.web.caller import Caller
from jobq.web.problems import FieldError, Problem
from jobq.web.routers.job_actions import RETRY_CODES, delete_logs
from jobq.web.routing import api_router
from jobq.web.schemas import Input, JobId, LightJob, Output, answer, light_document
from jobq.web.selection import MAX_QUERY_CHARS, JobQuery, each_page
from jobq.web.state import Server, get_server
from jobq.web.tokens import InvalidToken

AUDIENCE = "jobq:bulk"

PREVIEW_LIFE = timedelta(minutes=10)
MAX_PREVIEWED_JOBS = 100_000
MAX_PREVIEW_TIME_S = 10.0

MAX_CALL_JOBS = 1000
MAX_CALL_TIME_S = 2.0

MAX_WRITE_JOBS = 100
"""Jobs changed in one transaction: other writes wait for it."""

MAX_IDS = 1000
MAX_IDS_WITHOUT_PREVIEW = 200
SAMPLE_SIZE = 5
PAGE_SIZE = 1000

ALLOWED: Mapping[str, frozenset[JobStatus]] = {
    "cancel": UNFINISHED,
    "retry": frozenset({JobStatus.FAILED, JobStatus.CANCELLED}),
    "delete": FINISHED,
}
"""The statuses of the jobs that an action is for: others do not count."""

router = api_router("jobs")


class BulkIn(Input):
    """An action on many jobs: `dry_run` returns a preview, which the action itself needs."""

    action: Literal["cancel", "retry", "delete"]
    filter: str | None = Field(
        None, max_length=MAX_QUERY_CHARS, description="A query, as `q` of `/jobs`."
    )
    ids: Annotated[list[JobId], Field(min_length=1, max_length=MAX_IDS)] | None = None
    dry_run: bool = False
    preview: str | None = Field(None, max_length=4096)
    cursor: str | None = Field(None, max_length=4096, description="`next` of the call before.")
    reason: str | None = Field(None, description="Why they are cancelled.")


class BulkPreview(Output):
    """What an action would do; `capped`: there may be more, for another preview."""

    preview: str
    count: int
    capped: bool
    by_status: dict[str, int]
    sample: list[LightJob]


class RefusedOut(Output):
    id: int
    code: Literal["not_found", "wrong_state", "key_taken", "parent_excludes"]


class BulkOut(Output):
    """What a call did; with `next`, another call goes on."""

    done: int
    refused: list[RefusedOut]
    remaining: int
    next: str | None


class Plan(NamedTuple):
    """A selection as it was when it was previewed."""

    action: str
    filter: str
    ids: tuple[int, ...]
    size: int
    to_id: int  # the highest id of them
    at: datetime  # the time that durations in the filter count back from

    @property
    def jobs(self) -> JobFilter:
        """The jobs that the action is for."""
        query = JobQuery.model_validate({"q": self.filter})
        found = query.job_filter(self.at)
        allowed = ALLOWED[self.action]
        statuses = allowed if found.statuses is None else found.statuses & allowed
        return replace(found, ids=self.ids or found.ids, statuses=statuses)


class Progress(NamedTuple):
    """The part of a plan that has been carried out."""

    to_id: int
    number: int  # of jobs, refused ones included


class Effect(NamedTuple):
    """The jobs that were changed, and those that were not, with a code."""

    done: list[int]
    refused: list[tuple[int, str]]
    logs: Sequence[Owner] = ()  # that deleted jobs leave

    def plus(self, more: "Effect") -> "Effect":
        """Return both together."""
        return Effect(self.done + more.done, self.refused + more.refused)

    def document(self) -> JsonObject:
        """Return it as answers have it."""
        refused = [{"id": job_id, "code": code} for job_id, code in self.refused]
        return {"done": len(self.done), "refused": refused}


_CANCEL_CODES = {CancelEffect.FINISHED: "wrong_state", CancelEffect.MISSING: "not_found"}


@router.post("/jobs/bulk", response_model=BulkPreview | BulkOut)
async def change_many(request: Request, caller: Operator, bulk: BulkIn) -> Response:
    """Cancel, retry or delete many jobs: first a dry run, then with the preview that it returns."""
    server = get_server(request)
    _require_selection(bulk)
    if bulk.dry_run:
        return answer(await _preview(server, bulk))
    if bulk.preview is None:
        return answer(await _change_ids(server, caller, bulk))
    return answer(await _carry_out(server, caller, bulk))


def _require_selection(bulk: BulkIn) -> None:
    """Refuse what selects all jobs, or selects twice.

    Raises:
        Problem: 422.
    """
    if bulk.ids is not None and bulk.filter is not None:
        raise Problem(422, "invalid", "give a filter or ids, not both")
    if bulk.ids is None and not (bulk.filter or "").strip():
        errors = [FieldError("/filter", "a filter that selects all jobs is refused")]
        detail = "give a filter with a condition, or ids: all jobs are never selected by mistake"
        raise Problem(422, "empty_filter", detail, errors=errors)


# -- the preview -----------------------------------------------------------------------------


async def _preview(server: Server, bulk: BulkIn) -> JsonObject:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + MAX_PREVIEW_TIME_S
    now = await server.work.read(server.queue.now)
    plan = Plan(bulk.action, bulk.filter or "", tuple(bulk.ids or ()), 0, 0, now)
    by_status: Counter[str] = Counter()
    sample: list[JsonObject] = []
    capped = False
    async for page in each_page(server, plan.jobs, limit=PAGE_SIZE):
        jobs = page.jobs[: MAX_PREVIEWED_JOBS - plan.size]
        by_status.update(job.status.value for job in jobs)
        sample += [light_document(server.queue.shown(j)) for j in jobs[: SAMPLE_SIZE - len(sample)]]
        if jobs:
            plan = plan._replace(size=plan.size + len(jobs), to_id=jobs[-1].id)
        capped = not page.complete
        if len(jobs) < len(page.jobs) or (capped and loop.time() > deadline):
            capped = True
            break
    return {
        "preview": _sign(server, plan, secrets.token_hex(8), Progress(0, 0)),
        "count": plan.size,
        "capped": capped,
        "by_status": by_status,
        "sample": sample,
    }


def _sign(server: Server, plan: Plan, preview_id: str, progress: Progress) -> str:
    """Return a preview, or the cursor of one, that only this server can make."""
    claims = {
        "exp": int((utcnow() + PREVIEW_LIFE).timestamp()),
        "jti": preview_id,
        "sub": plan.action,
        "filter": plan.filter,
        "ids": _digest(plan.ids),
        "count": plan.size,
        "to": plan.to_id,
        "at": plan.at.isoformat(),
        "progress": progress,
    }
    return server.tokens.sign(claims, AUDIENCE)


def _digest(ids: Sequence[int]) -> str:
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:32]


def _plan_of(server: Server, bulk: BulkIn) -> tuple[Plan, str, Progress]:
    """Return the plan of a preview, its id, and how far it has been carried out.

    Raises:
        Problem: it has expired (409), or is of another selection (422).
    """
    try:
        claims = server.tokens.claims_of(bulk.preview or "", AUDIENCE)
        at = server.tokens.claims_of(bulk.cursor, AUDIENCE) if bulk.cursor else claims
    except InvalidToken as error:
        raise Problem(409, "preview_stale", f"preview again: {error}") from None
    ids = tuple(bulk.ids or ())
    wanted = (bulk.action, bulk.filter or "", _digest(ids), claims["jti"])
    if any((c["sub"], c["filter"], c["ids"], c["jti"]) != wanted for c in (claims, at)):
        raise Problem(422, "preview_other", "the preview or cursor is of another selection")
    began_at = datetime.fromisoformat(claims["at"])
    plan = Plan(*wanted[:2], ids, claims["count"], claims["to"], began_at)
    return plan, claims["jti"], Progress(*at["progress"])


# -- the action ------------------------------------------------------------------------------


async def _carry_out(server: Server, caller: Caller, bulk: BulkIn) -> JsonObject:
    plan, preview_id, progress = _plan_of(server, bulk)
    if bulk.cursor is None:
        await _require_no_more(server, plan)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + MAX_CALL_TIME_S
    start, effect, goes_on = progress.number, Effect([], []), True
    after = Position(progress.to_id)
    async for page in each_page(server, plan.jobs, after=after, limit=MAX_WRITE_JOBS):
        ids = [job.id for job in page.jobs if job.id <= plan.to_id][: plan.size - progress.number]
        effect = effect.plus(await _apply(server, caller, bulk, ids))
        last = page.last.id if page.last else plan.to_id
        progress = Progress(last, progress.number + len(ids))
        goes_on = not page.complete and last < plan.to_id and progress.number < plan.size
        full = progress.number - start > MAX_CALL_JOBS - MAX_WRITE_JOBS
        if not goes_on or full or loop.time() > deadline:
            break
    return {
        **effect.document(),
        "remaining": plan.size - progress.number if goes_on else 0,
        "next": _sign(server, plan, preview_id, progress) if goes_on else None,
    }


async def _require_no_more(server: Server, plan: Plan) -> None:
    """Refuse a plan that more jobs match by now: some have come to a status that it is for.

    Raises:
        Problem: 409.
    """
    count = 0
    async for page in each_page(server, plan.jobs, limit=PAGE_SIZE):
        count += sum(job.id <= plan.to_id for job in page.jobs)
        if count > plan.size:
            detail = f"more than the {plan.size:,} jobs of the preview match now: preview again"
            raise Problem(409, "preview_stale", detail)
        if page.last is None or page.last.id >= plan.to_id:
            return


async def _change_ids(server: Server, caller: Caller, bulk: BulkIn) -> JsonObject:
    if bulk.ids is None or len(bulk.ids) > MAX_IDS_WITHOUT_PREVIEW:
        detail = (
            f"a filter, or more than {MAX_IDS_WITHOUT_PREVIEW} ids, needs a preview: send it "
            "with dry_run first"
        )
        raise Problem(422, "preview_needed", detail)
    effect = Effect([], [])
    ids = list(dict.fromkeys(bulk.ids))
    for start in range(0, len(ids), MAX_WRITE_JOBS):
        batch = ids[start : start + MAX_WRITE_JOBS]
        effect = effect.plus(await _apply(server, caller, bulk, batch))
    return {**effect.document(), "remaining": 0, "next": None}


async def _apply(server: Server, caller: Caller, bulk: BulkIn, ids: Sequence[int]) -> Effect:
    """Change some jobs, in one transaction."""
    if not ids:
        return Effect([], [])
    queue = server.queue
    effect = await server.work.write(lambda: _changed(queue, bulk, ids))
    if bulk.action == "delete":
        await delete_logs(server, effect.logs)
    outcome = f"{len(effect.done)} done, {len(effect.refused)} refused"
    server.audit.of(caller, f"bulk {bulk.action}", outcome, effect.done)
    return effect


def _changed(queue: JobQueue, bulk: BulkIn, ids: Sequence[int]) -> Effect:
    owners: list[Owner] = []
    match bulk.action:
        case "cancel":
            effects = queue.cancel_many(ids, bulk.reason)
            codes = {job_id: _CANCEL_CODES.get(effect) for job_id, effect in effects.items()}
        case "retry":
            codes = {each.id: RETRY_CODES.get(each.effect) for each in queue.retry_many(ids)}
        case "delete":
            owners = delete_rows(queue, ids)
            deleted = {owner.job_id for owner in owners}
            there = queue.existing([job_id for job_id in ids if job_id not in deleted])
            left = {job_id: "wrong_state" if job_id in there else "not_found" for job_id in ids}
            codes = {job_id: None if job_id in deleted else left[job_id] for job_id in ids}
    return Effect(
        [job_id for job_id, code in codes.items() if code is None],
        [(job_id, code) for job_id, code in codes.items() if code is not None],
        owners,
    )
