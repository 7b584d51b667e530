"""Errors of a database file as errors of jobq: what happened, where, and what to do about it."""

import os
import sqlite3
from errno import EACCES, EDQUOT, ENOSPC, EPERM, EROFS
from pathlib import Path
from typing import NoReturn

from jobq.errors import (
    DatabaseDamagedError,
    DatabaseError,
    DatabaseLockedError,
    DatabaseReadOnlyError,
    DiskFullError,
    UsageError,
)

NO_LOCKS_ADVICE = "its file system has no working locks: keep the database on a local disk"

_DAMAGE_PREFIXES = ("no such ", "Could not decode ")
"""Beginnings of messages without a code of their own, where tables are not as they were created."""

_RESTORE = "restore the database from a backup"
_MAKE_ROOM = "free some disk space and try again; nothing was stored"
_PERMIT = "make the database and its directory writable for you"
_CHECK_PATH = "check that the path of the database is right and readable"
_ERRORS: tuple[tuple[tuple[str, ...], type[DatabaseError], str], ...] = (
    (("SQLITE_BUSY", "SQLITE_LOCKED"), DatabaseLockedError, "another program keeps it locked"),
    (("SQLITE_FULL",), DiskFullError, _MAKE_ROOM),
    (("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH"), DatabaseReadOnlyError, _PERMIT),
    (("SQLITE_CORRUPT", "SQLITE_NOTADB"), DatabaseDamagedError, f"left untouched: {_RESTORE}"),
    (("SQLITE_CANTOPEN",), DatabaseError, _CHECK_PATH),
    (("SQLITE_PROTOCOL", "SQLITE_IOERR_LOCK", "SQLITE_IOERR_SHM"), DatabaseError, NO_LOCKS_ADVICE),
    (("SQLITE_IOERR",), DatabaseError, "the disk failed"),
)
_MIN_FREE_BYTES = 65536  # twice the size of SQLite's smallest file


def raise_ours(path: Path, error: Exception) -> NoReturn:
    """Raise a `DatabaseError` for an error of SQLite, of the system, or of decoding a row.

    A number that SQLite can't take is the caller's: a `UsageError`.
    Errors that a mistake in jobq causes are raised as they are.
    """
    if isinstance(error, OSError):
        raise _of_system(path, error) from error
    if isinstance(error, OverflowError) and str(error).endswith("SQLite INTEGER"):
        raise UsageError(f"a number is out of range: {error}") from error
    if not isinstance(error, sqlite3.Error):
        raise DatabaseDamagedError(f"{path}: a row can't be read: {error}: {_RESTORE}") from error
    name: str = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN")) and _is_full(path.parent):
        raise DiskFullError(f"{path}: the disk is full: {_MAKE_ROOM}") from error
    for prefixes, kind, advice in _ERRORS:
        if name.startswith(prefixes):
            raise kind(f"{path}: {error}: {advice}") from error
    text = str(error).partition(" with text ")[0]  # the undecodable text may be long
    if isinstance(error, sqlite3.OperationalError) and text.startswith(_DAMAGE_PREFIXES):
        raise DatabaseDamagedError(f"{path}: {text}: {_RESTORE}") from error
    raise error


def _is_full(folder: Path) -> bool:
    """Return whether there is no room for one of the files beside a database."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _MIN_FREE_BYTES


def _of_system(path: Path, error: OSError) -> DatabaseError:
    where = error.filename or path
    if error.errno in (ENOSPC, EDQUOT):
        return DiskFullError(f"{where}: {error.strerror}: {_MAKE_ROOM}")
    if error.errno in (EACCES, EPERM, EROFS):
        return DatabaseReadOnlyError(f"{where}: {error.strerror}: {_PERMIT}")
    return DatabaseError(f"{where}: {error.strerror}: {_CHECK_PATH}")
