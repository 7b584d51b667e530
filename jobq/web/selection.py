"""Selections of jobs: query parameters as filters, the pages of a list, and their cursors."""

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from jobq.backends.lists import Order, Page, Position
from jobq.errors import UsageError
from jobq.models import JobFilter
from jobq.query import parse_query
from jobq.queue import JobQueue
from jobq.web.light_jobs import LightJobs
from jobq.web.problems import FieldError, Problem
from jobq.web.schemas import LightJob, Output, to_json
from jobq.web.state import Server

MAX_QUERY_CHARS = 4000
MAX_PAGE_SIZE = 200

MAX_TEXTS = 20
"""Texts that are searched for: the time that a page may take is looked at between batches alone."""

PAGE_TIME_S = 0.06
"""A page ends after this time, whatever it has found."""

_Value = Annotated[str | None, Field(max_length=MAX_QUERY_CHARS)]
_Values = Annotated[list[Annotated[str, Field(max_length=MAX_QUERY_CHARS)]], Field(max_length=50)]


_ONCE = (
    "queue",
    "type",
    "since",
    "until",
    "ended_since",
    "ids",
    "parent",
    "added_by",
    "signature",
)
"""The parameters that have the name of a condition, and are given once."""


class JobQuery(BaseModel):
    """The parameters that select jobs. All conditions have to hold."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    q: str = Field(
        "",
        max_length=MAX_QUERY_CHARS,
        description="A query that has all conditions in it: `state:failed queue:gpu words`.",
    )
    status: _Values = Field([], description="Statuses, joined by commas.")
    queue: _Value = None
    type: _Value = None
    tag: _Values = Field([], description="KEY=VALUE; may be repeated.")
    since: _Value = Field(None, description="Added since this time, or this long ago: `2h`.")
    until: _Value = Field(None, description="Added before this time, or this long ago.")
    ended_since: _Value = Field(None, description="Ended since this time, or this long ago.")
    ids: _Value = Field(None, description="Ids and ranges: `1,2,9-14`.")
    parent: _Value = Field(None, description="Waits, or has waited, for this job.")
    added_by: _Value = Field(None, description="Added by this job.")
    error: _Value = Field(None, description="A text in the error.")
    signature: _Value = Field(None, description="Failed as the jobs of a group of `/dead` did.")
    text: _Value = Field(None, description="A text in anything that is shown of a job.")

    def conditions(self) -> Iterator[tuple[str, str]]:
        """Yield each parameter that is given, and the query that it stands for."""
        if self.q:
            yield "q", self.q
        if self.status:
            yield "status", f"state:{_quoted(','.join(self.status))}"
        for name in _ONCE:
            if (value := getattr(self, name)) is not None:
                yield name, f"{name}:{_quoted(value)}"
        yield from (("tag", f"tag:{_quoted(tag)}") for tag in self.tag)
        if self.error is not None:
            yield "error", f"error:{_quoted(self.error)}"
        if self.text:
            yield "text", _quoted(self.text)

    def as_query(self) -> str:
        """Return all conditions as one query."""
        return " ".join(text for _, text in self.conditions())

    def job_filter(self, now: datetime) -> JobFilter:
        """Return the filter; times such as ``2h`` count back from now.

        Raises:
            Problem: a condition is wrong: 422, and the parameter is named.
        """
        for name, text in self.conditions():
            _parsed(name, text, now)
        jobs = _parsed("q", self.as_query(), now)
        if jobs.text is not None and sum(map(len, jobs.text)) > MAX_TEXTS:
            raise _invalid("q", f"more than {MAX_TEXTS} texts to search for")
        return jobs


class PageQuery(JobQuery):
    """The parameters of a list in pages."""

    order: Literal["-id", "id", "-finished"] = "-id"
    limit: int = Field(50, ge=1, le=MAX_PAGE_SIZE)
    cursor: str | None = Field(
        None, max_length=500, description="`next` of the page before, with the same filters."
    )


class Looked(Output):
    """The part of a list that a page has read."""

    rows: int
    to_id: int | None
    complete: bool


class JobPage(Output):
    """A page of a list of jobs."""

    jobs: list[LightJob]
    next: str | None
    total: int | None
    looked: Looked


class Cursor(NamedTuple):
    """The place after a page, in the list of one filter and order as it was when it began."""

    digest: str  # of filter and order
    began_at: datetime  # the time that durations count back from, on every page
    position: Position

    def text(self) -> str:
        """Return the cursor as clients get it."""
        at = self.position.at and self.position.at.isoformat()
        values = [self.digest, self.began_at.isoformat(), self.position.id, at]
        return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def parse_cursor(text: str, digest: str) -> Cursor:
    """Return the cursor of a text, for a filter and order with this digest.

    Raises:
        Problem: it is none, or of another list: 400.
    """
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        values = json.loads(base64.b64decode(padded, b"-_", validate=True))
        found, began_at, last_id, at = values
        position = Position(_id(last_id), None if at is None else _moment(at))
        cursor = Cursor(found, _moment(began_at), position)
    except (ValueError, TypeError, RecursionError):
        raise Problem(400, "cursor_invalid", "the cursor is invalid: begin without one") from None
    if cursor.digest != digest:
        detail = "the cursor is of a list with other filters or another order: begin without one"
        raise Problem(400, "cursor_invalid", detail)
    return cursor


def read_page(queue: JobQueue, light_jobs: LightJobs, query: PageQuery) -> bytes:
    """Return a page of jobs, as JSON.

    Raises:
        Problem: a condition is wrong (422), or the cursor is (400).
    """
    digest = hashlib.sha256(f"{query.order} {query.as_query()}".encode()).hexdigest()[:16]
    cursor = None if query.cursor is None else parse_cursor(query.cursor, digest)
    began_at = queue.now() if cursor is None else cursor.began_at
    jobs = query.job_filter(began_at)
    page = queue.page(
        jobs,
        order=query.order,
        after=cursor and cursor.position,
        limit=query.limit,
        within=PAGE_TIME_S,
    )
    goes_on = not page.complete and page.last is not None
    rest = {
        "next": Cursor(digest, began_at, page.last).text() if goes_on and page.last else None,
        "total": queue.total(jobs),
        "looked": {
            "rows": page.read,
            "to_id": page.last and page.last.id,
            "complete": page.complete,
        },
    }
    return b'{"jobs":[%b],%b' % (b",".join(map(light_jobs.json_of, page.jobs)), to_json(rest)[1:])


async def each_page(
    server: Server,
    jobs: JobFilter,
    *,
    after: Position | None = None,
    order: Order = Order.OLDEST,
    limit: int = MAX_PAGE_SIZE,
) -> AsyncIterator[Page]:
    """Yield the pages of a selection; other requests are read between them."""
    while True:
        read = partial(server.queue.page, jobs, order=order, after=after, limit=limit)
        page = await server.work.read(partial(read, within=PAGE_TIME_S))
        yield page
        if page.complete or page.last is None:
            return
        after = page.last


def _parsed(parameter: str, text: str, now: datetime) -> JobFilter:
    try:
        return parse_query(text, now)
    except UsageError as error:
        raise _invalid(parameter, str(error)) from None


def _invalid(parameter: str, why: str) -> Problem:
    return Problem(422, "invalid", why, errors=[FieldError(f"query:{parameter}", why)])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _moment(value: Any) -> datetime:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError("no time zone")
    return moment


def _id(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError("no id")
    return value
