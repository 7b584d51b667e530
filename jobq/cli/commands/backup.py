"""``jobq backup``: copy the database while jobs run."""

from pathlib import Path
from typing import Annotated

from jobq.cli.context import Cli
from jobq.cli.parsing.declarations import Argument, Context, option
from jobq.cli.parsing.options import AsJson
from jobq.cli.rendering.output import note, print_json
from jobq.transfer.backup import backup as copy
from jobq.units import format_size


def command(
    ctx: Context,
    file: Annotated[
        str,
        Argument(
            metavar="FILE", help="The file to write; one that exists is kept without --force."
        ),
    ],
    force: Annotated[bool, option("--force", help="Replace FILE if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Copy the database to FILE, as it is at one moment, while jobs run and others write.

    Examples:
        jobq backup jobq-2026-05-01.db
        jobq backup --force /mnt/backup/jobq.db
    """
    cli: Cli = ctx.obj
    to = Path(file)
    size = copy(cli.settings(), to, force=force)
    if as_json:
        print_json({"file": str(to.absolute()), "bytes": size})
    else:
        note(f"Copied the database to {to} ({format_size(size)}); logs are not part of it.")
