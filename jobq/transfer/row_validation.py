"""What a row of a batch may say: each column checked, and all that is wrong with a row at once."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jobq.errors import NotFound, UsageError
from jobq.job_types import shell
from jobq.jobs.prepare import parsed_args, template
from jobq.jobs.spec import JobSpec, checked_number, checked_tags, checked_text
from jobq.models import DEFAULT_QUEUE, Condition, NewJob, parse_priority
from jobq.queue import JobQueue
from jobq.units import parse_duration, parse_limit, parse_moment

if TYPE_CHECKING:
    from jobq.job_types.registry import JobType

LIMITS = ("type", "queue", "priority", "timeout", "retries", "retry_base")
OF_SHELL = ("argv", "shell", "cwd", "env", "stdin")
CONDITIONS = {
    "after": Condition.SUCCEEDED,
    "after_any": Condition.ENDED,
    "after_fail": Condition.FAILED,
}
COLUMNS = (
    "key", "type", "args", *OF_SHELL, "as_is", *LIMITS[1:], "name", "tags", "unique", *CONDITIONS,
    "at", "delay",
)  # fmt: skip
"""What a row may have."""

_ALIASES = {"max_retries": "retries", "tag": "tags"}
_DOTTED = {"args": "args", "tag": "tags", "tags": "tags", "env": "env"}
_YES, _NO = ("true", "yes", "1"), ("false", "no", "0")
_LANES = 1000  # sets of limits that are remembered


class InvalidRow(Exception):
    """A row that can't be added: columns, and what is wrong with each."""

    def __init__(self, columns: Sequence[tuple[str, str]]) -> None:
        super().__init__(columns)
        self.columns = columns


@dataclass(frozen=True, slots=True)
class _Lane:
    """What rows with the same limits have in common."""

    template: NewJob
    job_type: "JobType"
    given: tuple[Any, ...]  # the limits that the row gave, as values


class Checked(NamedTuple):
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
    tags: dict[str, str] | None
    unique: str | None
    key: str | None
    digest: str
    run_at: float | None
    refs: list[tuple[int | str, str]]


class RowValidator:
    """Makes jobs of rows. ``texts``: every value is text, as in a table."""

    def __init__(self, queue: JobQueue, directory: Path, now: datetime, *, texts: bool) -> None:
        self._queue = queue
        self._directory = directory
        self._now = now
        self._texts = texts
        self._lanes: dict[str, _Lane] = {}
        self._wrong: list[tuple[str, str]] = []
        self._columns = {"name", "unique", "key", "tags", "at", "delay", "as_is", *CONDITIONS}
        self._parsers: dict[str, Callable[[Any], Any]] = {
            "type": self._type,
            "queue": queue.queue,
            "priority": parse_priority,
            "timeout": parse_limit,
            "retries": self._count,
            "retry_base": parse_duration,
            "name": lambda text: checked_text("name", text),
            "unique": lambda text: checked_text("unique", text),
            "key": _key,
            "tags": self._tags,
            "at": self._moment,
            "delay": parse_duration,
            "as_is": _flag,
            **dict.fromkeys(CONDITIONS, _refs),
        }

    def columns(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """What is wrong with the columns of a table."""
        wrong = [(name, "is there twice") for name in dict.fromkeys(names) if names.count(name) > 1]
        return wrong + [(name, _UNKNOWN) for name in names if not _is_known(name)]

    def check(self, values: dict[str, Any]) -> Checked:
        """A row, checked.

        Raises:
            Wrong: it can't be added.
        """
        self._wrong = []
        values = self._folded(values)
        # As text, since true is 1, but not in words.
        signature = repr([value for value in values.items() if value[0] in _LIMITS])
        lane = self._lanes.get(signature) or self._lane(signature, values)
        taken = {
            column: self._take(column, value)
            for column, value in values.items()
            if column in self._columns
        }
        if "at" in taken and "delay" in taken:
            self._wrong.append(("delay", "a job has either a time (at) or a delay, not both"))
        args = self._args(lane.job_type if lane else self._type_of(values), values)
        refs = self._parents(taken)
        if self._wrong or lane is None:
            raise InvalidRow(self._wrong)
        digest = ""
        if "key" in taken:
            # As it was said: "now" and "tomorrow 7:00" are other times when a file comes again.
            digest = _digest(lane, args, {**taken, "at": values.get("at")}, refs)
        return self._checked(lane, args, taken, refs, digest)

    def _checked(
        self,
        lane: _Lane,
        args: dict[str, Any],
        taken: dict[str, Any],
        refs: dict[int | str, str],
        digest: str,
    ) -> Checked:
        template, at = lane.template, taken.get("at")
        if at is None and "delay" in taken:
            at = self._now.timestamp() + taken["delay"]
        secret_tag = lane.job_type.secret_tag()
        tags = {**(taken.get("tags") or {}), **secret_tag} if secret_tag else taken.get("tags")
        return Checked(
            template.type, template.queue, template.priority, template.max_retries,
            template.retry_base, template.timeout, args, taken.get("as_is") or False,
            taken.get("name"), tags, taken.get("unique"), taken.get("key"), digest, at,
            list(refs.items()),
        )  # fmt: skip

    # -- columns ---------------------------------------------------------------------------

    def _folded(self, values: dict[str, Any]) -> dict[str, Any]:
        """The row with ``args.x`` and the like put together, and without what is null."""
        if values.keys() <= _PLAIN and None not in values.values():
            return values
        folded = {k: v for k, v in values.items() if k in _PLAIN and v is not None}
        for name, value in values.items():
            if name in _PLAIN or value is None:
                continue
            column, _, below = name.partition(".")
            if not _is_known(name):
                self._wrong.append((name, _UNKNOWN))
            elif not below:
                self._fold(folded, name, _ALIASES[name], value)
            else:
                whole = folded.setdefault(_DOTTED[column], {})
                if not isinstance(whole, dict) or below in whole:
                    self._wrong.append((name, f"is given in {_DOTTED[column]}, too"))
                else:
                    folded[_DOTTED[column]] = {**whole, below: value}
        return folded

    def _fold(self, folded: dict[str, Any], name: str, column: str, value: Any) -> None:
        if column in folded:
            self._wrong.append((name, f"is another name of {column}, which is given, too"))
        folded[column] = value

    def _take(self, column: str, value: Any) -> Any:
        try:
            return self._parsers[column](value)
        except (UsageError, NotFound) as error:
            self._wrong.append((column, str(error).removeprefix(f"{column} ")))
            return None

    def _lane(self, signature: str, values: Mapping[str, Any]) -> _Lane | None:
        """The limits of a row, each one checked, with what they leave open filled in."""
        before = len(self._wrong)
        given = {name: self._take(name, values[name]) for name in LIMITS if name in values}
        if len(self._wrong) > before:
            return None
        spec = JobSpec(
            type=values.get("type", shell.JOB_TYPE),
            queue=values.get("queue", DEFAULT_QUEUE),
            priority=given.get("priority", 5),
            timeout=given.get("timeout"),
            max_retries=given.get("retries"),
            retry_base=given.get("retry_base"),
        )
        queue = self._queue.queue(spec.queue)
        job_type = self._queue.job_type(spec.type)
        lane = _Lane(
            template(spec, job_type, queue, self._queue.settings, self._now),
            job_type,
            (spec.type, spec.queue, spec.priority, spec.timeout, spec.max_retries, spec.retry_base),
        )
        if len(self._lanes) >= _LANES:
            self._lanes.clear()
        self._lanes[signature] = lane
        return lane

    def _parents(self, taken: Mapping[str, Any]) -> dict[int | str, str]:
        refs: dict[int | str, str] = {}
        if taken.keys().isdisjoint(CONDITIONS):
            return refs
        for column, condition in CONDITIONS.items():
            for ref in taken.get(column) or ():
                if refs.setdefault(ref, condition.value) != condition.value:
                    self._wrong.append((column, f"{ref!r} is named with two conditions"))
        return refs

    def _type(self, name: Any) -> "JobType":
        if not isinstance(name, str):
            raise UsageError(f"type {name!r:.80}: expected text")
        return self._queue.job_type(name)

    def _count(self, value: Any) -> int:
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
            value = int(value)
        checked_number("retries", value, 0)
        number: int = value
        return number

    def _tags(self, value: Any) -> dict[str, str]:
        return checked_tags(self._object("tags", value))

    def _moment(self, value: Any) -> float:
        if not isinstance(value, str):
            raise UsageError(f"at {value!r:.80}: give text such as '2026-12-24 18:00'")
        return parse_moment(value, self._now).timestamp()

    def _object(self, column: str, value: Any) -> dict[str, Any]:
        value = self._decoded(column, value)
        if not isinstance(value, dict):
            raise UsageError(f"{column} {value!r:.80}: expected an object")
        return value

    def _decoded(self, column: str, value: Any) -> Any:
        if not (self._texts and isinstance(value, str)):
            return value
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            example = '["ffmpeg", "-i", "a b.mkv"]' if column == "argv" else '{"a": "b"}'
            hint = "; a line for sh goes into the column shell" if column == "argv" else ""
            raise UsageError(f"{value!r:.80}: expected JSON such as {example}{hint}") from None

    # -- arguments -------------------------------------------------------------------------

    def _type_of(self, values: Mapping[str, Any]) -> "JobType | None":
        """The type of a row whose limits are wrong; None if its type is."""
        with suppress(UsageError):
            return self._type(values.get("type", shell.JOB_TYPE))
        return None

    def _args(self, job_type: "JobType | None", values: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as they are stored; those of a command without what this shell adds."""
        if job_type is None:
            return {}
        is_shell = job_type.name == shell.JOB_TYPE
        column = "args"
        try:
            args = self._object("args", values["args"]) if "args" in values else {}
            if self._texts and isinstance(values.get("args"), dict):  # from args.NAME
                args = _from_texts(job_type, args)
            for column in OF_SHELL:
                if column in values:
                    args = self._with(args, column, values[column], is_shell=is_shell)
            column = "args"
            args = self._command(args) if is_shell else args
            return parsed_args(job_type, args, self._queue.settings)
        except (UsageError, NotFound) as error:
            self._wrong.append(_blame(column, str(error), job_type.name))
            return {}

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


_PLAIN = frozenset(COLUMNS)
_LIMITS = frozenset(LIMITS)


def _from_texts(job_type: "JobType", args: dict[str, Any]) -> dict[str, Any]:
    texts = {name: value for name, value in args.items() if isinstance(value, str)}
    return {**args, **job_type.decode_texts(texts)}


def _is_known(name: str) -> bool:
    column, dot, below = name.partition(".")
    return (name in _PLAIN or name in _ALIASES) if not dot else bool(below and column in _DOTTED)


_UNKNOWN = f"no such column: known are {', '.join(COLUMNS)}, and args.NAME, tag.NAME, env.NAME"


def _blame(column: str, message: str, job_type: str) -> tuple[str, str]:
    """The column that a message about arguments is about, and the rest of it."""
    message = message.removeprefix(f"{job_type}: ").removeprefix(f"{column} ")
    first, colon, rest = message.partition(": ")
    if colon and first.partition("[")[0].partition(".")[0] in OF_SHELL:
        return first, rest
    return column, message


def _digest(
    lane: _Lane, args: dict[str, Any], taken: dict[str, Any], refs: dict[int | str, str]
) -> str:
    """What tells a row from another one with the same key."""
    rest = [taken.get(name) for name in ("as_is", "name", "tags", "unique", "at", "delay")]
    parents = sorted((str(ref), condition) for ref, condition in refs.items())
    text = _DIGESTED.encode([lane.given, args, rest, parents])
    return blake2b(text.encode(), digest_size=8).hexdigest()


_DIGESTED = json.JSONEncoder(sort_keys=True)


def _key(value: Any) -> str:
    text = checked_text("key", value)
    if not text:
        raise UsageError("is empty")
    return text


def _flag(value: Any) -> bool:
    word = str(value).lower()
    if word not in (*_YES, *_NO):
        raise UsageError(f"{value!r:.80}: give true or false")
    return word in _YES


def _refs(value: Any) -> list[int | str]:
    """Ids and keys: a list; or text with commas or spaces between them, or a list as JSON."""
    if isinstance(value, str):
        value = _refs_of_text(value)
    if isinstance(value, int):
        value = [value]
    if not isinstance(value, list):
        raise UsageError(f"{value!r:.80}: expected a list of ids and keys")
    for ref in value:
        if isinstance(ref, bool) or not isinstance(ref, int | str) or ref == "":
            raise UsageError(f"{ref!r:.80}: give the id or the key of a job")
        checked_text("key", ref) if isinstance(ref, str) else checked_number("id", ref, 1)
    return value


def _refs_of_text(text: str) -> Any:
    if text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise UsageError(f"{text!r:.80}: not a list in JSON") from None
    return text.replace(",", " ").split()


def require_options(queue: JobQueue, spec: JobSpec, now: datetime) -> None:
    """Refuse options that no job could have, whatever its arguments and parents.

    Raises:
        UsageError: the type or an option is wrong.
        NotFound: the queue does not exist.
    """
    template(spec, queue.job_type(spec.type), queue.queue(spec.queue), queue.settings, now)
