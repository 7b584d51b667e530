"""``jobq version``: print the versions of jobq, Python and SQLite."""

import platform
import sqlite3

from jobq.cli.parsing.declarations import Context
from jobq.cli.parsing.options import AsJson
from jobq.cli.rendering.output import print_json
from jobq.cli.rendering.version import installed


def command(ctx: Context, as_json: AsJson = False) -> None:
    """Print the versions of jobq, Python and SQLite.

    Examples:
        jobq version
        jobq version --json
    """
    del ctx
    versions = {
        "jobq": installed(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }
    if as_json:
        print_json(versions)
        return
    for name, number in zip(("jobq", "Python", "SQLite"), versions.values(), strict=True):
        print(name, number)
