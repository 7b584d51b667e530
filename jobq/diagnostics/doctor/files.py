"""Checks of files, file systems, disks and permissions, even if the database can't be opened."""

import fcntl
import os
import re
import shutil
import sqlite3
import stat
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from jobq.backends.liveness import liveness_locks, real_path
from jobq.config.redis_url import parse_url
from jobq.config.settings import SQLITE, Settings
from jobq.config.trust import readers
from jobq.diagnostics.doctor.finding import (
    Examination,
    Finding,
    if_any,
    ok,
    problem,
    warning,
)
from jobq.diagnostics.doctor.serve import check_serve
from jobq.job_types.learned import recall
from jobq.job_types.worker_files import faults as worker_faults
from jobq.job_types.worker_files import worker_files
from jobq.limits import listed
from jobq.logs import gaps
from jobq.logs.directory import EVENTS, LOG, SPOOL_PREFIX, STAGING_PREFIX, STDERR, STDIN, STDOUT
from jobq.redaction import Redaction
from jobq.system.disk_space import SETTING as MIN_FREE
from jobq.system.disk_space import directories, shortage_at
from jobq.system.permissions import DIRECTORY_MODE, FILE_MODE
from jobq.units import format_size

NETWORK = re.compile(r"nfs\d?|cifs|smb\d?|smbfs|9p|afs|ceph|glusterfs|lustre|ncpfs|vboxsf|prl_fs")
NETWORK_FUSE = re.compile(
    r"fuse\.(sshfs|rclone|s3fs|gcsfuse|glusterfs|ceph|curlftpfs|davfs2?|vmhgfs.*)"
)
LOW_SPACE_BYTES = 50_000_000
STRAY_MIN_AGE_S = 3600.0
_TEMPORARY_PREFIXES = (SPOOL_PREFIX, STAGING_PREFIX)

OWN_FILES = (STDOUT, STDERR, LOG, EVENTS, STDIN, gaps.FILE)

_SUFFIXES = ("-wal", "-shm", ".lock", ".types.json")
_MOUNTS = Path("/proc/self/mountinfo")
_LOCK_TIMEOUT_S = 2.0
_BUG_INTRODUCED, _BUG_FIXED = (3, 7, 0), (3, 51, 3)
_BUG_FIXED_IN_BRANCH: dict[tuple[int, ...], int] = {(3, 50): 7, (3, 44): 6}
"""The first release with the fix, in each older branch that has one."""


def check_config_file(examined: Examination) -> Iterator[Finding]:
    """Find a jobq.toml with a password that other users can read."""
    path, redactor = examined.settings.path, examined.settings.redactor
    if path is None:
        yield ok("config", "the defaults", "apply: there is no jobq.toml")
        return
    table = tomllib.loads(path.read_text("utf-8"))
    backend, hooks = table.get("backend", SQLITE), table.get("hooks", {})
    has_secret = backend != SQLITE and parse_url(backend).secret
    has_secret = has_secret or Redaction(redactor).value(hooks) != hooks
    if has_secret and (who := readers(path)):
        what = f"{who} can read the password in it"
        remedy = f"run `chmod 600 {path}`, or set $JOBQ_BACKEND, and change the password"
        yield problem("config", path, what, remedy, partial(_hide, path))
    else:
        yield ok("config", path, "shows no password to others")


def _hide(path: Path) -> str:
    path.chmod(FILE_MODE)
    return f"{path} made private"


def check_workers(examined: Examination) -> Iterator[Finding]:
    """Find worker files that can't be loaded, without running any.

    An error that only shows when a file runs is known from the last time that it was loaded.
    """
    settings = examined.settings
    errors = [str(error) for error in worker_faults(settings.worker_paths)]
    learned = recall(settings)
    if not errors and learned.is_current:
        errors += learned.errors
    for error in errors:
        where, _, what = error.partition(": ")
        yield problem("workers", where, what, "fix it: until then, its job types can't run")
    if not errors:
        names = ", ".join(map(str, settings.worker_paths)) or "bundled workers"
        files = sum(len(worker_files(folder)) for folder in settings.worker_paths)
        yield ok("workers", names, f"worker files: {files}")


def check_sqlite(examined: Examination) -> Iterator[Finding]:
    """Report whether this SQLite can corrupt a database when a checkpoint races a commit."""
    del examined
    version = sqlite3.sqlite_version
    if has_wal_reset_bug(version):
        what = "has the WAL-reset bug, which jobq avoids: its checkpoints hold the write lock"
    else:
        what = "does not have the WAL-reset bug"
    yield ok("sqlite", f"SQLite {version}", what)


def has_wal_reset_bug(version: str) -> bool:
    """Return true for SQLite 3.7.0 to 3.51.2, except 3.50.7 and 3.44.6 and later of each branch."""
    numbers = tuple(map(int, version.split(".")))
    if not _BUG_INTRODUCED <= numbers < _BUG_FIXED:
        return False
    return numbers[2] < _BUG_FIXED_IN_BRANCH.get(numbers[:2], numbers[2] + 1)


def check_file_systems(examined: Examination) -> Iterator[Finding]:
    """Find a database or logs on a network file system."""
    settings = examined.settings
    for path, level, setting, risk in (
        (settings.database, problem, "database", "its locks are unreliable: it may get damaged"),
        (settings.log_dir, warning, "log_dir", "jobs hang while its server does not answer"),
    ):
        kind = _kind_at(path)
        if is_network(kind):
            remedy = f"move it to a local disk: set `{setting}` in jobq.toml"
            yield level("file system", path, f"is on {kind}: {risk}", remedy)
        else:
            yield ok("file system", path, f"is on {kind or 'an unknown type'}")


def is_network(kind: str) -> bool:
    """Return true if a file system of this type is on another host."""
    return bool(NETWORK.fullmatch(kind) or NETWORK_FUSE.fullmatch(kind))


def mount_type(path: Path, table: str) -> str:
    """Return the type of a path's file system from the text of a mountinfo; "" if unknown."""
    best, found = -1, ""
    for line in table.splitlines():
        fields = line.split(" ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[4]))
        # Of several mounts on one directory, the last one counts.
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), fields[fields.index("-") + 1]
    return found


def _kind_at(path: Path) -> str:
    try:
        return mount_type(path.resolve(), _MOUNTS.read_text("utf-8"))
    except (OSError, ValueError, RuntimeError):  # no /proc, an unknown format, a loop of links
        return ""


def check_locks(examined: Examination) -> Iterator[Finding]:
    """Check that the write lock can be taken."""
    path = Path(f"{real_path(examined.settings.database)}.lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        yield ok("locks", path, "does not exist yet")
        return
    except OSError as error:
        remedy = "replace it with a regular file that you own"
        yield problem("locks", path, f"{error.strerror}", remedy)
        return
    try:
        if _is_free(descriptor):
            yield ok("locks", path, "write lock is free")
        else:
            yield problem(
                "locks",
                path,
                f"another process has held the write lock for {_LOCK_TIMEOUT_S:.0f} s: "
                "no other process can write",
                f"find the process that is stopped (`fuser -v {path}`), and resume it "
                "(kill -CONT) or end it",
            )
    except OSError as error:
        remedy = "move the database to a local disk: set `database` in jobq.toml"
        what = f"the file system does not support locks: {error.strerror}"
        yield problem("locks", path, what, remedy)
    finally:
        os.close(descriptor)


def _is_free(descriptor: int) -> bool:
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            return True


def check_space(examined: Examination) -> Iterator[Finding]:
    """Check the free space of the disks."""
    settings = examined.settings
    for path in directories(settings):
        folder = next(p for p in (path, *path.parents) if p.is_dir())
        free = shutil.disk_usage(folder).free
        text, remedy = f"{format_size(free)} free", "free disk space, as with `jobq prune`"
        if shortage_at(folder, settings.min_free):
            what = f"{text}, too little to start jobs ({MIN_FREE})"
            yield problem("space", folder, what, remedy)
        elif free < LOW_SPACE_BYTES:
            yield problem("space", folder, text, remedy)
        else:
            yield ok("space", folder, text)


# -- permissions, links and strays -------------------------------------------------------------


def check_writable(examined: Examination) -> Iterator[Finding]:
    """Check that the database and its files can be written to."""
    path = real_path(examined.settings.database)
    paths = [path.parent, *(Path(f"{path}{suffix}") for suffix in ("", *_SUFFIXES))]
    denied = [str(item) for item in paths if item.exists() and not os.access(item, os.W_OK)]
    if denied:
        remedy = f"run `chown -R {os.getuid()} {path.parent}` and `chmod -R u+w {path.parent}`"
        yield problem("writable", path, f"you have no write access to {listed(denied)}", remedy)
    else:
        yield ok("writable", path, "is writable")


def check_permissions(examined: Examination) -> Iterator[Finding]:
    """Find files and directories that other users can read or change."""
    settings = examined.settings
    others = [path for path in _own_paths(settings) if _is_open_to_others(path)]
    if others:
        where = others[0] if len(others) == 1 else os.path.commonpath(others)
        yield problem(
            "permissions",
            where,
            f"other users have access to {listed([path.name for path in others])}",
            "`jobq doctor --fix` makes it private",
            partial(_make_private, settings),
        )
    else:
        yield ok("permissions", settings.database, "database and logs are private")
    folder = settings.database.parent
    with suppress(OSError):
        mode = folder.stat().st_mode
        if mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & stat.S_ISVTX:
            what = "other users can replace the database in it"
            yield problem("permissions", folder, what, f"run `chmod go-w {folder}`")


def _own_paths(settings: Settings) -> Iterator[Path]:
    """Yield the files and directories that jobq creates; those that jobs create are theirs."""
    database = real_path(settings.database)
    files = (Path(f"{database}{suffix}") for suffix in ("", *_SUFFIXES))
    yield from (path for path in files if path.is_file())
    lock_folder = liveness_locks(settings.database).directory
    yield from (lock_folder, *_entries(lock_folder))
    yield from _log_paths(settings.log_dir)


def _log_paths(root: Path) -> Iterator[Path]:
    """Yield the log directories, and jobq's own files in them, without following links."""
    yield root
    yield from (path for path in _entries(root) if path.name.startswith(_TEMPORARY_PREFIXES))
    yield root / "jobs"
    for folder in _entries(root / "jobs"):
        yield folder
        if not folder.is_symlink():
            yield from (folder / name for name in OWN_FILES)


def _entries(folder: Path) -> list[Path]:
    with suppress(OSError):
        return [] if folder.is_symlink() else sorted(folder.iterdir())
    return []


def _is_open_to_others(path: Path) -> bool:
    with suppress(OSError):
        found = os.lstat(path)
        return bool(found.st_mode & 0o077) and not stat.S_ISLNK(found.st_mode)
    return False


def _make_private(settings: Settings) -> str:
    done = 0
    for path in [path for path in _own_paths(settings) if _is_open_to_others(path)]:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            os.fchmod(descriptor, DIRECTORY_MODE if directory else FILE_MODE)
        finally:
            os.close(descriptor)
        done += 1
    return f"files and directories made private: {done}"


def check_log_directory(examined: Examination) -> Iterator[Finding]:
    """Check that logs can be written."""
    root = examined.settings.log_dir
    jobs = root / "jobs"
    place = next(path for path in (jobs, root, *root.parents) if os.path.lexists(path))
    remedy = "set another `log_dir` in jobq.toml, or replace it with a directory that you own"
    if not place.is_dir() or (place == jobs and jobs.is_symlink()):
        yield problem("log directory", place, "is not a directory", remedy)
    elif not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        yield problem("log directory", place, "is not readable and writable by you", remedy)
    else:
        yield ok("log directory", root, "is writable")


def check_links(examined: Examination) -> Iterator[Finding]:
    """Find symbolic links among the logs, which jobq does not follow."""
    root = examined.settings.log_dir
    yield if_any(
        [str(path) for path in _log_paths(root) if path != root and path.is_symlink()],
        warning(
            "links",
            root,
            "symbolic links",
            "jobq does not follow them: find out what created them, and delete them",
        ),
        otherwise="no symbolic links",
    )


def check_strays(examined: Examination) -> Iterator[Finding]:
    """Find temporary files of jobs that were not added: stdin of `add`, the plan of an import."""
    root = examined.settings.log_dir
    yield if_any(
        [path.name for path in _strays(root)],
        warning(
            "strays",
            root,
            "temporary files of jobs that were not added",
            "`jobq doctor --fix` deletes those older than an hour",
            partial(_delete_strays, root),
        ),
        otherwise="no temporary files of jobs that were not added",
    )


def _strays(root: Path) -> list[Path]:
    old = time.time() - STRAY_MIN_AGE_S
    found = []
    with suppress(OSError):
        for path in root.iterdir():
            if path.name.startswith(_TEMPORARY_PREFIXES):
                seen = path.lstat()
                if stat.S_ISREG(seen.st_mode) and seen.st_mtime < old:
                    found.append(path)
    return sorted(found)


def _delete_strays(root: Path) -> str:
    strays = _strays(root)
    for path in strays:
        path.unlink(missing_ok=True)
    return f"deleted temporary files: {len(strays)}"


LOG_CHECKS: tuple[Callable[[Examination], Iterator[Finding]], ...] = (
    check_config_file,
    check_workers,
    check_space,
    check_log_directory,
    check_links,
    check_strays,
    check_serve,
)
"""The checks that apply without a database file."""

FILE_CHECKS: tuple[Callable[[Examination], Iterator[Finding]], ...] = (
    check_config_file,
    check_workers,
    check_sqlite,
    check_file_systems,
    check_locks,
    check_space,
    check_writable,
    check_permissions,
    check_log_directory,
    check_links,
    check_strays,
    check_serve,
)
