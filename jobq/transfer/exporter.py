"""Export: jobs as rows of which `jobq import` makes the same jobs again."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from jobq.backends.alternatives import one_of_several
from jobq.job_reader import READ_BATCH_SIZE
from jobq.job_types import shell
from jobq.jobs.spec import CONDITIONS
from jobq.logs.directory import STDIN
from jobq.models import Condition, Job, JobFilter, JobStatus
from jobq.queue import JobQueue
from jobq.redaction import is_redacted
from jobq.units import format_moment

_COLUMN_OF = {condition: column for column, condition in CONDITIONS.items()}


class Export:
    """The jobs of a selection, the oldest first, up to ``limit`` of them."""

    def __init__(
        self,
        queue: JobQueue,
        jobs: JobFilter,
        limit: int | None = None,
        *,
        with_secrets: bool = False,
    ) -> None:
        self.redacted = 0  # jobs whose secrets were left out: their rows can't be imported
        self._with_secrets = with_secrets
        self.outside: set[int] = (
            set()
        )  # jobs that exported ones wait for, and that are not exported
        self._queue = queue
        self._jobs = jobs
        if limit is not None:
            last = 0
            for job in islice(queue.each(jobs), limit):
                last = job.id
            self._jobs = replace(jobs, before_id=last + 1)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a row for each job, which names its parents by key where they are exported, too."""
        page: list[Job] = []
        for job in self._queue.each(self._jobs):
            page.append(job)
            if len(page) >= READ_BATCH_SIZE:
                yield from self._rows_of(page)
                page = []
        yield from self._rows_of(page)

    def _rows_of(self, page: list[Job]) -> Iterator[dict[str, Any]]:
        wanted = {parent.id for job in page for parent in job.parents}
        parents = self._queue.existing(wanted) if wanted else {}
        among = self._among(wanted)
        for job in page:
            row = self._row(job if self._with_secrets else self._queue.shown(job))
            self.redacted += not self._with_secrets and is_redacted(row)
            yield {**row, **self._after(job, parents, among)}

    def _among(self, ids: set[int]) -> set[int]:
        """Return those of these jobs that are exported."""
        if self._jobs.ids is not None:
            ids = ids & set(self._jobs.ids)
        if not ids:
            return set()
        found = self._queue.find(replace(self._jobs, ids=tuple(ids)))
        return {job.id for job in found}

    def _after(self, job: Job, parents: dict[int, Job], among: set[int]) -> dict[str, list[Any]]:
        """Return the columns that name parents, without those not exported that met their condition."""
        after: dict[str, list[Any]] = {}
        one_met, _ = one_of_several(
            parents[parent.id].status if parent.id in parents else None
            for parent in job.parents
            if parent.condition is Condition.ONE_SUCCEEDED
        )
        for parent in job.parents:
            there = parents.get(parent.id)
            if parent.id in among and there is not None:
                ref: int | str = key_of(there)
            elif (
                there is None
                or parent.condition.met_by(there.status)
                or (parent.condition is Condition.ONE_SUCCEEDED and one_met)
            ):
                continue
            else:
                ref = parent.id
                self.outside.add(parent.id)
            after.setdefault(_COLUMN_OF[Condition(parent.condition)], []).append(ref)
        return after

    def _row(self, job: Job) -> dict[str, Any]:
        row: dict[str, Any] = {"key": key_of(job), "type": job.type}
        if job.type == shell.JOB_TYPE:
            row |= {**self._command(job), "as_is": True}
        else:
            row["args"] = job.args
        row |= {
            "queue": job.queue,
            "priority": job.priority,
            "timeout": "none" if job.timeout is None else job.timeout,
            "retries": job.max_retries,
            "retry_base": job.retry_base,
            "name": job.name,
            "tags": dict(job.tags) or None,
            "unique": job.unique_key,
            "at": _at(job),
        }
        return {name: value for name, value in row.items() if value is not None}

    def _command(self, job: Job) -> dict[str, Any]:
        args = job.args
        if args.get("stdin") == shell.OWN_STDIN:
            folder = self._queue.logs.location(job) or self._queue.logs.path(job.id)
            stdin = (folder / STDIN).absolute()
            args = {**args, "stdin": str(stdin)}
        # An empty field of a table counts as absent, so an empty text is kept in JSON.
        return {"args": args} if "" in args.values() else args


def key_of(job: Job) -> str:
    """Return a key that no job of any other database has: id and time of creation."""
    return f"{job.id}-{round(job.created_at.timestamp() * 1_000_000):x}"


def _at(job: Job) -> str | None:
    if job.run_at is None or job.status is JobStatus.RETRYING:
        return None
    return format_moment(job.run_at)
