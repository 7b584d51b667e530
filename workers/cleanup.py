"""Job type ``cleanup``: prunes finished jobs with their logs, and deletes old or partial files.

Files are reached through descriptors of the given directories, and no symbolic link is followed:
a user who can write there can't make a cleanup delete files elsewhere. Each deletion is
independent, so a cleanup may be stopped at any point. What is never deleted is in
`cleaning.guard`.
"""

from __future__ import annotations

import fnmatch
import math
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import accumulate, combinations, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, StrictInt, model_validator

from jobq import JobContext, JobQueue, JobWorker, Permanent, UsageError, parse_duration, parse_size

from .cleaning.guard import Guard, Inode, home_directory
from .cleaning.tree import File, Tree, shown
from .cleaning.unfinished import (
    SUFFIXES,
    belongs_to,
    download_of,
    finished,
    is_at_work,
    is_unfinished,
)

if TYPE_CHECKING:
    from logging import Logger

PARTIAL_MIN_AGE_S = 3600.0
"""A download that was written to more recently than this counts as still running."""

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
    home = home_directory()
    if home is not None and home.is_relative_to(path):
        raise ValueError("refused: the home directory and its parents are never cleaned")
    return path


def _checked_pattern(pattern: str) -> str:
    if not pattern or "/" in pattern:
        raise ValueError('give a pattern for file names, without a directory, such as "*.mp4"')
    return pattern


class Cleanup(JobWorker):
    """Prune old finished jobs with their logs, and delete old or partial files.

    Only regular files are deleted, at any depth below the given directories; symbolic links,
    emptied directories and what is mounted there stay. So do jobq.toml, the database, logs and
    workers of every project, .git, and downloads written to within the last hour. The age of a
    file is the time since it was last modified.
    """

    job_type = "cleanup"
    timeout = 3600  # large trees take a while

    class Args(BaseModel):
        older_than: Annotated[str, _parsable(parse_duration)] | None = Field(
            default=None,
            description='delete jobs and files older than this, such as "30d"; '
            "by default, jobs by [retention] in jobq.toml, and files of any age",
            examples=["30d"],
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
            description=f"delete unfinished downloads ({', '.join(SUFFIXES)}) "
            "untouched for an hour",
        )
        max_total_size: Annotated[StrictInt | str, _parsable(parse_size)] | None = Field(
            default=None,
            description="delete the oldest files of each directory until the rest fits, such as "
            '"10G"; a file counts what deleting it frees',
        )
        keep_last: int | None = Field(
            default=None,
            ge=0,
            description="keep this many of the newest jobs, and of each directory's newest files; "
            "without another rule, all other files are deleted",
        )
        dry_run: bool = Field(default=False, description="only print what would be deleted")

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
        guard = Guard(queue)
        with ExitStack() as stack:
            trees = [stack.enter_context(_opened(path, guard, tally)) for path in args.directories]
            if args.jobs:
                _prune_jobs(queue, args, job, tally)
            _clean(trees, args, job, tally)
        return tally.result()


class _Tally:
    """The counts of deletions and of errors."""

    def __init__(self, log: Logger, *, dry_run: bool) -> None:
        self.dry_run = dry_run
        self._log = log
        self._jobs = self._files = self._bytes = 0
        self._removed_names: Counter[Inode] = Counter()  # in a dry run, where they are still there
        self._errors: list[str] = []
        self._failed = False

    def job(self, job_id: int) -> None:
        self._jobs += 1
        self._say(f"job {job_id} and its logs")

    def file(self, path: Path, file: File, links: int) -> None:
        """Count a deleted file, which had this many names before."""
        is_last = links - self._removed_names[file.inode] <= 1
        if self.dry_run:
            self._removed_names[file.inode] += 1
        self._files += 1
        self._bytes += file.size if is_last else 0
        size = f"{file.size} bytes" if is_last else "0 bytes: it has another name"
        self._say(f"{shown(path)} ({size})")

    def _say(self, what: str) -> None:
        if self.dry_run:
            print(f"would delete {what}")  # noqa: T201 - the list that was asked for
        else:
            self._log.info("deleted %s", what)

    def skipped(self, where: str, why: str) -> None:
        self._log.info("not entered: %s: %s", where, why)

    def error(self, where: str, why: str, *, fatal: bool = False) -> None:
        self._failed = self._failed or fatal
        self._errors.append(f"{where}: {why}")
        self._log.warning("not deleted: %s: %s", where, why)

    def result(self) -> dict[str, Any]:
        """Return the counts, and print a line if there were errors: cron mails it.

        Raises:
            Permanent: no file could be deleted.
        """
        count = len(self._errors)
        errors = f"{count} errors, the first: " if count > 1 else ""
        if self._failed and not self._files:
            raise Permanent(f"no file could be deleted: {errors}{self._errors[0]}")
        if count:
            print(f"not everything could be deleted: {errors}{self._errors[0]}", file=sys.stderr)  # noqa: T201
        return {
            "jobs_deleted": self._jobs,
            "files_deleted": self._files,
            "bytes_freed": self._bytes,
            "errors": self._errors[:MAX_ERRORS_IN_RESULT],
            "error_count": count,
            "dry_run": self.dry_run,
        }


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


# -- choosing and deleting files ----------------------------------------------------------------


@contextmanager
def _opened(path: Path, guard: Guard, tally: _Tally) -> Iterator[Tree]:
    """Open a directory to clean.

    Raises:
        Permanent: it is not a directory, or must not be cleaned.
    """
    try:
        descriptor = os.open(path, _DIRECTORY)
    except OSError as error:
        why = "a symbolic link: give the directory itself" if path.is_symlink() else _why(error)
        raise Permanent(f"{shown(path)}: {why}") from None
    try:
        if refusal := guard.refusal(path, descriptor):
            raise Permanent(f"{shown(path)}: refused: {refusal}")
        yield Tree(path, descriptor, guard, tally)
    finally:
        os.close(descriptor)


def _clean(trees: Sequence[Tree], args: Cleanup.Args, job: JobContext, tally: _Tally) -> None:
    now = time.time()
    matching = [_matching(tree, args, now, job) for tree in trees]
    chosen = [
        (tree, _chosen(tree.unguarded(files), args, now))
        for tree, files in zip(trees, matching, strict=True)
    ]
    total = sum(len(files) for _, files in chosen)
    done = 0
    for tree, files in chosen:
        with tree.opened() as cursor:
            for folder, group in groupby(sorted(files, key=_folder), _folder):
                with tree.noting_errors(folder):
                    descriptor = cursor.go(folder)
                    for file in group:
                        _delete_file(tree, file, descriptor, tally)
                        done += 1
                        job.progress(done, total, "files")


def _folder(file: File) -> str:
    return file.folder


def _matching(tree: Tree, args: Cleanup.Args, now: float, job: JobContext) -> list[File]:
    """Return the files that match the pattern, except those of downloads still running."""
    seen = 0
    found: list[File] = []
    for files in tree.files():
        running = {
            download_of(file.name)
            for file in files
            if is_at_work(file.name) and now - file.status.st_mtime < PARTIAL_MIN_AGE_S
        }
        for file in files:
            seen += 1
            job.progress(seen, None, "listing files")
            names = [file.name]
            if args.partial and is_unfinished(file.name):
                names.append(finished(file.name))
            if any(fnmatch.fnmatchcase(name, args.pattern) for name in names) and not belongs_to(
                file.name, running
            ):
                found.append(file)
    return found


def _chosen(files: Sequence[File], args: Cleanup.Args, now: float) -> list[File]:
    """Return those of a tree's matching files that are to be deleted."""
    leftovers = [file for file in files if args.partial and is_unfinished(file.name)]
    contents = _contents([f for f in files if not (args.partial and is_unfinished(f.name))])
    oldest, room = -math.inf, math.inf
    if args.older_than is not None:
        oldest = now - parse_duration(args.older_than)
    if args.max_total_size is not None:
        room = parse_size(args.max_total_size)
    keeps_only_last = args.older_than is None and args.max_total_size is None and not args.partial
    sizes = accumulate(names[0].size if _is_freed(names) else 0 for names in contents)
    surplus = [
        file
        for names, size_so_far in list(zip(contents, sizes, strict=True))[args.keep_last or 0 :]
        if keeps_only_last
        or names[0].status.st_mtime < oldest
        or (size_so_far > room and _is_freed(names))
        for file in names
    ]
    return leftovers + surplus


def _contents(files: Sequence[File]) -> list[list[File]]:
    """Group the names of each file, the newest file first; hard links are names of one file."""
    groups: defaultdict[Inode, list[File]] = defaultdict(list)
    for file in files:
        groups[file.inode].append(file)

    def order(names: list[File]) -> tuple[int, str, str]:
        return names[0].status.st_mtime_ns, names[0].folder, names[0].name

    return sorted(groups.values(), key=order, reverse=True)


def _is_freed(names: Sequence[File]) -> bool:
    """Return true if a file has no other names: deleting these frees its space."""
    return len(names) >= names[0].status.st_nlink


def _delete_file(tree: Tree, file: File, descriptor: int, tally: _Tally) -> None:
    """Delete a file, unless it has changed since it was chosen."""
    with tree.noting_errors(file.folder, file.name):
        now = os.stat(file.name, dir_fd=descriptor, follow_symlinks=False)
        if not file.unchanged(now):
            return
        if not tally.dry_run:
            os.unlink(file.name, dir_fd=descriptor)
        tally.file(tree.path / file.folder / file.name, file, now.st_nlink)
