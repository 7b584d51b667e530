"""What is wrong with what the database says, compared with what is there."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

from jobq.backends.liveness import liveness_locks, real_path
from jobq.backends.sqlite.connection import CHECKPOINT_BYTES
from jobq.config.settings import Settings
from jobq.diagnostics.doctor.finding import Examination, Finding, ok, some, warning
from jobq.diagnostics.doctor.invariants import check_invariants
from jobq.job_reader import READ_BATCH_SIZE
from jobq.models import JobFilter
from jobq.queue import JobQueue, backend_of, recovery_of
from jobq.system.processes import host_name

AHEAD = timedelta(minutes=1)
"""How far clocks may be apart before it is worth a word."""

SILENT_LEASES = 3
LARGE_LOG = 16 * CHECKPOINT_BYTES
LEFT_ALONE = 3600.0
"""Seconds for which a directory must not have changed before it may be deleted."""

_LATEST = 1000


def check_supervisors(examined: Examination, queue: JobQueue) -> Iterator[Finding]:
    """Registered supervisors that are dead, or silent."""
    settings = examined.settings
    there = backend_of(queue).supervisors.all()
    live = liveness_locks(settings.database).live()
    late = timedelta(seconds=SILENT_LEASES * settings.lease)
    for info in there:
        silent = examined.now - info.heartbeat_at
        if info.id not in live and (info.host == host_name() or silent > late):
            yield warning(
                "supervisors",
                settings.database,
                f"{info.id} is registered, and dead",
                "the next supervisor gives its jobs back, or `jobq doctor --fix`",
                partial(_rescue_dead, settings),
            )
        elif silent > late:
            yield warning(
                "supervisors",
                settings.database,
                f"{info.id} has not been heard of for {silent.total_seconds():,.0f} s",
                f"see whether it is stopped: kill -CONT {info.pid}, or end it: kill -9 {info.pid}",
            )
    yield ok("supervisors", settings.database, f"{len(live)} alive")


def _rescue_dead(settings: Settings) -> str:
    with JobQueue.from_settings(settings) as queue:
        given_back = recovery_of(queue).rescue_dead()
        there = {info.id: info.host for info in backend_of(queue).supervisors.all()}
        announced = liveness_locks(settings.database).announced()
        held = {attempt.supervisor for _, attempt in backend_of(queue).open_attempts()}
        # Without a file, nobody can tell that they are dead; without jobs, nothing is lost.
        gone = [i for i, host in there.items() if host == host_name() and i not in announced]
        backend_of(queue).supervisors.unregister([owner for owner in gone if owner not in held])
    return f"forgot dead supervisors, gave back {given_back} jobs"


def check_leftovers(examined: Examination, queue: JobQueue) -> Iterator[Finding]:
    """Locks and FIFOs of supervisors that left without a word."""
    presence = liveness_locks(examined.settings.database)
    known = {info.id for info in backend_of(queue).supervisors.all()}
    left = sorted(presence.announced() - presence.live() - known)
    if left:
        yield warning(
            "leftovers",
            presence.directory,
            f"files of supervisors that are gone: {some(left)}",
            "harmless; `jobq doctor --fix` deletes them",
            partial(_forget, examined.settings, left),
        )
    else:
        yield ok("leftovers", presence.directory, "no files of supervisors that are gone")


def _forget(settings: Settings, owners: list[str]) -> str:
    presence = liveness_locks(settings.database)
    still = [owner for owner in owners if owner not in presence.live()]
    presence.forget(still)
    return f"deleted the files of {len(still)} supervisors"


def check_running(examined: Examination, queue: JobQueue) -> Iterator[Finding]:
    """Running jobs whose owner is gone and whose lease has run out."""
    live = liveness_locks(examined.settings.database).live()
    lost = [
        str(job.id)
        for job, attempt in backend_of(queue).open_attempts()
        if attempt.supervisor not in live and attempt.lease_until < examined.now
    ]
    if lost:
        yield warning(
            "running",
            examined.settings.database,
            f"jobs {some(lost)} run for nobody: their leases have run out",
            "`jobq work` gives them back; a pull worker renews its lease with `heartbeat`",
        )
    else:
        yield ok("running", examined.settings.database, "every running job has an owner")


def check_clock(examined: Examination, queue: JobQueue) -> Iterator[Finding]:
    """Times that lie ahead of the clock of this machine."""
    until = examined.now + AHEAD
    jobs = queue.find(newest=True, limit=_LATEST)
    ahead = [f"job {job.id}" for job in jobs if job.created_at > until]
    ahead += [
        f"attempt {attempt.attempt} of job {job.id}"
        for job, attempt in backend_of(queue).open_attempts()
        if attempt.started_at > until
    ]
    ahead += [info.id for info in backend_of(queue).supervisors.all() if info.heartbeat_at > until]
    for path in (examined.settings.database, Path(f"{examined.settings.database}-wal")):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime > until.timestamp():
                ahead.append(str(path))
    if ahead:
        yield warning(
            "clock",
            examined.settings.database,
            f"from a time that is still to come: {some(ahead)}",
            "see whether the clocks here, and of the file system's server, are right (`date`)",
        )
    else:
        yield ok("clock", examined.settings.database, "nothing is from the future")


def check_write_ahead_log(examined: Examination, queue: JobQueue) -> Iterator[Finding]:
    """A log that grew, as when a reader never leaves."""
    del queue
    log = Path(f"{real_path(examined.settings.database)}-wal")
    size = log.stat().st_size if log.exists() else 0
    if size > LARGE_LOG:
        yield warning(
            "log size",
            log,
            f"has grown to {size / 1e6:,.0f} MB: something reads the database without an end",
            "end what reads it, then `jobq doctor --fix`",
            partial(_checkpoint, examined.settings),
        )
    else:
        yield ok("log size", log, f"{size / 1e6:,.1f} MB")


def _checkpoint(settings: Settings) -> str:
    with JobQueue.from_settings(settings) as queue:
        backend_of(queue).maintain()
        log = Path(f"{real_path(settings.database)}-wal")
        left = log.stat().st_size if log.exists() else 0
    return f"moved the write-ahead log into the database: {left:,} bytes are left of it"


# -- log directories ---------------------------------------------------------------------------


def check_orphans(examined: Examination, queue: JobQueue) -> Iterator[Finding]:
    """Log directories of jobs that are not there."""
    jobs = queue.logs.path(0).parent
    orphans = _orphans(queue)
    if orphans:
        yield warning(
            "orphans",
            jobs,
            f"logs of jobs that are not there: {some(list(map(str, orphans)))}",
            "if `database` is the right one, `jobq doctor --fix --yes` deletes those that have "
            "not changed for an hour",
            partial(_delete_orphans, examined.settings),
            destructive=True,
        )
    else:
        yield ok("orphans", jobs, "every log is of a job")


def _orphans(queue: JobQueue) -> list[int]:
    try:
        names = [entry.name for entry in queue.logs.path(0).parent.iterdir()]
    except OSError:  # told by the checks of files
        return []
    ids = sorted(int(n) for n in names if n.isascii() and n.isdigit() and str(int(n)) == n)
    found: list[int] = []
    for start in range(0, len(ids), READ_BATCH_SIZE):
        chunk = ids[start : start + READ_BATCH_SIZE]
        found += sorted(set(chunk) - backend_of(queue).get(chunk).keys())
    return found


def _delete_orphans(settings: Settings) -> str:
    """Looked for again: a job may have been added since."""
    with JobQueue.from_settings(settings) as queue:
        orphans = _orphans(queue)
        old = [i for i in orphans if _is_left_alone(queue.logs.path(i))]
        for job_id in old:
            queue.logs.delete(job_id)
    done = f"deleted {len(old)} log directories of jobs that are not there"
    left = len(orphans) - len(old)
    return f"{done}; left {left} that changed within the last hour" if left else done


def _is_left_alone(path: Path) -> bool:
    with suppress(OSError):
        stamps = [entry.lstat().st_mtime for entry in path.iterdir()] if path.is_dir() else []
        newest = max([os.lstat(path).st_mtime, *stamps])
        return time.time() - newest > LEFT_ALONE
    return False


def check_missing_logs(examined: Examination, queue: JobQueue) -> Iterator[Finding]:
    """Jobs that were tried, and have no log directory; among the latest."""
    del examined
    jobs = backend_of(queue).find(JobFilter(), limit=_LATEST, newest=True)
    tried = [job for job in jobs if job.attempts]
    missing = [str(job.id) for job in tried if not os.path.lexists(queue.logs.path(job.id))]
    if missing:
        yield warning(
            "missing logs",
            queue.logs.root,
            f"no logs of jobs {some(missing)}, which have been tried",
            "see whether `log_dir` names the right directory; or they were deleted by hand",
        )
    else:
        yield ok("missing logs", queue.logs.root, "every job that was tried has its logs")


DATABASE_CHECKS: tuple[Callable[[Examination, JobQueue], Iterator[Finding]], ...] = (
    check_invariants,
    check_supervisors,
    check_leftovers,
    check_running,
    check_clock,
    check_write_ahead_log,
    check_orphans,
    check_missing_logs,
)
