"""The log directory of a job: ``<log_dir>/jobs/<job_id>/``.

Everything goes through a descriptor of the log root, and no symbolic link below it is followed:
whoever can write there can't make jobq write, read or delete elsewhere.
"""

import errno
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Self

from jobq.errors import LogDirectoryError
from jobq.models import LogOffsets
from jobq.private import DIRECTORY_MODE, make_directory, open_file, repair

STDOUT = "stdout.log"
STDERR = "stderr.log"
LOG = "job.log"
EVENTS = "events.jsonl"
STDIN = "stdin"

SPOOLED = "stdin-"
"""How the names of files begin that wait in the root to be some job's stdin."""

# Not to be blocked by a FIFO that a job has put in the place of its log.
_APPEND = os.O_NONBLOCK | os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 1 << 16


class JobLogs:
    """The log directories of all jobs under one root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._jobs = root / "jobs"

    def path(self, job_id: int) -> Path:
        """Where a job's directory is, or would be."""
        return self._jobs / str(job_id)

    def create(self, job_id: int) -> "JobLog":
        """Open a job's directory, making it first if it is not there.

        Raises:
            OSError: it can't be made, or something else stands in its place.
        """
        try:
            jobs = os.open(self._jobs, _DIRECTORY)
        except FileNotFoundError:
            make_directory(self._jobs)
            jobs = os.open(self._jobs, _DIRECTORY)
        try:
            with _named_in_full(self._jobs), suppress(FileExistsError):
                os.mkdir(str(job_id), DIRECTORY_MODE, dir_fd=jobs)
                os.chmod(str(job_id), DIRECTORY_MODE, dir_fd=jobs)
            return self._open(job_id, jobs)
        finally:
            os.close(jobs)

    def open(self, job_id: int) -> "JobLog | None":
        """Open a job's directory; None if it has none yet."""
        try:
            jobs = os.open(self._jobs, _DIRECTORY)
        except FileNotFoundError:
            return None
        try:
            return self._open(job_id, jobs)
        except FileNotFoundError:
            return None
        finally:
            os.close(jobs)

    def _open(self, job_id: int, jobs: int) -> "JobLog":
        with _named_in_full(self._jobs):
            return JobLog(self.path(job_id), os.open(str(job_id), _DIRECTORY, dir_fd=jobs))

    def delete(self, job_id: int) -> None:
        """Remove a job's directory and all in it; a symbolic link is removed, not followed."""
        try:
            jobs = os.open(self._jobs, _DIRECTORY)
        except FileNotFoundError:
            return
        try:
            with _named_in_full(self._jobs):
                shutil.rmtree(str(job_id), dir_fd=jobs)
        except FileNotFoundError:
            pass
        except (NotADirectoryError, OSError):
            if not self.path(job_id).is_symlink():
                raise
            os.unlink(str(job_id), dir_fd=jobs)
        finally:
            os.close(jobs)

    def make_root(self) -> Path:
        """The root; from here on it is there, for its owner alone.

        Raises:
            LogDirectoryError: it can't be made, or nothing can be written there.
        """
        try:
            make_directory(self.root)
        except OSError as error:
            raise self._unusable(error) from error
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise self._unusable(PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
        return self.root

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
            dir=self.make_root(), prefix=SPOOLED, delete=False
        ) as file:
            repair(file.fileno())
            try:
                shutil.copyfileobj(source, file)
            except BaseException:
                os.unlink(file.name)
                raise
        return Path(file.name)

    def total_bytes(self) -> int:
        """The disk space that all logs use."""
        total = 0
        root = self.root.resolve()
        if not root.is_dir():
            return 0
        for _, _, files, descriptor in os.fwalk(root, follow_symlinks=False):
            for name in files:
                with suppress(FileNotFoundError):
                    found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                    total += found.st_blocks * 512
        return total


@contextmanager
def _named_in_full(folder: Path) -> Iterator[None]:
    """An error names its file as it was opened: by its name in a directory that is open."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            error.filename = str(folder / os.fsdecode(error.filename))
        raise


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

    def append(self, name: str) -> int:
        """A descriptor that appends to a file of the directory."""
        with _named_in_full(self.path):
            return _regular(open_file(name, _APPEND, dir_fd=self.descriptor), name)

    def size(self, name: str) -> int:
        """A file's size in bytes; 0 if it is not there."""
        try:
            return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False).st_size
        except FileNotFoundError:
            return 0

    def offsets(self) -> LogOffsets:
        """Where the next attempt's output will start."""
        return LogOffsets(
            stdout=self.size(STDOUT),
            stderr=self.size(STDERR),
            events=self.size(EVENTS),
            log=self.size(LOG),
        )

    @contextmanager
    def read(self, name: str) -> Iterator[BinaryIO | None]:
        """A file of the directory, opened for reading; None if it is not there."""
        try:
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
            with _named_in_full(self.path):
                descriptor = _regular(os.open(name, flags, dir_fd=self.descriptor), name)
        except FileNotFoundError:
            yield None
            return
        with os.fdopen(descriptor, "rb") as file:
            yield file

    def adopt(self, file: Path, name: str) -> None:
        """Move a file into the directory."""
        os.rename(file, name, dst_dir_fd=self.descriptor)


def _regular(descriptor: int, name: str) -> int:
    """A descriptor, if it is of a regular file."""
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "not a regular file", name)


def event_line(event: str, at: datetime, attempt: int, **details: Any) -> bytes:
    """One line of ``events.jsonl``."""
    record = {"time": at.isoformat(), "event": event, "attempt": attempt, **details}
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def last_lines(file: BinaryIO, count: int | None, start: int, end: int) -> int:
    """The offset in ``start``..``end`` from which the last ``count`` lines can be read.

    It reads backwards from the end, so that the length of the file does not matter.
    """
    if count is None:
        return start
    if count == 0:
        return end
    at, found = end, -1
    while at > start:
        size = min(_BLOCK, at - start)
        at -= size
        file.seek(at)
        block = file.read(size)
        if found < 0:  # a newline at the very end closes the last line, and starts none
            found = 0
            if block.endswith(b"\n"):
                block = block[:-1]
        newlines = block.count(b"\n")
        if found + newlines >= count:
            for _ in range(count - found):
                cut = block.rfind(b"\n")
                block = block[:cut]
            return at + cut + 1
        found += newlines
    return start
