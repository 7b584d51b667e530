"""The log directory of a job: ``<log_dir>/jobs/<job_id>/``.

Everything goes through a descriptor of the log root, and no symbolic link below it is followed: a
job that can write there can't make jobq write, read or delete elsewhere.
"""

import errno
import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Self

from jobq.backends.messages import StoreIdentity
from jobq.errors import LogDirectoryError
from jobq.logs import gaps
from jobq.logs.file import LogFile
from jobq.logs.gaps import Gap, Layout
from jobq.logs.owner import Entry, Owner, create, entries, find, owner_of
from jobq.models import Job, LogOffsets
from jobq.system.permissions import (
    OTHERS_WRITE,
    is_ours,
    make_directory,
    make_private,
    open_file,
    repair,
)

STDOUT = "stdout.log"
STDERR = "stderr.log"
LOG = "job.log"
EVENTS = "events.jsonl"
STDIN = "stdin"
STOP_SIGNAL = "stop_signal"
"""The file with the name of the signal that a cancelled command is to be sent first."""

OFFSET_FIELDS = {STDOUT: "stdout", STDERR: "stderr", EVENTS: "events", LOG: "log"}
"""The field of `LogOffsets` that is about a file."""

CAPPED = (STDOUT, STDERR, LOG, EVENTS)
"""The files that `[logs] max_bytes` is about."""

SPOOL_PREFIX = "stdin-"
"""The prefix of files in the root that wait to become the stdin of a job."""

STAGING_PREFIX = "import-"
"""The prefix of a staging table of an import, for the moment in which it has a name."""

# Non-blocking, as a job may have put a FIFO in the place of its log.
_COMMON = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 1 << 16
_EVENTS = json.JSONEncoder(ensure_ascii=False)
_MAX_GAPS_BYTES = 1 << 16


class JobLogs:
    """The log directories of all jobs under one root."""

    def __init__(self, root: Path, identity: Callable[[], StoreIdentity] | None = None) -> None:
        """``identity`` is the backend's, for `owner`."""
        self.root = root
        self._jobs = root / "jobs"
        self._identity = identity

    def pinned(self) -> "JobLogs":
        """Return the same, for a store that is not replaced meanwhile: it is asked only once.

        Raises:
            DatabaseError: it can't be used.
        """
        assert self._identity is not None
        store = self._identity()
        return JobLogs(self.root, lambda: store)

    def owner(self, job: Job) -> Owner:
        """Return what tells the directory of a job from those of others.

        Raises:
            DatabaseError: the store can't be used.
        """
        assert self._identity is not None
        return owner_of(job, self._identity())

    def _owner(self, of: Job | Owner) -> Owner:
        return of if isinstance(of, Owner) else self.owner(of)

    def path(self, job_id: int) -> Path:
        """Return the path of a job's directory, whether it is there or not."""
        return self._jobs / str(job_id)

    def create(self, of: Job | Owner) -> "JobLog":
        """Open a job's directory, making it first if it is not there.

        What another job has in its place is moved aside, where that job still finds it.

        Raises:
            OSError: it can't be made, something else is in its place, or a running job of another
                store uses what is there.
        """
        owner = self._owner(of)
        try:
            jobs = os.open(self._jobs, _DIRECTORY)
        except FileNotFoundError:
            make_directory(self._jobs)
            jobs = os.open(self._jobs, _DIRECTORY)
        try:
            return JobLog(self.path(owner.job_id), create(jobs, owner))
        except OSError as error:
            raise _named_in_full(error, self._jobs) from None
        finally:
            os.close(jobs)

    def open(self, of: Job | Owner) -> "JobLog | None":
        """Open a job's directory; return None if it has none yet."""
        owner = self._owner(of)
        with self._opened() as jobs:
            if jobs is None or (found := find(jobs, owner)) is None:
                return None
            name, descriptor = found
            return JobLog(self._jobs / name, descriptor)

    def location(self, of: Job | Owner) -> Path | None:
        """Return the path of a job's directory; None if it has none here, or it can't be opened."""
        with suppress(OSError):
            if log := self.open(of):
                log.close()
                return log.path
        return None

    def delete(self, of: Job | Owner) -> None:
        """Remove a job's directory and all in it; a symbolic link is removed, not followed.

        Directories of other jobs stay, whatever their names.

        Raises:
            OSError: something in it can't be deleted; the rest is.
        """
        for _ in self.deletion(of):
            pass

    def deletion(self, of: Job | Owner) -> Iterator[None]:
        """Delete as `delete` does, in small steps."""
        from jobq.system.directory_tree import delete_tree  # `add` does without

        owner = self._owner(of)
        with self._opened() as jobs:
            if jobs is None:
                return
            if self.path(owner.job_id).is_symlink():
                os.unlink(owner.name, dir_fd=jobs)
            while (name := _name_to_delete(jobs, owner)) is not None:
                yield from delete_tree(jobs, name, self._jobs)

    def delete_entry(self, entry: Entry) -> None:
        """Remove a log directory that `entries` found, unless it is another one by now.

        Raises:
            OSError: something in it can't be deleted; the rest is.
        """
        from jobq.system.directory_tree import delete_tree

        with self._opened() as jobs:
            if jobs is not None and entry in entries(jobs):
                for _ in delete_tree(jobs, entry.name, self._jobs):
                    pass

    def entries(self) -> Iterator[Entry]:
        """Yield the log directories that are here, of whatever store."""
        with self._opened() as jobs:
            yield from () if jobs is None else entries(jobs)

    @contextmanager
    def _opened(self) -> Iterator[int | None]:
        """Open the directory that has those of the jobs; None if it is not there."""
        try:
            jobs = os.open(self._jobs, _DIRECTORY)
        except FileNotFoundError:
            yield None
            return
        try:
            yield jobs
        except OSError as error:
            raise _named_in_full(error, self._jobs) from None
        finally:
            os.close(jobs)

    def make_root(self) -> Path:
        """Make the root, for its owner alone, and return it.

        Raises:
            LogDirectoryError: it can't be made, nothing can be written there, or no directory for a
                job can be made in it.
        """
        try:
            make_directory(self.root)
        except OSError as error:
            raise self._unusable(error) from error
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise self._unusable(PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
        if os.path.lexists(self._jobs) and (code := self._fault_of_jobs()):
            raise self._unusable(OSError(code, os.strerror(code), str(self._jobs)))
        return self.root

    def _fault_of_jobs(self) -> int:
        """Return the error number of what keeps log directories from being made there; or 0."""
        if self._jobs.is_symlink() or not self._jobs.is_dir():
            return errno.ENOTDIR
        return 0 if os.access(self._jobs, os.R_OK | os.W_OK | os.X_OK) else errno.EACCES

    def _unusable(self, error: OSError) -> LogDirectoryError:
        where = error.filename or self.root
        return LogDirectoryError(
            f"{where}: {error.strerror}: logs are kept in {self.root}: make it a directory that "
            "you can write to, or set another `log_dir` in jobq.toml or $JOBQ_LOG_DIR"
        )

    def spool(self, source: BinaryIO) -> Path:
        """Copy a stream to a file under the root, to be moved into a job's directory later.

        Raises:
            LogDirectoryError: the root can't be written to.
        """
        import tempfile

        with tempfile.NamedTemporaryFile(
            dir=self.make_root(), prefix=SPOOL_PREFIX, delete=False
        ) as file:
            repair(file.fileno())
            try:
                while block := source.read(_BLOCK):
                    file.write(block)
            except BaseException:
                os.unlink(file.name)
                raise
        return Path(file.name)

    def total_bytes(self) -> int:
        """Return the bytes on disk of all logs, as far as they are on the root's file system."""
        from jobq.system.directory_tree import disk_usage  # `add` does without

        counted: set[tuple[int, int]] = set()
        total = 0
        for path, skip in ((self.root.resolve(), self._jobs.name), (self._jobs, "")):
            with suppress(OSError):
                descriptor = os.open(path, _DIRECTORY)
                try:
                    total += disk_usage(descriptor, counted, skip=skip)
                finally:
                    os.close(descriptor)
        return total


def _name_to_delete(jobs: int, owner: Owner) -> str | None:
    """Return the name of a job's directory; give its owner access to it, if the job has taken it."""
    try:
        found = find(jobs, owner)
    except PermissionError:
        from jobq.system.directory_tree import grant_access

        grant_access(owner.name, jobs)
        found = find(jobs, owner)
    if found is None:
        return None
    os.close(found[1])
    return found[0]


def _named_in_full(error: OSError, folder: Path) -> OSError:
    """Complete the path in an error, which is relative to the directory that was open."""
    if error.filename is not None:
        error.filename = str(folder / os.fsdecode(error.filename))
    return error


class JobLog:
    """One job's open log directory."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the directory."""
        os.close(self.descriptor)

    def hold(self, *, alone: bool = False) -> bool:
        """Keep the files from being rewritten until this is closed; return whether that worked.

        ``alone``: only if no other process holds them, to rewrite them.
        """
        try:
            fcntl.flock(
                self.descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB
            )
        except OSError:
            return False
        return True

    def append(self, name: str) -> int:
        """Open a file of the directory for appending; return its descriptor."""
        return self.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def append_events(self) -> int:
        """Open the events for `append_line`; return their descriptor."""
        return self.open(EVENTS, os.O_RDWR | os.O_CREAT | os.O_APPEND)

    def open(self, name: str, flags: int) -> int:
        """Open a regular file of the directory, private if it is new; return its descriptor."""
        opener = open_file if flags & os.O_CREAT else os.open
        try:
            descriptor = opener(name, flags | _COMMON, dir_fd=self.descriptor)
            return _checked(descriptor, name, writes=flags != os.O_RDONLY)
        except OSError as error:
            raise _named_in_full(error, self.path) from None

    def size(self, name: str) -> int:
        """Return the bytes written to a file, dropped ones included; 0 if it is not there."""
        return self.layout(name).end

    def stored_size(self, name: str) -> int:
        """Return the size of a file in bytes, holes included; 0 if it is not there."""
        try:
            return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False).st_size
        except FileNotFoundError:
            return 0

    def exists(self, name: str) -> bool:
        """Return whether a file is there."""
        try:
            os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def changed_at(self, name: str) -> int:
        """Return when a file was written to last, in nanoseconds.

        Raises:
            OSError: it is not there.
        """
        return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False).st_mtime_ns

    def layout(self, name: str) -> Layout:
        """Return the places of a file's parts; a file that is not there is empty."""
        if self.gap(name) is None:
            return Layout(self.stored_size(name))
        with self.read(name) as file:
            return Layout(0) if file is None else file.layout()

    def offsets(self) -> LogOffsets:
        """Return where the output of the next attempt will start."""
        return LogOffsets(
            stdout=self.size(STDOUT),
            stderr=self.size(STDERR),
            events=self.size(EVENTS),
            log=self.size(LOG),
        )

    @contextmanager
    def read(self, name: str) -> Iterator["LogFile | None"]:
        """Open a file of the directory for reading; None if it is not there."""
        try:
            descriptor = self.open(name, os.O_RDONLY)
        except FileNotFoundError:
            yield None
            return
        try:
            yield LogFile(descriptor, lambda: self.gap(name))
        finally:
            os.close(descriptor)

    def gap(self, name: str) -> Gap | None:
        """Return the gap of a file; None if nothing was dropped from it."""
        return self.gaps().get(name)

    def gaps(self) -> dict[str, Gap]:
        """Return the gaps of all logs that have one.

        The job can write that file too: other names in it, which may lead elsewhere, are ignored.
        """
        try:
            descriptor = self.open(gaps.FILE, os.O_RDONLY)
        except OSError:  # mostly, there is none
            return {}
        try:
            found = gaps.parse(os.read(descriptor, _MAX_GAPS_BYTES))
            return {name: gap for name, gap in found.items() if name in CAPPED}
        finally:
            os.close(descriptor)

    def note_gaps(self, found: Mapping[str, Gap]) -> None:
        """Store the gaps of all logs, in the place of those stored before."""
        self.replace(gaps.FILE, lambda descriptor: write_all(descriptor, gaps.serialise(found)))

    def replace(self, name: str, write: Callable[[int], object]) -> None:
        """Replace a file by a new one in one step, or leave it as it was."""
        new = _new(name)
        with suppress(FileNotFoundError):
            os.unlink(new, dir_fd=self.descriptor)
        descriptor = self.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            write(descriptor)
            os.rename(new, name, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)
        except BaseException:
            os.unlink(new, dir_fd=self.descriptor)
            raise
        finally:
            os.close(descriptor)

    def remove(self, name: str) -> None:
        """Remove a file, and what an interrupted `replace` of it has left."""
        for path in (name, _new(name)):
            with suppress(FileNotFoundError):
                os.unlink(path, dir_fd=self.descriptor)

    def adopt(self, file: Path, name: str) -> None:
        """Move a file into the directory."""
        os.rename(file, name, dst_dir_fd=self.descriptor)


def open_directory(name: str, parent: int) -> int:
    """Open a directory below another one, which is no link; return its descriptor."""
    return os.open(name, _DIRECTORY, dir_fd=parent)


def open_regular(name: str, parent: int) -> int:
    """Open a regular file below a directory for reading; return its descriptor."""
    return _checked(os.open(name, os.O_RDONLY | _COMMON, dir_fd=parent), name, writes=False)


def _new(name: str) -> str:
    return f".{name}.new"


def _checked(descriptor: int, name: str, *, writes: bool) -> int:
    """Return a descriptor if it is of a regular file of ours, else close it and raise an OSError.

    What is written to is private from here on.
    """
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", name)
    if not is_ours(found):
        os.close(descriptor)
        raise OSError(errno.EPERM, "belongs to another user", name)
    if writes and found.st_mode & OTHERS_WRITE:
        make_private(descriptor)
    return descriptor


def event_line(event: str, at: datetime, attempt: int, **details: Any) -> bytes:
    """Return one line of ``events.jsonl``."""
    record = {"time": at.isoformat(), "event": event, "attempt": attempt, **details}
    return _EVENTS.encode(record).encode("utf-8", "backslashreplace") + b"\n"


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of the data; a full disk raises an OSError."""
    while data:
        data = data[os.write(descriptor, data) :]


def append_line(descriptor: int, line: bytes) -> None:
    """Append a line to a file opened by `append_events`: all of it or nothing.

    Where a crash or a full disk has torn the last line, this one begins on a new line.

    Raises:
        OSError: the disk is full.
    """
    size = os.fstat(descriptor).st_size
    torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
    data = b"\n" + line if torn else line
    written = os.write(descriptor, data)
    if written < len(data):
        if os.fstat(descriptor).st_size == size + written:  # no other process wrote behind it
            os.ftruncate(descriptor, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
