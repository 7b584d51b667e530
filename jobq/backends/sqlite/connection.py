"""How a SQLite file is opened, written to and closed by many processes at once.

Every write transaction is taken behind the turnstile: an ``flock`` on a file beside the database.
SQLite's own busy handler sleeps and retries, so that one busy writer starves the others; the
kernel hands the turnstile on in turn. Checkpoints happen only behind it: SQLite builds up to
3.51.2 can corrupt a database when a checkpoint races another connection's commit.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from jobq.backends.liveness import liveness_locks, real_path
from jobq.backends.sqlite.errors import raise_ours, require_file
from jobq.backends.sqlite.schema import APPLICATION_ID, FILLING, SCHEMA_VERSION
from jobq.backends.sqlite.wal import reaches, require_log
from jobq.backends.sqlite.write_lock import WriteLock
from jobq.errors import (
    DatabaseDamagedError,
    DatabaseError,
    DatabaseLockedError,
    DatabaseNewerError,
    HalfFilledError,
)
from jobq.system.permissions import make_directory, open_file

LOCK_SECONDS = 20.0
"""How long a writer waits for its turn: many times the longest wait seen among 64 writers."""

CHECKPOINT_BYTES = 4 * 1024 * 1024

LOG_KEPT_BYTES = 2 * CHECKPOINT_BYTES
"""How much of the log's file stays to be written over: a file that grows takes twice as long to flush."""


@dataclass(slots=True, eq=False)
class _Handle:
    """One thread's own connection, and its own way through the turnstile."""

    pid: int
    thread: threading.Thread
    connection: sqlite3.Connection
    turnstile: WriteLock | None  # None: nothing is written through it
    log: str  # the path of the write-ahead log
    log_file: int | None = None  # that file, once it was looked at
    depth: int = 0
    after_commit: set[Callable[[], None]] = field(default_factory=set)
    checkpoint_at: int = CHECKPOINT_BYTES

    def close(self) -> None:
        self.connection.close()
        if self.turnstile is not None:
            self.turnstile.close()
        if self.log_file is not None:
            os.close(self.log_file)


class SqliteConnection:
    """One database file, for every thread of this process; reopened after a fork.

    With ``read_only``, no database is made or migrated, and no log is moved. With ``untouched``,
    nothing is made beside it either: then what is read may be torn if somebody writes meanwhile.
    """

    def __init__(self, path: Path, *, read_only: bool = False, untouched: bool = False) -> None:
        self.path = real_path(path)
        self._name = str(
            self.path
        )  # looked at before each use, which a Path makes three times slower
        self._read_only = read_only or untouched
        self._untouched = untouched
        self.filling = False  # whether it is this process that fills it
        self._local = threading.local()
        self._handles: list[_Handle] = []
        self._file: tuple[int, int] | None = None  # which one was opened: device and inode
        self._lock = threading.Lock()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection to read with; inside a write of this thread, it sees what that wrote."""
        handle = self._handle()
        try:
            if not handle.depth and not self._read_only:
                self._require_same_schema(handle.connection)
            yield handle.connection
        except (sqlite3.Error, ValueError, OverflowError) as error:  # the latter two, from rows
            raise_ours(self.path, error)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A write transaction, durable when the block ends; nested, it joins the outer one."""
        handle = self._handle()
        try:
            if handle.depth:
                with _savepoint(handle):
                    yield handle.connection
            else:
                with self._turn(handle), _transaction(handle):
                    self._require_same_schema(handle.connection)
                    yield handle.connection
                while handle.after_commit:
                    handle.after_commit.pop()()
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter, from SQLite's messages
            raise_ours(self.path, error)

    def after_commit(self, call: Callable[[], None]) -> None:
        """Call it once what this thread is writing is there for others to see: now, if nothing is.

        If that is rolled back, it is not called.
        """
        handle = self._handle()
        if handle.depth:
            handle.after_commit.add(call)
        else:
            call()

    def schema_version(self) -> int:
        """The version of the database's schema."""
        with self.read() as connection:
            version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        return version

    def data_version(self) -> int:
        """A number that changes when another connection commits."""
        with self.read() as connection:
            version: int = connection.execute("PRAGMA data_version").fetchone()[0]
        return version

    def checkpoint(self) -> None:
        """Move the write-ahead log into the database, as far as readers allow."""
        handle = self._handle()
        try:
            with self._turn(handle):
                _checkpoint(handle.connection, "TRUNCATE")
        except sqlite3.Error as error:
            raise_ours(self.path, error)

    def close(self) -> None:
        """Close this process's connections."""
        for handle in self._take(lambda _: True):
            # The last connection to close checkpoints: so this, too, happens in turn.
            if handle.turnstile is not None:
                with suppress(DatabaseError):
                    handle.turnstile.take(LOCK_SECONDS)
            handle.close()
        self._local = threading.local()
        self._file = None

    # -- opening ---------------------------------------------------------------------------

    def _handle(self) -> _Handle:
        handle: _Handle | None = getattr(self._local, "handle", None)
        if handle is not None and handle.depth and handle.pid == os.getpid():
            return handle  # in a transaction, before which all this was seen to
        if self._file is not None and self._identity() != self._file:
            raise DatabaseError(
                f"{self.path}: deleted or replaced while it was in use: nothing more is written; "
                "see what became of it, and start again"
            )
        if handle is None or handle.pid != os.getpid():
            handle = self._open()
            self._local.handle = handle
            with self._lock:
                self._handles.append(handle)
                self._file = self._file or self._identity()
            for left in self._take(lambda handle: not handle.thread.is_alive()):
                left.close()
        return handle

    def _identity(self) -> tuple[int, int] | None:
        """Which file it is; None if there is none. To open it would drop SQLite's locks."""
        try:
            found = os.stat(self._name)
        except FileNotFoundError:
            return None
        except OSError:  # it can't be told: SQLite says what is wrong, if anything is
            return self._file
        return found.st_dev, found.st_ino

    def _take(self, wanted: Callable[[_Handle], bool]) -> list[_Handle]:
        """Take handles out of the list.

        Those from before a fork stay in it, untouched: to close them here would let go of locks
        that the parent process believes it holds.
        """
        with self._lock:
            taken = [h for h in self._handles if h.pid == os.getpid() and wanted(h)]
            self._handles = [h for h in self._handles if h not in taken]
        return taken

    def _open(self) -> _Handle:
        try:
            require_file(self.path, must_exist=self._read_only)
            if self._read_only:
                return self._connect_to_read()
            self._create()
            self._check_before_writing()
            return self._connect()
        except (sqlite3.Error, UnicodeDecodeError, OSError) as error:
            raise_ours(self.path, error)

    def _connect(self) -> _Handle:
        turnstile = WriteLock(f"{self.path}.lock")
        try:
            connection = sqlite3.connect(
                self.path, timeout=10.0, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error:
            turnstile.close()
            raise
        handle = self._handle_of(connection, turnstile)
        try:
            self._prepare(handle)
        except BaseException:
            handle.close()
            raise
        return handle

    def _connect_to_read(self) -> _Handle:
        connection = self._connect_read_only()
        handle = self._handle_of(connection, None)
        try:
            self._version(connection)
        except BaseException:
            handle.close()
            raise
        return handle

    def _handle_of(self, connection: sqlite3.Connection, turnstile: WriteLock | None) -> _Handle:
        thread = threading.current_thread()
        return _Handle(os.getpid(), thread, connection, turnstile, f"{self.path}-wal")

    def _connect_read_only(self) -> sqlite3.Connection:
        # Without a log, a reader would make one: which stays, and which a read-only disk refuses.
        log = Path(f"{self.path}-wal")
        there = os.path.lexists(log)
        if there:
            require_log(log)
        makes_none = self._untouched or not os.access(self.path.parent, os.W_OK)
        how = "immutable=1" if makes_none and not there else "mode=ro"
        uri = f"{self.path.absolute().as_uri()}?{how}"
        return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)

    def _create(self) -> None:
        if self.path.exists():
            return
        make_directory(self.path.parent)
        with suppress(FileExistsError):
            # SQLite gives its -wal and -shm files the permissions of this one.
            os.close(open_file(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL))

    def _check_before_writing(self) -> None:
        """Refuse what is not ours by a connection that can't write, if a crash left its log.

        The last connection to close would move the log into the database.
        """
        try:
            left = os.stat(f"{self.path}-wal").st_size
        except FileNotFoundError:
            return
        if left:
            with closing(self._connect_read_only()) as connection:
                self._version(connection)

    def _prepare(self, handle: _Handle) -> None:
        connection = handle.connection
        version = self._version(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_KEPT_BYTES}")
        if version < SCHEMA_VERSION:
            with self._turn(handle):
                self._migrate(connection)

    def _require_same_schema(self, connection: sqlite3.Connection) -> None:
        """Another version of jobq may migrate the database while this process has it open."""
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION and not self._is_filled_here(version):
            raise DatabaseNewerError(
                f"{self.path}: taken over by another version of jobq (schema {version}, this one "
                f"knows {SCHEMA_VERSION}): nothing more is written; start this program again"
            )

    def _version(self, connection: sqlite3.Connection) -> int:
        connection.execute("BEGIN")  # one look: another process may just be creating it
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
        """Whether `jobq migrate` has not come to its end, and this is it.

        Raises:
            HalfFilledError: it has not, and this is not it; or another version of it has begun.
        """
        if version < FILLING:
            return False
        if self.filling and version == FILLING + SCHEMA_VERSION:
            return True
        raise HalfFilledError(
            f"{self.path}: half filled by `jobq migrate`, and not to be used before it ends: run "
            "it again as it was; or delete this file"
        )

    def _migrate(self, connection: sqlite3.Connection) -> None:
        version = self._version(connection)
        if version >= SCHEMA_VERSION:
            return  # another process was quicker
        if version:
            self._require_no_supervisor()
        import sqlite_utils  # 50 ms, once in a database's life

        from jobq.backends.sqlite.migrations import migrate

        # First of all, so that what an interrupted first step leaves is known as ours.
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA journal_mode = WAL")
        migrate(sqlite_utils.Database(connection))

    def _require_no_supervisor(self) -> None:
        """To migrate under a supervisor would end the jobs that it runs: it stops when it notices.

        Those that are here now are of an older version: this one's would have migrated.
        """
        if live := liveness_locks(self.path).live():
            raise DatabaseLockedError(
                f"{self.path}: an older jobq still works on it ({', '.join(sorted(live))}): let it "
                "end (Ctrl-C, or SIGTERM), then try again: the database will be brought up to date"
            )

    # -- taking turns ----------------------------------------------------------------------

    @contextmanager
    def _turn(self, handle: _Handle) -> Iterator[None]:
        if handle.turnstile is None:
            yield  # SQLite refuses what would write
            return
        handle.turnstile.take(LOCK_SECONDS)
        try:
            yield
        finally:
            handle.turnstile.leave()


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
    _checkpoint_if_due(handle)


def _undo(connection: sqlite3.Connection, statement: str) -> None:
    """Roll back. A full disk may have made SQLite do so already: its error is the one to raise."""
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
        # It stays the same one for as long as the connection is open.
        handle.log_file = os.open(handle.log, os.O_RDONLY | os.O_CLOEXEC)
    if not reaches(handle.log_file, handle.checkpoint_at):
        return
    # If a reader is in the way the log goes on growing: try again when it has grown as much again.
    done = _checkpoint(handle.connection, "RESTART")
    handle.checkpoint_at = CHECKPOINT_BYTES if done else handle.checkpoint_at + CHECKPOINT_BYTES


def _checkpoint(connection: sqlite3.Connection, how: str) -> bool:
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        busy: int = connection.execute(f"PRAGMA wal_checkpoint({how})").fetchone()[0]
    except sqlite3.OperationalError:
        return False  # what was committed is safe in the log; the next commit tries again
    finally:
        connection.execute("PRAGMA busy_timeout = 10000")
    return not busy
