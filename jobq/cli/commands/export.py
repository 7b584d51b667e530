"""``jobq export``: write jobs as rows that `jobq import` takes."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, TextIO, cast

from jobq.cli.context import Cli
from jobq.cli.parsing.declarations import Context, option
from jobq.cli.parsing.options import Ids, Selection
from jobq.cli.rendering.output import count_of, format_ids, is_terminal, note
from jobq.errors import UsageError
from jobq.inert import inert
from jobq.system.permissions import repair
from jobq.transfer.exporter import Export
from jobq.transfer.formats import FORMATS, format_of, write
from jobq.transfer.row_validation import COLUMNS

Format = Annotated[
    str | None,
    option(
        "--format",
        metavar="FORMAT",
        help=f"Write {', '.join(FORMATS)} (default: by the file's ending, else jsonl).",
    ),
]
Output = Annotated[
    str | None,
    option("--output", "-o", metavar="FILE", help="Write to this file instead of stdout."),
]
WithSecrets = Annotated[
    bool, option("--with-secrets", help="Include passwords, tokens and other secrets.")
]


def command(
    ctx: Context,
    pick: Selection,
    ids: Ids = None,
    kind: Format = None,
    output: Output = None,
    with_secrets: WithSecrets = False,
) -> None:
    """Write jobs as rows from which `jobq import` adds the same jobs again.

    A row says what a job does, not what became of it. Without a selection, all jobs are written;
    with --limit, the oldest.

    Examples:
        jobq export --status failed -o failed.jsonl
        jobq export --tag batch=7 --format csv
    """
    cli: Cli = ctx.obj
    kind = kind or (format_of(output, b"{") if output else "jsonl")
    if kind not in FORMATS:
        raise UsageError(f"--format {kind!r}: give one of {', '.join(FORMATS)}")
    with cli.queue() as queue:
        wanted = pick.job_filter(queue, ids)
        if wanted.ids is not None:
            queue.get_many(wanted.ids)
        jobs = Export(queue, wanted, pick.limit or None, with_secrets=with_secrets)
        with _file(output) as file:
            number = write(jobs.rows(), kind, file, COLUMNS)
    if jobs.redacted:
        note(
            f"Secrets of {count_of(jobs.redacted)} were left out, and `jobq import` will say so: "
            "--with-secrets includes them."
        )
    if jobs.outside:
        note(
            f"Some jobs wait for {format_ids(jobs.outside)}, which are not exported: "
            "their rows keep those ids."
        )
    if output and is_terminal():
        print(inert(f"Exported {count_of(number)} to {output}"))


@contextmanager
def _file(output: str | None) -> Iterator[TextIO]:
    if output is None:
        yield cast("TextIO", _Shown()) if is_terminal() else sys.stdout
        return
    path = Path(output)
    try:
        if path.exists() and not path.is_file():  # a pipe, a device
            with path.open("w", encoding="utf-8", newline="") as file:
                yield file
        else:
            with _replacing(path) as file:
                yield file
    except OSError as error:
        raise UsageError(f"{output}: {error.strerror}") from None


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    """Yield a file that only its owner can read; it replaces the old one once it is complete."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    repair(descriptor)
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            yield file
        os.replace(name, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise


class _Shown:
    """Stdout on a terminal, with control characters of jobs made visible."""

    def write(self, text: str) -> int:
        return sys.stdout.write("\n".join(map(inert, text.split("\n"))))
