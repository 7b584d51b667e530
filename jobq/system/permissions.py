"""Permissions: files and directories are for their owner alone, whatever the umask.

A umask takes bits away: with one of 0777, the owner of a file could not even open it again.
"""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600


def make_directory(folder: Path) -> None:
    """Make a directory, and its parents where they are missing.

    Raises:
        OSError: it can't be made, or something else stands in its place.
    """
    if folder.is_dir():
        return
    make_directory(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir(mode=DIRECTORY_MODE)
        folder.chmod(DIRECTORY_MODE)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def open_file(path: Path | str, flags: int, *, dir_fd: int | None = None) -> int:
    """Open a file, which is made if the flags say so; return its descriptor."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, FILE_MODE, dir_fd=dir_fd)
    repair(descriptor)
    return descriptor


def repair(descriptor: int) -> None:
    """Give back to the owner of a file that was just made what the umask has taken."""
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    if mode & FILE_MODE != FILE_MODE:
        with suppress(PermissionError):  # of another user: it was not made here
            os.fchmod(descriptor, FILE_MODE)
