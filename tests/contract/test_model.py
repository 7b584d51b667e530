"""Random sequences of verbs, against a model of the state machine that fits on a page."""

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from jobq.backends.base import Backend
from jobq.backends.redis.backend import RedisBackend
from jobq.diagnostics.verify import verify
from jobq.models import (
    DEFAULT_QUEUE,
    FINISHED,
    TRANSITIONS,
    UNFINISHED,
    Claim,
    Condition,
    JobFilter,
    JobStatus,
    Outcome,
    ParentRef,
    Retried,
    RetryEffect,
)
from tests.contract.conftest import BACKENDS
from tests.contract.driver import LEASE, Jobs, new_job
from tests.contract.redis_keys import check_keys

S = JobStatus
EXAMPLES = int(os.environ.get("JOBQ_TEST_EXAMPLES", "40"))  # `make soak` takes more
STEPS = 40


# -- the model ---------------------------------------------------------------------------------


@dataclass
class Model:
    """A job, with the fields that its status depends on."""

    id: int
    queue: str
    priority: int
    key: str | None
    parents: dict[int, Condition]
    due: float | None
    status: JobStatus = S.BLOCKED
    met: set[int] = field(default_factory=set)
    cancelled_by: int | None = None
    cancel_requested: bool = False
    attempts: int = 0
    owner: str = ""
    lease_until: float = 0.0

    def beside(self, parent: int) -> set[int]:
        """Return the parents that are met with this one: of several, one is to succeed."""
        if self.parents[parent] is not Condition.ONE_SUCCEEDED:
            return {parent}
        return {p for p, c in self.parents.items() if c is Condition.ONE_SUCCEEDED}


class World:
    """All jobs. Dependents learn of a change in order of id."""

    def __init__(self) -> None:
        self.jobs: dict[int, Model] = {}
        self.gone: set[int] = set()
        self.now = 0.0
        self.paused: set[str] = set()
        self._tell: set[int] = set()

    def insert(self, job: Model) -> None:
        self.jobs[job.id] = job
        for parent, condition in job.parents.items():
            if condition.met_by(self.jobs[parent].status):
                job.met |= job.beside(parent)
        job.cancelled_by = self.excluding(job)
        if job.cancelled_by is not None:
            job.status = S.CANCELLED
        elif len(job.met) == len(job.parents):
            job.status = self.ready(job)

    def ready(self, job: Model) -> JobStatus:
        return S.SCHEDULED if job.due is not None and job.due > self.now else S.PENDING

    def excluding(self, job: Model) -> int | None:
        for parent, condition in sorted(job.parents.items()):
            if parent in job.met:
                continue
            if all(self.excludes(each, condition) for each in job.beside(parent)):
                return parent
        return None

    def excludes(self, parent: int, condition: Condition) -> bool:
        return parent in self.gone or condition.excluded_by(self.jobs[parent].status)

    def holder(self, key: str | None) -> int | None:
        held = (j.id for j in self.jobs.values() if j.key == key and j.status in UNFINISHED)
        return None if key is None else next(held, None)

    def promote(self) -> None:
        for job in self.jobs.values():
            if job.status in (S.SCHEDULED, S.RETRYING) and (job.due or 0) <= self.now:
                job.status = S.PENDING

    def running(self) -> list[Model]:
        return [job for job in self.jobs.values() if job.status is S.RUNNING]

    def chosen(self, limit: int, prefetch: int) -> list[Model]:
        """Return the first jobs in order, and prefetched ones in queues without a limit."""
        line = self.line()
        more = [job for job in line[limit:] if LIMITS[job.queue] is None]
        return line[:limit] + more[:prefetch]

    def line(self) -> list[Model]:
        """Return the jobs that may start, in order: no more of a queue than its limit allows."""
        room = {name: limit or 10**6 for name, limit in LIMITS.items() if name not in self.paused}
        for job in self.running():
            if job.queue in room:
                room[job.queue] -= 1
        line: list[Model] = []
        pending = [job for job in self.jobs.values() if job.status is S.PENDING]
        for job in sorted(pending, key=lambda job: (-job.priority, job.id)):
            if room.get(job.queue, 0) > 0:
                room[job.queue] -= 1
                line.append(job)
        return line

    def change(self, job: Model, status: JobStatus) -> None:
        job.status = status
        self._tell.add(job.id)
        while self._tell:
            parent = self.jobs[min(self._tell)]
            self._tell.remove(parent.id)
            for child in sorted(self.jobs.values(), key=lambda j: j.id):
                if parent.id in child.parents:
                    self._hear(child, parent, child.parents[parent.id])

    def _hear(self, child: Model, parent: Model, condition: Condition) -> None:
        if condition.met_by(parent.status):
            self._revive(child, parent)
            child.met |= child.beside(parent.id)
            if child.status is S.BLOCKED and len(child.met) == len(child.parents):
                child.status = self.ready(child)
        elif parent.status in FINISHED:
            if parent.id in child.met:
                return
            dead = all(self.excludes(each, condition) for each in child.beside(parent.id))
            if child.status is S.BLOCKED and dead:
                child.status, child.cancelled_by = S.CANCELLED, parent.id
                self._tell.add(child.id)
        else:
            self._revive(child, parent)

    def _revive(self, child: Model, parent: Model) -> None:
        if child.status is S.CANCELLED and child.cancelled_by in child.beside(parent.id):
            child.cancelled_by = None
            if self.holder(child.key) is None:
                child.cancelled_by = self.excluding(child)
                if child.cancelled_by is None:
                    child.status = S.BLOCKED
                    self._tell.add(child.id)


# -- the machine -------------------------------------------------------------------------------

LIMITS = {DEFAULT_QUEUE: None, "limited": 2}
OWNERS = ("one", "two", "three")

index = st.integers(0, 10**6)
seconds = st.sampled_from([0, 10, 60])
"""Only a few, so that times coincide, and the clock is set to exactly the time that a job waits for."""
queues = st.sampled_from(sorted(LIMITS))
owners = st.sampled_from(OWNERS)


class Wanted(NamedTuple):
    """A job to add; its parents by their places among the existing jobs."""

    queue: str
    priority: int
    key: str | None
    parents: list[tuple[int, Condition]]
    delay: int | None


wanted = st.builds(
    Wanted,
    queue=queues,
    priority=st.integers(4, 6),
    key=st.none() | st.sampled_from("kl"),
    parents=st.lists(st.tuples(index, st.sampled_from(Condition)), max_size=3),
    delay=st.none() | seconds,
)


def there_is(*statuses: JobStatus) -> Callable[[Any], bool]:
    """Return a precondition that skips a rule with nothing to do."""
    return lambda self: any(job.status in statuses for job in self.world.jobs.values())


class Machine(RuleBasedStateMachine):
    backend_name = "sqlite"

    @initialize(jobs=st.lists(wanted, min_size=4, max_size=8))
    def start(self, jobs: list[Wanted]) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.opened: list[Backend] = []
        self.jobs = Jobs(self.open_backend)
        self.jobs.limit("limited", max_concurrent=LIMITS["limited"])
        self.world = World()
        self.claims: list[Claim] = []
        for job in jobs:
            self.insert(job)

    def open_backend(self) -> Backend:
        for backend in self.opened:
            backend.close()
        self.opened = [BACKENDS[self.backend_name](self.folder)]
        return self.opened[0]

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            if isinstance(backend := self.opened[0], RedisBackend):
                check_keys(backend)
            backend.close()
            shutil.rmtree(self.folder)

    def some(self, place: int, *statuses: JobStatus) -> Model:
        among = [job for job in self.world.jobs.values() if job.status in statuses]
        return among[place % len(among)]

    @rule(job=wanted)
    def insert(self, job: Wanted) -> None:
        ids = list(self.world.jobs)
        chosen = {ids[p % len(ids)]: condition for p, condition in job.parents} if ids else {}
        chosen = dict(sorted(chosen.items()))  # of several that exclude it, the first is named
        due = None if job.delay is None else self.world.now + job.delay
        (inserted,) = self.jobs.insert(
            new_job(
                queue=job.queue,
                priority=job.priority,
                unique_key=job.key,
                parents=tuple(ParentRef(id=p, condition=c) for p, c in chosen.items()),
                run_at=None if job.delay is None else self.jobs.now + timedelta(seconds=job.delay),
            )
        )
        holder = self.world.holder(job.key)
        assert inserted.created is (holder is None)
        if holder is not None:
            assert inserted.id == holder
            return
        assert inserted.id > max([0, *ids, *self.world.gone])
        self.world.insert(Model(inserted.id, job.queue, job.priority, job.key, chosen, due))

    @precondition(there_is(S.PENDING, S.SCHEDULED, S.RETRYING))
    @rule(limit=st.integers(0, 6), owner=owners, prefetch=st.integers(0, 2))
    def claim(self, limit: int, owner: str, prefetch: int = 0) -> None:
        if limit + prefetch:
            self.world.promote()
        expected = self.world.chosen(limit, prefetch)
        claims = self.jobs.claim(limit, owner=owner, prefetch=prefetch)
        assert [claim.job.id for claim in claims] == [job.id for job in expected]
        for job, claim in zip(expected, claims, strict=True):
            job.status, job.due, job.cancel_requested = S.RUNNING, None, False
            job.attempts += 1
            job.owner, job.lease_until = owner, self.world.now + LEASE.total_seconds()
            assert claim.attempt == job.attempts
        self.claims += claims

    @precondition(there_is(S.RUNNING, S.PENDING))
    @rule(place=index, status=st.sampled_from(sorted(TRANSITIONS[S.RUNNING])), delay=seconds)
    def end(self, place: int, status: JobStatus, delay: int) -> None:
        if not self.world.running():
            self.claim(4, "one")
        if not self.world.running():
            return
        job = self.some(place, S.RUNNING)
        assert self.end_claim(self.claim_of(job), status, delay)
        if job.cancel_requested and status in UNFINISHED:
            status = S.CANCELLED
        job.due = self.world.now + delay if status in (S.RETRYING, S.SCHEDULED) else None
        self.world.change(job, status)

    @precondition(there_is(S.RUNNING))
    @rule(place=index)
    def unclaim(self, place: int) -> None:
        """Give back a claim that was never started: its number is used again."""
        job = self.some(place, S.RUNNING)
        claim = self.claim_of(job)
        self.jobs.unclaim(claim)
        self.claims.remove(claim)
        job.attempts -= 1
        self.world.change(job, S.CANCELLED if job.cancel_requested else S.PENDING)

    @precondition(lambda self: any(not self.is_held(claim) for claim in self.claims))
    @rule(place=index, status=st.sampled_from(sorted(TRANSITIONS[S.RUNNING])))
    def end_late(self, place: int, status: JobStatus) -> None:
        """End an attempt that is no longer held: nothing changes."""
        late = [claim for claim in self.claims if not self.is_held(claim)]
        running = {job.id for job in self.world.running()}
        overtaken = [claim for claim in late if claim.job.id in running]
        late = overtaken or late
        assert not self.end_claim(late[place % len(late)], status, 10)

    @precondition(there_is(S.RUNNING))
    @rule(place=index, limit=st.integers(1, 4), owner=owners)
    def again(self, place: int, limit: int, owner: str) -> None:
        """Release a job, let another owner claim it, and end the released attempt."""
        claim = self.claim_of(self.some(place, S.RUNNING))
        self.end(self.world.running().index(self.world.jobs[claim.job.id]), S.PENDING, 0)
        self.claim(limit, owner)
        assert not self.end_claim(claim, S.COMPLETED, 0)

    def claim_of(self, job: Model) -> Claim:
        return next(c for c in self.claims if (c.job.id, c.attempt) == (job.id, job.attempts))

    def is_held(self, claim: Claim) -> bool:
        job = self.world.jobs.get(claim.job.id)
        return job is not None and job.status is S.RUNNING and job.attempts == claim.attempt

    def end_claim(self, claim: Claim, status: JobStatus, delay: int) -> bool:
        waits = status in (S.RETRYING, S.SCHEDULED)
        run_at = self.jobs.now + timedelta(seconds=delay) if waits else None
        return self.jobs.end(claim, status, run_at=run_at)

    @precondition(there_is(S.RUNNING))
    @rule(owner=owners)
    def heartbeat(self, owner: str) -> None:
        held = [job for job in self.world.running() if job.owner == owner]
        for job in held:
            job.lease_until = self.world.now + LEASE.total_seconds()
        found = self.jobs.backend.heartbeat(owner, LEASE, self.jobs.now)
        expected = [(job.id, job.attempts, job.cancel_requested) for job in held]
        assert sorted((*each.key[:2], each.cancel_requested) for each in found) == expected

    @precondition(there_is(S.RUNNING))
    @rule()
    def rescue(self) -> None:
        """Release attempts without a heartbeat, as another supervisor does."""
        held = self.jobs.backend.open_attempts()
        claims = [Claim(job, attempt.attempt, attempt.supervisor) for job, attempt in held]
        endings = [self.jobs.ending(claim, S.PENDING, outcome=Outcome.LOST) for claim in claims]
        now = self.jobs.now
        taken = self.jobs.backend.end(endings, now, lease_before=now)
        for claim, took_effect in zip(claims, taken, strict=True):
            job = self.world.jobs[claim.job.id]
            assert took_effect is (job.lease_until < self.world.now)
            if took_effect:
                self.world.change(job, S.CANCELLED if job.cancel_requested else S.PENDING)

    @rule(queue=queues, paused=st.sampled_from([False, False, True]))
    def pause(self, queue: str, paused: bool) -> None:
        self.jobs.limit(queue, max_concurrent=LIMITS[queue], paused=paused)
        (self.world.paused.add if paused else self.world.paused.discard)(queue)

    @precondition(there_is(*UNFINISHED))
    @rule(place=index)
    def cancel(self, place: int) -> None:
        job = self.some(place, *UNFINISHED)
        self.jobs.backend.cancel([job.id], None, self.jobs.now)
        if job.status is S.RUNNING:
            job.cancel_requested = True
        else:
            self.world.change(job, S.CANCELLED)

    @precondition(there_is(S.FAILED, S.CANCELLED))
    @rule(place=index)
    def requeue(self, place: int) -> None:
        job = self.some(place, S.FAILED, S.CANCELLED)
        if (holder := self.world.holder(job.key)) is not None:
            expected = Retried(job.id, RetryEffect.KEY_TAKEN, holder)
        elif (parent := self.world.excluding(job)) is not None:
            expected = Retried(job.id, RetryEffect.IMPOSSIBLE, parent)
        else:
            ready = len(job.met) == len(job.parents)
            expected = Retried(job.id, RetryEffect.PENDING if ready else RetryEffect.BLOCKED)
        assert self.jobs.backend.requeue([job.id], self.jobs.now) == [expected]
        if expected.because is None:
            job.due, job.cancelled_by = None, None
            self.world.change(job, S(expected.effect))

    @precondition(there_is(*FINISHED))
    @rule(place=index)
    def delete(self, place: int) -> None:
        job = self.some(place, *FINISHED)
        assert self.jobs.backend.delete([job.id]) == [job.id]
        del self.world.jobs[job.id]
        self.world.gone.add(job.id)

    @rule(seconds=st.sampled_from([1, 10, 20, 60, 3600, -10, -3600]))
    def clock(self, seconds: int) -> None:
        self.jobs.later(seconds)
        self.world.now += seconds

    @precondition(there_is(S.SCHEDULED, S.RETRYING))
    @rule()
    def until_one_is_due(self) -> None:
        waiting = [
            job for job in self.world.jobs.values() if job.status in (S.SCHEDULED, S.RETRYING)
        ]
        self.clock(int(max(0, min(job.due or 0 for job in waiting) - self.world.now)))

    @rule()
    def upkeep(self) -> None:
        self.jobs.backend.maintain()

    @rule()
    def crash(self) -> None:
        self.jobs.reopen()

    # -- after each step -----------------------------------------------------------------------

    @invariant()
    def the_statuses_are_those_of_the_model(self) -> None:
        if not hasattr(self, "world"):
            return
        self.jobs.settle()
        found = self.jobs.backend.find(JobFilter(), limit=None)
        assert {job.id: job.status for job in found} == {
            job.id: job.status for job in self.world.jobs.values()
        }

    @invariant()
    def nothing_is_there_that_can_not_be(self) -> None:
        if not hasattr(self, "world"):
            return
        found = verify(self.jobs.backend)
        assert found.violations == []
        assert found.over_limits == []
        assert found.jobs == len(self.world.jobs)
        assert found.attempts == sum(job.attempts for job in self.world.jobs.values())


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_a_backend_does_what_the_model_does(name: str) -> None:
    machine = type("Machine", (Machine,), {"backend_name": name})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            suppress_health_check=list(HealthCheck),
        ),
    )
