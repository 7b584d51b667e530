"""``jobq version``: of jobq, and of what it stands on."""

import platform
import sqlite3

import typer

from jobq.cli.options import AsJson
from jobq.cli.output import print_json

app = typer.Typer(add_completion=False)


@app.command()
def version(as_json: AsJson = False) -> None:
    """Print the versions of jobq, Python and SQLite."""
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
