"""What is wrong with a queue and with where it is kept, what to do about it, and what can be mended.

Nothing is written, except by the `fix` of a finding. It works where the database can't be opened:
that is when one needs it.
"""

import os
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from jobq.backends.sqlite.backend import SqliteBackend
from jobq.backends.sqlite.connection import SqliteConnection
from jobq.backends.sqlite.schema import SCHEMA_VERSION
from jobq.clock import utcnow
from jobq.config.settings import SQLITE, Settings
from jobq.diagnostics.doctor.database import DATABASE_CHECKS, check_orphans
from jobq.diagnostics.doctor.files import FILE_CHECKS, LOG_CHECKS
from jobq.diagnostics.doctor.finding import Examination, Finding, Level, ok, problem, warning
from jobq.errors import DatabaseError
from jobq.queue import JobQueue

__all__ = ["Finding", "Level", "diagnose"]

_LOOKS = 3


def diagnose(settings: Settings, *, full: bool = False) -> list[Finding]:
    """Every check's findings; ``full``: read all of the database for damage.

    A database that changes while it is read without its log may look damaged: then it is read anew.
    """
    if settings.backend != SQLITE:
        return _diagnose_server(settings, full=full)
    looks = 0
    while True:
        looks += 1
        before = _changed_at(settings.database)
        findings = _diagnose(settings, full=full)
        healthy = all(finding.level is Level.OK for finding in findings)
        if healthy or looks == _LOOKS or before == _changed_at(settings.database):
            return findings


def _diagnose(settings: Settings, *, full: bool) -> list[Finding]:
    examined = Examination(settings, utcnow(), full=full)
    findings: list[Finding] = []
    for check in FILE_CHECKS:
        findings += _looked(settings, check(examined))
    opens = _looked(settings, _check_opens(settings))
    findings += opens
    if all(found.level is Level.OK for found in opens) and not _is_empty(settings.database):
        backend = SqliteBackend(settings.database, untouched=True)
        with JobQueue(settings, backend) as queue:
            for check_rows in DATABASE_CHECKS:
                findings += _looked(settings, check_rows(examined, queue))
    return list(dict.fromkeys(findings))  # several checks may meet the same damage


def _diagnose_server(settings: Settings, *, full: bool) -> list[Finding]:
    examined = Examination(settings, utcnow(), full=full)
    findings: list[Finding] = []
    for check in LOG_CHECKS:
        findings += _looked(settings, check(examined))
    return findings + _looked(settings, _check_server(examined))


def _check_server(examined: Examination) -> Iterator[Finding]:
    """What is found on a Redis server; that it does not answer is found, too."""
    with JobQueue.from_settings(examined.settings) as queue:
        from jobq.diagnostics.doctor.redis import (
            check_backend,  # its library is not always installed
        )

        yield from check_backend(examined, queue)
        yield from check_orphans(examined, queue)


def _looked(settings: Settings, check: Iterator[Finding]) -> list[Finding]:
    """What a check finds; that it can't look is a finding, too."""
    found: list[Finding] = []
    try:
        found.extend(check)
    except DatabaseError as error:
        found.append(_unusable(settings, error))
    except OSError as error:
        where = error.filename or settings.database
        remedy = f"make it yours: chown {os.getuid()}, chmod u+rwX, it and the directories above it"
        found.append(problem("access", where, error.strerror or str(error), remedy))
    return found


def _check_opens(settings: Settings) -> Iterator[Finding]:
    """Whether it is there, a database, ours, and of a version that is known here."""
    path = settings.database
    if not path.is_symlink() and not path.exists():
        yield from _check_missing(settings, "is not there")
        return
    try:
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
            f"has schema {version}, and this jobq works with {SCHEMA_VERSION}",
            "`jobq list` brings it up to date (`jobq backup` first, if you like)",
        )
    else:
        yield ok("database", path, f"opens, schema {version}")


def _check_missing(settings: Settings, how: str) -> Iterator[Finding]:
    logs = settings.log_dir / "jobs"
    with suppress(OSError):
        if any(logs.iterdir()):
            yield problem(
                "database",
                settings.database,
                f"{how}, and {logs} has logs of jobs",
                "see whether `database` names the right file, or restore a backup, before jobs are "
                "added: they would get the same numbers",
            )
            return
    yield ok("database", settings.database, f"{how} yet: the first `jobq add` makes it")


def _is_empty(path: Path) -> bool:
    return not path.exists() or path.stat().st_size == 0


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
