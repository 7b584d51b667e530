"""Diagnosis of a queue and its storage: findings, each with a remedy and perhaps a fix.

Nothing is written, except by the `fix` of a finding. It works even if the database can't be opened.
"""

import os
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from jobq.backends.sqlite.backend import SqliteBackend
from jobq.backends.sqlite.connection import SqliteConnection
from jobq.backends.sqlite.files import require_files
from jobq.backends.sqlite.schema import SCHEMA_VERSION
from jobq.clock import utcnow
from jobq.config.settings import SQLITE, Settings
from jobq.diagnostics.doctor.database import DATABASE_CHECKS, check_orphans
from jobq.diagnostics.doctor.files import FILE_CHECKS, LOG_CHECKS
from jobq.diagnostics.doctor.finding import Examination, Finding, Level, ok, problem, warning
from jobq.errors import DatabaseError
from jobq.queue import JobQueue

__all__ = ["Finding", "Level", "diagnose"]

MAX_PASSES = 3
"""Most times that a database is read, if it changes while it is read."""


def diagnose(settings: Settings, *, full: bool = False) -> list[Finding]:
    """Return the findings of every check; with ``full``, read all of the database for damage.

    A database that changes while it is read without its write-ahead log may look damaged: then it
    is read again.
    """
    if settings.backend != SQLITE:
        return _diagnose_server(settings, full=full)
    passes = 0
    while True:
        passes += 1
        before = _changed_at(settings.database)
        findings = _diagnose(settings, full=full)
        healthy = all(finding.level is Level.OK for finding in findings)
        if healthy or passes == MAX_PASSES or before == _changed_at(settings.database):
            return findings


def _diagnose(settings: Settings, *, full: bool) -> list[Finding]:
    examined = Examination(settings, utcnow(), full=full)
    findings: list[Finding] = []
    for check in FILE_CHECKS:
        findings += _run(settings, check(examined))
    opens = _run(settings, _check_opens(settings))
    findings += opens
    if all(found.level is Level.OK for found in opens) and not _is_empty(settings.database):
        backend = SqliteBackend(settings.database, untouched=True)
        with JobQueue(settings, backend) as queue:
            for check_rows in DATABASE_CHECKS:
                findings += _run(settings, check_rows(examined, queue))
    return list(dict.fromkeys(findings))  # several checks may find the same damage


def _diagnose_server(settings: Settings, *, full: bool) -> list[Finding]:
    examined = Examination(settings, utcnow(), full=full)
    findings: list[Finding] = []
    for check in LOG_CHECKS:
        findings += _run(settings, check(examined))
    return findings + _run(settings, _check_server(examined))


def _check_server(examined: Examination) -> Iterator[Finding]:
    """Check a Redis server and the jobs on it."""
    with JobQueue.from_settings(examined.settings) as queue:
        from jobq.diagnostics.doctor.redis import (
            check_backend,  # its library is not always installed
        )

        yield from check_backend(examined, queue)
        yield from check_orphans(examined, queue)


def _run(settings: Settings, check: Iterator[Finding]) -> list[Finding]:
    """Return the findings of a check; an error that stops it is a finding, too."""
    found: list[Finding] = []
    try:
        found.extend(check)
    except DatabaseError as error:
        found.append(_unusable(settings, error))
    except OSError as error:
        where = error.filename or settings.database
        remedy = f"run `chown {os.getuid()}` and `chmod u+rwX` on it and its parent directories"
        found.append(problem("access", where, error.strerror or str(error), remedy))
    return found


def _check_opens(settings: Settings) -> Iterator[Finding]:
    """Check that the database exists, belongs to jobq, and has a known schema version."""
    path = settings.database
    try:
        if not path.is_symlink() and not path.exists():
            require_files(path, must_exist=False)
            yield from _check_missing(settings, "does not exist")
            return
        with closing(SqliteConnection(path, untouched=True)) as connection:
            version = connection.schema_version()
    except DatabaseError as error:
        yield _unusable(settings, error)
        return
    if _is_empty(path):
        yield from _check_missing(settings, "is empty")
    elif version < SCHEMA_VERSION:
        yield warning(
            "database",
            path,
            f"has schema {version}, and this jobq needs {SCHEMA_VERSION}",
            "`jobq list` upgrades it; make a copy with `jobq backup` before",
        )
    else:
        yield ok("database", path, f"can be opened, schema {version}")


def _check_missing(settings: Settings, state: str) -> Iterator[Finding]:
    logs = settings.log_dir / "jobs"
    with suppress(OSError):
        if any(logs.iterdir()):
            yield problem(
                "database",
                settings.database,
                f"{state}, but {logs} holds logs of jobs",
                "check `database` in jobq.toml, or restore a backup, before you add jobs: "
                "new jobs get the ids of those, whose logs are then moved aside",
            )
            return
    yield ok("database", settings.database, f"{state}: the first `jobq add` creates it")


def _is_empty(path: Path) -> bool:
    return not path.exists() or path.stat().st_size <= 1


def _unusable(settings: Settings, error: DatabaseError) -> Finding:
    where = str(settings.database) if settings.backend == SQLITE else settings.backend_shown
    text = str(error).removeprefix(f"{where}: ")
    what, _, remedy = text.rpartition(": ")
    check = "database" if settings.backend == SQLITE else "server"
    return problem(check, where, what or text, remedy if what else "")


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
