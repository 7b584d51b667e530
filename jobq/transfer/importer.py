"""Import: jobs from the rows of a file, all checked before any is added.

Valid rows go to a file (`jobq.transfer.staging`), not to memory; from there they are added in
batches, so that other writers hardly wait. A row with a key is added once, however often it comes.
"""

import os
from bisect import insort
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

from jobq.errors import JobqError, UsageError
from jobq.job_types import shell
from jobq.jobs.insert import create_unused, planned
from jobq.jobs.same_work import held_by_other, is_same_work
from jobq.jobs.spec import CONDITIONS
from jobq.jobs.validation import checked_text
from jobq.models import Condition, Inserted, Job, KnownKey, NewJob, ParentRef
from jobq.queue import JobQueue, backend_of
from jobq.transfer.formats import Row, Table
from jobq.transfer.row_validation import InvalidRow, RowValidator, ValidRow
from jobq.transfer.staging import BATCH_SIZE, StagedRow, StagingTable, room_for_rows

MAX_PROBLEMS_SHOWN = 20
"""Problems kept to be shown; the others are counted."""


class Problem(NamedTuple):
    """A problem of a row: its line and column, and what is wrong."""

    line: int
    column: str
    what: str

    def __str__(self) -> str:
        where = f"{self.line}: {self.column}" if self.column else f"{self.line}"
        return f"{where}: {self.what}"


class _CheckedRow(NamedTuple):
    """A row that was checked."""

    place: int
    line: int
    key: str | None  # with the prefix
    valid: ValidRow | None  # None: it is invalid


class Importer:
    """The import of one file: `check` its rows, look at `problems`, then `add` the valid ones."""

    def __init__(self, queue: JobQueue, directory: Path, *, prefix: str = "") -> None:
        self.problems: list[Problem] = []  # the first MAX_PROBLEMS_SHOWN of them, by line
        self.problem_count = 0
        self.header_wrong = False  # if true, no row was read
        self.rows = 0  # valid or not
        self.known = 0  # rows whose key belongs to a job already
        self.added = 0
        self.existing = 0  # rows that were not added, since a job had their key
        self.differing: list[Problem] = []  # the first SHOWN of those whose job does something else
        self.differing_count = 0
        self._queue = queue
        self._directory = directory
        self._prefix = prefix
        self._now = backend_of(queue).now()
        with room_for_rows():
            self._staging = StagingTable(queue.logs.make_root())
        self._env: dict[str, str] = queue.settings.captured(os.environ)

    def close(self) -> None:
        self._staging.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._staging)

    # -- checking --------------------------------------------------------------------------

    @room_for_rows()
    def check(self, table: Table, tick: Callable[[], None] | None = None) -> None:
        """Check every row; ``tick`` is called after each batch."""
        validator = RowValidator(
            self._queue, self._directory, self._now, texts=table.columns is not None
        )
        wrong = validator.columns(table.columns or ())
        for column, what in wrong:
            self._report(table.header_line, column, what)
        if wrong:
            self.header_wrong = True
            return
        self.header_wrong = not table.header_readable
        # What this shell adds to every command must itself be fit to be stored.
        shell.parse({"argv": ["true"], "cwd": str(self._directory), "env": self._env})
        batch: list[_CheckedRow] = []
        for row in table.rows:
            batch.append(self._check_row(validator, row))
            self.rows += 1
            if len(batch) >= BATCH_SIZE:
                self._stage(batch)
                batch = []
                if tick:
                    tick()
        self._stage(batch)
        self._staging.complete()
        self._resolve_unknown_keys()
        self._staging.arrange()
        self._report_stuck()
        if tick:
            tick()

    def _check_row(self, validator: RowValidator, row: Row) -> _CheckedRow:
        checked = None
        if row.problem is not None:
            self._report(row.line, "", row.problem)
        else:
            try:
                checked = validator.check(row.values)
            except InvalidRow as wrong:
                hide = self._queue.settings.redactor.of({"row": row.values}, {})
                for column, what in wrong.columns:
                    self._report(row.line, column, hide.text(what))
        return _CheckedRow(self.rows, row.line, self._key_of(row), checked)

    def _key_of(self, row: Row) -> str | None:
        """Return the key of a row, valid or not: other rows may wait for it."""
        if (key := row.values.get("key")) is None:
            return None
        with suppress(UsageError):
            if key := checked_text("key", key):
                return self._prefix + key
        return None

    def _stage(self, batch: Sequence[_CheckedRow]) -> None:
        """Keep the valid rows of a batch whose keys and parents' ids are good, too."""
        rows = [row.valid for row in batch if row.valid is not None]
        keys = [self._prefix + row.key for row in rows if row.key is not None]
        known = backend_of(self._queue).transfer.known_keys(keys) if keys else {}
        ids = {ref for row in rows for ref, _ in row.refs if isinstance(ref, int)}
        missing = ids - backend_of(self._queue).get(ids).keys() if ids else set()
        given = [(row.key, row.place, row.line) for row in batch if row.key is not None]
        taken = self._staging.claim_keys(given) if given else {}
        good = []
        for row in batch:
            has_key = row.key is None or self._has_its_key(row, known, taken.get(row.place))
            if not has_key or row.valid is None:
                continue
            if row.valid.refs:
                if self._has_missing_parents(row.valid, row.line, missing):
                    continue
                self._wait_for(row.place, row.valid.refs)
            good.append(StagedRow(row.place, row.line, tuple(row.valid)))
        self._staging.put(good)

    def _wait_for(self, place: int, refs: Sequence[tuple[int | str, str]]) -> None:
        keys = [(self._prefix + ref, how) for ref, how in refs if isinstance(ref, str)]
        if keys:
            self._staging.wait_for(place, keys)

    def _has_its_key(
        self, row: _CheckedRow, known: Mapping[str, KnownKey], first: int | None
    ) -> bool:
        """Tell whether a row gets the key that it gives; ``first`` is a line that has it, too."""
        if row.valid is None or row.key is None:
            return first is None
        name = row.key.removeprefix(self._prefix)
        if first is not None:
            self._report(row.line, "key", f"{name!r} is that of line {first}, too")
            return False
        before = known.get(row.key)
        if before is not None and before.digest != row.valid.digest:
            self._report(row.line, "key", _key_taken(name, before.job_id))
            return False
        self.known += before is not None
        return True

    def _has_missing_parents(self, valid: ValidRow, line: int, missing: Collection[Any]) -> bool:
        wrong = [
            (_column_of(condition), f"no job {ref}")
            for ref, condition in valid.refs
            if ref in missing
        ]
        for column, what in wrong:
            self._report(line, column, what)
        return bool(wrong)

    def _resolve_unknown_keys(self) -> None:
        """Find jobs for keys that no row has: added before with that key, or else with that id."""
        for found in self._staging.unknown_keys():
            keys = [key for key, _ in found]
            known = backend_of(self._queue).transfer.known_keys(keys)
            numbers = {key: number for key in keys if (number := self._number(key)) is not None}
            there = backend_of(self._queue).get(numbers.values()) if numbers else {}
            ids = [key for key, number in numbers.items() if number in there and key not in known]
            self._staging.mark_as_ids(ids)
            for key in keys:
                if key not in known and key not in ids:
                    name = key.removeprefix(self._prefix)
                    what = f"no row and no job has the key {name!r}"
                    for line, condition in self._staging.drop_waiting_for(key):
                        self._report(line, _column_of(condition), what)

    def _report_stuck(self) -> None:
        for place, line in self._staging.stuck():
            if self._is_shown(line):  # otherwise the reason is not needed
                condition, why = self._staging.reason_stuck(place)
                self._report(line, _column_of(condition), why)
            else:
                self.problem_count += 1

    def _number(self, key: str) -> int | None:
        text = key.removeprefix(self._prefix)
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None

    def _is_shown(self, line: int) -> bool:
        return len(self.problems) < MAX_PROBLEMS_SHOWN or line < self.problems[-1].line

    def _report(self, line: int, column: str, what: str) -> None:
        self.problem_count += 1
        if self._is_shown(line):
            insort(self.problems, Problem(line, column, what), key=lambda problem: problem.line)
            del self.problems[MAX_PROBLEMS_SHOWN:]

    # -- adding ----------------------------------------------------------------------------

    def add(self) -> Iterator[list[Inserted]]:
        """Add the valid rows, a batch in each transaction; yield what became of each row.

        Raises:
            JobqError: something changed since they were checked. Jobs added before stay.
        """
        for batch in self._staging.batches():
            jobs = [self._job(ValidRow(*row.values)) for row in batch]
            try:
                inserted = self._insert(jobs)
            except JobqError as error:
                lines = f"{batch[0].line} to {batch[-1].line}"
                raise type(error)(
                    f"lines {lines}: {error}; {self.added:,} jobs were added before"
                ) from error
            created = sum(item.created for item in inserted)
            self.added += created
            self.existing += len(inserted) - created
            if created < len(inserted):
                self._note_differing(batch, jobs, inserted)
            yield inserted

    def planned(self) -> Iterator[Job]:
        """Yield the jobs of the valid rows as they would be added."""
        for batch in self._staging.batches():
            for row in batch:
                yield planned(self._job(ValidRow(*row.values)), self._now)

    def _note_differing(
        self, batch: Sequence[StagedRow], jobs: Sequence[NewJob], inserted: Sequence[Inserted]
    ) -> None:
        """Note the rows whose unique key is held by a job that does something else."""
        held = [
            (row.line, job, item.id)
            for row, job, item in zip(batch, jobs, inserted, strict=True)
            if not item.created and job.unique_key is not None
        ]
        holders = backend_of(self._queue).get({job_id for _, _, job_id in held})
        for line, job, job_id in held:
            holder = holders.get(job_id)
            if holder is None or holder.unique_key != job.unique_key:
                continue  # it is known by its key, and was compared by that
            if is_same_work(holder, job.type, job.args, self._queue.settings):
                continue
            self.differing_count += 1
            if len(self.differing) < MAX_PROBLEMS_SHOWN:
                what = held_by_other(self._queue.shown(holder))
                self.differing.append(Problem(line, "unique", what))

    def _insert(self, jobs: Sequence[NewJob]) -> list[Inserted]:
        """Insert jobs in one transaction, with the queues that they are the first to use."""
        configured = self._queue.settings.queues
        names = {job.queue for job in jobs} & configured.keys()
        backend = backend_of(self._queue)
        with backend.group():
            create_unused([configured[name] for name in names], backend)
            return backend.insert(jobs, self._now)

    def _job(self, row: ValidRow) -> NewJob:
        args = row.args
        if row.type == shell.JOB_TYPE and not row.as_is:
            env = {**self._env, **args.get("env", {})}
            args = {**args, "cwd": args.get("cwd") or str(self._directory), "env": env}
        return NewJob(
            type=row.type,
            args=args,
            queue=row.queue,
            priority=row.priority,
            max_retries=row.max_retries,
            retry_base=row.retry_base,
            name=row.name,
            tags=row.tags or {},
            unique_key=row.unique,
            parents=tuple(self._ref(*ref) for ref in row.refs) if row.refs else (),
            run_at=None if row.run_at is None else datetime.fromtimestamp(row.run_at, UTC),
            timeout=row.timeout,
            key=None if row.key is None else self._prefix + row.key,
            digest=row.digest,
        )

    def _ref(self, ref: int | str, condition: str) -> ParentRef:
        if isinstance(ref, int):
            return ParentRef(condition=Condition(condition), id=ref)
        key = self._prefix + ref
        number = self._number(key)
        if number is not None and self._staging.is_id(key):
            return ParentRef(condition=Condition(condition), id=number)
        return ParentRef(condition=Condition(condition), key=key)


def _key_taken(key: str, job_id: int) -> str:
    return (
        f"{key!r} belongs to job {job_id}, which was added from a different row: "
        "give the row another key"
    )


def _column_of(condition: str) -> str:
    return next(name for name, value in CONDITIONS.items() if value == condition)
