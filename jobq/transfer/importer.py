"""Batches of jobs from rows: every row is checked before any is added.

ValidRow rows go to a file (`jobq.transfer.staging`), not to memory; from there they are added a portion at a
time, so that other writers hardly wait. A row with a key is added once, however often it is given.
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
from jobq.jobs.insert import create_unused
from jobq.jobs.spec import CONDITIONS
from jobq.jobs.validation import checked_text
from jobq.models import Condition, Inserted, KnownKey, NewJob, ParentRef
from jobq.queue import JobQueue, backend_of
from jobq.transfer.formats import Row, Table
from jobq.transfer.row_validation import InvalidRow, RowValidator, ValidRow
from jobq.transfer.staging import AT_ONCE, Planned, StagingTable, room_for_rows

SHOWN = 20
"""Problems that are kept to be shown; the others are counted."""


class Problem(NamedTuple):
    """What is wrong with a row."""

    line: int
    column: str
    what: str

    def __str__(self) -> str:
        where = f"{self.line}: {self.column}" if self.column else f"{self.line}"
        return f"{where}: {self.what}"


class _Read(NamedTuple):
    """A row that was looked at."""

    place: int
    line: int
    key: str | None  # with the prefix
    checked: ValidRow | None  # None: it is not good


class Importer:
    """Rows on their way to be jobs: `check` them all, look at `problems`, then `add` them."""

    def __init__(self, queue: JobQueue, directory: Path, *, prefix: str = "") -> None:
        self.problems: list[Problem] = []  # the first SHOWN of them, by line
        self.problem_count = 0
        self.header_wrong = False  # then no row was read
        self.rows = 0  # good or not
        self.known = 0  # rows whose key stands for a job already
        self.added = 0
        self.existing = 0  # rows that were not added, since a job had their key
        self._queue = queue
        self._directory = directory
        self._prefix = prefix
        self._now = backend_of(queue).now()
        with room_for_rows():
            self._plan = StagingTable(queue.logs.make_root())
        self._env: dict[str, str] = queue.settings.captured(os.environ)

    def close(self) -> None:
        self._plan.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._plan)

    # -- checking --------------------------------------------------------------------------

    @room_for_rows()
    def check(self, table: Table, tick: Callable[[], None] | None = None) -> None:
        """Check every row; ``tick`` is called now and then."""
        checker = RowValidator(
            self._queue, self._directory, self._now, texts=table.columns is not None
        )
        wrong = checker.columns(table.columns or ())
        for column, what in wrong:
            self._complain(table.header_line, column, what)
        if wrong:
            self.header_wrong = True
            return
        # What this shell adds to every command must itself be fit to be stored.
        shell.parse({"argv": ["true"], "cwd": str(self._directory), "env": self._env})
        portion: list[_Read] = []
        for row in table.rows:
            portion.append(self._check_row(checker, row))
            self.rows += 1
            if len(portion) >= AT_ONCE:
                self._keep(portion)
                portion = []
                if tick:
                    tick()
        self._keep(portion)
        self._plan.complete()
        self._check_strange_keys()
        self._plan.arrange()
        self._complain_of_stuck()
        if tick:
            tick()

    def _check_row(self, checker: RowValidator, row: Row) -> _Read:
        checked = None
        if row.problem is not None:
            self._complain(row.line, "", row.problem)
        else:
            try:
                checked = checker.check(row.values)
            except InvalidRow as wrong:
                for column, what in wrong.columns:
                    self._complain(row.line, column, what)
        return _Read(self.rows, row.line, self._key_of(row), checked)

    def _key_of(self, row: Row) -> str | None:
        """A row that is not good has its key all the same: others may wait for it."""
        if (key := row.values.get("key")) is None:
            return None
        with suppress(UsageError):
            if key := checked_text("key", key):
                return self._prefix + key
        return None

    def _keep(self, portion: Sequence[_Read]) -> None:
        rows = [read.checked for read in portion if read.checked is not None]
        keys = [self._prefix + row.key for row in rows if row.key is not None]
        known = backend_of(self._queue).transfer.known_keys(keys) if keys else {}
        ids = {ref for row in rows for ref, _ in row.refs if isinstance(ref, int)}
        missing = ids - backend_of(self._queue).get(ids).keys() if ids else set()
        given = [(read.key, read.place, read.line) for read in portion if read.key is not None]
        taken = self._plan.claim_keys(given) if given else {}
        good = []
        for read in portion:
            has_key = read.key is None or self._has_its_key(read, known, taken.get(read.place))
            if not has_key or read.checked is None:
                continue
            if read.checked.refs:
                if self._names_missing(read.checked, read.line, missing):
                    continue
                self._wait_for(read.place, read.checked.refs)
            good.append(Planned(read.place, read.line, tuple(read.checked)))
        self._plan.put(good)

    def _wait_for(self, place: int, refs: Sequence[tuple[int | str, str]]) -> None:
        keys = [(self._prefix + ref, how) for ref, how in refs if isinstance(ref, str)]
        if keys:
            self._plan.wait_for(place, keys)

    def _has_its_key(self, read: _Read, known: Mapping[str, KnownKey], first: int | None) -> bool:
        """Whether a row can have the key that it gives, which the one in line ``first`` has."""
        if read.checked is None or read.key is None:
            return first is None
        name = read.key.removeprefix(self._prefix)
        if first is not None:
            self._complain(read.line, "key", f"{name!r} is that of line {first}, too")
            return False
        before = known.get(read.key)
        if before is not None and before.digest != read.checked.digest:
            self._complain(read.line, "key", _other(name, before.job_id))
            return False
        self.known += before is not None
        return True

    def _names_missing(self, checked: ValidRow, line: int, missing: Collection[Any]) -> bool:
        wrong = [
            (_column_of(condition), f"no job {ref}")
            for ref, condition in checked.refs
            if ref in missing
        ]
        for column, what in wrong:
            self._complain(line, column, what)
        return bool(wrong)

    def _check_strange_keys(self) -> None:
        """Keys that no row has are those of jobs added before; else they may be ids."""
        for found in self._plan.strange_keys():
            keys = [key for key, _ in found]
            known = backend_of(self._queue).transfer.known_keys(keys)
            numbers = {key: number for key in keys if (number := self._number(key)) is not None}
            there = backend_of(self._queue).get(numbers.values()) if numbers else {}
            ids = [key for key, number in numbers.items() if number in there and key not in known]
            self._plan.name_ids(ids)
            for key in keys:
                if key not in known and key not in ids:
                    name = key.removeprefix(self._prefix)
                    what = f"no row and no job has the key {name!r}"
                    for line, condition in self._plan.drop_waiting_for(key):
                        self._complain(line, _column_of(condition), what)

    def _complain_of_stuck(self) -> None:
        for place, line in self._plan.stuck():
            if self._is_shown(line):  # or else there is no need to find out why
                condition, why = self._plan.why_stuck(place)
                self._complain(line, _column_of(condition), why)
            else:
                self.problem_count += 1

    def _number(self, key: str) -> int | None:
        text = key.removeprefix(self._prefix)
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None

    def _is_shown(self, line: int) -> bool:
        return len(self.problems) < SHOWN or line < self.problems[-1].line

    def _complain(self, line: int, column: str, what: str) -> None:
        self.problem_count += 1
        if self._is_shown(line):
            insort(self.problems, Problem(line, column, what), key=lambda problem: problem.line)
            del self.problems[SHOWN:]

    # -- adding ----------------------------------------------------------------------------

    def add(self) -> Iterator[list[Inserted]]:
        """Add the rows that are good, a portion in each transaction; what became of each.

        Raises:
            JobqError: something changed since they were checked. What was added stays added.
        """
        for portion in self._plan.portions():
            jobs = [self._job(ValidRow(*planned.values)) for planned in portion]
            try:
                inserted = self._insert(jobs)
            except JobqError as error:
                lines = f"{portion[0].line} to {portion[-1].line}"
                raise type(error)(
                    f"lines {lines}: {error}; {self.added:,} jobs were added before"
                ) from error
            created = sum(item.created for item in inserted)
            self.added += created
            self.existing += len(inserted) - created
            yield inserted

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
        if number is not None and self._plan.is_id(key):
            return ParentRef(condition=Condition(condition), id=number)
        return ParentRef(condition=Condition(condition), key=key)


def _other(key: str, job_id: int) -> str:
    return (
        f"{key!r} is that of job {job_id}, which was added from a row that said something else: "
        "give the row another key"
    )


def _column_of(condition: str) -> str:
    return next(name for name, value in CONDITIONS.items() if value == condition)
