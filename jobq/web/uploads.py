"""The logs of pull workers: the server writes them, as supervisors write those of their jobs.

Several requests, and servers, may write for one attempt, and another attempt may begin meanwhile:
whoever writes holds the directory alone, and looks under that lock whether the attempt still runs.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from jobq.backends.messages import LogChunk
from jobq.clock import utcnow
from jobq.config.settings import Settings
from jobq.errors import DatabaseError
from jobq.logs.directory import (
    EVENTS,
    LOG,
    OFFSET_FIELDS,
    STDERR,
    STDOUT,
    JobLog,
    JobLogs,
    append_line,
    event_line,
    write_all,
)
from jobq.logs.events import start_lines
from jobq.logs.shipper import BATCH_BYTES, CHUNK_BYTES
from jobq.logs.truncation import SETTING, compact, trim
from jobq.models import Attempt, AttemptKey, Claim, Job, LogOffsets, Started
from jobq.queue import JobQueue, backend_of
from jobq.system.disk_space import Shortage, shortage
from jobq.web.claim_token import HeldClaim, claim_lost
from jobq.web.problems import RETRY_AFTER_S, Problem

UPLOADED = {"stdout": STDOUT, "stderr": STDERR, "log": LOG}
"""The files that workers write, by their names in URLs."""

LOCK_TIMEOUT_S = 2.0
LOCK_INTERVAL_S = 0.005


def disk_short(short: Shortage) -> Problem:
    """Return the problem of a disk with less room than is to be left."""
    return Problem(
        503,
        "disk_full",
        f"the server's disk is nearly full: {short}: free some space and try again",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


def begin_log(logs: JobLogs, claim: Claim) -> Started:
    """Make the directory of an attempt, and return where its output starts.

    Raises:
        OSError: it can't be made.
    """
    with logs.create(claim.job) as log:
        if claim.attempt == 1:
            return Started(claim.key, None, None, LogOffsets())
        hold_alone(log)  # what the last attempt still writes counts as its own
        with suppress(OSError):
            compact(log)
        return Started(claim.key, None, None, log.offsets())


def hold_alone(log: JobLog) -> bool:
    """Hold a directory alone until it is closed; False if another process has it for long."""
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while not log.hold(alone=True):
        if time.monotonic() >= deadline:
            return False
        time.sleep(LOCK_INTERVAL_S)
    return True


def running(queue: JobQueue, held: HeldClaim) -> Attempt:
    """Return the attempt of a claim.

    Raises:
        Problem: it does not run any more, or another one does: 409.
    """
    attempts = backend_of(queue).attempts(held.key.job_id)
    last = attempts[-1] if attempts else None
    if last is None or last.key != held.key or last.supervisor != held.owner or last.ended_at:
        raise claim_lost(held)
    return last


def upload(queue: JobQueue, held: HeldClaim, name: str, offset: int, data: bytes) -> int:
    """Append output to a file of an attempt; return how many bytes of it there are now.

    ``offset`` counts the attempt's own bytes. What was sent before is passed over.

    Raises:
        Problem: the attempt is lost, or bytes before the offset are missing (409); there is no room
            on the disk (503).
    """
    attempt = running(queue, held)
    with queue.logs.create(queue.get(held.key.job_id)) as log:
        if not hold_alone(log):
            raise Problem(503, "log_busy", "the log is in use: try again", headers=_SOON)
        attempt = running(queue, held)
        start: int = getattr(attempt.offsets, OFFSET_FIELDS[name])
        end = max(0, log.size(name) - start)
        if offset > end:
            raise Problem(409, "log_gap", f"bytes {end:,} to {offset:,} are missing", end=end)
        new = data[end - offset :]
        if new:
            _append(queue, log, held.key, name, new)
        if new and queue.ships_logs:
            _ship(queue, held.key, name, start + end, new)
        return end + len(new)


_SOON = {"Retry-After": str(RETRY_AFTER_S)}


def _append(queue: JobQueue, log: JobLog, key: AttemptKey, name: str, data: bytes) -> None:
    if (short := shortage(queue.settings)) is not None:
        raise disk_short(short)
    with _file(log.append(name)) as file:
        write_all(file.fileno(), data)
    limit = queue.settings.log_max_bytes
    if not limit:
        return
    known = log.gaps()
    _, trimmed = trim(log, limit, utcnow())
    for each in trimmed:
        if each.name not in known:
            _note(queue, log, key, "log_trimmed", file=each.name, setting=SETTING)


def _file(descriptor: int) -> Any:
    return open(descriptor, "ab", buffering=0)


def note_started(queue: JobQueue, claims: Sequence[Claim]) -> None:
    """Append to the events of jobs that an attempt has begun."""
    for claim in claims:
        added = claim.job.created_at if claim.attempt == 1 else None
        lines = start_lines(added, queue.now(), claim.attempt, supervisor=claim.owner)
        with suppress(OSError), queue.logs.create(claim.job) as log:
            _append_events(queue, log, claim.key, lines)


def note_end(queue: JobQueue, job: Job, key: AttemptKey, details: Mapping[str, Any]) -> None:
    """Append to the events how an attempt ended, and make ordinary files of trimmed logs."""
    with suppress(OSError), queue.logs.create(job) as log:
        for each in compact(log) if hold_alone(log) else ():
            fields = {"file": each.name, "setting": SETTING, "dropped": each.dropped}
            _note(queue, log, key, "log_trimmed", **fields)
        ran = (queue.now() - key.started_at).total_seconds()
        _note(queue, log, key, "finished", **details, duration=round(max(0.0, ran), 3))


def note(queue: JobQueue, job: Job, key: AttemptKey, event: str, **details: Any) -> None:
    """Append to the events of a job. A full disk loses the event, not the job."""
    with suppress(OSError), queue.logs.create(job) as log:
        _note(queue, log, key, event, **details)


def _note(queue: JobQueue, log: JobLog, key: AttemptKey, event: str, **details: Any) -> None:
    """Append to the events in an open directory."""
    _append_events(queue, log, key, event_line(event, utcnow(), key.attempt, **details))


def _append_events(queue: JobQueue, log: JobLog, key: AttemptKey, lines: bytes) -> None:
    with suppress(OSError):
        at = log.size(EVENTS)
        with _file(log.append_events()) as file:
            append_line(file.fileno(), lines)
        if queue.ships_logs:
            _ship(queue, key, EVENTS, at, lines)


def _ship(queue: JobQueue, key: AttemptKey, name: str, at: int, data: bytes) -> None:
    """Keep the end of what was written for other hosts; failure is not an error."""
    settings: Settings = queue.settings
    if not settings.ship_max_bytes:
        return
    first = max(0, len(data) - BATCH_BYTES)
    chunks = [
        LogChunk(key.job_id, key.attempt, name, at + place, data[place : place + CHUNK_BYTES])
        for place in range(first, len(data), CHUNK_BYTES)
    ]
    with suppress(DatabaseError):
        backend_of(queue).logs.ship(
            chunks,
            max_bytes=settings.ship_max_bytes,
            ttl=timedelta(seconds=settings.ship_ttl),
        )
