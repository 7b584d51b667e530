"""What is true of every queue at every moment, whichever backend keeps it.

`verify` checks it all. Each rule is a function from a job's history to what is wrong with it.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from jobq.backends.base import Backend
from jobq.backends.messages import History
from jobq.models import FINISHED, Condition, JobStatus, Outcome, Queue
from jobq.queue import JobQueue, backend_of

PAGE = 500
"""Jobs read at one moment: few enough that no reader is in the way of a checkpoint for long."""

_S = JobStatus
_UNSUCCESSFUL = frozenset({Outcome.FAILED, Outcome.TIMED_OUT, Outcome.CRASHED, Outcome.LOST})


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that can't be, and is. ``job_id`` is None where it is not about one job."""

    rule: str  # the name of the rule, for programs
    message: str
    job_id: int | None = None


@dataclass(slots=True)
class Verification:
    """What `verify` looked at, and what it found."""

    jobs: int = 0
    attempts: int = 0
    violations: list[Violation] = field(default_factory=list)
    over_limits: list[tuple[Queue, int]] = field(default_factory=list)
    """Queues in which more run than may, with how many: right where a limit has been lowered."""


def verify_queue(queue: JobQueue, *, thorough: bool = False) -> Verification:
    """Check the jobs of a queue: see `verify`."""
    return verify(backend_of(queue), thorough=thorough)


def verify(backend: Backend, *, thorough: bool = False) -> Verification:
    """Check every invariant on every job, while others go on working.

    Args:
        backend: where the jobs are.
        thorough: read all of the storage for damage, too.

    Raises:
        DatabaseError: it can't be read.
    """
    found = Verification()
    found.violations += [Violation("storage", flaw) for flaw in backend.flaws(thorough=thorough)]
    before, changes = backend.counts(), backend.change_counter()
    seen: Counter[tuple[str, JobStatus]] = Counter()
    after_id = 0
    while page := backend.transfer.histories(after_id=after_id, limit=PAGE):
        for history in page:
            seen[history.job.queue, history.job.status] += 1
            found.attempts += len(history.attempts)
            found.violations += check_job(history)
        found.jobs += len(page)
        after_id = page[-1].job.id
    if backend.change_counter() == changes and backend.counts() == before:
        found.violations += _check_counts(before, seen)
    found.over_limits = over_limits(backend)
    return found


def _check_counts(
    counts: dict[str, dict[JobStatus, int]], seen: Counter[tuple[str, JobStatus]]
) -> Iterator[Violation]:
    told = {(queue, s): n for queue, each in counts.items() for s, n in each.items() if n}
    for queue, status in sorted(told.keys() | seen.keys()):
        said, there = told.get((queue, status), 0), seen[queue, status]
        if said != there:
            text = f"queue {queue}: {said} jobs are counted as {status}, and {there} are there"
            yield Violation("counts", text)


def over_limits(backend: Backend) -> list[tuple[Queue, int]]:
    """The queues in which more jobs run than may, with how many do."""
    running = Counter(job.queue for job, _ in backend.open_attempts())
    return [
        (queue, running[queue.name])
        for queue in backend.queues()
        if queue.max_concurrent is not None and running[queue.name] > queue.max_concurrent
    ]


def check_job(history: History) -> Iterator[Violation]:
    """What is wrong with one job."""
    for rule, check in RULES.items():
        for message in check(history):
            yield Violation(rule, message, history.job.id)


# -- the rules ---------------------------------------------------------------------------------


def _numbers(history: History) -> Iterator[str]:
    numbers = [attempt.attempt for attempt in history.attempts]
    if numbers != list(range(1, history.job.attempts + 1)):
        yield f"{history.job.attempts} attempts are counted, and their numbers are {numbers}"
    for what in ("failures", "crashes"):
        if (count := getattr(history.job, what)) > history.job.attempts:
            yield f"{count} {what} are counted, and {history.job.attempts} attempts"


def _open_attempts(history: History) -> Iterator[str]:
    job = history.job
    opened = [attempt.attempt for attempt in history.attempts if attempt.ended_at is None]
    if job.status is _S.RUNNING and opened != [job.attempts]:
        yield f"it is running as attempt {job.attempts}, and its open attempts are {opened}"
    if job.status is not _S.RUNNING and opened:
        yield f"it is {job.status}, and its attempts {opened} have not ended"


def _outcomes(history: History) -> Iterator[str]:
    completed = [a.attempt for a in history.attempts if a.outcome is Outcome.COMPLETED]
    if len(completed) > 1:
        yield f"its attempts {completed} have all completed it"
    if (history.job.status is _S.COMPLETED) is not (completed[-1:] == [history.job.attempts]):
        yield f"it is {history.job.status}, and its completed attempts are {completed}"
    for attempt in history.attempts:
        if (attempt.outcome is None) is not (attempt.ended_at is None):
            yield f"attempt {attempt.attempt} has an outcome or an end, and not both"
    last = history.attempts[-1].outcome if history.attempts else None
    if history.job.status in (_S.FAILED, _S.RETRYING) and last not in _UNSUCCESSFUL:
        yield f"it is {history.job.status}, and its last attempt {last or 'is not there'}"


def _times(history: History) -> Iterator[str]:
    job = history.job
    if (job.finished_at is not None) is not (job.status in FINISHED):
        yield f"it is {job.status}, and its end is {job.finished_at}"
    if job.status in (_S.SCHEDULED, _S.RETRYING) and job.run_at is None:
        yield f"it is {job.status}, and has no time to run at"
    if job.cancel_requested and job.status is not _S.RUNNING:
        yield f"it is {job.status}, and still asked to stop"
    if job.cancelled_by is not None and job.status is not _S.CANCELLED:
        yield f"it is {job.status}, and was cancelled because of job {job.cancelled_by}"


def _parents_told(history: History) -> Iterator[str]:
    job = history.job
    if [parent.id for parent in job.parents] != [parent.id for parent in history.parents]:
        yield "its parents are not those that are kept for it"
    unmet = [parent.id for parent in history.parents if not parent.met]
    if job.unmet_parents != len(unmet):
        yield f"{job.unmet_parents} parents are counted as unmet, and these are: {unmet}"
    for parent in history.parents:
        # The other conditions may have been met by an end that a retry has undone since.
        succeeded = parent.met and parent.condition is Condition.SUCCEEDED
        if succeeded and parent.status not in (_S.COMPLETED, None):
            yield f"it was told that parent {parent.id} succeeded, which is {parent.status}"


def _released(history: History) -> Iterator[str]:
    job = history.job
    unmet = [parent.id for parent in history.parents if not parent.met]
    if unmet and job.status not in (_S.BLOCKED, _S.CANCELLED):
        yield f"it is {job.status} before its parents {unmet}"
    if not unmet and job.status is _S.BLOCKED:
        yield "it is blocked, and waits for no parent"
    if job.status is not _S.BLOCKED:
        return
    for parent in history.parents:
        final = parent.status is None or parent.status in FINISHED
        if final and not parent.met and not parent.unsettled:
            yield f"it waits for parent {parent.id}, which will not change any more"


def _unique(history: History) -> Iterator[str]:
    job, holder = history.job, history.key_holder
    if job.status not in FINISHED and job.unique_key is not None and holder != job.id:
        yield f"its unique key {job.unique_key!r} is held by job {holder}"


RULES: dict[str, Callable[[History], Iterator[str]]] = {
    "numbers": _numbers,  # attempts are numbered from 1, none is left out
    "open": _open_attempts,  # a running job has one open attempt, any other none
    "outcomes": _outcomes,  # one outcome an attempt, and one completed attempt at most
    "times": _times,  # the fields that a state needs are there, and no others
    "parents": _parents_told,  # what a job was told of its parents is true
    "released": _released,  # no job runs before its parents, none waits for ever
    "unique": _unique,  # one unfinished job holds a unique key
}
