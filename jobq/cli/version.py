"""``jobq version``: of jobq, and of what it stands on."""

import platform
import sqlite3

from jobq.cli.declare import Context
from jobq.cli.options import AsJson
from jobq.cli.output import print_json


def command(ctx: Context, as_json: AsJson = False) -> None:
    """Print the versions of jobq, Python and SQLite."""
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


def installed() -> str:
    """The version of jobq that is installed."""
    from importlib import metadata  # 15 ms that only this verb takes

    try:
        return metadata.version("jobq")
    except metadata.PackageNotFoundError:
        return "unknown (not installed)"
