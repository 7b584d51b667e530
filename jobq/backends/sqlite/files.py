"""The files of a database, checked before SQLite opens, follows, overwrites or deletes them."""

import os
import sqlite3
import stat
from contextlib import suppress
from pathlib import Path

from jobq.backends.sqlite.wal import require_log, require_no_frames
from jobq.errors import DatabaseError, DatabaseReadOnlyError
from jobq.system.permissions import is_ours, make_directory, open_file

Stamp = tuple[int, int, bool]
"""Size and modification time of a database, and whether there is a write-ahead log."""

FILE_SUFFIXES = ("-wal", "-shm", "-journal", ".lock")
"""What the names of the files beside a database end with."""

_PLACE = "set another `database` in jobq.toml or $JOBQ_DATABASE, or put it back"
_DELETE = "find out what made it, and delete it"


def exists(database: str) -> bool:
    """Return whether there is a database: an empty file is none yet.

    SQLite takes a file of one byte for an empty one, too, and deletes the log beside it.
    """
    try:
        return os.stat(database).st_size > 1
    except OSError:
        return False


def may_write(path: Path) -> bool:
    """Return whether a database can be written to; one that is not there, if it can be made."""
    return os.access(path.parent, os.W_OK) and (os.access(path, os.W_OK) or not path.exists())


def create(path: Path) -> None:
    """Create an empty database for this user alone, if there is none."""
    if path.exists():
        return
    make_directory(path.parent)
    with suppress(FileExistsError):
        # SQLite gives its -wal and -shm files the permissions of this one.
        os.close(open_file(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))


def connect_to_read(path: Path, *, untouched: bool) -> tuple[sqlite3.Connection, bool]:
    """Open a database without changing it; return also whether later changes are not seen.

    They are not where SQLite would have to make a write-ahead log, and must not or can't.

    Raises:
        DatabaseError: it has a log that can't be read here.
    """
    log = Path(f"{path}-wal")
    has_log = os.path.lexists(log)
    if has_log:
        require_log(log)
        if not (os.access(path.parent, os.W_OK) or os.path.exists(f"{path}-shm")):
            raise DatabaseReadOnlyError(
                f"{log}: can't be read without {path.name}-shm, and nothing can be made "
                "here: copy the database and this file to a directory that you can write to"
            )
    is_fixed = not has_log and (untouched or not may_write(path))
    uri = f"{path.absolute().as_uri()}?{'immutable=1' if is_fixed else 'mode=ro'}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    return connection, is_fixed


def stamp_of(database: str) -> Stamp | None:
    """Return what differs once a database has been changed; None if it is not there."""
    try:
        found = os.stat(database)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, os.path.lexists(f"{database}-wal")


def require_files(path: Path, *, must_exist: bool) -> None:
    """Refuse a path at which SQLite would do harm, or which leads to no database.

    Raises:
        DatabaseError: there is something else, or nothing, and ``must_exist``; or a file beside it
            is not what SQLite made there.
        OSError: something can't be examined.
    """
    _require_own_files(path)
    if not exists(str(path)):
        require_no_frames(path, Path(f"{path}-wal"))
    _require_file(path, must_exist=must_exist)


def _require_file(path: Path, *, must_exist: bool) -> None:
    """Refuse a path that does not lead to a regular file, before SQLite opens it.

    Raises:
        DatabaseError: something else is there; or nothing is, and ``must_exist``.
        OSError: it can't be examined.
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
                f"{path}: there is no database: the first `jobq add` creates it"
            ) from None
        return
    if not stat.S_ISREG(mode):
        raise DatabaseError(f"{path}: {_kind_of(mode)}, and not a file: {_PLACE}")


def _require_own_files(path: Path) -> None:
    """Refuse links, and files of other users, in the places of the files beside a database.

    SQLite would follow a link, and overwrite what it leads to.

    Raises:
        DatabaseError: one of them is something else than a regular file of this user.
        OSError: one can't be examined.
    """
    for suffix in FILE_SUFFIXES:
        beside = f"{path}{suffix}"
        try:
            found = os.lstat(beside)
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(found.st_mode):
            raise DatabaseError(f"{beside}: {_kind_of(found.st_mode)}, and not a file: {_DELETE}")
        if not is_ours(found):
            raise DatabaseError(f"{beside}: belongs to another user: {_DELETE}")


def _kind_of(mode: int) -> str:
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")
