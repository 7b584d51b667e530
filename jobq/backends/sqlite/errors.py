"""What goes wrong with a database file, as errors of ours: what, where, and what to do about it."""

import os
import sqlite3
import stat
from errno import EACCES, EDQUOT, ENOSPC, EPERM, EROFS
from pathlib import Path
from typing import NoReturn

from jobq.errors import (
    DatabaseDamagedError,
    DatabaseError,
    DatabaseLockedError,
    DatabaseReadOnlyError,
    DiskFullError,
)

LOCKS = "its file system has no working locks: keep the database on a local disk"

_DAMAGED = ("no such ", "Could not decode ")
"""How messages without a code of their own begin, where the tables are not as they were made."""

_RESTORE = "restore the database from a backup"
_PLACE = "set another `database` in jobq.toml or $JOBQ_DATABASE, or put it back"
_MAKE_ROOM = "free some disk space and try again; nothing was stored"
_PERMIT = "make the database and its directory writable for you"
_LOOK = "check that the path of the database is right and readable"
_ERRORS: tuple[tuple[tuple[str, ...], type[DatabaseError], str], ...] = (
    (("SQLITE_BUSY", "SQLITE_LOCKED"), DatabaseLockedError, "another program keeps it locked"),
    (("SQLITE_FULL",), DiskFullError, _MAKE_ROOM),
    (("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH"), DatabaseReadOnlyError, _PERMIT),
    (("SQLITE_CORRUPT", "SQLITE_NOTADB"), DatabaseDamagedError, f"left untouched: {_RESTORE}"),
    (("SQLITE_CANTOPEN",), DatabaseError, _LOOK),
    (("SQLITE_PROTOCOL", "SQLITE_IOERR_LOCK", "SQLITE_IOERR_SHM"), DatabaseError, LOCKS),
    (("SQLITE_IOERR",), DatabaseError, "the disk failed"),
)
_LEAST_ROOM = 65536  # bytes: twice what SQLite makes its smallest file of


def raise_ours(path: Path, error: Exception) -> NoReturn:
    """Raise a `DatabaseError` for what SQLite, the system, or a row that makes no sense raised.

    What SQLite raises because of a mistake in jobq stays as it is.
    """
    if isinstance(error, OSError):
        raise _of_system(path, error) from error
    if not isinstance(error, sqlite3.Error):
        raise DatabaseDamagedError(
            f"{path}: what is in it makes no sense: {error}: {_RESTORE}"
        ) from error
    name: str = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN")) and _is_full(path.parent):
        raise DiskFullError(f"{path}: the disk is full: {_MAKE_ROOM}") from error
    for prefixes, kind, advice in _ERRORS:
        if name.startswith(prefixes):
            raise kind(f"{path}: {error}: {advice}") from error
    text = str(error).partition(" with text ")[0]  # what it could not decode may be long
    if isinstance(error, sqlite3.OperationalError) and text.startswith(_DAMAGED):
        raise DatabaseDamagedError(f"{path}: {text}: {_RESTORE}") from error
    raise error


def _is_full(folder: Path) -> bool:
    """Whether there is no room for one of the files beside a database."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _LEAST_ROOM


def _of_system(path: Path, error: OSError) -> DatabaseError:
    where = error.filename or path
    if error.errno in (ENOSPC, EDQUOT):
        return DiskFullError(f"{where}: {error.strerror}: {_MAKE_ROOM}")
    if error.errno in (EACCES, EPERM, EROFS):
        return DatabaseReadOnlyError(f"{where}: {error.strerror}: {_PERMIT}")
    return DatabaseError(f"{where}: {error.strerror}: {_LOOK}")


def require_file(path: Path, *, must_exist: bool) -> None:
    """Refuse what stands in the place of a database and is none, before SQLite opens it.

    Raises:
        DatabaseError: something else is there; or nothing is, and ``must_exist``.
        OSError: it can't be looked at.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise DatabaseError(
                f"{path}: a symbolic link to {path.readlink()}, where nothing is: {_PLACE}"
            ) from None
        if must_exist:
            raise DatabaseError(
                f"{path}: there is no database: the first `jobq add` makes it"
            ) from None
        return
    if not stat.S_ISREG(mode):
        raise DatabaseError(f"{path}: {_kind_of(mode)}, and not a file: {_PLACE}")


def _kind_of(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")
