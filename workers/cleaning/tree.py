"""A directory to clean, reached through descriptors.

No symbolic link is followed, no file system that is mounted in it is entered, and directories may
be nested as deep as they like.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .guard import Guard, Inode, inode_of

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK_BYTES = 512  # the unit of st_blocks
TOP = ""


class Report(Protocol):
    """The receiver of what can't be read, and of what is left out."""

    def error(self, where: str, why: str, *, fatal: bool) -> None:
        """Note an error; a fatal one means that the cleanup could not do what it was asked."""

    def skipped(self, where: str, why: str) -> None:
        """Note a directory that is left out."""


@dataclass(frozen=True, slots=True)
class File:
    """A file as it was when it was listed."""

    folder: str  # relative to the tree
    name: str
    status: os.stat_result
    size: int
    """The bytes that it takes on disk, not counting the rest of its last block."""

    @property
    def inode(self) -> Inode:
        """The identity of the file, whatever its names."""
        return inode_of(self.status)

    def unchanged(self, now: os.stat_result) -> bool:
        """Return true if this is still the file that was listed."""
        then = self.status
        return (
            inode_of(now) == inode_of(then)
            and now.st_size == then.st_size
            and now.st_mtime_ns == then.st_mtime_ns
        )


class _OtherMount(Exception):
    """Raised at a directory that is on another mount."""


class _Cursor:
    """A place in a tree that moves level by level, with few descriptors at any depth."""

    def __init__(self, top: int) -> None:
        """Start at a directory, whose descriptor stays the caller's."""
        self._top = top
        self._mount = _mount_of(top)
        self._names: list[str] = []
        self._above: list[Inode] = []
        self.descriptor = os.dup(top)

    def close(self) -> None:
        """Close the directory that it is at."""
        os.close(self.descriptor)

    def go(self, folder: str) -> int:
        """Move to a directory, and return its descriptor.

        Raises:
            OSError: it is not there, or can't be opened.
            _OtherMount: it is on another mount.
        """
        names = folder.split("/") if folder else []
        while self._names != names[: len(self._names)]:
            self._up()
        for name in names[len(self._names) :]:
            self._down(name)
        return self.descriptor

    def _down(self, name: str) -> None:
        below = os.open(name, _DIRECTORY, dir_fd=self.descriptor)
        if _mount_of(below) != self._mount:
            os.close(below)
            raise _OtherMount
        self._above.append(inode_of(os.fstat(self.descriptor)))
        self._names.append(name)
        os.close(self.descriptor)
        self.descriptor = below

    def _up(self) -> None:
        """Go up; start from the top if the directory was moved, or has no way back."""
        above = -1
        with suppress(OSError):
            above = os.open("..", _DIRECTORY, dir_fd=self.descriptor)
        is_same = above >= 0 and inode_of(os.fstat(above)) == self._above[-1]
        if is_same:
            del self._names[-1], self._above[-1]
        else:
            if above >= 0:
                os.close(above)
            above, self._names, self._above = os.dup(self._top), [], []
        os.close(self.descriptor)
        self.descriptor = above


def _mount_of(descriptor: int) -> tuple[int, str]:
    """Return what tells file systems apart, and mounts of the same one: a bind mount has its device."""
    device = os.fstat(descriptor).st_dev
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as lines:
            return device, next(line for line in lines if line.startswith("mnt_id:"))
    except (OSError, StopIteration):  # only Linux has it
        return device, ""


@dataclass(slots=True)
class Tree:
    """A directory to clean, held open: a directory that takes its name later is not touched."""

    path: Path
    descriptor: int
    guard: Guard
    report: Report
    _folders: dict[str, Inode] = field(default_factory=dict)

    def files(self) -> Iterator[list[File]]:
        """Yield the regular files of each directory, at any depth."""
        pending = [TOP]
        with closing(_Cursor(self.descriptor)) as cursor:
            while pending:
                folder = pending.pop()
                files: list[File] = []
                with self.noting_errors(folder, fatal=folder == TOP):
                    pending += self._read(folder, cursor.go(folder), files)
                yield files

    def _read(self, folder: str, descriptor: int, files: list[File]) -> list[str]:
        """Add the files of a directory to a list, and return the directories in it."""
        inode = inode_of(os.fstat(descriptor))
        names = os.listdir(descriptor)
        self.guard.visit(self.path / folder, names)
        if inode in self.guard.directories:
            return []
        self._folders[folder] = inode
        directories = []
        for name in names:
            with self.noting_errors(folder, name, fatal=folder == TOP):
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                if self.guard.keeps(name, status):
                    continue
                if stat.S_ISDIR(status.st_mode):
                    directories.append(f"{folder}/{name}" if folder else name)
                elif stat.S_ISREG(status.st_mode):
                    files.append(File(folder, name, status, _size_of(name, status, descriptor)))
        return directories

    def unguarded(self, files: Sequence[File]) -> list[File]:
        """Return those of the files that belong to no queue, now that all queues are known."""
        guarded = {f for f, inode in self._folders.items() if inode in self.guard.directories}
        return [
            file
            for file in files
            if not self.guard.keeps(file.name, file.status)
            and not (guarded and guarded.intersection(_with_parents(file.folder)))
        ]

    @contextmanager
    def opened(self) -> Iterator[_Cursor]:
        """Return a cursor, to reach its directories level by level."""
        with closing(_Cursor(self.descriptor)) as cursor:
            yield cursor

    @contextmanager
    def noting_errors(self, folder: str, name: str = "", *, fatal: bool = True) -> Iterator[None]:
        """Count an error and continue; a file that has vanished meanwhile is no error."""
        try:
            yield
        except FileNotFoundError:
            pass
        except _OtherMount:
            self.report.skipped(shown(self.path / folder), "a mount point")
        except OSError as error:
            if isinstance(error, NotADirectoryError):  # replaced meanwhile
                fatal = False
            where = shown(self.path / folder / name)
            self.report.error(where, error.strerror or str(error), fatal=fatal)


def _size_of(name: str, status: os.stat_result, folder: int) -> int:
    """Return the bytes that deleting a file frees: less than its size, if it has holes."""
    allocated = status.st_blocks * _BLOCK_BYTES
    if allocated or not status.st_size:
        return min(status.st_size, allocated)
    # All of it is a hole, or a file system that does not count blocks.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=folder)
    except OSError:
        return status.st_size
    try:
        os.lseek(descriptor, 0, os.SEEK_DATA)
    except OSError:
        return 0
    finally:
        os.close(descriptor)
    return status.st_size


def _with_parents(folder: str) -> Iterator[str]:
    yield TOP
    for place, char in enumerate(folder):
        if char == "/":
            yield folder[:place]
    yield folder


def shown(path: Path) -> str:
    """Quote a path: a name may hold newlines, or bytes that are not valid text."""
    return repr(str(path))
