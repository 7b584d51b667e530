"""The numbers that mark a file as jobq's, and foreign files."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from jobq.backends.sqlite.backend import SqliteBackend
from jobq.backends.sqlite.schema import APPLICATION_ID, SCHEMA_VERSION
from jobq.errors import (
    DatabaseDamagedError,
    DatabaseNewerError,
)
from tests.contract.driver import NOON, new_job
from tests.unit.backends.sqlite.databases import contents, foreign, opened, pragma, run_python


def test_the_file_says_what_it_is(path: Path) -> None:
    with opened(path):
        pass
    assert path.read_bytes()[68:72] == b"jobq" == APPLICATION_ID.to_bytes(4, "big")
    assert pragma(path, "user_version") == SCHEMA_VERSION
    assert pragma(path, "journal_mode") == "wal"
    assert pragma(path, "integrity_check") == "ok"


NOT_OURS: dict[str, Callable[[Path], object]] = {
    "tables of another program": lambda path: foreign(path, "CREATE TABLE t (x)"),
    "a version of another program": lambda path: foreign(path, "PRAGMA user_version = 1"),
    "the mark of another program": lambda path: foreign(path, "PRAGMA application_id = 1"),
    "another program's write-ahead log": lambda path: foreign(
        path, "PRAGMA journal_mode = WAL", "CREATE TABLE t (x)"
    ),
    "no database at all": lambda path: path.write_bytes(b"#!/bin/sh\necho precious\n" * 200),
    "a few bytes": lambda path: path.write_bytes(b"precious"),
}


@pytest.mark.parametrize("case", NOT_OURS)
def test_a_file_that_is_not_ours_is_refused_and_left_untouched(path: Path, case: str) -> None:
    NOT_OURS[case](path)
    before = contents(path.parent)
    for _ in range(2):
        with closing(SqliteBackend(path)) as backend, pytest.raises(DatabaseDamagedError) as caught:
            backend.open()
        assert str(path) in str(caught.value)
        assert contents(path.parent) == before


def test_a_newer_database_is_refused_and_left_untouched(path: Path) -> None:
    with opened(path) as backend:
        backend.insert([new_job()], NOON)
    foreign(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = contents(path.parent)
    with closing(SqliteBackend(path)) as backend:
        with pytest.raises(DatabaseNewerError, match="upgrade"):
            backend.open()
        with pytest.raises(DatabaseNewerError, match="upgrade"):
            backend.insert([new_job()], NOON)
    assert contents(path.parent) == before


def test_a_newer_database_whose_last_user_crashed_is_left_untouched(path: Path) -> None:
    """Check that its write-ahead log is not moved into the database."""
    newer = f"PRAGMA user_version = {SCHEMA_VERSION + 1}"
    script = f"""
        import os, sqlite3
        from jobq.backends.sqlite.backend import SqliteBackend
        from pathlib import Path
        from tests.unit.backends.sqlite.databases import create
        create(SqliteBackend(Path({str(path)!r})))
        sqlite3.connect({str(path)!r}).execute({newer!r})
        os._exit(0)
    """
    run_python(script)
    before = contents(path.parent)
    assert "jobq.db-wal" in before
    with closing(SqliteBackend(path)) as backend, pytest.raises(DatabaseNewerError):
        backend.open()
    del backend
    assert contents(path.parent) == before
