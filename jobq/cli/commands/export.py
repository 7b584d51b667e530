"""``jobq export``: write jobs as rows that `jobq import` takes."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, TextIO, cast

from jobq.cli.context import Cli
from jobq.cli.parsing.arguments import selection
from jobq.cli.parsing.declarations import Context, option
from jobq.cli.parsing.options import Ids, InQueue, Limit, OfType, Since, Status, Tags, Until
from jobq.cli.rendering.output import count_of, format_ids, inert, is_terminal, note
from jobq.errors import UsageError
from jobq.transfer.exporter import Export
from jobq.transfer.formats import FORMATS, format_of, write
from jobq.transfer.row_validation import COLUMNS

Format = Annotated[
    str | None,
    option(
        "--format",
        metavar="FORMAT",
        help=f"{', '.join(FORMATS)} (default: by the file's ending, or else jsonl).",
    ),
]
Output = Annotated[
    str | None,
    option("--output", "-o", metavar="FILE", help="Write to this file, not to stdout."),
]


WithSecrets = Annotated[
    bool, option("--with-secrets", help="Write passwords, tokens and the like, too.")
]


def command(
    ctx: Context,
    ids: Ids = None,
    status: Status = None,
    in_queue: InQueue = None,
    of_type: OfType = None,
    tags: Tags = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    kind: Format = None,
    output: Output = None,
    with_secrets: WithSecrets = False,
) -> None:
    """Write jobs as rows that `jobq import` makes the same jobs of: what they do, not how they did.

    Without a selection, all of them. With --limit, the oldest.
    """
    cli: Cli = ctx.obj
    kind = kind or (format_of(output, b"{") if output else "jsonl")
    if kind not in FORMATS:
        raise UsageError(f"--format {kind!r}: give one of {', '.join(FORMATS)}")
    with cli.queue() as queue:
        wanted = selection(
            queue,
            ids=ids,
            status=status,
            in_queue=in_queue,
            of_type=of_type,
            tags=tags,
            since=since,
            until=until,
        )
        if wanted.ids is not None:
            queue.get_many(wanted.ids)
        jobs = Export(queue, wanted, limit or None, with_secrets=with_secrets)
        with _file(output) as file:
            number = write(jobs.rows(), kind, file, COLUMNS)
    if jobs.redacted:
        note(
            f"Secrets of {count_of(jobs.redacted)} were left out, and `jobq import` will say so: "
            "--with-secrets writes them."
        )
    if jobs.outside:
        note(
            f"Some wait for {format_ids(jobs.outside)}, which are not exported: "
            "their rows name the ids."
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
    """A file for its owner alone, that takes the place of the old one when it is whole."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            yield file
        os.replace(name, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise


class _Shown:
    """Stdout on a terminal: what jobs say can do nothing to it."""

    def write(self, text: str) -> int:
        return sys.stdout.write("\n".join(map(inert, text.split("\n"))))
