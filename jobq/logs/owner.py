"""The owner of a log directory: one job of one store, which a mark in the directory names.

A number alone does not: another database that uses the same `log_dir` has jobs of the same numbers,
and a server that lost its last moments gives numbers again.
"""

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from jobq.backends.messages import StoreIdentity
from jobq.models import Job, JobStatus
from jobq.system.permissions import DIRECTORY_MODE, is_ours, make_private, open_file

MARK = ".owner"

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_MARK_BYTES = 100
_MARK_TEXT = re.compile(r"[0-9A-Za-z]+(-[0-9A-Za-z]+)+")
_NAME = re.compile(r"(0|[1-9][0-9]*)(\.[0-9A-Za-z.-]+)?")
_UNMARKED = "unmarked"
_OF_ANOTHER_USER = "another-user"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MAX_ROUNDS = 100  # other processes may take or move the same directory meanwhile


class Owner(NamedTuple):
    """The job that a log directory belongs to."""

    job_id: int
    mark: str
    takes_unmarked: bool  # a directory without a mark is its own: see `owner_of`

    @property
    def name(self) -> str:
        """The name of its directory."""
        return str(self.job_id)

    @property
    def names_aside(self) -> tuple[str, ...]:
        """The names that its directory has where another job has taken its place."""
        aside = f"{self.job_id}.{self.mark}"
        return (aside, f"{self.job_id}.{_UNMARKED}") if self.takes_unmarked else (aside,)

    def has(self, mark: str | None) -> bool:
        """Return whether a directory of this name, with that mark, is the job's."""
        return self.takes_unmarked if mark is None else mark == self.mark


class Entry(NamedTuple):
    """A log directory that is there."""

    name: str
    job_id: int
    mark: str | None


def owner_of(job: Job, store: StoreIdentity) -> Owner:
    """Return the owner of a job's directory, named by its store and the time it was added.

    Versions of jobq without marks made the directories of the jobs that they ran. A directory may
    also have lost its mark, as in a copy: so one of a job that has ended an attempt is its own.
    """
    earlier_attempts = job.attempts - (job.status is JobStatus.RUNNING)
    micros = (job.created_at - _EPOCH) // _MICROSECOND
    unmarked = job.id <= store.marked_after or earlier_attempts > 0
    return Owner(job.id, f"{store.id}-{micros}", unmarked)


def store_of(mark: str | None) -> str | None:
    """Return the id of the store that a mark names."""
    return None if mark is None else mark.rpartition("-")[0]


def entries(jobs: int) -> Iterator[Entry]:
    """Yield the log directories in the open directory of all of them."""
    for name in os.listdir(jobs):
        if found := _NAME.fullmatch(name):
            with suppress(OSError):
                descriptor = os.open(name, _DIRECTORY, dir_fd=jobs)
                try:
                    yield Entry(name, int(found[1]), _read_mark(descriptor))
                finally:
                    os.close(descriptor)


def find(jobs: int, owner: Owner) -> tuple[str, int] | None:
    """Open the directory of a job, wherever it is; return its name and descriptor.

    Raises:
        OSError: something else is in its place.
    """
    for name in (owner.name, *owner.names_aside):
        try:
            descriptor = os.open(name, _DIRECTORY, dir_fd=jobs)
        except FileNotFoundError:
            continue
        if _belongs(descriptor, owner):
            return name, descriptor
        os.close(descriptor)
    return None


def create(jobs: int, owner: Owner) -> int:
    """Open the directory of a job under its own name, making it if there is none.

    A directory of another job in its place is moved aside.

    Raises:
        OSError: it can't be made, something else is in its place, or a running job of another
            store uses what is there.
    """
    if not is_ours(os.fstat(jobs)):
        raise OSError(errno.EPERM, "belongs to another user", "")
    make_private(jobs)
    for _ in range(_MAX_ROUNDS):
        if owner.takes_unmarked and (descriptor := _existing(jobs, owner)) is not None:
            return descriptor
        is_new = _make(jobs, owner.name)
        try:
            descriptor = os.open(owner.name, _DIRECTORY, dir_fd=jobs)
        except FileNotFoundError:  # moved aside just now
            continue
        try:
            if is_new:
                return _marked(descriptor, owner)
            if _belongs(descriptor, owner) or _is_unused(descriptor):
                return _taken(descriptor, owner)
            _move_aside(jobs, owner, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), owner.name)


def _make(jobs: int, name: str) -> bool:
    """Make a directory; return False if there is one."""
    try:
        os.mkdir(name, DIRECTORY_MODE, dir_fd=jobs)
    except FileExistsError:
        return False
    os.chmod(name, DIRECTORY_MODE, dir_fd=jobs)
    return True


def _existing(jobs: int, owner: Owner) -> int | None:
    """Open the directory of a job that may have one, moved back to its own name."""
    if (found := find(jobs, owner)) is None:
        return None
    name, descriptor = found
    try:
        if name == owner.name:
            return _taken(descriptor, owner)
        with suppress(FileNotFoundError):
            other = os.open(owner.name, _DIRECTORY, dir_fd=jobs)
            try:
                _move_aside(jobs, owner, other)
            finally:
                os.close(other)
        with suppress(FileNotFoundError):
            os.rename(name, owner.name, src_dir_fd=jobs, dst_dir_fd=jobs)
        return _taken(descriptor, owner)
    except BaseException:
        os.close(descriptor)
        raise


def _taken(descriptor: int, owner: Owner) -> int:
    """Make a directory that is there a job's, if it is not yet, and private."""
    make_private(descriptor)
    if _read_mark(descriptor) == owner.mark:
        return descriptor
    with suppress(OSError):
        os.unlink(MARK, dir_fd=descriptor)
    return _marked(descriptor, owner)


def _marked(descriptor: int, owner: Owner) -> int:
    try:
        file = open_file(MARK, os.O_WRONLY | os.O_CREAT | os.O_EXCL, dir_fd=descriptor)
    except FileExistsError:  # by another process, or the job has put a directory there
        return descriptor
    try:
        os.write(file, owner.mark.encode())
    finally:
        os.close(file)
    return descriptor


def _belongs(descriptor: int, owner: Owner) -> bool:
    return owner.has(_read_mark(descriptor)) and is_ours(os.fstat(descriptor))


def _is_unused(descriptor: int) -> bool:
    """Return whether a directory was made by a process that died before it could mark it."""
    if _read_mark(descriptor) is not None or not is_ours(os.fstat(descriptor)):
        return False
    return not set(os.listdir(descriptor)) - {MARK}


def _read_mark(descriptor: int) -> str | None:
    """Return the mark of an open directory; None if it has none that makes sense.

    A crash of the host may leave an empty one, and its job may write there.
    """
    try:
        file = os.open(MARK, _FILE, dir_fd=descriptor)
    except OSError:
        return None
    try:
        mark = os.read(file, _MAX_MARK_BYTES).decode("ascii", "replace")
    except OSError:  # it is a directory
        return None
    finally:
        os.close(file)
    return mark if _MARK_TEXT.fullmatch(mark) else None


def _move_aside(jobs: int, owner: Owner, descriptor: int) -> None:
    """Rename the directory of another job that has the name of this one's.

    Raises:
        OSError: a running job of another store uses it.
    """
    mark = _read_mark(descriptor)
    if store_of(mark) != store_of(owner.mark):  # a job that this store has lost is ended anyway
        _require_unused(descriptor, owner.name)
    suffix = (mark or _UNMARKED) if is_ours(os.fstat(descriptor)) else _OF_ANOTHER_USER
    aside = f"{owner.name}.{suffix}"
    for number in range(2, _MAX_ROUNDS):
        try:
            os.rename(owner.name, aside, src_dir_fd=jobs, dst_dir_fd=jobs)
        except FileNotFoundError:  # moved by another process
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            aside = f"{owner.name}.{suffix}.{number}"
        else:
            return


def _require_unused(descriptor: int, name: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OSError(
            errno.EBUSY,
            "a running job of another database uses it: give each database a log_dir of its own",
            name,
        ) from None
