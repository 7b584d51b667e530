"""Deletion and measurement of directory trees, with few open descriptors at any depth.

A job may leave what it likes: directories nested by the thousand, without permissions, with names
that are not text, with file systems mounted in them. No symbolic link is followed.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OWNER_ACCESS = 0o700
_STEP_ENTRIES = 256
_MAX_REPEATS = 10
"""How often a directory is read again because another process adds to it or moves it."""
_MAX_PATH_LENGTH = 200
_BLOCK_BYTES = 512  # the unit of st_blocks

Inode = tuple[int, int]


def _inode(descriptor: int) -> Inode:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


class _Cursor:
    """A place in a tree that is moved level by level, holding two descriptors at any depth."""

    def __init__(self, top: int) -> None:
        """Start at a directory, whose descriptor stays the caller's."""
        self._top = top
        self.descriptor = os.dup(top)
        self._above: list[Inode] = []

    def close(self) -> None:
        """Close the directory that it is at."""
        os.close(self.descriptor)

    def enter(self, below: int) -> None:
        """Move down to a directory that was opened; close it if there would be no way back.

        Raises:
            OSError: it is not searchable, or was deleted.
        """
        try:
            os.stat("..", dir_fd=below)
            self._above.append(_inode(self.descriptor))
        except OSError:
            os.close(below)
            raise
        os.close(self.descriptor)
        self.descriptor = below

    def leave(self) -> None:
        """Move up to the directory above.

        Raises:
            OSError: another process has moved or deleted the one that it is at.
        """
        above = os.open("..", _DIRECTORY, dir_fd=self.descriptor)
        if _inode(above) != self._above.pop():
            os.close(above)
            raise OSError(errno.EBUSY, "is being moved by another process")
        os.close(self.descriptor)
        self.descriptor = above

    def restart(self) -> None:
        """Move back to where it began."""
        os.close(self.descriptor)
        self.descriptor = os.dup(self._top)
        self._above = []


# -- deleting ----------------------------------------------------------------------------------


def delete_tree(parent: int, name: str, path: Path) -> Iterator[None]:
    """Delete a directory and everything in it, in small steps; a symbolic link is not followed.

    Nothing is deleted from a file system that is mounted in it. What can't be deleted stays, with
    the directories that it is in; everything else is deleted.

    Args:
        parent: the descriptor of the directory that it is in.
        name: its name there.
        path: the path of the parent, for errors.

    Raises:
        OSError: something stays: the first error.
    """
    with closing(_Cursor(parent)) as cursor:
        deletion = _Deletion(cursor, name, path)
        yield from deletion.steps()
    if deletion.error is not None:
        raise deletion.error


@dataclass(slots=True, eq=False)
class _Level:
    """A directory on the way down."""

    name: str
    directories: list[str] | None = None  # those in it that are still there; None: not read yet
    repeats: int = 0
    keeps_some: bool = False


class _Deletion:
    """The deletion of one tree, which continues after an error and keeps the first one."""

    def __init__(self, cursor: _Cursor, name: str, path: Path) -> None:
        self.error: OSError | None = None
        self._cursor = cursor
        self._path = path
        self._top = _Level("", [name])
        self._levels = [self._top]

    def steps(self) -> Iterator[None]:
        """Delete level by level, from the bottom up."""
        while True:
            level = self._levels[-1]
            if level.directories is None:
                yield from self._delete_files(level)
            elif level.directories:
                self._enter(level, level.directories.pop())
                yield
            elif level is not self._top:
                self._leave(level)
            else:
                return

    def _delete_files(self, level: _Level) -> Iterator[None]:
        level.directories = []
        try:
            with os.scandir(self._cursor.descriptor) as entries:
                for number, entry in enumerate(entries, 1):
                    if entry.is_dir(follow_symlinks=False):
                        level.directories.append(entry.name)
                    else:
                        self._unlink(level, entry.name)
                    if number % _STEP_ENTRIES == 0:
                        yield
        except OSError as error:
            self._keep(level, "", error)

    def _unlink(self, level: _Level, name: str) -> None:
        try:
            os.unlink(name, dir_fd=self._cursor.descriptor)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._keep(level, name, error)

    def _enter(self, level: _Level, name: str) -> None:
        """Enter a directory, unless it can be deleted as it is: a mount point can't be either."""
        if self._is_removed(level, name):
            return
        try:
            self._cursor.enter(_open_for_deletion(name, self._cursor.descriptor))
        except FileNotFoundError:
            pass
        except OSError as error:
            self._keep(level, name, error)
        else:
            self._levels.append(_Level(name))

    def _leave(self, level: _Level) -> None:
        """Go up, and delete the directory that is left, unless it keeps something."""
        try:
            self._cursor.leave()
        except OSError as error:
            self._start_again(error)
            return
        self._levels.pop()
        above = self._levels[-1]
        if level.keeps_some:
            above.keeps_some = True
        elif not self._is_removed(above, level.name):  # another process has added to it
            if above.repeats == _MAX_REPEATS:
                self._keep(above, level.name, _error(errno.ENOTEMPTY))
            else:
                above.repeats += 1
                assert above.directories is not None
                above.directories.append(level.name)

    def _is_removed(self, level: _Level, name: str) -> bool:
        """Delete a directory if it is empty; return false if it is not."""
        try:
            os.rmdir(name, dir_fd=self._cursor.descriptor)
        except FileNotFoundError:
            pass
        except NotADirectoryError:
            self._unlink(level, name)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            self._keep(level, name, error)
        return True

    def _start_again(self, error: OSError) -> None:
        self._cursor.restart()
        repeats, top = self._top.repeats + 1, self._levels[1].name
        if repeats > _MAX_REPEATS:
            self._keep(self._top, top, error)
        self._top = _Level("", [] if repeats > _MAX_REPEATS else [top], repeats)
        self._levels = [self._top]

    def _keep(self, level: _Level, name: str, error: OSError) -> None:
        """Note that an entry of a directory stays; the first error is the one that is raised."""
        level.keeps_some = True
        if self.error is None:
            names = [each.name for each in self._levels[1 : self._levels.index(level) + 1]]
            error.filename = _shortened(str(self._path.joinpath(*names, name)))
            self.error = error


def _open_for_deletion(name: str, parent: int) -> int:
    """Open a directory; give its owner the access that deletion needs, if it is not there."""
    try:
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        grant_access(name, parent)
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
    if os.fstat(descriptor).st_mode & _OWNER_ACCESS != _OWNER_ACCESS:
        with suppress(OSError):  # then deletion says why not
            os.fchmod(descriptor, _OWNER_ACCESS)
    return descriptor


def grant_access(name: str, parent: int) -> None:
    """Change the mode of a directory that can't be opened, never that of a link's target."""
    if not hasattr(os, "O_PATH"):
        os.chmod(name, _OWNER_ACCESS, dir_fd=parent, follow_symlinks=False)
        return
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{descriptor}", _OWNER_ACCESS)  # fchmod refuses such descriptors
    finally:
        os.close(descriptor)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _shortened(path: str) -> str:
    if len(path) <= _MAX_PATH_LENGTH:
        return path
    half = _MAX_PATH_LENGTH // 2
    return f"{path[:half]}…{path[-half:]}"


# -- measuring ---------------------------------------------------------------------------------


def disk_usage(directory: int, counted: set[Inode], *, skip: str = "") -> int:
    """Return the bytes on disk of the files in an open directory, at any depth.

    A file with several names counts once: ``counted`` holds those that were. Directories that
    can't be read, file systems that are mounted in it, and a directory named ``skip`` count
    nothing; nor does the rest of a directory that is moved or deleted meanwhile.
    """
    total, directories = _files_in(directory, counted)
    levels = [[name for name in directories if name != skip]]  # those to measure yet
    with closing(_Cursor(directory)) as cursor:
        while True:
            if levels[-1]:
                if _is_entered(cursor, levels[-1].pop()):
                    size, directories = _files_in(cursor.descriptor, counted)
                    total += size
                    levels.append(directories)
            elif len(levels) > 1:
                levels.pop()
                try:
                    cursor.leave()
                except OSError:
                    del levels[1:]
                    cursor.restart()
            else:
                return total


def _is_entered(cursor: _Cursor, name: str) -> bool:
    try:
        below = os.open(name, _DIRECTORY, dir_fd=cursor.descriptor)
        if os.fstat(below).st_dev != os.fstat(cursor.descriptor).st_dev:
            os.close(below)
            return False
        cursor.enter(below)
    except OSError:
        return False
    return True


def _files_in(descriptor: int, counted: set[Inode]) -> tuple[int, list[str]]:
    """Return the bytes on disk of a directory's files, and the names of its directories."""
    size = 0
    directories: list[str] = []
    with suppress(OSError), os.scandir(descriptor) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.name)
                continue
            with suppress(OSError):
                found = entry.stat(follow_symlinks=False)
                inode = found.st_dev, found.st_ino
                if inode not in counted:
                    size += found.st_blocks * _BLOCK_BYTES
                if found.st_nlink > 1:
                    counted.add(inode)
    return size, directories
