"""``jobq add --each`` and ``--array``: add a job for each value, with GNU parallel's placeholders."""

import codecs
import os
import re
import secrets
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from jobq.cli.commands.import_ import Summary
from jobq.cli.parsing.arguments import piped_in
from jobq.cli.parsing.job_options import JobOptions, JobRequest, ManyOptions, job_spec
from jobq.cli.parsing.value_lists import parse_array, split_lists, values_of
from jobq.cli.rendering.output import is_terminal, note, note_paused, print_json_array
from jobq.cli.rendering.plan import plan_document, plan_line
from jobq.clock import utcnow
from jobq.config.environment import ARRAY_INDEX_VAR
from jobq.errors import UsageError
from jobq.job_types import shell
from jobq.queue import JobQueue
from jobq.serializers import job_document
from jobq.transfer.file_head import utf_16
from jobq.transfer.formats import Row, Table
from jobq.transfer.importer import Importer
from jobq.transfer.row_validation import require_options

_PLACEHOLDER = re.compile(r"\{(?P<place>[1-9][0-9]?)?(?P<sign>|\.|/|//|/\.|#)\}")
_SUFFIX = re.compile(r"\.[^/.]*$")
_ARRAY_TAG = "array"

Values = tuple[str, ...]


def add_each(
    queue: JobQueue, request: JobRequest, many: ManyOptions, *, as_json: bool, quiet: bool
) -> int:
    """Add a job for each line of stdin, combination of the values of lists, or index of an array.

    With ``null``, lines are pieces that end in a NUL byte. Prints the ids of the jobs. Returns the
    exit code.

    Raises:
        UsageError: the options are wrong, or do not go together.
    """
    if many.array is None:
        request, source, rows = _source(request, null=many.null)
        template = _Template(queue, request, lists=source.lists)
    else:
        request, source, rows = _array(request, many.array)
        template = _Template(queue, request, lists=1, appends=False)
    with Importer(queue, Path.cwd()) as batch:
        batch.check(Table(template.rows(rows)))
        summary = Summary(batch, source.name, dry_run=many.dry_run)
        if batch.problem_count:
            summary.show_problems()
            raise UsageError("no jobs added: these lines are invalid")
        if many.dry_run:
            _show_plan(queue, batch, summary, as_json=as_json)
            return 0
        _add(queue, batch, summary, as_json=as_json, quiet=quiet)
        if source.tag and is_terminal() and not quiet:
            note(f"They have the tag {source.tag}.")
        if batch.added and queue.queue(request.job.queue).paused:
            note_paused(request.job.queue, batch.added)
        return summary.show_differing()


class _Source(NamedTuple):
    """The origin of values."""

    name: str  # in messages
    lists: int = 1
    tag: str = ""  # that all jobs get


def _source(
    request: JobRequest, *, null: bool
) -> tuple[JobRequest, _Source, Iterator[tuple[int, Values]]]:
    """Return the request without its lists, and the combinations of their values."""
    end = b"\0" if null else b"\n"
    attribute = "words" if request.job.argv is None else "argv"
    words, lists = split_lists(getattr(request.job, attribute) or ())
    if not lists:
        source = piped_in().buffer
        if not null and hasattr(source, "peek") and (what := utf_16(source.peek(2))):
            raise UsageError(f"stdin: {what}")
        return request, _Source("stdin"), ((line, (text,)) for line, text in _pieces(source, end))
    values = values_of(lists, lambda file: (text for _, text in _pieces(file, end)))
    request = request._replace(job=_with(request.job, **{attribute: words}))
    return request, _Source("combination", len(values)), enumerate(product(*values), 1)


def _array(
    request: JobRequest, text: str
) -> tuple[JobRequest, _Source, Iterator[tuple[int, Values]]]:
    """Return the request for the jobs of an array, and its indexes."""
    indexes = parse_array(text)
    tags = list(request.job.tag or ())
    tag = next((each for each in tags if each.startswith(f"{_ARRAY_TAG}=")), None)
    if tag is None:
        tag = f"{_ARRAY_TAG}={secrets.token_hex(4)}"
        tags.append(tag)
    job = _with(request.job, tag=tags)
    if job.argv:
        job = _with(job, env=[*(job.env or ()), f"{ARRAY_INDEX_VAR}={{}}"])
    rows = ((number, (str(index),)) for number, index in enumerate(indexes, 1))
    return request._replace(job=job), _Source("index", tag=tag), rows


def _with(job: JobOptions, **changed: Any) -> JobOptions:
    return JobOptions(**{**vars(job), **changed})


def _add(queue: JobQueue, batch: Importer, summary: Summary, *, as_json: bool, quiet: bool) -> None:
    batches = batch.add()
    if as_json:
        print_json_array(
            {
                **job_document(queue.shown(job), queue.logs.path(job.id)),
                "existing": not item.created,
            }
            for inserted in batches
            for item, job in zip(
                inserted, queue.get_many([item.id for item in inserted]), strict=True
            )
        )
        return
    for inserted in batches:
        summary.note(inserted)
        if quiet or not is_terminal():
            print(*(item.id for item in inserted), sep="\n")
    if is_terminal() and not quiet:
        print(summary.sentence())


def _show_plan(queue: JobQueue, batch: Importer, summary: Summary, *, as_json: bool) -> None:
    """Show the jobs that would be added, one per line."""
    planned = (queue.shown(job) for job in batch.planned())
    if as_json:
        print_json_array(map(plan_document, planned))
        return
    for job in planned:
        print(plan_line(job))
    note(summary.sentence())


class _Template:
    """A row of an import, with placeholders for the line."""

    def __init__(
        self, queue: JobQueue, request: JobRequest, *, lists: int, appends: bool = True
    ) -> None:
        """Check the options; ``appends``: a command without a placeholder gets the values behind it."""
        _refuse(request)
        self._lists = lists
        self._appends = appends
        spec = job_spec(queue, request)
        require_options(queue, spec, utcnow())  # an error of all jobs is reported once
        self._fixed: dict[str, Any] = {
            "type": spec.type,
            "queue": spec.queue,
            "priority": spec.priority,
            "timeout": spec.timeout,
            "retries": spec.max_retries,
            "retry_base": spec.retry_base,
            "after": list(spec.after),
            "after_any": list(spec.after_any),
            "after_fail": list(spec.after_fail),
            "after_one": list(spec.after_one),
            "at": request.start.at,
            "delay": spec.delay,
        }
        self._open: dict[str, Any] = {"name": spec.name, "unique": spec.unique, "tags": spec.tags}
        self._env: dict[str, str] = {}  # without placeholders
        args = dict(spec.args or {})
        if spec.type == shell.JOB_TYPE:
            self._command(args, request)
        elif not self._has_placeholder(args):
            raise UsageError(
                f"say where the line goes, as in `jobq add --each {spec.type} url={{}}`"
            )
        else:
            self._open["args"] = args

    def _command(self, args: dict[str, Any], request: JobRequest) -> None:
        argv = args.get("argv")
        if not argv:
            raise UsageError("give a command: `… | jobq add --each -- COMMAND {}`")
        if self._appends and not self._has_placeholder(argv):
            places = range(1, self._lists + 1) if self._lists > 1 else ("",)
            argv = [*argv, *(f"{{{place}}}" for place in places)]
        given = {word.partition("=")[0] for word in request.job.env or ()}
        env = args.get("env", {})
        self._open |= {
            "argv": argv,
            # As typed: an absolute path in place of {//} would be another one.
            "cwd": request.job.cwd,
            "stdin": request.single.stdin,
            "env": {name: env[name] for name in given},
        }
        self._env = {name: value for name, value in env.items() if name not in given}
        self._fixed |= {"cwd": args.get("cwd"), "stdin": args.get("stdin"), "as_is": True}

    def rows(self, combinations: Iterator[tuple[int, Values]]) -> Iterator[Row]:
        """Yield a row for each combination of values."""
        for number, (line, values) in enumerate(combinations, 1):

            def fill(match: re.Match[str], values: Values = values, number: int = number) -> str:
                return self._text(match, values, number)

            filled = {name: _filled(value, fill) for name, value in self._open.items() if value}
            row = {**self._fixed, **filled}
            if row.get("as_is"):
                row["env"] = {**self._env, **filled.get("env", {})}
            yield Row(line, row)

    def _text(self, match: re.Match[str], values: Values, number: int) -> str:
        """Return the text in the place of what may be a placeholder."""
        if not self._is_placeholder(match):
            return match[0]
        if match["sign"] != "#" and match["place"] is None and self._lists > 1:
            raise UsageError(
                f"{match[0]}: there are {self._lists} lists: say {{1}} to {{{self._lists}}}"
            )
        return _value(match["sign"], values[int(match["place"] or 1) - 1], number)

    def _is_placeholder(self, match: re.Match[str]) -> bool:
        """Return whether a match is one: with one list, {2} is as it stands, as in a pattern."""
        if match["place"] is None:
            return True
        return match["sign"] != "#" and 1 < self._lists >= int(match["place"])

    def _has_placeholder(self, value: Any) -> bool:
        if isinstance(value, str):
            return any(map(self._is_placeholder, _PLACEHOLDER.finditer(value)))
        if isinstance(value, dict):
            return any(map(self._has_placeholder, value.values()))
        return isinstance(value, list) and any(map(self._has_placeholder, value))


def _refuse(request: JobRequest) -> None:
    job, single, start = request
    if job.shell is not None or any(word.startswith("shell=") for word in job.words or ()):
        raise UsageError(
            "--each does not go with --shell, where a file name could be a command: "
            """give `-- sh -c 'sort "$1" | head' sh {}`"""
        )
    given = (start.after, start.after_any, start.after_fail, start.after_one)
    parents = [word for words in given for word in words or ()]
    if "-" in (single.stdin, job.args, *parents):
        raise UsageError("with --each the lines come from stdin: nothing else can be read from it")


def _pieces(source: BinaryIO, end: bytes) -> Iterator[tuple[int, str]]:
    """Yield the pieces between the ends, each with its number; skip empty ones.

    Of lines, the byte order mark before the first one is left out; and the carriage return at the
    end of each if the first one has it, as in lists from Windows.
    """
    of_lines, line_end = end == b"\n", b""
    for number, found in enumerate(_split(source, end), 1):
        piece = found
        if of_lines and number == 1:
            piece = piece.removeprefix(codecs.BOM_UTF8)
            line_end = b"\r" if piece.endswith(b"\r") else b""
        piece = piece.removesuffix(line_end)
        if piece:
            yield number, os.fsdecode(piece)


def _split(source: BinaryIO, end: bytes) -> Iterator[bytes]:
    kept: list[bytes] = []  # of a piece that has not ended: joined once, since it may be long
    while block := source.read(65536):
        first, *others = block.split(end)
        kept.append(first)
        if others:
            yield b"".join(kept)
            yield from others[:-1]
            kept = [others[-1]]
    if any(kept):
        yield b"".join(kept)


def _value(sign: str, text: str, number: int) -> str:
    """Return the text that a placeholder stands for."""
    if sign == "#":
        return str(number)
    if sign == "//":
        return _folder(text)
    if sign.startswith("/"):
        text = text.rpartition("/")[2]
    return _SUFFIX.sub("", text) if sign.endswith(".") else text


def _folder(text: str) -> str:
    above, slash, _ = text.rstrip("/").rpartition("/")
    if not slash:
        return "." if text.strip("/") else "/"
    return above.rstrip("/") or "/"


def _filled(value: Any, fill: Callable[[re.Match[str]], str]) -> Any:
    """Return a value with its placeholders filled in; an argument stays one argument."""
    if isinstance(value, str):
        return _PLACEHOLDER.sub(fill, value)
    if isinstance(value, list):
        return [_filled(item, fill) for item in value]
    if isinstance(value, dict):
        return {name: _filled(item, fill) for name, item in value.items()}
    return value
