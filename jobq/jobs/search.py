"""Search: literal texts in jobs as they are shown, whatever their case; pages of those found.

Jobs are searched without their secrets: otherwise a match would reveal one, letter by letter.
"""

import json
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from fnmatch import translate
from typing import Any

from jobq.backends.lists import JobLists, Order, Page, Position
from jobq.job_types import shell
from jobq.limits import DROPPED_KEY
from jobq.models import Job, JobFilter, TextSearch
from jobq.redaction import Redactor, ShownJob

_NOT_SEARCHED = {"env"}
"""Arguments of commands in which words are not searched: every command has its caller's variables."""


BATCH_SIZE = 250
"""Rows read before the time is looked at: few, since those from a Redis server take long to read."""


class SearchedPages:
    """The list of the jobs of a filter, which may search text, in pages."""

    def __init__(
        self,
        lists: JobLists,
        jobs: JobFilter,
        order: Order,
        redactor: Redactor,
        get: Callable[[Collection[int]], Mapping[int, Job]],
    ) -> None:
        """``get`` reads whole jobs by id."""
        self._lists = lists
        self._get = get
        self._plain = replace(jobs, text=None)
        self._order = order
        self._redactor = redactor
        self._search = None if jobs.text is None else Search(jobs.text)

    def read(
        self,
        after: Position | None,
        *,
        limit: int,
        max_rows: int,
        seconds: float | None = None,
    ) -> Page:
        """Return a page that ends with ``limit`` jobs, ``max_rows`` rows or after ``seconds``."""
        deadline = None if seconds is None else time.monotonic() + seconds
        found: list[Job] = []
        read = 0
        while True:
            part = self._part(after, limit - len(found), min(BATCH_SIZE, max_rows - read))
            found += part.jobs
            read, after = read + part.read, part.last
            late = deadline is not None and time.monotonic() >= deadline
            if part.complete or len(found) >= limit or read >= max_rows or late:
                return Page(found, after, part.complete, read)

    def _part(self, after: Position | None, limit: int, max_rows: int) -> Page:
        options: dict[str, Any] = {"order": self._order, "after": after, "max_rows": max_rows}
        if self._search is None:
            return self._read(limit, options)
        part = self._read(max_rows, options)
        found = [job for job in part.jobs if self._search.matches(self._redactor.job(job))]
        if len(found) <= limit:
            return part._replace(jobs=found)
        last = found[limit - 1]
        at = last.finished_at if self._order is Order.ENDED else None
        return Page(found[:limit], Position(last.id, at), complete=False, read=part.read)

    def _read(self, limit: int, options: dict[str, Any]) -> Page:
        """Return a page of plain rows, without the secrets of jobs whose arguments were left out.

        What is secret in a job is known from its arguments: without them, its error might tell it.
        """
        page = self._lists.page(self._plain, limit=limit, **options)
        cut = [job.id for job in page.jobs if DROPPED_KEY in job.args]
        if not cut:
            return page
        whole = self._get(cut)
        shown = {
            job.id: replace(self._redactor.job(whole[job.id]), args=job.args, result=None)
            for job in page.jobs
            if job.id in whole
        }
        return page._replace(
            jobs=[
                shown.get(job.id, job)
                for job in page.jobs
                if job.id in shown or DROPPED_KEY not in job.args
            ]
        )


class Search:
    """A search for texts: made once, for many jobs."""

    def __init__(self, text: TextSearch) -> None:
        self._words = _folded(text.words)
        self._name = _folded(text.name)
        self._error = _folded(text.error)
        self._patterns = [re.compile(translate(each.casefold())) for each in text.name_patterns]
        self._args = [(path, wanted.casefold()) for path, wanted in text.args]

    def matches(self, job: ShownJob) -> bool:
        """Return whether a job has all of the texts."""
        return (
            (not self._name or _has(job.name or "", self._name))
            and all(each.match((job.name or "").casefold()) for each in self._patterns)
            and (not self._error or _has(job.error or "", self._error))
            and all(_has_at(job, path, wanted) for path, wanted in self._args)
            and (not self._words or _has("\n".join(_texts(job)), self._words))
        )


def _folded(texts: tuple[str, ...]) -> list[str]:
    return [text.casefold() for text in texts]


def _has(text: str, wanted: list[str]) -> bool:
    folded = text.casefold()
    return all(each in folded for each in wanted)


def _texts(job: ShownJob) -> Iterator[str]:
    """Yield all texts of a job in which words are searched."""
    yield from (job.type, job.queue, job.name or "", job.unique_key or "")
    yield from (job.error or "", job.reason or "")
    yield from (f"{key}={value}" for key, value in job.tags.items())
    for name, value in _args_of(job).items():
        if job.type != shell.JOB_TYPE or name not in _NOT_SEARCHED:
            yield _text_of(value)


def _args_of(job: ShownJob) -> dict[str, Any]:
    return {} if DROPPED_KEY in job.args else job.args


def _has_at(job: ShownJob, path: str, wanted: str) -> bool:
    return any(wanted in _text_of(value).casefold() for value in _at(_args_of(job), path))


def _at(value: Any, path: str) -> Iterator[Any]:
    """Yield the values at a path such as ``a.b.0``; a name in it may have dots itself."""
    if isinstance(value, dict):
        for name, below in value.items():
            if name == path:
                yield below
            elif path.startswith(f"{name}."):
                yield from _at(below, path[len(name) + 1 :])
    elif isinstance(value, list):
        first, _, rest = path.partition(".")
        if first.isascii() and first.isdigit() and len(first) < 10 and int(first) < len(value):
            below = value[int(first)]
            if rest:
                yield from _at(below, rest)
            else:
                yield below


def _text_of(value: Any) -> str:
    """Return a JSON value as people write it: the words of a list one after the other."""
    match value:
        case str():
            return value
        case dict():
            return "\n".join(f"{name}={_text_of(below)}" for name, below in value.items())
        case list():
            return " ".join(map(_text_of, value))
    return json.dumps(value)
