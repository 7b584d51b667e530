"""Validation of rows: each is translated into the fields of a job, and `jobq.jobs` checks those.

All that is wrong with a row is reported together, by column.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jobq.errors import UsageError
from jobq.job_types import shell
from jobq.job_types.argument_text import STRICT_JSON
from jobq.jobs.prepare import InvalidJob, Limits, Preparer
from jobq.jobs.spec import CONDITIONS, JobSpec, given_fields
from jobq.jobs.validation import checked_shape, checked_text
from jobq.limits import shown_value
from jobq.models import NewJob, ParentRef
from jobq.queue import JobQueue
from jobq.units import parse_duration, parse_moment

if TYPE_CHECKING:
    from jobq.job_types.registry import JobType

SHELL_COLUMNS = ("argv", "shell", "cwd", "env", "stdin")
COLUMNS = (
    "key", "type", "args", *SHELL_COLUMNS, "as_is", "queue", "priority", "timeout", "retries",
    "retry_base", "name", "tags", "unique", *CONDITIONS, "at", "delay",
)  # fmt: skip
"""What a row may have."""

_COLUMN_SET = frozenset(COLUMNS)
_ALIASES = {"max_retries": "retries", "tag": "tags"}
_DOTTED = {"args": "args", "tag": "tags", "tags": "tags", "env": "env"}
_YES, _NO = ("true", "yes", "1"), ("false", "no", "0")

_FIELDS = {column: column for column in COLUMNS if column not in ("as_is", "key", *SHELL_COLUMNS)}
_FIELDS |= {"retries": "max_retries"}
"""The fields of `JobSpec`, by the columns that give them."""

_COLUMN_OF = {field: column for column, field in _FIELDS.items()}
_LABELS = {"unique": "unique key", **dict.fromkeys(CONDITIONS, "parent")}
"""What messages about a value begin with, where it is not the column."""

_KNOWN = f"{', '.join(COLUMNS)}, and args.NAME, tag.NAME, env.NAME"


def _unknown(name: str) -> str:
    """Return the message about a column that is not known."""
    from difflib import get_close_matches  # only for errors

    words = {"command": "shell", "cmd": "shell", "script": "shell", "prio": "priority"}
    close = [words[name]] if name in words else get_close_matches(name[:80], COLUMNS, n=1)
    if close:
        return f"no such column: did you mean {close[0]}? Known are {_KNOWN}"
    if name.isidentifier():  # a column of the user's own, as in most tables
        return f"no such column: name it args.{name[:80]} if it is an argument of the job type"
    return f"no such column: known are {_KNOWN}"


class InvalidRow(Exception):
    """A row that can't be added: columns, and what is wrong with each."""

    def __init__(self, columns: Sequence[tuple[str, str]]) -> None:
        super().__init__(columns)
        self.columns = columns


class ValidRow(NamedTuple):
    """A row as plain values: what `jobq.transfer.staging` keeps."""

    type: str
    queue: str
    priority: int
    max_retries: int
    retry_base: float
    timeout: float | None
    args: dict[str, Any]
    as_is: bool
    name: str | None
    tags: Mapping[str, str] | None
    unique: str | None
    key: str | None
    digest: str
    run_at: float | None
    refs: list[tuple[int | str, str]]  # each with its condition


class RowValidator:
    """Validation of the rows of one file. ``texts``: every value is text, as in a table."""

    def __init__(self, queue: JobQueue, directory: Path, now: datetime, *, texts: bool) -> None:
        self._queue = queue
        self._directory = directory
        self._now = now
        self._texts = texts
        self._preparer = Preparer(queue.job_type, queue.queue, queue.settings, now)
        self._problems: list[tuple[str, str]] = []
        self._decoders: dict[str, Callable[[Any], Any]] = {
            "retries": _number,
            "tags": lambda value: self._decoded("tags", value),
            "at": self._moment,
            "delay": parse_duration,  # as a number, for the digest
            "key": _key,
            "as_is": _flag,
            **dict.fromkeys(CONDITIONS, _refs),
        }

    def columns(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Return what is wrong with the columns of a table."""
        counts = Counter(names)
        wrong = [(name, "is there twice") for name, count in counts.items() if name and count > 1]
        for place, name in enumerate(names, 1):
            if not name:
                wrong.append(("", f"the {_ordinal(place)} column has no name"))
            elif not _is_known(name):
                wrong.append((name, _unknown(name)))
        return wrong

    def check(self, values: dict[str, Any]) -> ValidRow:
        """Return a row, checked.

        Raises:
            InvalidRow: it can't be added.
        """
        self._problems = []
        values = self._folded(values)
        given: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for column, value in values.items():
            decode = self._decoders.get(column)
            try:
                decoded = value if decode is None else decode(value)
            except UsageError as error:
                self._report(column, error)
                continue
            if (field := _FIELDS.get(column)) is not None:
                given[field] = decoded
            else:
                own[column] = decoded
        given["args"] = self._args(values)
        try:
            job, limits = self._preparer.prepare(given)
        except InvalidJob as invalid:
            self._report_all(invalid, values)
        if self._problems:
            raise InvalidRow(self._problems)
        return _valid_row(job, limits, given, own, values.get("at"))

    # -- problems --------------------------------------------------------------------------

    def _report(self, column: str, error: Exception) -> None:
        message = str(error).removeprefix(f"{_LABELS.get(column, column)} ")
        self._problems.append((column, message.removeprefix(f"{column}: ")))

    def _report_all(self, invalid: InvalidJob, values: Mapping[str, Any]) -> None:
        """Report what is wrong with fields, but for those that could not even be translated."""
        known = {
            "args" if column in SHELL_COLUMNS else _FIELDS.get(column)
            for column, _ in self._problems
        }
        for field, error in invalid.errors:
            if field in known:
                continue
            if field == "args":
                job_type = values.get("type", shell.JOB_TYPE)
                self._problems.append(_blame("args", str(error), job_type))
            else:
                self._report(_COLUMN_OF[field], error)

    # -- columns ---------------------------------------------------------------------------

    def _folded(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the row with ``args.x`` and the like put together, and without nulls."""
        if values.keys() <= _COLUMN_SET and None not in values.values():
            return values
        folded = {k: _copied(v) for k, v in values.items() if k in _COLUMN_SET and v is not None}
        for name, value in values.items():
            if name in _COLUMN_SET or value is None:
                continue
            column, _, below = name.partition(".")
            if not _is_known(name):
                self._problems.append((name, _unknown(name) if name else "a column has no name"))
            elif not below:
                self._fold(folded, name, _ALIASES[name], value)
            else:
                whole = folded.setdefault(_DOTTED[column], {})
                if not isinstance(whole, dict) or below in whole:
                    self._problems.append((name, f"is given in {_DOTTED[column]}, too"))
                else:
                    whole[below] = value
        return folded

    def _fold(self, folded: dict[str, Any], name: str, column: str, value: Any) -> None:
        if column in folded:
            self._problems.append((name, f"is another name of {column}, which is given, too"))
        folded[column] = _copied(value)

    def _moment(self, value: Any) -> datetime:
        if not isinstance(value, str):
            raise UsageError(f"at {shown_value(value)}: give text such as '2026-12-24 18:00'")
        return parse_moment(value, self._now)

    def _decoded(self, column: str, value: Any) -> Any:
        if not (self._texts and isinstance(value, str)):
            return value
        try:
            return json.loads(value, **STRICT_JSON)
        except (ValueError, RecursionError) as error:
            if not isinstance(error, json.JSONDecodeError | RecursionError):
                raise UsageError(f"{value!r:.80}: {error}") from None
            example = '["ffmpeg", "-i", "a b.mkv"]' if column == "argv" else '{"a": "b"}'
            hint = "; a line for sh goes into the column shell" if column == "argv" else ""
            raise UsageError(f"{value!r:.80}: expected JSON such as {example}{hint}") from None

    # -- arguments -------------------------------------------------------------------------

    def _args(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments that the columns give: of a command, as a path and no more."""
        job_type = values.get("type", shell.JOB_TYPE)
        is_shell = job_type == shell.JOB_TYPE
        column = "args"
        try:
            args = self._arguments(job_type, values["args"]) if "args" in values else {}
            for column in SHELL_COLUMNS:
                if column in values:
                    args = self._with(args, column, values[column], is_shell=is_shell)
            column = "args"
            return self._command(args) if is_shell else args
        except UsageError as error:
            if is_shell or self._known_type(job_type):
                self._problems.append(_blame(column, str(error), job_type))
            return {}

    def _arguments(self, job_type: Any, value: Any) -> dict[str, Any]:
        args: dict[str, Any] = checked_shape("args", self._decoded("args", value))
        if self._texts and isinstance(value, dict) and (known := self._known_type(job_type)):
            return _from_texts(known, args)  # from args.NAME
        return args

    def _known_type(self, name: Any) -> "JobType | None":
        with suppress(UsageError):
            return self._queue.job_type(checked_shape("type", name))
        return None  # reported with the type

    def _with(
        self, args: dict[str, Any], column: str, value: Any, *, is_shell: bool
    ) -> dict[str, Any]:
        if not is_shell:
            raise UsageError("goes with shell jobs: the arguments of other types go into args")
        if column in args:
            raise UsageError("is given in args, too")
        if column in ("argv", "env"):
            value = self._decoded(column, value)
        return {**args, column: value}

    def _command(self, args: dict[str, Any]) -> dict[str, Any]:
        if not args.get("argv") and args.get("shell") is None:
            raise UsageError("argv: is missing: a row of the type shell has argv or shell")
        if args.get("argv") and args.get("shell") is not None:
            raise UsageError("argv: is given with shell: a row has one of them")
        if args.get("stdin") == shell.OWN_STDIN:
            raise UsageError("stdin: give the path of a file: there is one - for all rows")
        for name in ("cwd", "stdin"):
            path = args.get(name)
            if isinstance(path, str) and not os.path.isabs(path):
                args = {**args, name: os.path.normpath(self._directory / path)}
        return args


def require_options(queue: JobQueue, spec: JobSpec, now: datetime) -> None:
    """Refuse options that no job could have, whatever its arguments and parents.

    Raises:
        UsageError: the type or an option is wrong.
        NotFound: the queue does not exist.
    """
    given = {field: value for field, value in given_fields(spec).items() if field != "args"}
    try:
        Preparer(queue.job_type, queue.queue, queue.settings, now).prepare(given)
    except InvalidJob as invalid:
        for field, error in invalid.errors:
            if field != "args" and field not in CONDITIONS:
                raise error from None


def _valid_row(
    job: NewJob, limits: Limits, given: Mapping[str, Any], own: Mapping[str, Any], at: Any
) -> ValidRow:
    """Return a job as plain values. ``at`` is its time as the row gives it."""
    as_is = own.get("as_is")
    refs = [(_name_of(ref), ref.condition.value) for ref in job.parents] if job.parents else []
    digest = ""
    if "key" in own:
        # As it was said: "now" and "tomorrow 7:00" are other times when a file comes again.
        rest = [
            as_is, job.name, given.get("tags"), job.unique_key, at, given.get("delay")
        ]  # fmt: skip
        digest = _digest(limits, job.args, rest, refs)
    return ValidRow(
        job.type, job.queue, job.priority, job.max_retries, job.retry_base, job.timeout,
        job.args, as_is or False, job.name, job.tags or None, job.unique_key, own.get("key"),
        digest, None if job.run_at is None else job.run_at.timestamp(), refs,
    )  # fmt: skip


def _name_of(parent: ParentRef) -> int | str:
    if parent.key is not None:
        return parent.key
    assert parent.id is not None
    return parent.id


def _digest(
    limits: Limits, args: dict[str, Any], rest: Sequence[Any], refs: Sequence[tuple[Any, str]]
) -> str:
    """Return what tells a row from another one with the same key: never change how it is made."""
    parents = sorted((str(ref), condition) for ref, condition in refs)
    text = _DIGESTED.encode([limits.given, args, rest, parents])
    return blake2b(text.encode(), digest_size=8).hexdigest()


_DIGESTED = json.JSONEncoder(sort_keys=True)


def _from_texts(job_type: "JobType", args: dict[str, Any]) -> dict[str, Any]:
    texts = {name: value for name, value in args.items() if isinstance(value, str)}
    return {**args, **job_type.decode_texts(texts)}


def _copied(value: Any) -> Any:
    return dict(value) if isinstance(value, dict) else value


def _ordinal(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


def _is_known(name: str) -> bool:
    column, dot, below = name.partition(".")
    if dot:
        return bool(below and column in _DOTTED)
    return name in _COLUMN_SET or name in _ALIASES


def _blame(column: str, message: str, job_type: str) -> tuple[str, str]:
    """Return the column that a message about arguments is about, and the rest of it."""
    message = message.removeprefix(f"{job_type}: ")
    message = message.removeprefix(f"{column}: ").removeprefix(f"{column} ")
    first, colon, rest = message.partition(": ")
    if colon and first.partition("[")[0].partition(".")[0] in SHELL_COLUMNS:
        return first, rest
    return column, message


def _key(value: Any) -> str:
    text = checked_text("key", value)
    if not text:
        raise UsageError("is empty")
    return text


def _flag(value: Any) -> bool:
    word = str(value).lower()
    if word not in (*_YES, *_NO):
        raise UsageError(f"{shown_value(value)}: give true or false")
    return word in _YES


def _number(value: Any) -> Any:
    """Return a whole number that is given as text."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    return value


def _refs(value: Any) -> Any:
    """Return ids and keys that are given one by one, as text with commas or spaces, or as JSON."""
    if isinstance(value, str):
        value = _refs_of_text(value)
    return [value] if isinstance(value, int) else value


def _refs_of_text(text: str) -> Any:
    if text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise UsageError(f"{text!r:.80}: not a list in JSON") from None
    return text.replace(",", " ").split()
