"""The contract: a store that is filled from another one has the same content."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobq.backends.base import Backend
from jobq.backends.messages import Setup
from jobq.backends.sqlite.backend import SqliteBackend
from jobq.backends.transfer_store import TransferStore
from jobq.diagnostics.verify import verify
from jobq.errors import DatabaseError, HalfFilledError, UsageError, WrongState
from jobq.models import (
    Condition,
    JobFilter,
    JobStatus,
    LogOffsets,
    Missed,
    Overlap,
    Progress,
    Queue,
    Schedule,
    Started,
)
from jobq.transfer.migrate import move, require_idle, tally
from jobq.units import Rate
from tests.contract.driver import LEASE, Jobs, after, new_job
from tests.contract.test_schedules import put
from tests.contract.test_supervisors import supervisor

NAMES = ("the one", "the other")


def furnish(jobs: Jobs) -> None:
    """Fill a store with something of everything that it can keep, except running jobs."""
    jobs.limit("fast", rate=Rate(5, 60.0), description="d", max_concurrent=2, timeout=1.5)
    jobs.limit("off", paused=True, priority=9, max_retries=0)
    for status in [status for status in JobStatus if status is not JobStatus.RUNNING]:
        jobs.put(status, queue="fast", name=status.value, tags={"é": "\u2028", "n": "1"})
        jobs.later(0.125)
    gone = jobs.put(JobStatus.COMPLETED)
    jobs.add(parents=after(gone, condition=Condition.ENDED), unique_key="k", key="import")
    jobs.backend.delete([gone])
    claim = jobs.start(jobs.add(args={"z": [1.5, None, "ü"], "a": {}}, max_retries=7, timeout=3.25))
    jobs.backend.started([Started(claim.key, pid=7, pid_started=8, offsets=LogOffsets(1, 2, 3, 4))])
    jobs.backend.progress(claim.key, Progress(1.0, 3.0, "one"))
    assert jobs.end(claim, JobStatus.RETRYING, error="e" * 100, exit_code=3, failures=1)
    assert jobs.end(jobs.start(jobs.add(key="done")), result={"b": [1, {"a": None}]}, reason="r")
    jobs.insert(*[new_job(parents=after(1, condition=Condition.FAILED)) for _ in range(3)])
    add_schedule(jobs)
    jobs.backend.delete([jobs.put(JobStatus.CANCELLED)])  # the highest id is of no job


def add_schedule(jobs: Jobs) -> None:
    schedule = Schedule(
        name="often", cron="* * * * *", tz="Europe/Berlin", type="shell", args={"argv": ["true"]},
        queue="fast", priority=3, tags={"t": "1"}, retry_base=0.5, missed=Missed.ALL,
        overlap=Overlap.ALLOW, created_at=jobs.now, next_at=jobs.now, settled_until=jobs.now,
    )  # fmt: skip
    jobs.backend.schedules.add(schedule)
    (before,) = jobs.backend.schedules.all()
    ticks = [jobs.now + timedelta(minutes=n) for n in (1, 2)]
    assert jobs.backend.schedules.fire(before, before, new_job(), ticks, jobs.now)


@pytest.fixture
def plain(tmp_path: Path) -> Backend:
    """Return a SQLite store, to migrate from or to."""
    return SqliteBackend(tmp_path / "plain.db")


@pytest.mark.parametrize("away", [False, True])
def test_all_that_is_kept_is_moved(jobs: Jobs, plain: Backend, away: bool) -> None:
    source = jobs if away else Jobs(lambda: plain)
    target = plain if away else jobs.backend
    furnish(source)
    before = tally(source.backend)
    assert move(source.backend, target, NAMES) == before == tally(source.backend)
    assert before.jobs == 16
    assert before.schedules == 1
    assert target.counts() == source.backend.counts()
    assert target.stats.totals()["added"] == before.jobs
    ids = {
        job.id
        for page in [source.backend.transfer.histories(after_id=0, limit=99)]
        for job, *_ in page
    }
    assert target.get(ids) == source.backend.get(ids)
    now = source.now
    assert target.failures.groups(now) == source.backend.failures.groups(now) != []
    assert verify(target).violations == []
    assert move(source.backend, target, NAMES) == before, "it is there already"


def test_work_goes_on_where_it_was_moved_to(jobs: Jobs, plain: Backend) -> None:
    old = Jobs(lambda: plain)
    furnish(old)
    old.put(JobStatus.COMPLETED, unique_key="of one that ended")
    jobs.limit("one that was there")
    move(plain, jobs.backend, NAMES)
    assert jobs.backend.queues() == plain.queues()
    assert jobs.backend.stats.key_holder("of one that ended") is None
    jobs.now = old.now
    last = jobs.backend.transfer.setup().last_job_id
    assert jobs.backend.stats.key_holder("k") is not None
    assert jobs.backend.transfer.known_keys(["import", "done"]) == plain.transfer.known_keys(
        ["import", "done"]
    )
    assert jobs.backend.next_due(jobs.now) == plain.next_due(jobs.now)
    assert jobs.backend.schedules.next_tick() == plain.schedules.next_tick()
    assert jobs.add() == old.add() == last + 1
    assert jobs.claimed() == old.claimed()
    jobs.later(3600)
    old.later(3600)
    assert (claimed := jobs.claimed()) == old.claimed()
    assert claimed
    (schedule,) = jobs.backend.schedules.all()
    assert jobs.backend.schedules.fire(schedule, schedule, new_job(), [old.now - LEASE], jobs.now)
    again = [each.at for each in plain.schedules.firings("often", 5)]
    (schedule,) = jobs.backend.schedules.all()
    assert jobs.backend.schedules.fire(schedule, schedule, new_job(), again, jobs.now) == []


@pytest.mark.parametrize("away", [False, True])
def test_children_that_were_not_told_yet_are_told_where_they_were_moved_to(
    jobs: Jobs, plain: Backend, away: bool
) -> None:
    source, target = (jobs, plain) if away else (Jobs(lambda: plain), jobs.backend)
    parent = source.add()
    source.insert(*[new_job(parents=after(parent))] * 502)
    source.finish(parent, JobStatus.COMPLETED)
    assert verify(source.backend).violations == []
    move(source.backend, target, NAMES)
    moved = Jobs(lambda: target)
    moved.settle()
    assert target.counts()["default"] == {JobStatus.COMPLETED: 1, JobStatus.PENDING: 502}


def test_what_was_loaded_is_left_alone(jobs: Jobs, plain: Backend) -> None:
    old = Jobs(lambda: plain)
    furnish(old)
    jobs.backend.transfer.begin_filling("it")
    for last in (0, 0, 3):
        jobs.backend.transfer.load(plain.transfer.histories(after_id=last, limit=99))
    jobs.backend.transfer.load_setup(plain.transfer.setup())
    jobs.backend.transfer.end_filling()
    assert jobs.backend.counts() == plain.counts()
    assert verify(jobs.backend).violations == []
    assert jobs.backend.stats.totals()["added"] == 16


class PowerCutError(Exception):
    pass


BEFORE, BEHIND = False, True
CUTS = [
    ("begin_filling", BEFORE), ("begin_filling", BEHIND), ("load", BEFORE), ("load", BEHIND),
    ("load", BEHIND), ("load", BEHIND), ("load_setup", BEFORE), ("load_setup", BEHIND),
    ("end_filling", BEFORE), ("end_filling", BEHIND),
]  # fmt: skip


class Interrupted:
    """A store in which the power is cut before one of the verbs, or behind it."""

    def __init__(self, store: TransferStore, name: str, *, behind: bool) -> None:
        self._store, self._name, self._behind = store, name, behind

    def __getattr__(self, name: str) -> Any:
        return self._cut if name == self._name else getattr(self._store, name)

    def _cut(self, *args: Any, **options: Any) -> None:
        if self._behind:
            getattr(self._store, self._name)(*args, **options)
        raise PowerCutError


def test_interrupted_anywhere_it_goes_on(
    open_backend: Callable[[], Backend], plain: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check that no other process can use the target meanwhile, even if it had it open before."""
    monkeypatch.setattr("jobq.transfer.migrate.BATCH_SIZE", 5)
    old = Jobs(lambda: plain)
    furnish(old)
    bystander = open_backend()
    assert bystander.counts() == {}
    for name, behind in CUTS:
        target: Any = open_backend()
        target.transfer = Interrupted(target.transfer, name, behind=behind)
        with pytest.raises(PowerCutError):
            move(plain, target, NAMES)
        if (name, behind) not in (CUTS[0], CUTS[-1]):
            for other in (bystander, open_backend()):
                with pytest.raises(HalfFilledError, match="jobq migrate"):
                    other.insert([new_job()], old.now)
    assert bystander.counts() == plain.counts()
    assert move(plain, open_backend(), NAMES) == tally(bystander) == tally(plain)


def test_a_store_with_jobs_of_its_own_is_refused(jobs: Jobs, plain: Backend) -> None:
    old = Jobs(lambda: plain)
    furnish(old)
    own = jobs.add(name="mine")
    with pytest.raises(WrongState, match="of its own"):
        move(plain, jobs.backend, NAMES)
    with pytest.raises(WrongState, match="of its own"):
        move(plain, jobs.backend, NAMES, restart=True)
    assert jobs.get(own).name == "mine"


def test_a_store_with_a_schedule_of_its_own_is_refused(jobs: Jobs) -> None:
    put(jobs.backend)
    with pytest.raises(WrongState, match="of its own"):
        jobs.backend.transfer.begin_filling("elsewhere")


def test_a_store_is_refused_while_a_supervisor_is_alive_in_it(jobs: Jobs) -> None:
    listener = jobs.backend.supervisors.listen("one")
    info = replace(supervisor(jobs, "one"), heartbeat_at=datetime.now(UTC))
    jobs.backend.supervisors.register(info)
    with pytest.raises(WrongState, match=r"uses it \(one\)"):
        jobs.backend.transfer.begin_filling("elsewhere")
    listener.close()
    jobs.backend.supervisors.register(
        replace(info, heartbeat_at=info.heartbeat_at - timedelta(hours=1))
    )
    assert jobs.backend.transfer.begin_filling("elsewhere") == 0


def test_a_store_is_not_moved_into_itself(open_backend: Callable[[], Backend]) -> None:
    source = open_backend()
    source.put_queues([Queue(name="slow", paused=True)])
    with pytest.raises(UsageError, match="this is where the jobs are"):
        move(source, open_backend(), NAMES)
    assert [queue.paused for queue in source.queues(["slow"])] == [True]


def test_one_half_filled_from_elsewhere_is_refused_unless_begun_anew(
    open_backend: Callable[[], Backend], plain: Backend
) -> None:
    old = Jobs(lambda: plain)
    furnish(old)
    target = open_backend()
    assert target.transfer.begin_filling("elsewhere") == 0
    target.transfer.load(plain.transfer.histories(after_id=0, limit=3))
    with pytest.raises(WrongState, match="from elsewhere"):
        move(plain, open_backend(), NAMES)
    target = open_backend()
    assert move(plain, target, NAMES, restart=True) == tally(plain)
    assert target.stats.totals()["added"] == tally(plain).jobs == 16


def test_a_source_that_changed_is_noticed(
    open_backend: Callable[[], Backend], plain: Backend
) -> None:
    old = Jobs(lambda: plain)
    furnish(old)
    open_backend().transfer.begin_filling(NAMES[0])
    half = open_backend()
    half.transfer.begin_filling(NAMES[0])
    half.transfer.load(plain.transfer.histories(after_id=0, limit=20))
    (pending,) = plain.find(JobFilter(statuses=frozenset({JobStatus.PENDING})), limit=1)
    plain.cancel([pending.id], "changed", old.now)
    with pytest.raises(DatabaseError, match="--restart"):
        move(plain, open_backend(), NAMES)
    with pytest.raises(HalfFilledError):
        open_backend().counts()


def test_nothing_is_moved_while_a_job_runs(jobs: Jobs) -> None:
    job_id = jobs.put(JobStatus.RUNNING)
    with pytest.raises(WrongState, match=f"{job_id}"):
        require_idle(jobs.backend, "it")


def test_a_store_that_nobody_has_used_has_its_default_queue(backend: Backend) -> None:
    store = backend.identity()
    assert backend.transfer.setup() == Setup(
        store=store,
        last_job_id=0,
        last_schedule_id=0,
        queues=(Queue(name="default"),),
        starts=(),
        schedules=(),
    )
