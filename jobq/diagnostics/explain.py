"""Explanations of a job's state: why it does not run yet, how it runs, or how it ended. Pure.

`explain_facts.gather` fetches the facts; each reason has a test.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from jobq.backends.alternatives import one_of_several
from jobq.diagnostics.explain_facts import Facts
from jobq.limits import MAX_LISTED, listed
from jobq.models import (
    FINISHED,
    Attempt,
    Condition,
    Job,
    JobStatus,
    JsonObject,
    Parent,
    SupervisorInfo,
)
from jobq.units import format_duration, format_elapsed, format_moment

_CONDITION_TEXT = {
    Condition.SUCCEEDED: "to succeed",
    Condition.ENDED: "to end",
    Condition.FAILED: "to fail",
    Condition.ONE_SUCCEEDED: "to succeed, or another one of several",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """One line on why a job does not run, runs or has ended."""

    code: str
    message: str
    command: str | None = None  # the command that helps; never one that ends a job
    details: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> JsonObject:
        """Return the reason as ``jobq explain --json`` prints it."""
        return {
            "code": self.code,
            "message": self.message,
            "command": self.command,
            **self.details,
        }


def explain(facts: Facts) -> list[Reason]:
    """Return the reasons, the most important one first; there is always at least one."""
    match facts.job.status:
        case JobStatus.BLOCKED:
            return [*(list(_blocked(facts)) or [_settling(facts)]), *_obstacles(facts)]
        case JobStatus.SCHEDULED:
            return [_scheduled(facts), *_obstacles(facts)]
        case JobStatus.RETRYING:
            return [_retrying(facts), *_obstacles(facts)]
        case JobStatus.PENDING:
            return list(_pending(facts)) or [_ready(facts)]
        case JobStatus.RUNNING:
            return list(_running(facts))
        case _:
            return list(_ended(facts))


# -- waiting ---------------------------------------------------------------------------------


def _blocked(facts: Facts) -> Iterator[Reason]:
    unmet = [
        (wanted, parent)
        for wanted in facts.job.parents
        if (parent := facts.parents.get(wanted.id)) is not None and _is_open(facts, wanted)
    ]
    for wanted, parent in unmet[:MAX_LISTED]:
        yield Reason(
            "parent",
            f"waits for job {parent.id} {_CONDITION_TEXT[wanted.condition]}; "
            f"job {parent.id} {_parent_state(parent, facts.now)}",
            f"jobq explain {parent.id}",
            {
                "parent": parent.id,
                "condition": wanted.condition.value,
                "parent_status": parent.status.value,
                "until": format_moment(parent.run_at),
            },
        )
    if more := [parent.id for _, parent in unmet[MAX_LISTED:]]:
        what = "more job" if len(more) == 1 else "more jobs"
        yield Reason("parents", f"waits for {len(more):,} {what}", None, {"parents": more})


def _is_open(facts: Facts, wanted: Parent) -> bool:
    """Return whether a job still waits for a parent."""
    status = facts.parents[wanted.id].status
    if wanted.condition is not Condition.ONE_SUCCEEDED:
        return not wanted.condition.met_by(status)
    met, _ = _alternatives(facts)
    return not met and not wanted.condition.excluded_by(status)


def _alternatives(facts: Facts) -> tuple[bool, bool]:
    """Return whether one of several parents has succeeded, and whether one has or still may."""
    there = facts.parents
    return one_of_several(
        there[parent.id].status if parent.id in there else None
        for parent in facts.job.parents
        if parent.condition is Condition.ONE_SUCCEEDED
    )


def _parent_state(parent: Job, now: datetime) -> str:
    """Return the state of a parent as the end of a sentence."""
    match parent.status:
        case JobStatus.RETRYING if parent.run_at is not None:
            return f"failed and will be retried {_in(parent.run_at, now)}"
        case JobStatus.SCHEDULED if parent.run_at is not None:
            return f"is scheduled to run {_in(parent.run_at, now)}"
        case JobStatus.RUNNING if parent.started_at is not None:
            return f"has been running for {format_elapsed(parent.started_at, now)}"
    if parent.status in FINISHED:
        was = "was " if parent.status is JobStatus.CANCELLED else ""
        return f"{was}{parent.status.value}"
    return f"is {parent.status.value}"


def _settling(facts: Facts) -> Reason:
    text = "its parents have ended as required: the next supervisor that checks releases it"
    return Reason("settling", text, None if facts.supervisors else "jobq work")


def _scheduled(facts: Facts) -> Reason:
    job = facts.job
    what = "asked to run later: it runs" if job.attempts else "is scheduled to run"
    return Reason(
        "snoozed" if job.attempts else "scheduled",
        f"{what} {_at(job.run_at, facts.now)}",
        None,
        {"until": format_moment(job.run_at)},
    )


def _retrying(facts: Facts) -> Reason:
    job = facts.job
    return Reason(
        "retrying",
        f"attempt {job.attempts} failed ({_error(job)}); retry {job.failures} of "
        f"{job.max_retries} runs {_at(job.run_at, facts.now)}",
        None,
        {
            "until": format_moment(job.run_at),
            "retry": job.failures,
            "max_retries": job.max_retries,
            "error": job.error,
        },
    )


def _pending(facts: Facts) -> Iterator[Reason]:
    yield from _obstacles(facts)
    yield from _queue_limits(facts)
    yield from _busy_supervisors(facts)
    if facts.ahead:
        priority = facts.job.priority
        yield Reason(
            "ahead",
            f"{facts.ahead:,} {'job is' if facts.ahead == 1 else 'jobs are'} ahead of it: it is "
            f"number {facts.ahead + 1:,} of {max(facts.pending, facts.ahead + 1):,} "
            f"(its priority is {priority})",
            "jobq list --status pending --sort priority",
            {"ahead": facts.ahead, "priority": priority},
        )


def _queue_limits(facts: Facts) -> Iterator[Reason]:
    queue, limit = facts.queue, facts.queue.max_concurrent
    if limit is not None and len(facts.in_queue) >= limit:
        yield Reason(
            "queue_limit",
            f"queue {queue.name} is at its limit of {limit} running "
            f"{'job' if limit == 1 else 'jobs'}: {listed(facts.in_queue)}",
            f"jobq queue set {queue.name} --max-concurrent {limit + 1}",
            {"queue": queue.name, "max_concurrent": limit, "jobs": list(facts.in_queue)},
        )
    if facts.next_start is not None:
        yield Reason(
            "queue_rate",
            f"queue {queue.name} starts at most {queue.rate}: its next job starts "
            f"{_in(facts.next_start, facts.now)}",
            f"jobq queue set {queue.name} --rate none",
            {
                "queue": queue.name,
                "rate": str(queue.rate),
                "until": format_moment(facts.next_start),
            },
        )


def _ready(facts: Facts) -> Reason:
    waited = format_elapsed(facts.job.created_at, facts.now)
    text = f"is ready to run (added {waited} ago): it should start within a second"
    return Reason("ready", text, f"jobq explain {facts.job.id}")


def _obstacles(facts: Facts) -> Iterator[Reason]:
    """Yield what keeps any job of its queue and type from starting."""
    job, queue = facts.job, facts.queue
    if (short := facts.shortage) is not None:
        details = {"path": str(short.path), "free": short.free, "wanted": short.wanted}
        yield Reason("disk_full", f"supervisors start no jobs: {short}", "jobq prune", details)
    if queue.paused:
        yield Reason(
            "queue_paused",
            f"queue {queue.name} is paused",
            f"jobq queue resume {queue.name}",
            {"queue": queue.name},
        )
    if not facts.supervisors:
        yield Reason("no_supervisor", "no supervisor is running", "jobq work")
        return
    by_queue = [s for s in facts.supervisors if s.queues is None or job.queue in s.queues]
    by_type = [s for s in facts.supervisors if job.type in s.types]
    work = f"jobq work --queue {job.queue}"
    if not by_queue:
        yield _not_taken("queue_not_taken", facts, f"queue {job.queue}", work)
    if not by_type:
        what = f"jobs of type {job.type}"
        yield _not_taken("type_not_taken", facts, what, f"jobq types {job.type}")
    if by_queue and by_type and not _takers(facts):
        what = f"jobs of type {job.type} from queue {job.queue}"
        yield _not_taken("not_taken_together", facts, what, work)


def _not_taken(code: str, facts: Facts, what: str, command: str) -> Reason:
    ids = [supervisor.id for supervisor in facts.supervisors]
    details = {"queue": facts.job.queue, "type": facts.job.type, "supervisors": ids}
    return Reason(code, f"no supervisor takes {what}; running: {listed(ids)}", command, details)


def _takers(facts: Facts) -> list[SupervisorInfo]:
    """Return the supervisors that would run the job."""
    return [
        each
        for each in facts.supervisors
        if (each.queues is None or facts.job.queue in each.queues) and facts.job.type in each.types
    ]


def _busy_supervisors(facts: Facts) -> Iterator[Reason]:
    """Yield the supervisors that would run the job but are silent, or that all slots are busy."""
    takers = _takers(facts)
    for each in takers:
        if (facts.now - each.heartbeat_at).total_seconds() > facts.lease:
            silence = format_elapsed(each.heartbeat_at, facts.now)
            yield Reason(
                "supervisor_silent",
                f"supervisor {each.id} has sent no heartbeat for {silence}",
                "jobq work",
                {"supervisor": each.id, "heartbeat_at": format_moment(each.heartbeat_at)},
            )
    busy = [job_id for each in takers for job_id in facts.held.get(each.id, ())]
    slots = sum(each.slots for each in takers)
    if takers and all(len(facts.held.get(each.id, ())) >= each.slots for each in takers):
        yield Reason(
            "slots_busy",
            f"{'the only slot is' if slots == 1 else f'all {slots} slots are'} busy "
            f"with {_jobs(busy)}",
            "jobq work",
            {"slots": slots, "jobs": busy},
        )


# -- running ---------------------------------------------------------------------------------


def _running(facts: Facts) -> Iterator[Reason]:
    job, attempt, now = facts.job, facts.attempt, facts.now
    if attempt is None:  # it has just been pruned
        yield Reason("running", "is running")
        return
    yield _progress_of(job, attempt, now)
    yield _lease(facts, attempt)
    if job.cancel_requested:
        why = f" ({job.reason})" if job.reason else ""
        yield Reason(
            "cancel_requested",
            f"was asked to stop{why}: its processes get SIGTERM, "
            "then SIGKILL after the grace period",
            f"jobq wait {job.id}",
            {"reason": job.reason},
        )
    if job.timeout is not None:
        left = max(0.0, job.timeout - (now - attempt.started_at).total_seconds())
        text = (
            f"will be stopped in {format_duration(left)} "
            f"by its time limit of {format_duration(job.timeout)}"
        )
        yield Reason("timeout", text, None, {"timeout": job.timeout, "left": left})


def _progress_of(job: Job, attempt: Attempt, now: datetime) -> Reason:
    process = "" if attempt.pid is None else f", pid {attempt.pid}"
    return Reason(
        "running",
        f"has been running for {format_elapsed(attempt.started_at, now)} "
        f"(attempt {attempt.attempt}, supervisor {attempt.supervisor}{process}){_progress(job)}",
        f"jobq tail -f {job.id}",
        {
            "started_at": format_moment(attempt.started_at),
            "attempt": attempt.attempt,
            "supervisor": attempt.supervisor,
            "pid": attempt.pid,
        },
    )


def _lease(facts: Facts, attempt: Attempt) -> Reason:
    """Return whether the attempt's supervisor is alive and holds its lease."""
    now, until = facts.now, attempt.lease_until
    details = {"lease_until": format_moment(until), "supervisor": attempt.supervisor}
    work = None if facts.supervisors else "jobq work"
    if facts.owner_dead:
        text = "its supervisor died: the next supervisor that checks ends it and runs it again"
        return Reason("supervisor_dead", text, work, details)
    if until < now:
        text = f"its lease expired {format_elapsed(until, now)} ago: another supervisor takes over"
        return Reason("lease_expired", text, work, details)
    beat = next((s.heartbeat_at for s in facts.supervisors if s.id == attempt.supervisor), None)
    text = f"its lease expires in {format_elapsed(now, until)} unless it is renewed"
    if beat is not None:
        text = f"its supervisor's last heartbeat was {format_elapsed(beat, now)} ago; {text}"
    age = None if beat is None else max(0.0, (now - beat).total_seconds())
    return Reason("held", text, None, {**details, "heartbeat_age": age})


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
        text = f"completed{_took(facts)}, in attempt {job.attempts}"
        yield Reason("completed", text, show, details)
        text = "can't be retried: only failed and cancelled jobs can be"
        yield Reason("not_retryable", text, None)
        return
    if job.status is JobStatus.FAILED:
        details |= {"error": job.error, "exit_code": job.exit_code, "signal": job.signal}
        yield Reason("failed", f"failed {_after_attempts(facts)}: {_error(job)}", show, details)
    else:
        details |= {"reason": job.reason, "cancelled_by": job.cancelled_by}
        text = f"was cancelled: {job.reason or 'no reason given'}"
        yield Reason("cancelled", text, show, details)
    yield _retry(facts)


def _after_attempts(facts: Facts) -> str:
    job = facts.job
    if job.crashes >= facts.max_crashes:
        return f"for good: it crashed {job.crashes} times"
    attempts = f"after {job.attempts} {'attempt' if job.attempts == 1 else 'attempts'}"
    not_retried = job.failures <= job.max_retries
    return f"{attempts} and was not retried" if not_retried else attempts


def _took(facts: Facts) -> str:
    job = facts.job
    if job.started_at is None or job.finished_at is None:
        return ""
    ago = format_elapsed(job.finished_at, facts.now)
    return f" {ago} ago after running for {format_elapsed(job.started_at, job.finished_at)}"


def _retry(facts: Facts) -> Reason:
    """Return what `jobq retry` would do, or why the job can't be retried."""
    job = facts.job
    if facts.key_holder is not None:
        text = f"can't be retried: job {facts.key_holder} holds its unique key {job.unique_key!r}"
        command = f"jobq explain {facts.key_holder}"
        return Reason("key_taken", text, command, {"holder": facts.key_holder})
    for wanted in job.parents:
        if _is_excluded(facts, wanted):
            return _impossible(facts, wanted)
    waits = [p.id for p in job.parents if p.id in facts.parents and _is_open(facts, p)]
    where = f"for {_jobs(waits)} again" if waits else f"in queue {job.queue}"
    retries = f"{job.max_retries} {'retry' if job.max_retries == 1 else 'retries'}"
    return Reason(
        "retryable",
        f"can be retried: it would wait {where}, with {retries}",
        f"jobq retry {job.id}",
        {"status": "blocked" if waits else "pending"},
    )


def _is_excluded(facts: Facts, wanted: Parent) -> bool:
    parent = facts.parents.get(wanted.id)
    if wanted.condition is Condition.ONE_SUCCEEDED:
        return not _alternatives(facts)[1]
    return parent is None or wanted.condition.excluded_by(parent.status)


def _impossible(facts: Facts, wanted: Parent) -> Reason:
    parent = facts.parents.get(wanted.id)
    if parent is None:
        text = f"can't be retried: it waits for job {wanted.id}, which was pruned"
        return Reason("parent_excludes", text, None, {"parent": wanted.id})
    completed = parent.status is JobStatus.COMPLETED
    remedy = "" if completed else f"; retry job {parent.id}, and this job comes back with it"
    return Reason(
        "parent_excludes",
        f"can't be retried: it waits for job {parent.id} {_CONDITION_TEXT[wanted.condition]}, "
        f"but job {parent.id} {_parent_state(parent, facts.now)}{remedy}",
        None if completed else f"jobq retry {parent.id}",
        {"parent": parent.id, "parent_status": parent.status.value},
    )


# -- wording ---------------------------------------------------------------------------------


def _error(job: Job) -> str:
    return job.error or "no error was recorded"


def _jobs(ids: Sequence[int]) -> str:
    return f"job{'' if len(ids) == 1 else 's'} {listed(ids)}"


def _in(moment: datetime, now: datetime) -> str:
    return f"in {format_elapsed(now, moment)}" if moment > now else "now"


def _at(moment: datetime | None, now: datetime) -> str:
    if moment is None or moment <= now:
        return "now"
    return f"at {moment.astimezone():%Y-%m-%d %H:%M:%S} ({_in(moment, now)})"
