"""Checks of the database's contents against the processes, clocks and log directories here."""

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
from jobq.diagnostics.doctor.finding import (
    Examination,
    Finding,
    if_any,
    ok,
    ownerless,
    warning,
)
from jobq.diagnostics.doctor.invariants import check_invariants
from jobq.job_reader import READ_BATCH_SIZE
from jobq.jobs.insert import batches
from jobq.logs.owner import Entry, owner_of, store_of
from jobq.queue import JobQueue, backend_of, recovery_of
from jobq.recovery import is_supervisor
from jobq.system.processes import host_name
from jobq.units import format_size

MAX_CLOCK_SKEW = timedelta(minutes=1)
"""Difference between clocks that is reported."""

SILENT_LEASES = 3
"""A supervisor without a heartbeat for this many lease lengths is reported."""

LARGE_WAL_BYTES = 16 * CHECKPOINT_BYTES
ORPHAN_MIN_AGE_S = 3600.0
"""A log directory is deleted only if it has not changed for this long."""

NEWEST_JOBS = 1000
"""The number of jobs, from the newest on, whose times and logs are checked."""


def check_supervisors(examined: Examination, queue: JobQueue) -> Iterator[Finding]:
    """Find registered supervisors that are dead or silent."""
    settings = examined.settings
    live = liveness_locks(settings.database).live()
    late = timedelta(seconds=SILENT_LEASES * settings.lease)
    for info in backend_of(queue).supervisors.all():
        silent = examined.now - info.heartbeat_at
        if info.id not in live and (info.host == host_name() or silent > late):
            yield warning(
                "supervisors",
                settings.database,
                f"{info.id} is registered but dead",
                "`jobq doctor --fix` or the next `jobq work` gives its jobs back",
                partial(_rescue_dead, settings),
            )
        elif silent > late:
            yield warning(
                "supervisors",
                settings.database,
                f"{info.id} has sent no heartbeat for {silent.total_seconds():,.0f} s",
                f"if it is stopped, resume it (kill -CONT {info.pid}) or end it "
                f"(kill -9 {info.pid})",
            )
    yield ok("supervisors", settings.database, f"running: {len(live)}")


def _rescue_dead(settings: Settings) -> str:
    with JobQueue.from_settings(settings) as queue:
        given_back = recovery_of(queue).rescue_dead()
        hosts = {info.id: info.host for info in backend_of(queue).supervisors.all()}
        announced = liveness_locks(settings.database).announced()
        held = {attempt.supervisor for _, attempt in backend_of(queue).open_attempts()}
        # Without a lock file their death can't be detected; without jobs, nothing is lost.
        gone = [i for i, host in hosts.items() if host == host_name() and i not in announced]
        backend_of(queue).supervisors.unregister([owner for owner in gone if owner not in held])
    return f"removed dead supervisors; jobs given back: {given_back}"


def check_leftovers(examined: Examination, queue: JobQueue) -> Iterator[Finding]:
    """Find the lock files and FIFOs of dead supervisors."""
    locks = liveness_locks(examined.settings.database)
    known = {info.id for info in backend_of(queue).supervisors.all()}
    left = sorted(locks.announced() - locks.live() - known)
    yield if_any(
        left,
        warning(
            "leftovers",
            locks.directory,
            "files of dead supervisors",
            "harmless; `jobq doctor --fix` deletes them",
            partial(_forget, examined.settings, left),
        ),
        otherwise="no files of dead supervisors",
    )


def _forget(settings: Settings, owners: list[str]) -> str:
    locks = liveness_locks(settings.database)
    dead = [owner for owner in owners if owner not in locks.live()]
    locks.forget(dead)
    return f"deleted the files of dead supervisors: {len(dead)}"


def check_running(examined: Examination, queue: JobQueue) -> Iterator[Finding]:
    """Find running jobs whose owner is gone and whose lease has expired."""
    live = liveness_locks(examined.settings.database).live()
    lost = [
        str(job.id)
        for job, attempt in backend_of(queue).open_attempts()
        if attempt.supervisor not in live and attempt.lease_until < examined.now
    ]
    yield ownerless(lost, examined.settings.database)


def check_clock(examined: Examination, queue: JobQueue) -> Iterator[Finding]:
    """Find timestamps ahead of this host's clock."""
    until = examined.now + MAX_CLOCK_SKEW
    jobs = queue.find(newest=True, limit=NEWEST_JOBS)
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
    yield if_any(
        ahead,
        warning(
            "clock",
            examined.settings.database,
            "timestamps ahead of the clock",
            "check the clocks of this host and of the file system's server (`date`)",
        ),
        otherwise="no timestamps ahead of the clock",
    )


def check_write_ahead_log(examined: Examination, queue: JobQueue) -> Iterator[Finding]:
    """Find a write-ahead log that grew, as during a read that never ends."""
    del queue
    database = real_path(examined.settings.database)
    log = Path(f"{database}-wal")
    size = log.stat().st_size if log.exists() else 0
    if size > LARGE_WAL_BYTES:
        yield warning(
            "log size",
            log,
            f"has grown to {format_size(size)}: a process keeps reading the database",
            f"find that process (`fuser -v {database}`) and end it, then run `jobq doctor --fix`",
            partial(_checkpoint, examined.settings),
        )
    else:
        yield ok("log size", log, format_size(size))


def _checkpoint(settings: Settings) -> str:
    with JobQueue.from_settings(settings) as queue:
        backend_of(queue).maintain()
        log = Path(f"{real_path(settings.database)}-wal")
        left = log.stat().st_size if log.exists() else 0
    return f"moved the write-ahead log into the database; bytes left in the log: {left:,}"


# -- log directories ---------------------------------------------------------------------------


def check_orphans(examined: Examination, queue: JobQueue) -> Iterator[Finding]:
    """Find log directories of jobs that do not exist, and those of other databases."""
    orphans, foreign = _without_jobs(queue)
    folder = queue.logs.path(0).parent
    yield if_any(
        [entry.name for entry in orphans],
        warning(
            "orphans",
            folder,
            "log directories of jobs that do not exist",
            "if `database` in jobq.toml names the right file, `jobq doctor --fix --yes` deletes "
            "those that have not changed for an hour",
            partial(_delete_orphans, examined.settings),
            destructive=True,
        ),
        otherwise="every log directory belongs to a job",
    )
    yield if_any(
        [entry.name for entry in foreign],
        warning(
            "foreign logs",
            folder,
            "log directories of another database",
            "give each database a `log_dir` of its own; delete what belongs to one that is gone",
        ),
        otherwise="no log directories of another database",
    )


def _without_jobs(queue: JobQueue) -> tuple[list[Entry], list[Entry]]:
    """Return the log directories of jobs that this store has not, and those of other stores."""
    orphans: list[Entry] = []
    foreign: list[Entry] = []
    store = backend_of(queue).identity()
    try:
        found = sorted(queue.logs.entries(), key=lambda entry: (entry.job_id, entry.name))
    except OSError:  # reported by the checks of files
        return [], []
    for batch in batches(found, READ_BATCH_SIZE):
        jobs = queue.existing({entry.job_id for entry in batch})
        for entry in batch:
            owner = owner_of(jobs[entry.job_id], store) if entry.job_id in jobs else None
            if owner is not None and owner.has(entry.mark):
                continue
            is_foreign = (
                entry.job_id > store.marked_after
                if entry.mark is None
                else store_of(entry.mark) != store.id
            )
            (foreign if is_foreign else orphans).append(entry)
    return orphans, foreign


def _delete_orphans(settings: Settings) -> str:
    """Delete orphans, searching again first: a job may have been added meanwhile."""
    with JobQueue.from_settings(settings) as queue:
        folder = queue.logs.path(0).parent
        orphans, _ = _without_jobs(queue)
        old = [entry for entry in orphans if _is_unchanged(folder / entry.name)]
        errors: list[OSError] = []
        for entry in old:
            try:
                queue.logs.delete_entry(entry)
            except OSError as error:
                errors.append(error)
    done = f"deleted log directories of jobs that do not exist: {len(old) - len(errors)}"
    if errors:
        done += f"; could not be deleted: {len(errors)}, the first: {errors[0]}"
    left = len(orphans) - len(old)
    return f"{done}; kept, since they changed within the last hour: {left}" if left else done


def _is_unchanged(path: Path) -> bool:
    with suppress(OSError):
        stamps = [entry.lstat().st_mtime for entry in path.iterdir()] if path.is_dir() else []
        newest = max([os.lstat(path).st_mtime, *stamps])
        return time.time() - newest > ORPHAN_MIN_AGE_S
    return False


def check_missing_logs(examined: Examination, queue: JobQueue) -> Iterator[Finding]:
    """Find jobs, among the newest, that have attempts but no log directory."""
    del examined
    jobs = [job for job in queue.find(limit=NEWEST_JOBS, newest=True) if job.attempts]
    logs = queue.logs.pinned()
    missing = [job.id for job in jobs if logs.location(job) is None]
    yield if_any(
        [str(job_id) for job_id in missing if _was_run_by_a_supervisor(queue, job_id)],
        warning(
            "missing logs",
            queue.logs.root,
            "no logs of these jobs, which have attempts",
            "check whether `log_dir` in jobq.toml is right, or the logs were deleted by hand",
        ),
        otherwise="every job with attempts has its logs",
    )


def _was_run_by_a_supervisor(queue: JobQueue, job_id: int) -> bool:
    """Return whether a job should have logs: pull workers keep none here."""
    return any(is_supervisor(attempt.supervisor) for attempt in queue.attempts(job_id))


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
