"""``jobq add --each``: add a job for each line of stdin, with GNU parallel's placeholders."""

import codecs
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from jobq.cli.commands.import_ import Summary
from jobq.cli.parsing.arguments import piped_in
from jobq.cli.parsing.job_options import JobRequest, job_spec
from jobq.cli.rendering.output import is_terminal, note_paused, print_json_array
from jobq.clock import utcnow
from jobq.errors import UsageError
from jobq.job_types import shell
from jobq.queue import JobQueue
from jobq.serializers import job_document
from jobq.transfer.file_head import utf_16
from jobq.transfer.formats import Row, Table
from jobq.transfer.importer import Importer
from jobq.transfer.row_validation import require_options

_PLACEHOLDER = re.compile(r"\{(|\.|/|//|/\.|#)\}")
_SUFFIX = re.compile(r"\.[^/.]*$")


def add_each(
    queue: JobQueue, request: JobRequest, *, null: bool, as_json: bool, quiet: bool
) -> int:
    """Add a job for each line of stdin, or with ``null`` for each piece that ends in a NUL byte.

    Prints the ids of the jobs. Returns the exit code.

    Raises:
        UsageError: the options are wrong, or do not go together.
    """
    template = _Template(queue, request)
    source = piped_in().buffer
    if not null and hasattr(source, "peek") and (what := utf_16(source.peek(2))):
        raise UsageError(f"stdin: {what}")
    with Importer(queue, Path.cwd()) as batch:
        batch.check(Table(template.rows(_pieces(source, b"\0" if null else b"\n"))))
        summary = Summary(batch, "stdin")
        if batch.problem_count:
            summary.show_problems()
            raise UsageError("no jobs added: these lines are invalid")
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
        else:
            for inserted in batches:
                summary.note(inserted)
                if quiet or not is_terminal():
                    print(*(item.id for item in inserted), sep="\n")
            if is_terminal() and not quiet:
                print(summary.sentence())
        if batch.added and queue.queue(request.job.queue).paused:
            note_paused(request.job.queue, batch.added)
        return summary.show_differing()


class _Template:
    """A row of an import, with placeholders for the line."""

    def __init__(self, queue: JobQueue, request: JobRequest) -> None:
        _refuse(request)
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
            "at": request.start.at,
            "delay": spec.delay,
        }
        self._open: dict[str, Any] = {"name": spec.name, "unique": spec.unique, "tags": spec.tags}
        self._env: dict[str, str] = {}  # without placeholders
        args = dict(spec.args or {})
        if spec.type == shell.JOB_TYPE:
            self._command(args, request)
        elif not _has_placeholder(args):
            raise UsageError(
                f"say where the line goes, as in `jobq add --each {spec.type} url={{}}`"
            )
        else:
            self._open["args"] = args

    def _command(self, args: dict[str, Any], request: JobRequest) -> None:
        argv = args.get("argv")
        if not argv:
            raise UsageError("give a command: `… | jobq add --each -- COMMAND {}`")
        if not _has_placeholder(argv):
            argv = [*argv, "{}"]
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

    def rows(self, pieces: Iterator[tuple[int, str]]) -> Iterator[Row]:
        """Yield a row for each piece."""
        for number, (line, text) in enumerate(pieces, 1):

            def fill(match: re.Match[str], text: str = text, number: int = number) -> str:
                return _value(match[1], text, number)

            filled = {name: _filled(value, fill) for name, value in self._open.items() if value}
            row = {**self._fixed, **filled}
            if row.get("as_is"):
                row["env"] = {**self._env, **filled.get("env", {})}
            yield Row(line, row)


def _refuse(request: JobRequest) -> None:
    job, single, start = request
    if job.shell is not None or any(word.startswith("shell=") for word in job.words or ()):
        raise UsageError(
            "--each does not go with --shell, where a file name could be a command: "
            """give `-- sh -c 'sort "$1" | head' sh {}`"""
        )
    parents = [*(start.after or ()), *(start.after_any or ()), *(start.after_fail or ())]
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


def _has_placeholder(value: Any) -> bool:
    if isinstance(value, str):
        return _PLACEHOLDER.search(value) is not None
    if isinstance(value, dict):
        return any(map(_has_placeholder, value.values()))
    return isinstance(value, list) and any(map(_has_placeholder, value))


def _filled(value: Any, fill: Callable[[re.Match[str]], str]) -> Any:
    """Return a value with its placeholders filled in; an argument stays one argument."""
    if isinstance(value, str):
        return _PLACEHOLDER.sub(fill, value)
    if isinstance(value, list):
        return [_filled(item, fill) for item in value]
    if isinstance(value, dict):
        return {name: _filled(item, fill) for name, item in value.items()}
    return value
