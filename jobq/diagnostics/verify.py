"""Invariants that hold for every queue at every moment, on every backend.

`verify` checks them all. Each rule is a function from a job's history to its violations.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from jobq.backends.alternatives import one_of_several
from jobq.backends.base import Backend
from jobq.backends.messages import History
from jobq.models import FINISHED, Condition, JobStatus, Outcome, Queue
from jobq.queue import JobQueue, backend_of

BATCH_SIZE = 500
"""Jobs read in one transaction: few, since a long read delays checkpoints."""

_S = JobStatus
_UNSUCCESSFUL = frozenset({Outcome.FAILED, Outcome.TIMED_OUT, Outcome.CRASHED, Outcome.LOST})


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken invariant. ``job_id`` is None if it does not concern a single job."""

    rule: str  # the name of the rule, for programs
    message: str
    job_id: int | None = None


@dataclass(slots=True)
class Verification:
    """The result of `verify`: what it checked, and what it found."""

    jobs: int = 0
    attempts: int = 0
    violations: list[Violation] = field(default_factory=list)
    over_limits: list[tuple[Queue, int]] = field(default_factory=list)
    """Queues with more running jobs than their limit, and how many; no violation, since a limit
    may have been lowered."""


def verify_queue(queue: JobQueue, *, thorough: bool = False) -> Verification:
    """Check the jobs of a queue: see `verify`."""
    return verify(backend_of(queue), thorough=thorough)


def verify(backend: Backend, *, thorough: bool = False) -> Verification:
    """Check every invariant on every job, while other processes go on working.

    Args:
        backend: the store of the jobs.
        thorough: also read all of the storage to find damage.

    Raises:
        DatabaseError: the store can't be read.
    """
    found = Verification()
    found.violations += [Violation("storage", flaw) for flaw in backend.flaws(thorough=thorough)]
    before, changes = backend.counts(), backend.change_counter()
    seen: Counter[tuple[str, JobStatus]] = Counter()
    after_id = 0
    while batch := backend.transfer.histories(after_id=after_id, limit=BATCH_SIZE):
        for history in batch:
            seen[history.job.queue, history.job.status] += 1
            found.attempts += len(history.attempts)
            found.violations += check_job(history)
        found.jobs += len(batch)
        after_id = batch[-1].job.id
    if backend.change_counter() == changes and backend.counts() == before:
        found.violations += _check_counts(before, seen)
    found.over_limits = over_limits(backend)
    return found


def _check_counts(
    counts: dict[str, dict[JobStatus, int]], seen: Counter[tuple[str, JobStatus]]
) -> Iterator[Violation]:
    stored = {(queue, s): n for queue, each in counts.items() for s, n in each.items() if n}
    for queue, status in sorted(stored.keys() | seen.keys()):
        expected, found = stored.get((queue, status), 0), seen[queue, status]
        if expected != found:
            text = f"queue {queue}: its count of {status} jobs is {expected}, but {found} exist"
            yield Violation("counts", text)


def over_limits(backend: Backend) -> list[tuple[Queue, int]]:
    """Return the queues with more running jobs than their limit, and how many run."""
    running = Counter(job.queue for job, _ in backend.open_attempts())
    return [
        (queue, running[queue.name])
        for queue in backend.queues()
        if queue.max_concurrent is not None and running[queue.name] > queue.max_concurrent
    ]


def check_job(history: History) -> Iterator[Violation]:
    """Yield the violations of one job."""
    for rule, check in RULES.items():
        for message in check(history):
            yield Violation(rule, message, history.job.id)


# -- the rules ---------------------------------------------------------------------------------


def _numbers(history: History) -> Iterator[str]:
    numbers = [attempt.attempt for attempt in history.attempts]
    if numbers != list(range(1, history.job.attempts + 1)):
        yield f"its count of attempts is {history.job.attempts}, but their numbers are {numbers}"
    for what in ("failures", "crashes"):
        if (count := getattr(history.job, what)) > history.job.attempts:
            yield f"its count of {what} is {count}, more than its {history.job.attempts} attempts"


def _open_attempts(history: History) -> Iterator[str]:
    job = history.job
    opened = [attempt.attempt for attempt in history.attempts if attempt.ended_at is None]
    if job.status is _S.RUNNING and opened != [job.attempts]:
        yield f"it is running attempt {job.attempts}, but its open attempts are {opened}"
    if job.status is not _S.RUNNING and opened:
        yield f"it is {job.status}, but its attempts {opened} have not ended"


def _outcomes(history: History) -> Iterator[str]:
    completed = [a.attempt for a in history.attempts if a.outcome is Outcome.COMPLETED]
    if len(completed) > 1:
        yield f"it completed more than once, in attempts {completed}"
    if (history.job.status is _S.COMPLETED) is not (completed[-1:] == [history.job.attempts]):
        yield f"it is {history.job.status}, but its completed attempts are {completed}"
    for attempt in history.attempts:
        if (attempt.outcome is None) is not (attempt.ended_at is None):
            yield f"attempt {attempt.attempt} has only one of outcome and end time"
    last = history.attempts[-1].outcome if history.attempts else None
    if history.job.status in (_S.FAILED, _S.RETRYING) and last not in _UNSUCCESSFUL:
        yield f"it is {history.job.status}, but the outcome of its last attempt is {last}"


def _times(history: History) -> Iterator[str]:
    job = history.job
    if (job.finished_at is not None) is not (job.status in FINISHED):
        yield f"it is {job.status}, but its end time is {job.finished_at}"
    if job.status in (_S.SCHEDULED, _S.RETRYING) and job.run_at is None:
        yield f"it is {job.status}, but has no time to run at"
    if job.cancel_requested and job.status is not _S.RUNNING:
        yield f"it is {job.status}, but a request to cancel it is open"
    if job.cancelled_by is not None and job.status is not _S.CANCELLED:
        yield f"it is {job.status}, but marked as cancelled because of job {job.cancelled_by}"


def _parents(history: History) -> Iterator[str]:
    job = history.job
    if [parent.id for parent in job.parents] != [parent.id for parent in history.parents]:
        yield "its list of parents differs from its stored dependencies"
    unmet = [parent.id for parent in history.parents if not parent.met]
    if job.unmet_parents != len(unmet):
        yield f"its count of unmet parents is {job.unmet_parents}, but these are unmet: {unmet}"
    for parent in history.parents:
        # The other conditions may have been met by an end that a retry has undone since.
        succeeded = parent.met and parent.condition is Condition.SUCCEEDED
        if succeeded and parent.status not in (_S.COMPLETED, None):
            yield f"its parent {parent.id} is recorded as succeeded, but is {parent.status}"


def _released(history: History) -> Iterator[str]:
    job = history.job
    unmet = [parent.id for parent in history.parents if not parent.met]
    if unmet and job.status not in (_S.BLOCKED, _S.CANCELLED):
        yield f"it is {job.status}, but its parents {unmet} are unmet"
    if not unmet and job.status is _S.BLOCKED:
        yield "it is blocked, but no parent is unmet"
    if job.status is not _S.BLOCKED:
        return
    alternatives = [p for p in history.parents if p.condition is Condition.ONE_SUCCEEDED]
    _, possible = one_of_several(parent.status for parent in alternatives)
    for parent in history.parents:
        if parent in alternatives and possible:
            continue
        final = parent.status is None or parent.status in FINISHED
        if final and not parent.met and not parent.unsettled:
            yield f"it waits for parent {parent.id}, which has ended and can't release it any more"


def _unique(history: History) -> Iterator[str]:
    job, holder = history.job, history.key_holder
    if job.status not in FINISHED and job.unique_key is not None and holder != job.id:
        by = "no job" if holder is None else f"job {holder}"
        yield f"its unique key {job.unique_key!r} is held by {by}"


RULES: dict[str, Callable[[History], Iterator[str]]] = {
    "numbers": _numbers,  # attempts are numbered from 1 without gaps
    "open": _open_attempts,  # a running job has one open attempt, any other job none
    "outcomes": _outcomes,  # one outcome per attempt, and at most one completed attempt
    "times": _times,  # the fields that a state needs are set, and no others
    "parents": _parents,  # the recorded state of parents is true
    "released": _released,  # no job runs before its parents, and none waits for ever
    "unique": _unique,  # one unfinished job holds a unique key
}
