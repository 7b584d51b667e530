"""Liveness of the supervisors on this host, and waking them.

Beside a SQLite database is a directory with two files for each supervisor: a lock that its process
holds as long as it lives, and a FIFO that wakes it. The kernel releases a lock when its process
dies, however it dies; so a dead supervisor is detected immediately.
"""

import errno
import fcntl
import os
import stat
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jobq.backends.wakeup import FifoListener, poke
from jobq.errors import DatabaseError
from jobq.system.permissions import is_ours, make_directory, open_file

_SUFFIX_LOCK = ".lock"
_SUFFIX_WAKE = ".wake"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK = os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class LivenessLocks:
    """The directory of the locks and FIFOs of supervisors.

    It may have come with files that another user has made: no link is followed, and nothing is
    used but what is of this user, and of the right type.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def announce(self, owner: str) -> "FifoListener":
        """Take the owner's lock and open its FIFO."""
        lock = self.hold(owner)
        try:
            with self._opened() as directory:
                return FifoListener(lock, self.directory / (owner + _SUFFIX_WAKE), directory)
        except OSError as error:
            os.close(lock)
            raise self._unusable(error) from error

    def hold(self, owner: str) -> int:
        """Take the owner's lock; return a descriptor that releases it when closed."""
        try:
            make_directory(self.directory)
            with self._opened() as directory:
                lock = open_file(owner + _SUFFIX_LOCK, _LOCK | os.O_CREAT, dir_fd=directory)
            fcntl.flock(lock, fcntl.LOCK_EX)  # a check of liveness holds it for a moment only
        except OSError as error:
            raise self._unusable(error) from error
        return lock

    def _unusable(self, error: OSError) -> DatabaseError:
        where = self.directory if not error.filename else self.directory / error.filename
        return DatabaseError(
            f"{where}: {error.strerror}: supervisors keep their "
            "locks there: make it a directory that you own, on a file system with locks"
        )

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Open the directory.

        Raises:
            OSError: it is not there, is a link, or belongs to another user.
        """
        directory = os.open(self.directory, _DIRECTORY)
        try:
            if not is_ours(os.fstat(directory)):
                raise OSError(errno.EPERM, "belongs to another user", str(self.directory))
            yield directory
        finally:
            os.close(directory)

    def wake(self) -> None:
        """Wake every listener. One that can't be woken polls before long.

        It follows a change that is stored: so nothing that is wrong here is an error.
        """
        try:
            with self._opened() as directory:
                for name in os.listdir(directory):  # noqa: PTH208 - of a descriptor
                    if name.endswith(_SUFFIX_WAKE):
                        self._poke(name, directory)
        except FileNotFoundError:
            return
        except OSError as error:
            _warn(self.directory, error)

    def _poke(self, name: str, directory: int) -> None:
        try:
            poke(name, directory)
        except OSError as error:
            _warn(self.directory / name, error)

    def dead(self, owners: Collection[str]) -> set[str]:
        """Return those owners whose lock file exists and is not held."""
        return {owner for owner, held in self._held(owners).items() if held is False}

    def live(self) -> set[str]:
        """Return the owners that hold their locks, whether they are registered or not."""
        return {owner for owner, held in self._held(self.announced()).items() if held}

    def announced(self) -> set[str]:
        """Return the owners of all files here, dead or alive."""
        try:
            with self._opened() as directory:
                names = os.listdir(directory)  # noqa: PTH208 - of a descriptor
        except (FileNotFoundError, NotADirectoryError):
            return set()
        suffixes = (_SUFFIX_LOCK, _SUFFIX_WAKE)
        return {name[: -len(end)] for name in names for end in suffixes if name.endswith(end)}

    def forget(self, owners: Collection[str]) -> None:
        """Remove the files of dead owners."""
        with suppress(FileNotFoundError, NotADirectoryError), self._opened() as directory:
            for owner in owners:
                if os.sep in owner:
                    continue
                for suffix in (_SUFFIX_WAKE, _SUFFIX_LOCK):
                    with suppress(FileNotFoundError):
                        os.unlink(owner + suffix, dir_fd=directory)

    def _held(self, owners: Collection[str]) -> dict[str, bool | None]:
        """Return whether the lock of each owner is held; None if it has no lock file here."""
        if not owners:
            return {}
        try:
            with self._opened() as directory:
                return {owner: _is_held(owner, directory) for owner in owners}
        except OSError:
            return dict.fromkeys(owners)


def _is_held(owner: str, directory: int) -> bool | None:
    if os.sep in owner:
        return None  # has no files here: a pull worker chooses its own name
    try:
        lock = os.open(owner + _SUFFIX_LOCK, _LOCK, dir_fd=directory)
    except OSError:
        return None
    try:
        found = os.fstat(lock)
        if not (stat.S_ISREG(found.st_mode) and is_ours(found)):
            return None
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(lock)


def _warn(path: Path, error: OSError) -> None:
    with suppress(Warning):  # a program may have made warnings errors, and the change is stored
        warnings.warn(
            f"{path}: {error.strerror}: no supervisor can be woken there; each looks for changes "
            "every second: find out what made it, and delete it",
            stacklevel=2,
        )


def liveness_locks(database: Path) -> LivenessLocks:
    """Return the locks of the supervisors of a database."""
    return LivenessLocks(Path(f"{real_path(database)}.supervisors"))


def real_path(database: Path) -> Path:
    """Resolve a symbolic link to a database: its write-ahead log, locks and FIFOs are beside the target.

    Otherwise processes that use the link and processes that use the target would not wait for each
    other. A dangling link is returned as it is.
    """
    # Not by methods of Path, which raise an error where a directory above can't be searched.
    is_link = os.path.islink(database) and os.path.exists(database)
    return database.resolve() if is_link else database
