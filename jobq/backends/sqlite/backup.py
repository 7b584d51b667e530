"""Backups: a copy of a database as it was at one moment, made while other processes write."""

import os
import sqlite3
import tempfile
from contextlib import closing, suppress
from errno import EDQUOT, ENOSPC
from pathlib import Path

from jobq.backends.sqlite.connection import SqliteConnection
from jobq.errors import DatabaseDamagedError, DatabaseError, DiskFullError, UsageError
from jobq.system.permissions import repair

PAGES_PER_STEP = 4096
"""Pages copied between two checks for Ctrl-C: 16 MiB."""

_SUFFIXES = ("-wal", "-shm", "-journal")


def backup(database: Path, to: Path, *, force: bool = False) -> int:
    """Copy a database to a file; return its size in bytes. The file appears once it is complete.

    Raises:
        UsageError: the file exists, or the path can't be a file.
        DatabaseDamagedError: the copy is damaged, as the database is; it is deleted.
        DiskFullError: there is no room for it; it is deleted.
        DatabaseError: the database can't be read.
    """
    _require_place(database, to, force=force)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{to.name}-", dir=to.parent)
    except OSError as error:
        raise _unwritable(to, error) from error
    copy = Path(name)
    try:
        repair(descriptor)
        _copy(database, copy)
        os.fsync(descriptor)
        _require_place(database, to, force=force)
        copy.replace(to)
        _flush(to.parent)
    except OSError as error:
        raise _unwritable(to, error) from error
    finally:
        os.close(descriptor)
        for suffix in ("", *_SUFFIXES):
            Path(f"{name}{suffix}").unlink(missing_ok=True)
    return to.stat().st_size


def _require_place(database: Path, to: Path, *, force: bool) -> None:
    if to.name in ("", "..", "-"):
        raise UsageError(f"{to}: give the name of a file: `jobq backup jobq-backup.db`")
    own = os.path.realpath(database)
    if os.path.realpath(to) in [f"{own}{suffix}" for suffix in ("", *_SUFFIXES, ".lock")]:
        raise UsageError(f"{to}: this is the database itself, or a part of it: give another file")
    for suffix in _SUFFIXES:
        if os.path.lexists(f"{to}{suffix}"):
            raise UsageError(f"{to}{suffix} exists, so {to} is in use: give another file")
    if os.path.lexists(to) and not (force and to.is_file()):
        what = "exists: --force replaces it" if to.is_file() else "exists, and is not a file"
        raise UsageError(f"{to} {what}")


def _copy(database: Path, copy: Path) -> None:
    """Copy the snapshot of one transaction, so that the copy ends however much is written meanwhile.

    Without a transaction, the copy would start over at each commit of another process. Writers are
    not delayed; only the write-ahead log can't be moved into the database until the copy is done.
    """
    with closing(SqliteConnection(database, read_only=True)) as source, source.read() as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        try:
            _write(connection, copy)
        finally:
            connection.execute("ROLLBACK")


def _write(connection: sqlite3.Connection, copy: Path) -> None:
    try:
        with closing(sqlite3.connect(copy, isolation_level=None)) as target:
            target.execute("PRAGMA synchronous = OFF")  # flushed once, at the end
            connection.backup(target, pages=PAGES_PER_STEP, progress=lambda *_: None)
        with closing(_opened_alone(copy)) as target:
            (found,) = target.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname.startswith(("SQLITE_FULL", "SQLITE_IOERR_WRITE")):
            raise OSError(ENOSPC, os.strerror(ENOSPC)) from error
        raise
    if found != "ok":
        raise DatabaseDamagedError(
            f"the copy is damaged ({found}), as the database is, and was deleted: see `jobq doctor`"
        )


def _opened_alone(copy: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{copy.absolute().as_uri()}?immutable=1", uri=True)


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # not every file system can flush a directory
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(to: Path, error: OSError) -> DatabaseError:
    if error.errno in (ENOSPC, EDQUOT):
        return DiskFullError(f"{to}: {error.strerror}: no copy was kept: free some disk space")
    return DatabaseError(
        f"{to}: {error.strerror}: give a file in a directory that you may write to"
    )
