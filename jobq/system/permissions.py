"""Permissions: no file is for others to write to, and its owner can use it, whatever the umask.

A umask takes bits away: with one of 0777, the owner of a file could not even open it again; one
of 0 takes none away.
"""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
SHARED_DIRECTORY_MODE = 0o755
SHARED_FILE_MODE = 0o644
"""For what others may read, if the umask lets them."""
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def make_directory(folder: Path, mode: int = DIRECTORY_MODE) -> None:
    """Make a directory, and its parents where they are missing.

    Raises:
        OSError: it can't be made, or something else stands in its place.
    """
    if folder.is_dir():
        return
    make_directory(folder.parent, mode)
    with suppress(FileExistsError):
        folder.mkdir(mode=mode)
        folder.chmod(stat.S_IMODE(folder.stat().st_mode) | DIRECTORY_MODE)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def open_file(
    path: Path | str, flags: int, *, dir_fd: int | None = None, mode: int = FILE_MODE
) -> int:
    """Open a file, which is made if the flags say so; return its descriptor."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, mode, dir_fd=dir_fd)
    repair(descriptor)
    return descriptor


def is_ours(found: os.stat_result) -> bool:
    """Return whether a file or directory belongs to this user, or to root; root may use all."""
    user = os.geteuid()
    return user == 0 or found.st_uid in (user, 0)


def make_private(descriptor: int) -> None:
    """Take the right to write from others, if this user is the owner of a file or directory."""
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    if mode & OTHERS_WRITE:
        with suppress(PermissionError):
            os.fchmod(descriptor, mode & ~OTHERS_WRITE)


def repair(descriptor: int) -> None:
    """Give back to the owner of a file that was just made what the umask has taken."""
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    if mode & FILE_MODE != FILE_MODE:
        with suppress(PermissionError):  # of another user: it was not made here
            os.fchmod(descriptor, FILE_MODE)
