"""The guard over what a cleanup never deletes: queues, their projects, and version control."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobq import JobQueue

Inode = tuple[int, int]

CONFIG = "jobq.toml"
_STATE = ".jobq"
_VERSION_CONTROL = frozenset({".git", ".hg", ".jj", ".svn"})
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def inode_of(status: os.stat_result) -> Inode:
    """Return the identity of a file, whatever its names."""
    return status.st_dev, status.st_ino


def inodes(paths: Iterable[Path]) -> set[Inode]:
    """Return the identities of the files and directories that exist; links are followed."""
    found = set()
    for path in paths:
        with suppress(OSError, RuntimeError, ValueError):
            found.add(inode_of(path.stat()))
    return found


class Guard:
    """The files and directories to keep; those of projects are added where a jobq.toml is found."""

    def __init__(self, queue: JobQueue) -> None:
        """Begin with the queue of the cleanup itself."""
        settings = queue.settings
        self.directories: set[Inode] = set()  # with everything below
        self._inner: set[Inode] = set()  # directories in which nothing but the queue keeps files
        self._files = inodes([settings.path] if settings.path else [])
        self._add(settings.database, settings.log_dir, settings.worker_paths)
        if settings.path:
            self._add_programs(settings.path.parent, settings.on_finish)

    def _add(self, database: Path, log_dir: Path, worker_paths: Iterable[Path]) -> None:
        folders = [database.parent]
        with suppress(OSError, RuntimeError):
            folders.append(database.resolve().parent)
        self._inner |= inodes([log_dir, *worker_paths, Path(f"{database}.supervisors")])
        self._inner |= inodes(folder for folder in folders if folder.name == _STATE)
        self.directories |= self._inner | inodes(folders)

    def _add_programs(self, folder: Path, hooks: Iterable[object]) -> None:
        """Keep the files that the hooks of a project name: its programs, and their scripts."""
        for hook in hooks:
            words = hook if isinstance(hook, (list, tuple)) else [hook]
            self._files |= inodes(_path(folder, word, "") for word in words if _is_path(word))

    def visit(self, folder: Path, names: Sequence[str]) -> None:
        """Add the project in a directory, if its entries have one."""
        if CONFIG in names:
            table = _read(folder / CONFIG)
            workers = table.get("workers")
            paths = workers.get("paths") if isinstance(workers, dict) else None
            self._add(
                _path(folder, table.get("database"), f"{_STATE}/jobq.db"),
                _path(folder, table.get("log_dir"), "logs"),
                [_path(folder, p, "workers") for p in (paths if isinstance(paths, list) else [""])],
            )
            hooks = table.get("hooks")
            commands = hooks.get("on_finish") if isinstance(hooks, dict) else None
            self._add_programs(folder, commands if isinstance(commands, list) else [])

    def keeps(self, name: str, status: os.stat_result) -> bool:
        """Return true for an entry of a directory that is never deleted, nor entered."""
        return name == CONFIG or name in _VERSION_CONTROL or inode_of(status) in self._files

    def refusal(self, path: Path, descriptor: int) -> str | None:
        """Return why an open directory can't be cleaned at all; None if it can."""
        self.visit(path, [CONFIG])
        here, *above = _inodes_upward(descriptor)
        home = home_directory()
        if home is not None and here in inodes([home, *home.parents]):
            return "the home directory and its parents are never cleaned"
        if here in self.directories or self._inner.intersection(above):
            return "it holds the database, the logs or the workers of a queue"
        if _VERSION_CONTROL.intersection(Path(os.path.realpath(path)).parts):
            return "it belongs to version control"
        return None


def home_directory() -> Path | None:
    """Return the user's home directory; None for a user without one."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def _read(config: Path) -> dict[str, Any]:
    """Return a project's settings; without any, the defaults hold."""
    try:
        return tomllib.loads(config.read_text("utf-8-sig"))
    except (OSError, ValueError):
        return {}


def _path(folder: Path, value: object, default: str) -> Path:
    with suppress(RuntimeError):  # no home directory
        return folder / Path(value if isinstance(value, str) and value else default).expanduser()
    return folder / default


def _is_path(word: object) -> bool:
    return isinstance(word, str) and os.sep in word


def _inodes_upward(descriptor: int) -> Iterator[Inode]:
    """Yield the identity of an open directory, and of those that it is in."""
    here = os.dup(descriptor)
    try:
        while True:
            inode = inode_of(os.fstat(here))
            yield inode
            above = os.open("..", _DIRECTORY, dir_fd=here)
            os.close(here)
            here = above
            if inode_of(os.fstat(here)) == inode:
                return
    finally:
        os.close(here)
