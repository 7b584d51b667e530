"""Job type ``cleanup``: prunes finished jobs with their logs, and deletes old or partial files.

Files are reached through descriptors of the given directories, and no symbolic link is followed:
a user who can write there can't make a cleanup delete files elsewhere. Each deletion is
independent, so a cleanup may be stopped at any point.
"""

from __future__ import annotations

import fnmatch
import math
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import accumulate, combinations, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, StrictInt, model_validator

from jobq import JobContext, JobQueue, JobWorker, Permanent, UsageError, parse_duration, parse_size

if TYPE_CHECKING:
    from logging import Logger

PARTIAL_SUFFIXES = (".part", ".ytdl", ".tmp", ".crdownload")
"""File name endings of unfinished downloads."""

PARTIAL_MIN_AGE_S = 3600.0
"""An unfinished download touched more recently than this counts as still running."""

MAX_ERRORS_IN_RESULT = 20
"""Further errors are only in the log."""

_BATCH_SIZE = 500  # jobs deleted in one transaction
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


# -- arguments ---------------------------------------------------------------------------------


def _parsable(parse: Callable[[Any], object]) -> AfterValidator:
    """Refuse a value that ``parse`` can't read, and keep the others as they are written."""

    def check(value: Any) -> Any:
        try:
            parse(value)
        except UsageError as error:
            raise ValueError(str(error)) from None
        return value

    return AfterValidator(check)


def _checked_directory(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("give an absolute path")
    if Path.home().is_relative_to(path):
        raise ValueError("refused: the home directory and its parents are never cleaned")
    return path


def _checked_pattern(pattern: str) -> str:
    if not pattern or "/" in pattern:
        raise ValueError('give a pattern for file names, without a directory, such as "*.mp4"')
    return pattern


class Cleanup(JobWorker):
    """Prune old finished jobs with their logs, and delete old or partial files.

    Only regular files are deleted, at any depth below the given directories; symbolic links and
    emptied directories stay. This queue's database and logs are never deleted, nor are unfinished
    downloads touched within the last hour.
    """

    job_type = "cleanup"
    timeout = 3600  # large trees take a while

    class Args(BaseModel):
        older_than: Annotated[str, _parsable(parse_duration)] | None = Field(
            default=None,
            description='delete jobs and files older than this, such as "30d"; '
            "by default, jobs by [retention] in jobq.toml, and files of any age",
        )
        jobs: bool = Field(default=True, description="prune finished jobs and their logs")
        status: list[Literal["completed", "failed", "cancelled"]] | None = Field(
            default=None, min_length=1, description="prune only jobs in these states"
        )
        directories: list[Annotated[Path, AfterValidator(_checked_directory)]] = Field(
            default=[], description="absolute paths of directories to delete files from"
        )
        pattern: Annotated[str, AfterValidator(_checked_pattern)] = Field(
            default="*", description='delete only files with matching names: a glob such as "*.mp4"'
        )
        partial: bool = Field(
            default=False,
            description=f"delete unfinished downloads ({', '.join(PARTIAL_SUFFIXES)}) "
            "untouched for an hour",
        )
        max_total_size: Annotated[StrictInt | str, _parsable(parse_size)] | None = Field(
            default=None,
            description='delete the oldest files of each directory until the rest fits, such as "10G"',
        )
        keep_last: int | None = Field(
            default=None,
            ge=0,
            description="keep this many of the newest jobs, and of each directory's newest files; "
            "without another rule, all other files are deleted",
        )
        dry_run: bool = Field(default=False, description="only log what would be deleted")

        @model_validator(mode="after")
        def _has_work(self) -> Self:
            about_files = self.partial or self.max_total_size is not None
            if self.directories and not (about_files or self.older_than or self.keep_last):
                raise ValueError(
                    "this would delete every file: "
                    "give older_than, max_total_size, keep_last or partial"
                )
            if not self.directories and (about_files or not self.jobs):
                raise ValueError("give the directories to clean")
            for one, other in combinations(self.directories, 2):
                if one.is_relative_to(other) or other.is_relative_to(one):
                    raise ValueError(f"directories overlap: {one} and {other}")
            return self

    def run(self, args: Args, job: JobContext) -> dict[str, Any]:
        tally = _Tally(job.log, dry_run=args.dry_run)
        queue = job.queue
        off_limits = _inodes([queue.settings.database.parent, queue.settings.log_dir])
        with ExitStack() as stack:
            trees = [
                stack.enter_context(_opened(path, off_limits, tally)) for path in args.directories
            ]
            if args.jobs:
                _prune_jobs(queue, args, job, tally)
            _clean(trees, args, job)
        return tally.result()


class _Tally:
    """The counts of deletions and of errors."""

    def __init__(self, log: Logger, *, dry_run: bool) -> None:
        self.dry_run = dry_run
        self._log = log
        self._verb = "would delete" if dry_run else "deleted"
        self._jobs = self._files = self._bytes = 0
        self._errors: list[str] = []

    def job(self, job_id: int) -> None:
        self._jobs += 1
        self._log.info("%s job %d and its logs", self._verb, job_id)

    def file(self, path: Path, size: int) -> None:
        self._files += 1
        self._bytes += size
        self._log.info("%s %s (%d bytes)", self._verb, _shown(path), size)

    def error(self, where: str, why: str) -> None:
        self._errors.append(f"{where}: {why}")
        self._log.warning("not deleted: %s: %s", where, why)

    def result(self) -> dict[str, Any]:
        return {
            "jobs_deleted": self._jobs,
            "files_deleted": self._files,
            "bytes_freed": self._bytes,
            "errors": self._errors[:MAX_ERRORS_IN_RESULT],
            "error_count": len(self._errors),
            "dry_run": self.dry_run,
        }


def _shown(path: Path) -> str:
    """Quote a path: a name may hold newlines, or bytes that are not valid text."""
    return repr(str(path))


def _why(error: OSError) -> str:
    return error.strerror or str(error)


# -- jobs --------------------------------------------------------------------------------------


def _prune_jobs(queue: JobQueue, args: Cleanup.Args, job: JobContext, tally: _Tally) -> None:
    retention = queue.settings.retention
    ids = queue.prunable(
        older_than=retention.older_than if args.older_than is None else args.older_than,
        keep_last=retention.keep_last if args.keep_last is None else args.keep_last,
        status=args.status,
    )
    for start in range(0, len(ids), _BATCH_SIZE):
        batch = ids[start : start + _BATCH_SIZE]
        for job_id in batch if tally.dry_run else _delete_jobs(queue, batch, tally):
            tally.job(job_id)
        job.progress(start + len(batch), len(ids), "jobs")


def _delete_jobs(queue: JobQueue, ids: Sequence[int], tally: _Tally) -> list[int]:
    """Delete jobs and return the ids deleted. A log that can't be deleted is reported."""
    return queue.delete(ids, lambda job_id, error: tally.error(f"job {job_id}", _why(error)))


# -- finding files -----------------------------------------------------------------------------

_Inode = tuple[int, int]


def _inode(status: os.stat_result) -> _Inode:
    return status.st_dev, status.st_ino


def _inodes(paths: Iterable[Path]) -> frozenset[_Inode]:
    """Return the identities of the directories that exist, independent of their names."""
    found = set()
    for path in paths:
        with suppress(OSError):
            found.add(_inode(path.stat()))
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it was when it was listed."""

    folder: str  # relative to the tree
    name: str
    status: os.stat_result

    @property
    def partial(self) -> bool:
        return self.name.endswith(PARTIAL_SUFFIXES)

    def unchanged(self, now: os.stat_result) -> bool:
        """Return true if this is still the file that was listed."""
        then = self.status
        return (
            _inode(now) == _inode(then)
            and now.st_size == then.st_size
            and now.st_mtime_ns == then.st_mtime_ns
        )


@dataclass(frozen=True, slots=True)
class _Tree:
    """A directory to clean, held open: a directory that takes its name later is not touched."""

    path: Path
    descriptor: int
    off_limits: frozenset[_Inode]
    tally: _Tally

    def files(self) -> Iterator[_File]:
        """Yield the regular files in it, at any depth."""
        pending = ["."]
        while pending:
            folder = pending.pop()
            for name, status in self._entries(folder):
                if stat.S_ISDIR(status.st_mode):
                    pending.append(f"{folder}/{name}")
                elif stat.S_ISREG(status.st_mode):
                    yield _File(folder, name, status)

    def _entries(self, folder: str) -> list[tuple[str, os.stat_result]]:
        found: list[tuple[str, os.stat_result]] = []
        with self.noting_errors(folder), self.opened(folder) as descriptor:
            if _inode(os.fstat(descriptor)) in self.off_limits:
                return []
            for name in os.listdir(descriptor):  # noqa: PTH208 - a Path is not held open
                with self.noting_errors(folder, name):
                    found.append((name, os.stat(name, dir_fd=descriptor, follow_symlinks=False)))
        return found

    @contextmanager
    def opened(self, folder: str) -> Iterator[int]:
        """Open one of its directories level by level, so that no symbolic link is followed."""
        descriptor = os.dup(self.descriptor)
        try:
            for part in Path(folder).parts:
                below = os.open(part, _DIRECTORY, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def noting_errors(self, folder: str, name: str = "") -> Iterator[None]:
        """Count an error and continue; a file that has vanished meanwhile is no error."""
        try:
            yield
        except FileNotFoundError:
            pass
        except OSError as error:
            self.tally.error(_shown(self.path / folder / name), _why(error))


@contextmanager
def _opened(path: Path, off_limits: frozenset[_Inode], tally: _Tally) -> Iterator[_Tree]:
    """Open a directory to clean.

    Raises:
        Permanent: it is not a directory, or must not be cleaned.
    """
    try:
        descriptor = os.open(path, _DIRECTORY)
    except OSError as error:
        why = "a symbolic link: give the directory itself" if path.is_symlink() else _why(error)
        raise Permanent(f"{_shown(path)}: {why}") from None
    try:
        inode = _inode(os.fstat(descriptor))
        home = Path.home()
        if inode in _inodes([home, *home.parents]):
            raise Permanent(
                f"{_shown(path)}: refused: the home directory and its parents are never cleaned"
            )
        if inode in off_limits:
            raise Permanent(f"{_shown(path)}: refused: it holds this queue's database or logs")
        yield _Tree(path, descriptor, off_limits, tally)
    finally:
        os.close(descriptor)


# -- choosing and deleting them ----------------------------------------------------------------


def _clean(trees: Sequence[_Tree], args: Cleanup.Args, job: JobContext) -> None:
    now = time.time()
    chosen = [(tree, _chosen(list(_matching(tree, args, now, job)), args, now)) for tree in trees]
    total = sum(len(files) for _, files in chosen)
    done = 0
    for tree, files in chosen:
        for folder, group in groupby(sorted(files, key=_folder), _folder):
            with tree.noting_errors(folder), tree.opened(folder) as descriptor:
                for file in group:
                    _delete_file(tree, file, descriptor)
                    done += 1
                    job.progress(done, total, "files")


def _folder(file: _File) -> str:
    return file.folder


def _matching(tree: _Tree, args: Cleanup.Args, now: float, job: JobContext) -> Iterator[_File]:
    """Yield the files that match the pattern, except downloads still running."""
    for seen, file in enumerate(tree.files(), 1):
        job.progress(seen, None, "listing files")
        if file.partial and now - file.status.st_mtime < PARTIAL_MIN_AGE_S:
            continue
        names = [file.name]
        if args.partial and file.partial:
            names.append(Path(file.name).stem)  # the name of the finished download
        if any(fnmatch.fnmatchcase(name, args.pattern) for name in names):
            yield file


def _chosen(files: Sequence[_File], args: Cleanup.Args, now: float) -> list[_File]:
    """Return those of a tree's matching files that are to be deleted."""
    leftovers = [file for file in files if args.partial and file.partial]
    others = [file for file in files if not (args.partial and file.partial)]
    others.sort(key=lambda file: (file.status.st_mtime_ns, file.folder, file.name), reverse=True)
    oldest, room = -math.inf, math.inf
    if args.older_than is not None:
        oldest = now - parse_duration(args.older_than)
    if args.max_total_size is not None:
        room = parse_size(args.max_total_size)
    if args.older_than is None and args.max_total_size is None and not args.partial:
        room = -1  # keep_last is all that keeps a file
    sizes = accumulate(file.status.st_size for file in others)
    surplus = [
        file
        for file, size_so_far in list(zip(others, sizes, strict=True))[args.keep_last or 0 :]
        if file.status.st_mtime < oldest or size_so_far > room
    ]
    return leftovers + surplus


def _delete_file(tree: _Tree, file: _File, descriptor: int) -> None:
    """Delete a file, unless it has changed since it was chosen."""
    with tree.noting_errors(file.folder, file.name):
        if not file.unchanged(os.stat(file.name, dir_fd=descriptor, follow_symlinks=False)):
            return
        if not tree.tally.dry_run:
            os.unlink(file.name, dir_fd=descriptor)
        tree.tally.file(tree.path / file.folder / file.name, file.status.st_size)
