"""SQLite databases of tests, and a look at them from outside."""

import fcntl
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from jobq.backends.sqlite.backend import SqliteBackend
from jobq.models import JobFilter
from tests.contract.driver import new_job
from tests.support.paths import ROOT

LARGE = new_job(args={"text": "x" * 10_000})
"""A job large enough to fill a small disk or a log with some hundreds."""

WITH_TESTS = {**os.environ, "PYTHONPATH": str(ROOT)}


def foreign(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def run_python(script: str) -> str:
    lines = script.splitlines()
    indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    text = "\n".join(line[indent:] for line in lines)
    return subprocess.run(
        [sys.executable, "-c", text], check=True, stdout=subprocess.PIPE, text=True, timeout=60,
        env=WITH_TESTS,
    ).stdout  # fmt: skip


def create(backend: SqliteBackend) -> None:
    """Make the database, as the first write does."""
    with backend.group():
        pass


@contextmanager
def opened(path: Path) -> Iterator[SqliteBackend]:
    with closing(SqliteBackend(path)) as backend:
        create(backend)
        yield backend


def pragma(path: Path, name: str) -> object:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


def schema(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {row[0] for row in connection.execute("SELECT sql FROM sqlite_schema")}


def ids(backend: SqliteBackend) -> list[int]:
    return [job.id for job in backend.find(JobFilter(), limit=None)]


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files, except the lock and the index that readers share."""
    return {
        file.name: file.read_bytes()
        for file in folder.iterdir()
        if file.suffix != ".lock" and not file.name.endswith("-shm")
    }


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the write lock, as another process would."""
    with Path(f"{path}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
