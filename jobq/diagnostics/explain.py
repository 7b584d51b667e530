"""Why a job is where it is, and what would let it go on.

`gather` fetches what there is to know; the rest is pure, so that each reason has its test.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from jobq.models import (
    FINISHED,
    Attempt,
    Condition,
    Job,
    JobFilter,
    JobStatus,
    JsonObject,
    Parent,
    Queue,
    SupervisorInfo,
)
from jobq.queue import JobQueue
from jobq.system.disk_space import Shortage, shortage
from jobq.units import format_duration, format_elapsed, format_moment

_NAMED = 5
"""Jobs that are named in a sentence; the documents have them all."""

_MUST = {
    Condition.SUCCEEDED: "to succeed",
    Condition.ENDED: "to end",
    Condition.FAILED: "to fail",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """One line on why a job does not run, runs or has ended."""

    code: str
    message: str
    command: str | None = None  # what would change it
    details: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> JsonObject:
        """As ``jobq explain --json`` prints it."""
        return {
            "code": self.code,
            "message": self.message,
            "command": self.command,
            **self.details,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that an explanation goes by."""

    job: Job
    now: datetime
    queue: Queue
    lease: float = 30.0
    max_crashes: int = 3
    parents: Mapping[int, Job] = field(default_factory=dict)
    attempt: Attempt | None = None  # the last one
    owner_dead: bool = False  # of that attempt
    in_queue: Sequence[int] = ()  # what runs from its queue, if that has a limit
    next_start: datetime | None = None  # if the queue's rate makes it wait
    supervisors: Sequence[SupervisorInfo] = ()  # those alive
    held: Mapping[str, Sequence[int]] = field(default_factory=dict)  # by supervisor: what runs
    ahead: int = 0
    key_holder: int | None = None
    shortage: Shortage | None = None  # of room on the disks, as seen from here


def gather(queue: JobQueue, job: Job, now: datetime) -> Facts:
    """Look up what there is to know about a job."""
    backend = queue.backend
    lane = queue.queue(job.queue)
    attempts = queue.attempts(job.id)
    running = JobFilter(queue=job.queue, statuses=frozenset({JobStatus.RUNNING}))
    held: dict[str, list[int]] = {}
    for other, attempt in backend.open_attempts():
        held.setdefault(attempt.supervisor, []).append(other.id)
    return Facts(
        job=queue.shown(job),
        now=now,
        queue=lane,
        lease=queue.settings.lease,
        max_crashes=queue.settings.retry.max_crashes,
        parents=backend.get([parent.id for parent in job.parents]),
        attempt=queue.settings.redactor.attempt(attempts[-1], job) if attempts else None,
        owner_dead=bool(attempts and backend.supervisors.dead([attempts[-1].supervisor])),
        in_queue=[each.id for each in backend.find(running, limit=None)]
        if lane.max_concurrent
        else (),
        next_start=backend.stats.next_start(lane, now),
        supervisors=queue.supervisors(),
        held=held,
        ahead=backend.stats.ahead(job, now) if job.status is JobStatus.PENDING else 0,
        key_holder=backend.stats.key_holder(job.unique_key)
        if job.unique_key and job.status in FINISHED
        else None,
        shortage=shortage(queue.settings),
    )


def explain(facts: Facts) -> list[Reason]:
    """The reasons, the most telling one first; there is always one."""
    match facts.job.status:
        case JobStatus.BLOCKED:
            return [*(list(_blocked(facts)) or [_settling(facts)]), *_lane(facts)]
        case JobStatus.SCHEDULED:
            return [_scheduled(facts), *_lane(facts)]
        case JobStatus.RETRYING:
            return [_retrying(facts), *_lane(facts)]
        case JobStatus.PENDING:
            return list(_pending(facts)) or [_ready(facts)]
        case JobStatus.RUNNING:
            return list(_running(facts))
        case _:
            return list(_ended(facts))


# -- waiting ---------------------------------------------------------------------------------


def _blocked(facts: Facts) -> Iterator[Reason]:
    for wanted in facts.job.parents:
        parent = facts.parents.get(wanted.id)
        if parent is None or wanted.condition.met_by(parent.status):
            continue
        yield Reason(
            "parent",
            f"waits for job {parent.id} {_MUST[wanted.condition]}, "
            f"which {_standing(parent, facts.now)}",
            f"jobq explain {parent.id}",
            {
                "parent": parent.id,
                "condition": wanted.condition.value,
                "parent_status": parent.status.value,
                "until": format_moment(parent.run_at),
            },
        )


def _standing(parent: Job, now: datetime) -> str:
    """What a parent is about, as the end of a sentence."""
    match parent.status:
        case JobStatus.RETRYING if parent.run_at is not None:
            return f"failed and is tried again {_in(parent.run_at, now)}"
        case JobStatus.SCHEDULED if parent.run_at is not None:
            return f"is scheduled: it runs {_in(parent.run_at, now)}"
        case JobStatus.RUNNING if parent.started_at is not None:
            return f"has been running for {format_elapsed(parent.started_at, now)}"
    if parent.status in FINISHED:
        was = "was " if parent.status is JobStatus.CANCELLED else ""
        return f"{was}{parent.status.value}"
    return f"is {parent.status.value}"


def _settling(facts: Facts) -> Reason:
    command = None if facts.supervisors else "jobq work"
    return Reason(
        "settling", "its parents have ended as it wants: the next supervisor to look lets it go on",
        command,
    )  # fmt: skip


def _scheduled(facts: Facts) -> Reason:
    job = facts.job
    asked = "asked to run later, and" if job.attempts else "its time has not come: it"
    return Reason(
        "snoozed" if job.attempts else "scheduled",
        f"{asked} runs {_at(job.run_at, facts.now)}",
        _at_once(job),
        {"until": format_moment(job.run_at)},
    )


def _retrying(facts: Facts) -> Reason:
    job = facts.job
    return Reason(
        "retrying",
        f"try {job.attempts} failed ({_error(job)}): retry {job.failures} of {job.max_retries} "
        f"is {_at(job.run_at, facts.now)}",
        _at_once(job),
        {
            "until": format_moment(job.run_at),
            "retry": job.failures,
            "max_retries": job.max_retries,
            "error": job.error,
        },
    )


def _at_once(job: Job) -> str:
    """What makes a job run whose time has not come."""
    return f"jobq cancel {job.id} && jobq retry {job.id}"


def _pending(facts: Facts) -> Iterator[Reason]:
    job, lane = facts.job, facts.queue
    yield from _lane(facts)
    if lane.max_concurrent is not None and len(facts.in_queue) >= lane.max_concurrent:
        yield Reason(
            "queue_limit",
            f"queue {lane.name} runs {lane.max_concurrent} at once, and "
            f"{_jobs(facts.in_queue)} {_verb(facts.in_queue, 'runs', 'run')}",
            f"jobq queue set {lane.name} --max-concurrent {lane.max_concurrent + 1}",
            {
                "queue": lane.name,
                "max_concurrent": lane.max_concurrent,
                "jobs": list(facts.in_queue),
            },
        )
    if facts.next_start is not None:
        yield Reason(
            "queue_rate",
            f"queue {lane.name} starts {lane.rate}: the next one {_in(facts.next_start, facts.now)}",
            f"jobq queue set {lane.name} --rate none",
            {"queue": lane.name, "rate": str(lane.rate), "until": format_moment(facts.next_start)},
        )
    yield from _slots(facts)
    if facts.ahead:
        yield Reason(
            "ahead",
            f"{facts.ahead:,} {'job is' if facts.ahead == 1 else 'jobs are'} ahead of it in line, "
            f"its priority being {job.priority}",
            "jobq list --status pending --sort priority",
            {"ahead": facts.ahead, "priority": job.priority},
        )


def _ready(facts: Facts) -> Reason:
    waited = format_elapsed(facts.job.created_at, facts.now)
    return Reason(
        "ready", f"nothing is in its way (added {waited} ago): it starts within a second",
        f"jobq explain {facts.job.id}",
    )  # fmt: skip


def _lane(facts: Facts) -> Iterator[Reason]:
    """What stands in a job's way whenever its time comes: its queue, the disk, and who takes it."""
    job, lane = facts.job, facts.queue
    if (short := facts.shortage) is not None:
        details = {"path": str(short.path), "free": short.free, "wanted": short.wanted}
        yield Reason("disk_full", f"supervisors start nothing: {short}", "jobq prune", details)
    if lane.paused:
        yield Reason(
            "queue_paused",
            f"queue {lane.name} is paused",
            f"jobq queue resume {lane.name}",
            {"queue": lane.name},
        )
    if not facts.supervisors:
        yield Reason("no_supervisor", "no supervisor is alive to run it", "jobq work")
        return
    by_queue = [s for s in facts.supervisors if s.queues is None or job.queue in s.queues]
    by_type = [s for s in facts.supervisors if job.type in s.types]
    if not by_queue:
        yield _not_taken(
            "queue_not_taken", facts, f"queue {job.queue}", f"jobq work --queue {job.queue}"
        )
    if not by_type:
        yield _not_taken(
            "type_not_taken", facts, f"jobs of type {job.type}", f"jobq types {job.type}"
        )
    if by_queue and by_type and not _takers(facts):
        what = f"jobs of type {job.type} from queue {job.queue}"
        yield _not_taken("not_taken_together", facts, what, f"jobq work --queue {job.queue}")


def _not_taken(code: str, facts: Facts, what: str, command: str) -> Reason:
    ids = [supervisor.id for supervisor in facts.supervisors]
    details = {"queue": facts.job.queue, "type": facts.job.type, "supervisors": ids}
    return Reason(code, f"no supervisor takes {what}; alive: {_some(ids)}", command, details)


def _takers(facts: Facts) -> list[SupervisorInfo]:
    """The supervisors that would run it."""
    return [
        each
        for each in facts.supervisors
        if (each.queues is None or facts.job.queue in each.queues) and facts.job.type in each.types
    ]


def _slots(facts: Facts) -> Iterator[Reason]:
    """Whether those who would run it have room, and can be heard of."""
    takers = _takers(facts)
    silent = [
        each for each in takers if (facts.now - each.heartbeat_at).total_seconds() > facts.lease
    ]
    for each in silent:
        yield Reason(
            "supervisor_silent",
            f"supervisor {each.id} has been silent for {format_elapsed(each.heartbeat_at, facts.now)}",
            "jobq work",
            {"supervisor": each.id, "heartbeat_at": format_moment(each.heartbeat_at)},
        )
    busy = [job_id for each in takers for job_id in facts.held.get(each.id, ())]
    slots = sum(each.slots for each in takers)
    full = all(len(facts.held.get(each.id, ())) >= each.slots for each in takers)
    if takers and full:
        yield Reason(
            "slots_busy",
            f"{'the one slot is' if slots == 1 else f'all {slots} slots are'} busy "
            f"with {_jobs(busy)}",
            "jobq work",
            {"slots": slots, "jobs": busy},
        )


# -- running ---------------------------------------------------------------------------------


def _running(facts: Facts) -> Iterator[Reason]:
    job, attempt, now = facts.job, facts.attempt, facts.now
    if attempt is None:  # it has just been pruned
        yield Reason("running", "runs")
        return
    yield Reason(
        "running",
        f"has been running for {format_elapsed(attempt.started_at, now)}, try {attempt.attempt}, by "
        f"{attempt.supervisor}{_process(attempt)}{_progress(job)}",
        f"jobq tail -f {job.id}",
        {
            "started_at": format_moment(attempt.started_at),
            "attempt": attempt.attempt,
            "supervisor": attempt.supervisor,
            "pid": attempt.pid,
        },
    )
    yield _lease(facts, attempt)
    if job.cancel_requested:
        why = f" ({job.reason})" if job.reason else ""
        yield Reason(
            "cancel_requested",
            f"was asked to stop{why}: its processes get SIGTERM, and SIGKILL after the grace period",
            f"jobq wait {job.id}",
            {"reason": job.reason},
        )
    if job.timeout is not None:
        left = job.timeout - (now - attempt.started_at).total_seconds()
        details = {"timeout": job.timeout, "left": max(0.0, left)}
        text = f"is ended in {format_duration(details['left'])}, its time limit being "
        yield Reason("timeout", text + format_duration(job.timeout), None, details)


def _lease(facts: Facts, attempt: Attempt) -> Reason:
    """How sure it is that somebody looks after the attempt."""
    now, until = facts.now, attempt.lease_until
    details = {"lease_until": format_moment(until), "supervisor": attempt.supervisor}
    work = None if facts.supervisors else "jobq work"
    if facts.owner_dead:
        text = "its supervisor died: the next one to look ends it, and it runs again"
        return Reason("supervisor_dead", text, work, details)
    if until < now:
        text = (
            f"its lease ran out {format_elapsed(until, now)} ago: another supervisor takes it over"
        )
        return Reason("lease_expired", text, work, details)
    beat = next((s.heartbeat_at for s in facts.supervisors if s.id == attempt.supervisor), None)
    text = f"is held for {format_elapsed(now, until)} more, and renewed before that"
    if beat is not None:
        text = f"its supervisor's last heartbeat was {format_elapsed(beat, now)} ago; it {text}"
    age = None if beat is None else (now - beat).total_seconds()
    return Reason(
        "held", text, f"jobq cancel {facts.job.id}", {**details, "heartbeat_age": age}
    )  # fmt: skip


def _process(attempt: Attempt) -> str:
    return "" if attempt.pid is None else f", process {attempt.pid}"


def _progress(job: Job) -> str:
    progress = job.progress
    if progress is None:
        return ""
    share = f"{progress.done:g}"
    if progress.total:
        share = f"{min(100.0, 100 * progress.done / progress.total):.0f}%"
    return f", {share} done" + (f" ({progress.message})" if progress.message else "")


# -- ended -----------------------------------------------------------------------------------


def _ended(facts: Facts) -> Iterator[Reason]:
    job = facts.job
    details = {"attempts": job.attempts, "finished_at": format_moment(job.finished_at)}
    show = f"jobq show {job.id}"
    if job.status is JobStatus.COMPLETED:
        yield Reason("completed", f"completed{_took(facts)}, in try {job.attempts}", show, details)
        text = "can't be retried: only failed and cancelled jobs are"
        yield Reason("not_retryable", text, None)
        return
    if job.status is JobStatus.FAILED:
        details |= {"error": job.error, "exit_code": job.exit_code, "signal": job.signal}
        yield Reason("failed", f"failed {_tried(facts)}: {_error(job)}", show, details)
    else:
        details |= {"reason": job.reason, "cancelled_by": job.cancelled_by}
        yield Reason(
            "cancelled", f"was cancelled: {job.reason or 'no reason given'}", show, details
        )
    yield _retry(facts)


def _tried(facts: Facts) -> str:
    job = facts.job
    if job.crashes >= facts.max_crashes:
        return f"for good, having crashed {job.crashes} times"
    tries = f"after {job.attempts} {'try' if job.attempts == 1 else 'tries'}"
    early = job.failures <= job.max_retries
    return f"{tries}, and was not to be tried again" if early else tries


def _took(facts: Facts) -> str:
    job = facts.job
    if job.started_at is None or job.finished_at is None:
        return ""
    ago = format_elapsed(job.finished_at, facts.now)
    return f" {ago} ago, having run for {format_elapsed(job.started_at, job.finished_at)}"


def _retry(facts: Facts) -> Reason:
    """What `jobq retry` would do, or why it can't."""
    job = facts.job
    if facts.key_holder is not None:
        text = f"can't be retried: job {facts.key_holder} holds its unique key {job.unique_key!r}"
        command = f"jobq cancel {facts.key_holder}"
        return Reason("key_taken", text, command, {"holder": facts.key_holder})
    for wanted in job.parents:
        if _excluded(facts, wanted):
            return _impossible(facts, wanted)
    waits = [p.id for p in job.parents if not p.condition.met_by(facts.parents[p.id].status)]
    after = f"to wait for {_jobs(waits)} again" if waits else f"behind queue {job.queue}'s others"
    return Reason(
        "retryable",
        f"can go back in line, {after}, with {job.max_retries} retries",
        f"jobq retry {job.id}",
        {"status": "blocked" if waits else "pending"},
    )


def _excluded(facts: Facts, wanted: Parent) -> bool:
    parent = facts.parents.get(wanted.id)
    return parent is None or wanted.condition.excluded_by(parent.status)


def _impossible(facts: Facts, wanted: Parent) -> Reason:
    parent = facts.parents.get(wanted.id)
    if parent is None:
        text = f"can't be retried: it waits for job {wanted.id}, which was pruned"
        return Reason("parent_excludes", text, None, {"parent": wanted.id})
    completed = parent.status is JobStatus.COMPLETED
    comes_back = "" if completed else f"; retry {parent.id}, and it comes back too"
    return Reason(
        "parent_excludes",
        f"can't be retried: it waits for job {parent.id} {_MUST[wanted.condition]}, "
        f"which {_standing(parent, facts.now)}{comes_back}",
        None if completed else f"jobq retry {parent.id}",
        {"parent": parent.id, "parent_status": parent.status.value},
    )


# -- words -----------------------------------------------------------------------------------


def _error(job: Job) -> str:
    return job.error or "no error was noted"


def _jobs(ids: Sequence[int]) -> str:
    return f"job{'' if len(ids) == 1 else 's'} {_some([str(job_id) for job_id in ids])}"


def _some(names: Sequence[str]) -> str:
    """Names; not all, where they are many."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _verb(ids: Sequence[int], one: str, many: str) -> str:
    return one if len(ids) == 1 else many


def _in(moment: datetime, now: datetime) -> str:
    return f"in {format_elapsed(now, moment)}" if moment > now else "at the next look"


def _at(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return "at the next look"
    return f"at {moment.astimezone():%Y-%m-%d %H:%M:%S} ({_in(moment, now)})"
