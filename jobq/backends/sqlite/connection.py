"""Connections to a SQLite file that many processes open, write to and close.

Every write transaction holds the write lock: an ``flock`` on a file beside the database. SQLite's
own busy handler sleeps and retries, so that one busy writer starves the others; the kernel grants
the lock in order of arrival. Checkpoints hold it, too: SQLite builds up to 3.51.2 can corrupt a
database when a checkpoint races another connection's commit.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from jobq.backends.liveness import liveness_locks, real_path
from jobq.backends.sqlite.errors import raise_ours
from jobq.backends.sqlite.files import (
    Stamp,
    connect_to_read,
    create,
    exists,
    may_write,
    require_files,
    stamp_of,
)
from jobq.backends.sqlite.schema import APPLICATION_ID, FILLING_MARK, SCHEMA_VERSION
from jobq.backends.sqlite.wal import reaches
from jobq.backends.sqlite.write_lock import WriteLock
from jobq.errors import (
    DatabaseDamagedError,
    DatabaseError,
    DatabaseNewerError,
    DatabaseReadOnlyError,
    HalfFilledError,
    OlderSupervisorError,
)

LOCK_TIMEOUT_S = 20.0
"""Longest wait for the write lock: many times the longest wait measured among 64 writers."""

BUSY_TIMEOUT_S = 10.0
"""Longest wait for a program that does not take the write lock."""

CHECKPOINT_BYTES = 4 * 1024 * 1024
"""Size of the write-ahead log at which a commit moves it into the database."""

MAX_IDLE_LOG_BYTES = 2 * CHECKPOINT_BYTES
"""Size of the log's file that is kept for reuse: flushing a file that grows takes twice as long."""


@dataclass(slots=True, eq=False)
class _Handle:
    """One thread's own connection and write lock."""

    pid: int
    thread: threading.Thread
    connection: sqlite3.Connection
    write_lock: WriteLock | None  # None: the connection only reads
    log: str  # the path of the write-ahead log
    log_file: int | None = None  # its descriptor, once it was needed
    is_empty: bool = False  # there is no database yet: it stands for one without jobs
    fixed_at: Stamp | None = None  # it reads the file as it was then, and sees no changes
    depth: int = 0
    after_commit: set[Callable[[], None]] = field(default_factory=set)
    checkpoint_at: int = CHECKPOINT_BYTES

    def close(self) -> None:
        self.connection.close()
        if self.write_lock is not None:
            self.write_lock.close()
        if self.log_file is not None:
            os.close(self.log_file)


class SqliteConnection:
    """One database file, for every thread of this process; reopened after a fork.

    The first write creates it: until then, reads find an empty one. With ``read_only``, no database
    is created or migrated, and no log is moved. With ``untouched``, no file beside it is created
    either: then reads may be torn if another process writes meanwhile.
    """

    def __init__(self, path: Path, *, read_only: bool = False, untouched: bool = False) -> None:
        self.path = real_path(path)
        self._name = str(
            self.path
        )  # `stat` runs before each use, and takes a Path three times longer
        self._read_only = read_only or untouched
        self._untouched = untouched
        self.filling = False  # this process fills the database
        self._local = threading.local()
        self._handles: list[_Handle] = []
        self._file: tuple[int, int] | None = None  # device and inode of the opened file
        self._lock = threading.Lock()
        self._max_wait_s = LOCK_TIMEOUT_S

    def limit_waits(self, seconds: float | None) -> None:
        """Wait no longer than this for the locks of others, in this thread; None: as at first."""
        self._max_wait_s = LOCK_TIMEOUT_S if seconds is None else seconds
        busy_s = BUSY_TIMEOUT_S if seconds is None else seconds
        with self.read() as connection:
            connection.execute(f"PRAGMA busy_timeout = {round(busy_s * 1000)}")

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection to read with; inside a write of this thread, it sees uncommitted changes."""
        handle = self._handle()
        try:
            if not handle.depth and not self._read_only:
                self._require_same_schema(handle.connection)
            yield handle.connection
        except (
            sqlite3.Error,
            ValueError,
            OverflowError,
        ) as error:  # the latter two from decoding rows
            raise_ours(self.path, error)

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection to read with, so that all statements see the same moment."""
        with self.read() as connection:
            if connection.in_transaction:
                yield connection
                return
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Yield a write transaction, durable when the block ends; nested ones join the outer one."""
        handle = self._handle(writes=True)
        try:
            if handle.depth:
                with _savepoint(handle):
                    yield handle.connection
            else:
                with self._locked(handle), _transaction(handle):
                    self._require_same_schema(handle.connection)
                    yield handle.connection
                while handle.after_commit:
                    handle.after_commit.pop()()
        # UnicodeDecodeError comes from SQLite's messages, OverflowError from numbers given to it.
        except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
            raise_ours(self.path, error)

    def after_commit(self, call: Callable[[], None]) -> None:
        """Call a function after the commit of this thread's transaction: now, if there is none.

        It is not called if the transaction is rolled back.
        """
        handle = self._handle()
        if handle.depth:
            handle.after_commit.add(call)
        else:
            call()

    def check(self) -> None:
        """Check the database, if there is one, rather than at the first verb."""
        if exists(self._name):
            with self.read():
                pass
            return
        try:
            require_files(self.path, must_exist=self._read_only)
        except OSError as error:
            raise_ours(self.path, error)

    def schema_version(self) -> int:
        """Return the version of the database's schema."""
        with self.read() as connection:
            version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        return version

    def data_version(self) -> int:
        """Return a number that changes when another connection commits; 0 without a database."""
        if self._handle().is_empty:
            return 0
        with self.read() as connection:
            version: int = connection.execute("PRAGMA data_version").fetchone()[0]
        return version

    def checkpoint(self) -> None:
        """Move the write-ahead log into the database, as far as readers allow."""
        if not exists(self._name):
            return
        handle = self._handle(writes=True)
        try:
            with self._locked(handle):
                _checkpoint(handle.connection, "TRUNCATE")
        except sqlite3.Error as error:
            raise_ours(self.path, error)

    def close(self) -> None:
        """Close this process's connections."""
        for handle in self._take(lambda _: True):
            # The last connection to close runs a checkpoint, which needs the lock.
            if handle.write_lock is not None:
                with suppress(DatabaseError):
                    handle.write_lock.acquire(LOCK_TIMEOUT_S)
            handle.close()
        self._local = threading.local()
        self._file = None

    # -- opening ---------------------------------------------------------------------------

    def _handle(self, *, writes: bool = False) -> _Handle:
        handle: _Handle | None = getattr(self._local, "handle", None)
        if handle is not None and handle.depth and handle.pid == os.getpid():
            return handle  # in a transaction, before which all of this was checked
        if self._file is not None and self._identity() != self._file:
            raise DatabaseError(
                f"{self.path}: deleted or replaced while it was in use: nothing more is written; "
                "find out what happened to it, and start again"
            )
        if handle is not None and handle.pid == os.getpid() and self._is_outdated(handle, writes):
            self._take(lambda each: each is handle)
            handle.close()
            handle = None
        if handle is None or handle.pid != os.getpid():
            handle = self._open(writes=writes)
            self._local.handle = handle
            with self._lock:
                self._handles.append(handle)
                if not handle.is_empty:
                    self._file = self._file or self._identity()
            for left in self._take(lambda handle: not handle.thread.is_alive()):
                left.close()
        return handle

    def _is_outdated(self, handle: _Handle, writes: bool) -> bool:
        """Return whether a connection that was opened to read must be opened again."""
        if writes and handle.write_lock is None and not self._read_only:
            return True
        if handle.fixed_at is not None:
            return handle.fixed_at != stamp_of(self._name)
        return handle.is_empty and exists(self._name)

    def _identity(self) -> tuple[int, int] | None:
        """Return device and inode; None if there is no file. Opening it would drop SQLite's locks."""
        try:
            found = os.stat(self._name)
        except FileNotFoundError:
            return None
        except OSError:  # unknown: SQLite reports what is wrong, if anything is
            return self._file
        return found.st_dev, found.st_ino

    def _take(self, wanted: Callable[[_Handle], bool]) -> list[_Handle]:
        """Remove handles from the list, and return them.

        Those from before a fork stay in it, untouched: closing them here would release locks that
        the parent process believes it holds.
        """
        with self._lock:
            taken = [h for h in self._handles if h.pid == os.getpid() and wanted(h)]
            self._handles = [h for h in self._handles if h not in taken]
        return taken

    def _open(self, *, writes: bool) -> _Handle:
        try:
            require_files(self.path, must_exist=self._read_only)
            if not exists(self._name) and (self._read_only or not writes):
                return self._connect_to_nothing()
            if self._read_only or not (writes or may_write(self.path)):
                return self._connect_to_read()
            create(self.path)
            self._check_before_writing()
            return self._connect()
        except (sqlite3.Error, UnicodeDecodeError, OSError) as error:
            raise_ours(self.path, error)

    def _connect_to_nothing(self) -> _Handle:
        """Return a connection to an empty database in memory: reading must not create one."""
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        handle = self._handle_of(connection, None)
        handle.is_empty = True
        if not self._read_only:
            _create_tables(connection)
        return handle

    def _connect(self) -> _Handle:
        write_lock = WriteLock(f"{self.path}.lock")
        try:
            connection = sqlite3.connect(
                self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error:
            write_lock.close()
            raise
        return self._checked(self._handle_of(connection, write_lock), self._prepare)

    def _connect_to_read(self) -> _Handle:
        stamp = stamp_of(self._name)
        connection, is_fixed = connect_to_read(self.path, untouched=self._untouched)
        handle = self._handle_of(connection, None)
        handle.fixed_at = stamp if is_fixed else None
        return self._checked(handle, self._require_migrated)

    def _require_migrated(self, handle: _Handle) -> None:
        version = self._version(handle.connection)
        if version < SCHEMA_VERSION and not self._read_only:
            raise DatabaseReadOnlyError(
                f"{self.path}: has schema {version}, and has to be migrated to {SCHEMA_VERSION}: "
                "make it and its directory writable for you"
            )

    def _checked(self, handle: _Handle, check: Callable[[_Handle], object]) -> _Handle:
        """Return a handle that passes a check; close it if it does not."""
        try:
            check(handle)
        except BaseException:
            handle.close()
            raise
        return handle

    def _handle_of(self, connection: sqlite3.Connection, write_lock: WriteLock | None) -> _Handle:
        thread = threading.current_thread()
        return _Handle(os.getpid(), thread, connection, write_lock, f"{self.path}-wal")

    def _check_before_writing(self) -> None:
        """Refuse a foreign database with a crashed program's log, using a read-only connection.

        The last writing connection to close would move the log into the database.
        """
        try:
            left = os.stat(f"{self.path}-wal").st_size
        except FileNotFoundError:
            return
        if left:
            with closing(connect_to_read(self.path, untouched=False)[0]) as connection:
                self._version(connection)

    def _prepare(self, handle: _Handle) -> None:
        connection = handle.connection
        version = self._version(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(f"PRAGMA journal_size_limit = {MAX_IDLE_LOG_BYTES}")
        if version < SCHEMA_VERSION:
            with self._locked(handle):
                self._migrate(connection)

    def _require_same_schema(self, connection: sqlite3.Connection) -> None:
        """Refuse to go on after another version of jobq has migrated the open database."""
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION and not self._is_filled_here(version):
            raise DatabaseNewerError(
                f"{self.path}: migrated by another version of jobq (schema {version}, this one "
                f"knows {SCHEMA_VERSION}): nothing more is written; restart this program"
            )

    def _version(self, connection: sqlite3.Connection) -> int:
        connection.execute("BEGIN")  # one snapshot: another process may be creating it now
        try:
            version: int = connection.execute("PRAGMA user_version").fetchone()[0]
            application: int = connection.execute("PRAGMA application_id").fetchone()[0]
            tables: int = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        finally:
            _undo(connection, "ROLLBACK")
        if application != APPLICATION_ID and (application or version or tables):
            raise DatabaseDamagedError(
                f"{self.path}: not a jobq database, left untouched: "
                "set another `database` in jobq.toml or $JOBQ_DATABASE"
            )
        if self._is_filled_here(version):
            return SCHEMA_VERSION
        if version > SCHEMA_VERSION:
            raise DatabaseNewerError(
                f"{self.path}: written by a newer jobq (schema {version}, this one knows "
                f"{SCHEMA_VERSION}), left untouched: upgrade jobq"
            )
        return version

    def _is_filled_here(self, version: int) -> bool:
        """Return whether `jobq migrate` fills the database, and this process runs it.

        Raises:
            HalfFilledError: another process fills it, or another version of jobq began to.
        """
        if version < FILLING_MARK:
            return False
        if self.filling and version == FILLING_MARK + SCHEMA_VERSION:
            return True
        raise HalfFilledError(
            f"{self.path}: half filled by `jobq migrate`, and not usable before it ends: run the "
            "same command again, or delete this file"
        )

    def _migrate(self, connection: sqlite3.Connection) -> None:
        version = self._version(connection)
        if version >= SCHEMA_VERSION:
            return  # another process has migrated it meanwhile
        if version:
            self._require_no_supervisor()
        # Set first, so that a database whose first step is interrupted is recognized.
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA journal_mode = WAL")
        _create_tables(connection)

    def _require_no_supervisor(self) -> None:
        """Refuse to migrate under a supervisor: it would stop once it notices, and end its jobs.

        Live supervisors are of an older version: one of this version would have migrated.
        """
        if live := liveness_locks(self.path).live():
            raise OlderSupervisorError(str(self.path), live)

    # -- locking ---------------------------------------------------------------------------

    @contextmanager
    def _locked(self, handle: _Handle) -> Iterator[None]:
        if handle.write_lock is None:
            yield  # SQLite refuses writes
            return
        handle.write_lock.acquire(self._max_wait_s)
        try:
            yield
        finally:
            handle.write_lock.release()


def _create_tables(connection: sqlite3.Connection) -> None:
    import sqlite_utils  # 50 ms, once in a database's life

    from jobq.backends.sqlite.migrations import migrate

    migrate(sqlite_utils.Database(connection))


@contextmanager
def _transaction(handle: _Handle) -> Iterator[None]:
    connection = handle.connection
    connection.execute("BEGIN IMMEDIATE")
    handle.depth = 1
    handle.after_commit.clear()
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        _undo(connection, "ROLLBACK")
        raise
    finally:
        handle.depth = 0
    with suppress(OSError, sqlite3.Error):  # the change is stored: what is wrong, others will meet
        _checkpoint_if_due(handle)


def _undo(connection: sqlite3.Connection, statement: str) -> None:
    """Roll back. SQLite may have done so itself on a full disk: that error is the one to raise."""
    with suppress(sqlite3.OperationalError):
        if connection.in_transaction:
            connection.execute(statement)


@contextmanager
def _savepoint(handle: _Handle) -> Iterator[None]:
    name = f"nested_{handle.depth}"
    handle.connection.execute(f"SAVEPOINT {name}")
    handle.depth += 1
    try:
        yield
    except BaseException:
        _undo(handle.connection, f"ROLLBACK TO {name}")
        _undo(handle.connection, f"RELEASE {name}")
        raise
    finally:
        handle.depth -= 1
    handle.connection.execute(f"RELEASE {name}")


def _checkpoint_if_due(handle: _Handle) -> None:
    if handle.log_file is None:
        # It stays the same file as long as the connection is open.
        handle.log_file = os.open(handle.log, os.O_RDONLY | os.O_CLOEXEC)
    if not reaches(handle.log_file, handle.checkpoint_at):
        return
    # A reader makes the log go on growing: try again when it has grown by as much again.
    done = _checkpoint(handle.connection, "RESTART")
    handle.checkpoint_at = CHECKPOINT_BYTES if done else handle.checkpoint_at + CHECKPOINT_BYTES


def _checkpoint(connection: sqlite3.Connection, how: str) -> bool:
    (patience,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        busy: int = connection.execute(f"PRAGMA wal_checkpoint({how})").fetchone()[0]
    except sqlite3.OperationalError:
        return False  # committed data is safe in the log; the next commit tries again
    finally:
        connection.execute(f"PRAGMA busy_timeout = {patience}")
    return not busy
