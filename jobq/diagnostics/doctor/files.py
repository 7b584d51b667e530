"""What is wrong with where a queue is kept, whether or not its database opens."""

import fcntl
import os
import re
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from jobq.backends.liveness import liveness_locks, real_path
from jobq.config.settings import Settings
from jobq.diagnostics.doctor.finding import Examination, Finding, ok, problem, some, warning
from jobq.job_types.registry import load
from jobq.logs import gaps
from jobq.logs.directory import EVENTS, LOG, PLAN, SPOOLED, STDERR, STDIN, STDOUT
from jobq.system.disk_space import SETTING as MIN_FREE
from jobq.system.disk_space import directories, shortage_at
from jobq.system.permissions import DIRECTORY_MODE, FILE_MODE

NETWORK = re.compile(r"nfs\d?|cifs|smb\d?|smbfs|9p|afs|ceph|glusterfs|lustre|ncpfs|vboxsf|prl_fs")
NETWORK_FUSE = re.compile(
    r"fuse\.(sshfs|rclone|s3fs|gcsfuse|glusterfs|ceph|curlftpfs|davfs2?|vmhgfs.*)"
)
HARDLY_ANY_BYTES = 50_000_000
STRAY_SECONDS = 3600.0
_TEMPORARY = (SPOOLED, PLAN)

OWN_FILES = (STDOUT, STDERR, LOG, EVENTS, STDIN, gaps.FILE)

_SUFFIXES = ("-wal", "-shm", ".lock")
_MOUNTS = Path("/proc/self/mountinfo")
_LOCK_SECONDS = 2.0
_WITH_THE_BUG = (3, 7, 0), (3, 51, 3)
_MENDED: dict[tuple[int, ...], int] = {(3, 50): 7, (3, 44): 6}
"""Branches in which it was mended, from which release on."""


def check_workers(examined: Examination) -> Iterator[Finding]:
    """Worker files that do not load."""
    registry = load(examined.settings.worker_paths)
    for error in registry.errors:
        where, _, what = str(error).partition(": ")
        yield problem("workers", where, what, "mend the file: its job types can't run")
    if not registry.errors:
        names = ", ".join(map(str, examined.settings.worker_paths)) or "the bundled ones"
        yield ok("workers", names, f"{len(registry.types)} job types")


def check_sqlite(examined: Examination) -> Iterator[Finding]:
    """Whether this SQLite can corrupt a database when a checkpoint races a commit."""
    del examined
    version = sqlite3.sqlite_version
    if has_wal_reset_bug(version):
        what = "has the WAL-reset bug; jobq is safe from it: its checkpoints wait for their turn"
    else:
        what = "does not have the WAL-reset bug"
    yield ok("sqlite", f"SQLite {version}", what)


def has_wal_reset_bug(version: str) -> bool:
    """Whether a SQLite of this version has it: 3.7.0 to 3.51.2, but for 3.50.7 and 3.44.6 on."""
    numbers = tuple(map(int, version.split(".")))
    first, mended = _WITH_THE_BUG
    if not first <= numbers < mended:
        return False
    return numbers[2] < _MENDED.get(numbers[:2], numbers[2] + 1)


def check_file_systems(examined: Examination) -> Iterator[Finding]:
    """Databases on network file systems get damaged; logs there are slow."""
    settings = examined.settings
    database, logs = (_kind_at(path) for path in (settings.database, settings.log_dir))
    if is_network(database):
        remedy = "keep it on a local disk: `database` in jobq.toml"
        what = f"is on {database}, whose locks do not keep SQLite's promises"
        yield problem("file system", settings.database, what, remedy)
    else:
        yield ok("file system", settings.database, f"is on {database or 'an unknown one'}")
    if is_network(logs):
        remedy = "keep logs on a local disk: `log_dir` in jobq.toml"
        yield warning("file system", settings.log_dir, f"is on {logs}: jobs may hang", remedy)
    else:
        yield ok("file system", settings.log_dir, f"is on {logs or 'an unknown one'}")


def is_network(kind: str) -> bool:
    """Whether a file system of this type is on another machine."""
    return bool(NETWORK.fullmatch(kind) or NETWORK_FUSE.fullmatch(kind))


def mount_type(path: Path, table: str) -> str:
    """The type of the file system that a path is on, by the text of a mountinfo; "" if unknown."""
    best, found = -1, ""
    for line in table.splitlines():
        fields = line.split(" ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[4]))
        # Of several mounts at one place, the last one counts.
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), fields[fields.index("-") + 1]
    return found


def _kind_at(path: Path) -> str:
    try:
        return mount_type(path.resolve(), _MOUNTS.read_text("utf-8"))
    except (OSError, ValueError, RuntimeError):  # no /proc, a line unlike any other, a loop
        return ""


def check_locks(examined: Examination) -> Iterator[Finding]:
    """Whether the turnstile can be passed."""
    path = Path(f"{real_path(examined.settings.database)}.lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        yield ok("locks", path, "is not there yet")
        return
    except OSError as error:
        yield problem("locks", path, f"{error.strerror}", "make it a file of yours")
        return
    try:
        if _passes(descriptor):
            yield ok("locks", path, "nobody stands in the way")
        else:
            yield problem(
                "locks",
                path,
                f"held by another process for more than {_LOCK_SECONDS:.0f} s: nobody can write",
                f"see which jobq process is stopped (`fuser -v {path}`): kill -CONT it, or end it",
            )
    except OSError as error:
        remedy = "keep the database on a local disk: `database` in jobq.toml"
        yield problem("locks", path, f"the file system has no locks: {error.strerror}", remedy)
    finally:
        os.close(descriptor)


def _passes(descriptor: int) -> bool:
    deadline = time.monotonic() + _LOCK_SECONDS
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
    """Whether there is room on the disks."""
    settings = examined.settings
    for path in directories(settings):
        folder = next(p for p in (path, *path.parents) if p.is_dir())
        free = shutil.disk_usage(folder).free
        text, remedy = f"{free / 1e6:,.0f} MB are free", "make room: `jobq prune`, for one thing"
        if shortage_at(folder, settings.min_free):
            yield problem("space", folder, f"{text}: too few to start jobs ({MIN_FREE})", remedy)
        elif free < HARDLY_ANY_BYTES:
            yield problem("space", folder, text, remedy)
        else:
            yield ok("space", folder, text)


# -- permissions, links and strays -------------------------------------------------------------


def check_writable(examined: Examination) -> Iterator[Finding]:
    """Whether the database, and what is beside it, can be written to."""
    path = real_path(examined.settings.database)
    beside = [path.parent, *(Path(f"{path}{suffix}") for suffix in ("", *_SUFFIXES))]
    shut = [str(item) for item in beside if item.exists() and not os.access(item, os.W_OK)]
    if shut:
        remedy = f"make it yours: chown -R {os.getuid()} {path.parent}, chmod -R u+w {path.parent}"
        yield problem("writable", path, f"you may not write to {some(shut)}", remedy)
    else:
        yield ok("writable", path, "can be written to")


def check_permissions(examined: Examination) -> Iterator[Finding]:
    """Files and directories that others may read or change."""
    settings = examined.settings
    others = [path for path in _own_paths(settings) if _is_open_to_others(path)]
    if others:
        where = others[0] if len(others) == 1 else os.path.commonpath(others)
        yield problem(
            "permissions",
            where,
            f"others may use {some([path.name for path in others])}",
            "`jobq doctor --fix` makes it yours alone",
            partial(_make_private, settings),
        )
    else:
        yield ok("permissions", settings.database, "database and logs are yours alone")
    folder = settings.database.parent
    with suppress(OSError):
        mode = folder.stat().st_mode
        if mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & stat.S_ISVTX:
            what = "others may put another database into its place"
            yield problem("permissions", folder, what, f"chmod go-w {folder}")


def _own_paths(settings: Settings) -> Iterator[Path]:
    """All that jobq itself makes; what jobs make has the permissions that they give it."""
    database = real_path(settings.database)
    files = (Path(f"{database}{suffix}") for suffix in ("", *_SUFFIXES))
    yield from (path for path in files if path.is_file())
    presence = liveness_locks(settings.database).directory
    yield from (presence, *_entries(presence))
    yield from _log_paths(settings.log_dir)


def _log_paths(root: Path) -> Iterator[Path]:
    """The directories of logs, and the files in them that jobq makes. Links are not followed."""
    yield root
    yield from (path for path in _entries(root) if path.name.startswith(_TEMPORARY))
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
    return f"made {done} files and directories yours alone"


def check_log_directory(examined: Examination) -> Iterator[Finding]:
    """Whether logs can be kept."""
    root = examined.settings.log_dir
    jobs = root / "jobs"
    place = next(path for path in (jobs, root, *root.parents) if os.path.lexists(path))
    remedy = "set another `log_dir`, or put a directory of yours in its place"
    if not place.is_dir() or (place == jobs and jobs.is_symlink()):
        yield problem("log directory", place, "is not a directory", remedy)
    elif not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        yield problem("log directory", place, "is not readable and writable for you", remedy)
    else:
        yield ok("log directory", root, "can be written to")


def check_links(examined: Examination) -> Iterator[Finding]:
    """Symbolic links among the logs, which jobq does not follow."""
    root = examined.settings.log_dir
    links = [str(path) for path in _log_paths(root) if path != root and path.is_symlink()]
    if links:
        remedy = "jobq does not follow them: find out who made them, and delete them"
        yield warning("links", root, f"symbolic links: {some(links)}", remedy)
    else:
        yield ok("links", root, "no symbolic links")


def check_strays(examined: Examination) -> Iterator[Finding]:
    """What was read for jobs that were then not added: a spooled stdin, the plan of an import."""
    root = examined.settings.log_dir
    if strays := _strays(root):
        yield warning(
            "strays",
            root,
            f"read for jobs that were not added: {some([path.name for path in strays])}",
            "`jobq doctor --fix` deletes what is older than an hour",
            partial(_delete_strays, root),
        )
    else:
        yield ok("strays", root, "nothing that was read for jobs that were not added")


def _strays(root: Path) -> list[Path]:
    old = time.time() - STRAY_SECONDS
    found = []
    with suppress(OSError):
        for path in root.iterdir():
            if path.name.startswith(_TEMPORARY):
                seen = path.lstat()
                if stat.S_ISREG(seen.st_mode) and seen.st_mtime < old:
                    found.append(path)
    return sorted(found)


def _delete_strays(root: Path) -> str:
    strays = _strays(root)
    for path in strays:
        path.unlink(missing_ok=True)
    return f"deleted {len(strays)} files of jobs that were not added"


LOG_CHECKS: tuple[Callable[[Examination], Iterator[Finding]], ...] = (
    check_workers,
    check_space,
    check_log_directory,
    check_links,
    check_strays,
)
"""Those that have nothing to do with a database file."""

FILE_CHECKS: tuple[Callable[[Examination], Iterator[Finding]], ...] = (
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
)
