"""``jobq backup``: copy the database while jobs run."""

from pathlib import Path
from typing import Annotated

from jobq.backends.sqlite.backup import backup as copy
from jobq.cli.context import Cli
from jobq.cli.parsing.declarations import Argument, Context, option
from jobq.cli.parsing.options import AsJson
from jobq.cli.rendering.output import note, print_json
from jobq.config.settings import SQLITE
from jobq.errors import UsageError
from jobq.units import format_size


def command(
    ctx: Context,
    file: Annotated[str, Argument(metavar="FILE", help="Where to; it must not be there.")],
    force: Annotated[bool, option("--force", help="Replace FILE if it is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Copy the database to FILE, as it is at one moment, while jobs run and others write."""
    cli: Cli = ctx.obj
    to = Path(file)
    settings = cli.settings()
    if settings.backend != SQLITE:
        raise UsageError(
            f"backend {settings.backend_shown}: Redis is backed up where it runs: copy the dump.rdb "
            "that BGSAVE writes there, or `jobq migrate --to FILE` while nothing runs (docs/redis.md)"
        )
    size = copy(settings.database, to, force=force)
    if as_json:
        print_json({"file": str(to.absolute()), "bytes": size})
    else:
        note(f"Copied the database to {to} ({format_size(size)}); logs are not part of it.")
