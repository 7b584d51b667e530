"""Jobs, attempts and the like as Redis stores them, and back. Times are whole microseconds."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from jobq.backends.messages import StoreIdentity
from jobq.backends.text import encode, storable
from jobq.models import (
    DEFAULT_QUEUE,
    Attempt,
    AttemptKey,
    AttemptResult,
    Claim,
    Condition,
    Job,
    JobStatus,
    LogOffsets,
    Missed,
    NewJob,
    Outcome,
    Overlap,
    Parent,
    ParentRef,
    Progress,
    Queue,
    Schedule,
    Started,
    SupervisorInfo,
    Usage,
)
from jobq.units import Rate

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_CONDITIONS = {condition.value[0]: condition for condition in Condition}
MAX_LUA_INTEGER = 2**53
"""From here on, Lua can't tell a number from the next."""

BATCH_SIZE = 1000
"""Jobs that one script reads or changes, where their number is not known beforehand."""


def to_micros(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def span(duration: timedelta) -> int:
    return duration // _MICROSECOND


def to_moment(micros: bytes | str | float) -> datetime:
    number = micros if isinstance(micros, int) else int(float(micros))
    return _EPOCH + timedelta(microseconds=number)


def _moment(micros: bytes | None) -> datetime | None:
    return None if micros is None else _EPOCH + timedelta(microseconds=int(micros))


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


def _number(value: bytes | None) -> int | None:
    return None if value is None else int(value)


def given(**fields: Any) -> dict[str, Any]:
    """Return the fields that are not None: in Lua a null is true."""
    return {name: value for name, value in fields.items() if value is not None}


def pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """Return a hash from the flat list that the server returns."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    """Split items into lists of the batch size."""
    every = list(items)
    return (every[start : start + BATCH_SIZE] for start in range(0, len(every), BATCH_SIZE))


def ids_of(ids: Iterable[int]) -> list[str]:
    """Return those ids that a job can have, as text."""
    return [str(job_id) for job_id in ids if 0 < job_id < MAX_LUA_INTEGER]


# -- jobs --------------------------------------------------------------------------------------


def _job_record(job: NewJob | Job) -> str:
    """Return the field `d` of a job: all that no script reads."""
    return encode([
        job.name, job.args, dict(job.tags), job.added_by, job.max_retries, job.retry_base,
        job.timeout,
    ])  # fmt: skip


def from_new_job(job: NewJob) -> dict[str, Any]:
    """Return a job as `insert.lua` takes it."""
    return given(
        d=_job_record(job),
        type=job.type,
        queue=job.queue,
        priority=job.priority,
        unique=job.unique_key,
        key=job.key,
        digest=job.digest,
        run_at=job.run_at and to_micros(job.run_at),
        parents=[_from_ref(ref) for ref in job.parents] or None,
    )


def _from_ref(ref: ParentRef) -> dict[str, Any]:
    job_id = None if ref.id is None else str(ref.id)
    return given(condition=ref.condition.value, id=job_id, index=ref.index, key=ref.key)


def to_job(row: Sequence[Any]) -> Job:
    """Return a job from its id, its hash and its parents."""
    fields = pairs(row[1])
    get = fields.get
    priority, queue, created, job_type = fields[b"h"].split(b"|", 3)
    name, args, tags, added_by, max_retries, retry_base, timeout = json.loads(fields[b"d"])
    result = get(b"re")
    progress = get(b"pg")
    return Job(
        id=int(row[0]),
        type=job_type.decode(),
        name=name,
        status=JobStatus(fields[b"s"].decode()),
        queue=queue.decode(),
        priority=int(priority),
        args=args,
        tags=tags,
        unique_key=_text(get(b"u")),
        parents=_to_parents(row[2]),
        unmet_parents=int(get(b"um", 0)),
        added_by=added_by,
        attempts=int(get(b"n", 0)),
        failures=int(get(b"f", 0)),
        crashes=int(get(b"c", 0)),
        max_retries=max_retries,
        retry_base=retry_base,
        timeout=timeout,
        created_at=to_moment(int(created)),
        run_at=_moment(get(b"ra")),
        started_at=_moment(get(b"sa")),
        finished_at=_moment(get(b"fa")),
        cancel_requested=b"cr" in fields,
        cancelled_by=_number(get(b"cb")),
        progress=None if progress is None else Progress(*json.loads(progress)),
        exit_code=_number(get(b"ec")),
        signal=_number(get(b"sg")),
        error=_text(get(b"er")),
        signature=_text(get(b"si")),
        reason=_text(get(b"rs")),
        result=None if result is None else json.loads(result),
    )


def job_fields(job: Job) -> dict[str, Any]:
    """Return the fields of a job's hash, except its status and its end."""
    return given(
        d=_job_record(job),
        h=f"{job.priority}|{job.queue}|{to_micros(job.created_at)}|{job.type}",
        u=job.unique_key,
        np=len(job.parents) or None,
        um=job.unmet_parents or None,
        n=job.attempts or None,
        f=job.failures or None,
        c=job.crashes or None,
        ra=job.run_at and str(to_micros(job.run_at)),
        sa=job.started_at and str(to_micros(job.started_at)),
        cb=job.cancelled_by and str(job.cancelled_by),
        pg=job.progress and from_progress(job.progress),
        ec=job.exit_code,
        sg=job.signal,
        er=None if job.error is None else storable(job.error),
        si=job.signature,
        rs=None if job.reason is None else storable(job.reason),
        re=None if job.result is None else encode(job.result),
    )


def _to_parents(flat: Sequence[bytes]) -> tuple[Parent, ...]:
    found = pairs(flat)
    parents = [Parent(int(each), to_condition(found[each])) for each in found]
    return tuple(sorted(parents))


def to_condition(code: bytes) -> Condition:
    return _CONDITIONS[chr(code[0])]


def to_claim(row: Sequence[Any], owner: str) -> Claim:
    job = to_job(row)
    return Claim(job, job.attempts, owner)


def from_progress(progress: Progress) -> str:
    message = progress.message and storable(progress.message)
    return encode([progress.done, progress.total, message])


# -- attempts ----------------------------------------------------------------------------------


def from_key(key: AttemptKey) -> tuple[str, int, int]:
    """Return an attempt's key as `running` in end.lua takes it."""
    return str(key.job_id), key.attempt, to_micros(key.started_at)


def to_key(job_id: bytes, attempt: bytes, started_at: bytes) -> AttemptKey:
    """Return the key of an open attempt."""
    return AttemptKey(int(job_id), int(attempt), to_moment(int(started_at)))


def from_started(start: Started) -> dict[str, Any]:
    """Return a start as `heartbeat.lua` takes it."""
    return {"key": from_key(start.key), "record": _process_record(start)}


def _process_record(attempt: Started | Attempt) -> str:
    return encode([attempt.pid, attempt.pid_started, *attempt.offsets])


def _outcome_record(
    ending: AttemptResult | Attempt, error: str | None, usage: Usage | Attempt | None
) -> str:
    return encode([
        ending.outcome and ending.outcome.value, ending.exit_code, ending.signal, error,
        usage and usage.max_rss_bytes, usage and usage.cpu_seconds,
    ])  # fmt: skip


def from_ending(ending: AttemptResult) -> dict[str, Any]:
    """Return the end of an attempt as `end.lua` takes it."""
    error, reason = ending.error, ending.reason
    error = None if error is None else storable(error)
    return given(
        key=from_key(ending.key),
        status=ending.status.value,
        failures=ending.failures,
        crashes=ending.crashes,
        run_at=ending.run_at and to_micros(ending.run_at),
        exit_code=ending.exit_code,
        signal=ending.signal,
        error=error,
        signature=ending.signature,
        reason=None if reason is None else storable(reason),
        result=None if ending.result is None else encode(ending.result),
        record=_outcome_record(ending, error, ending.usage),
        lost=ending.outcome is Outcome.LOST or None,
        ended_at=ending.ended_at and to_micros(ending.ended_at),
    )


def to_attempts(job_id: int, row: Sequence[Any]) -> list[Attempt]:
    """Return the attempts of a job, from their hash and the lease of the open one."""
    fields = pairs(row[0])
    lease = row[1] if len(row) > 1 else None
    numbers = sorted(int(name) for name in fields if name.isdigit())
    return [_to_attempt(job_id, number, fields, lease) for number in numbers]


def _to_attempt(
    job_id: int, number: int, fields: Mapping[bytes, bytes], lease: bytes | None
) -> Attempt:
    started_at, _, owner = fields[b"%d" % number].partition(b"|")
    pid, pid_started, *offsets = json.loads(fields.get(b"%ds" % number, b"[null,null,0,0,0,0]"))
    ended_at, outcome = None, [None] * 6
    if (end := fields.get(b"%de" % number)) is not None:
        ended_at, lease, record = end.split(b"|", 2)
        outcome = json.loads(record)
    kind, exit_code, signal, error, rss, seconds = outcome
    return Attempt(
        job_id=job_id,
        attempt=number,
        supervisor=owner.decode(),
        pid=pid,
        pid_started=pid_started,
        started_at=to_moment(int(started_at)),
        lease_until=to_moment(lease or started_at),
        ended_at=_moment(ended_at),
        outcome=None if kind is None else Outcome(kind),
        exit_code=exit_code,
        signal=signal,
        error=error,
        max_rss_bytes=rss,
        cpu_seconds=seconds,
        offsets=LogOffsets(*offsets),
    )


def to_outcome(end: bytes | None) -> Outcome | None:
    """Return the outcome in the field of an attempt's end."""
    return None if end is None else Outcome(json.loads(end.split(b"|", 2)[2])[0])


def attempt_fields(attempt: Attempt) -> Iterator[tuple[str, str]]:
    """Yield the fields of an attempt in its job's hash of them."""
    number, lease = attempt.attempt, to_micros(attempt.lease_until)
    yield f"{number}", f"{to_micros(attempt.started_at)}|{attempt.supervisor}"
    if attempt.has_offsets:
        yield f"{number}s", _process_record(attempt)
    if attempt.ended_at is not None:
        record = _outcome_record(attempt, attempt.error, attempt)
        yield f"{number}e", f"{to_micros(attempt.ended_at)}|{lease}|{record}"


# -- queues and supervisors --------------------------------------------------------------------


def from_queue(queue: Queue) -> str:
    """Return a queue as JSON, in which the scripts read the limits."""
    rate = queue.rate
    limits = given(
        priority=queue.priority,
        max=queue.max_concurrent,
        rate=rate and rate.count,
        span=rate and round(rate.seconds * 1e6),
        paused=queue.paused or None,
        description=queue.description,
        timeout=queue.timeout,
        max_retries=queue.max_retries,
    )
    return encode(limits)


def to_queue(name: bytes, text: bytes) -> Queue:
    fields = json.loads(text)
    return Queue(
        name=name.decode(),
        description=fields.get("description"),
        max_concurrent=fields.get("max"),
        priority=fields["priority"],
        paused=fields.get("paused", False),
        rate=Rate(fields["rate"], fields["span"] / 1e6) if "rate" in fields else None,
        timeout=fields.get("timeout"),
        max_retries=fields.get("max_retries"),
    )


def to_identity(row: Sequence[bytes]) -> StoreIdentity:
    return StoreIdentity(row[0].decode(), int(row[1]))


def to_queues(flat: Sequence[bytes]) -> list[Queue]:
    """Return all queues, the ones served first first, from the hash of those that were put."""
    found = {DEFAULT_QUEUE: Queue(name=DEFAULT_QUEUE)}
    for name, text in pairs(flat).items():
        found[name.decode()] = to_queue(name, text)
    return sorted(found.values(), key=lambda queue: (-queue.priority, queue.name))


def from_supervisor(info: SupervisorInfo) -> str:
    return encode([
        info.host, info.boot_id, info.pid, info.slots, info.queues, info.types,
        to_micros(info.started_at),
    ])  # fmt: skip


def to_supervisor(name: bytes, text: bytes, heartbeat: bytes) -> SupervisorInfo:
    host, boot_id, pid, slots, queues, types, started_at = json.loads(text)
    return SupervisorInfo(
        id=name.decode(),
        host=host,
        boot_id=boot_id,
        pid=pid,
        slots=slots,
        queues=None if queues is None else tuple(queues),
        types=tuple(types),
        started_at=to_moment(started_at),
        heartbeat_at=to_moment(int(heartbeat)),
    )


# -- schedules ---------------------------------------------------------------------------------


def from_schedule(schedule: Schedule) -> dict[str, Any]:
    """Return a schedule as `schedules.lua` takes it; no script reads `d`."""
    kept = [
        schedule.cron, schedule.tz, schedule.type, schedule.args, schedule.queue,
        schedule.priority, dict(schedule.tags), schedule.timeout, schedule.max_retries,
        schedule.retry_base, schedule.missed.value, schedule.overlap.value,
        to_micros(schedule.created_at), schedule.last_error,
    ]  # fmt: skip
    return given(
        d=encode(kept),
        settled_until=str(to_micros(schedule.settled_until)),
        next_at=schedule.next_at and str(to_micros(schedule.next_at)),
        last_at=schedule.last_at and str(to_micros(schedule.last_at)),
        last_job_id=schedule.last_job_id,
        paused=schedule.paused or None,
    )


def to_schedule(name: bytes, flat: Sequence[bytes]) -> Schedule:
    fields = pairs(flat)
    (
        cron, tz, job_type, args, queue, priority, tags, timeout, max_retries, retry_base, missed,
        overlap, created_at, last_error,
    ) = json.loads(fields[b"d"])  # fmt: skip
    next_at, last_at, last_job = (fields.get(name) for name in (b"na", b"la", b"lj"))
    return Schedule(
        id=int(fields[b"id"]),
        revision=int(fields[b"rev"]),
        name=name.decode(),
        cron=cron,
        tz=tz,
        type=job_type,
        args=args,
        queue=queue,
        priority=priority,
        tags=tags,
        timeout=timeout,
        max_retries=max_retries,
        retry_base=retry_base,
        missed=Missed(missed),
        overlap=Overlap(overlap),
        paused=b"pa" in fields,
        created_at=to_moment(created_at),
        next_at=None if next_at is None else to_moment(int(next_at)),
        settled_until=to_moment(int(fields[b"su"])),
        last_at=None if last_at is None else to_moment(int(last_at)),
        last_job_id=None if last_job is None else int(last_job),
        last_error=last_error,
    )
