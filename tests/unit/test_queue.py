import io
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from importlib.util import cache_from_source
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from freezegun import freeze_time
from freezegun.api import FrozenDateTimeFactory

from jobq import (
    ArgsError,
    ConfigError,
    DatabaseError,
    Job,
    JobQueue,
    JobSpec,
    JobStatus,
    NotFound,
    UsageError,
    WrongState,
)
from jobq.backends.sqlite.backend import SqliteBackend
from jobq.config.settings import Settings
from jobq.models import CancelEffect, Condition, Outcome, Parent, Progress, Queue, SupervisorInfo
from jobq.queue import backend_of, recovery_of
from jobq.units import Rate

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TRUE = {"argv": ["true"]}

Configure = Callable[[str], JobQueue]


@pytest.fixture
def clock() -> Iterator[FrozenDateTimeFactory]:
    with freeze_time(NOON) as frozen:
        assert isinstance(frozen, FrozenDateTimeFactory)
        yield frozen


@pytest.fixture
def configured(project: Path) -> Iterator[Configure]:
    """Opens the project's queue with this jobq.toml."""
    with ExitStack() as stack:

        def opened(text: str) -> JobQueue:
            (project / "jobq.toml").write_text(dedent(text))
            return stack.enter_context(JobQueue.open(project / "jobq.toml"))

        yield opened


def add(queue: JobQueue, /, **options: Any) -> Job:
    return queue.add("shell", TRUE, **options)


def finish(queue: JobQueue, job: Job, status: JobStatus = JobStatus.COMPLETED) -> Job:
    if status is JobStatus.CANCELLED:
        return queue.cancel(job.id)
    claim = queue.claim(owner="me")
    assert claim is not None
    assert claim.job.id == job.id
    if status is JobStatus.COMPLETED:
        queue.complete(claim)
    else:
        queue.fail(claim, "broke", retry=False)
    return queue.get(job.id)


def ids(jobs: list[Job]) -> list[int]:
    return [job.id for job in jobs]


# -- opening -----------------------------------------------------------------------------------


def test_a_queue_is_opened_by_its_file_and_closed_at_the_end(project: Path) -> None:
    with JobQueue.open(project / "jobq.toml") as queue:
        job = add(queue)
    assert (project / ".jobq" / "jobq.db").exists()
    with JobQueue.open(str(project / "jobq.toml")) as queue:
        assert queue.get(job.id) == job


def test_the_nearest_file_is_found(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "sub").mkdir()
    monkeypatch.chdir(project / "sub")
    with JobQueue.open() as queue:
        assert queue.settings.path == project / "jobq.toml"


def test_a_wrong_file_or_database_is_told_apart(project: Path) -> None:
    (project / "jobq.toml").write_text("concurrency = 0")
    with pytest.raises(ConfigError):
        JobQueue.open(project / "jobq.toml")
    (project / "jobq.toml").write_text("database = '.'")
    with pytest.raises(DatabaseError):
        JobQueue.open(project / "jobq.toml")


# -- adding ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("clock")
def test_a_job_has_what_was_asked_for(queue: JobQueue) -> None:
    parent = add(queue)
    job = add(
        queue,
        name="n",
        priority="high",
        tags={"a": "b"},
        unique="k",
        after=[parent.id],
        delay="10m",
        timeout="1m",
        max_retries=1,
        retry_base=2,
        added_by=parent.id,
    )
    assert (job.name, job.priority, job.tags, job.unique_key) == ("n", 7, {"a": "b"}, "k")
    assert job.parents == (Parent(parent.id, Condition.SUCCEEDED),)
    assert job.run_at == NOON + timedelta(minutes=10)
    assert (job.timeout, job.max_retries, job.retry_base) == (60.0, 1, 2.0)
    assert (job.status, job.added_by, job.created_at) == (JobStatus.BLOCKED, parent.id, NOON)


@pytest.mark.usefixtures("clock")
def test_a_time_is_kept_in_utc(queue: JobQueue) -> None:
    at = datetime.fromisoformat("2026-01-01T20:00+05:00")
    assert add(queue, at=at).run_at == NOON + timedelta(hours=3)
    assert add(queue, at=NOON - timedelta(days=1)).status is JobStatus.PENDING


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"priority": 10}, "priority '10'"),
        ({"at": NOON, "delay": 5}, "not both"),
        ({"at": datetime(2026, 1, 1)}, "time zone"),  # noqa: DTZ001 - that is the mistake
        ({"at": "tomorrow"}, "at: expected a datetime"),
        ({"delay": "soon"}, "'soon' is not a duration"),
        ({"delay": -1}, "-1 is not a duration"),
        ({"timeout": "never"}, "'never' is not a duration"),
        ({"retry_base": []}, "not a duration"),
        ({"max_retries": -1}, "retries -1"),
        ({"max_retries": True}, "retries True"),
        ({"max_retries": 2.5}, "retries 2.5"),
        ({"max_retries": "3"}, "retries '3'"),
        ({"max_retries": 10**20}, "retries 1000"),
        ({"name": 5}, "name 5"),
        ({"name": "a\0b"}, "without NUL"),
        ({"name": "x" * 1001}, "1,000 characters"),
        ({"unique": "\udce9"}, "not valid UTF-8"),
        ({"tags": {"a b": "c"}}, "tag 'a b'"),
        ({"tags": {"a": 5}}, "tag a 5"),
        ({"tags": ["a"]}, "tags: expected"),
        ({"after": ["other"]}, "no job in this batch has the key 'other'"),
        ({"after": "12"}, "after: expected a list"),
        ({"after": 12}, "after: expected a list"),
        ({"after_any": [1.5]}, "parent 1.5"),
        ({"after_fail": [True]}, "parent True"),
        ({"after": [1], "after_any": [1]}, "two conditions"),
        ({"key": 5}, "key: expected text"),
        ({"queue": 5}, "queue: expected text"),
        ({"colour": "red"}, "no such option: colour"),
    ],
)
def test_a_wrong_option_is_a_usage_error_and_adds_nothing(
    queue: JobQueue, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        queue.add_many([{"args": TRUE}, {"args": TRUE, **options}])
    assert queue.find() == []


def test_an_unknown_type_and_a_wrong_argument_are_usage_errors(queue: JobQueue) -> None:
    with pytest.raises(UsageError, match="unknown job type 'tile'"):
        queue.add("tile")
    with pytest.raises(ArgsError, match="no argument 'argc'"):
        queue.add("shell", {"argc": 1})
    with pytest.raises(UsageError, match="args: expected"):
        queue.add("shell", ["true"])  # type: ignore[arg-type]
    assert queue.find() == []


def test_an_unknown_queue_or_parent_is_not_found(queue: JobQueue) -> None:
    with pytest.raises(NotFound, match="jobq queue create nowhere"):
        add(queue, queue="nowhere")
    with pytest.raises(NotFound, match="no job 41 to wait for"):
        add(queue, after=[41])
    assert queue.find() == []


def test_a_unique_key_gives_the_job_that_holds_it(queue: JobQueue) -> None:
    job = add(queue, unique="k")
    assert add(queue, unique="k", name="second") == job
    finish(queue, job)
    assert add(queue, unique="k").id != job.id


def test_standard_input_is_kept_with_its_job(queue: JobQueue) -> None:
    spooled = queue.logs.spool(io.BytesIO(b"input"))
    (inserted,) = queue.insert([JobSpec(args={**TRUE, "stdin": "-"})], stdin=spooled)
    assert (queue.logs.path(inserted.id) / "stdin").read_bytes() == b"input"
    assert not spooled.exists()


def test_standard_input_of_a_job_that_was_there_already_is_left_to_the_caller(
    queue: JobQueue,
) -> None:
    job = add(queue, unique="k")
    spooled = queue.logs.spool(io.BytesIO(b"input"))
    (inserted,) = queue.insert([JobSpec(args=TRUE, unique="k")], stdin=spooled)
    assert (inserted.id, inserted.created) == (job.id, False)
    assert not queue.logs.path(job.id).exists()


# -- defaults, from the most to the least specific ---------------------------------------------

WORKER = """
from pydantic import BaseModel
from jobq import JobWorker
class Tile(JobWorker):
    job_type = "tile"
    {settings}
    def run(self, args, job): ...
"""


def add_tile(project: Path, configured: Configure, text: str, settings: str, **options: Any) -> Job:
    (project / "workers").mkdir(exist_ok=True)
    for name in [name for name in sys.modules if name.startswith("jobq_project_workers")]:
        del sys.modules[name]
    file = project / "workers" / "tile.py"
    file.write_text(WORKER.format(settings=settings))
    # Byte code knows its source by second and size, which the last one may have had, too.
    Path(cache_from_source(str(file))).unlink(missing_ok=True)
    return configured(text).add("tile", **options)


TIMEOUTS = {
    "the job": ("timeout", 1.0),
    "its type": ('[timeouts.types]\ntile = "2s"\n', 2.0),
    "its class": ("timeout = 3", 3.0),
    "its queue": ("[queues.lane]\ntimeout = 4\n", 4.0),
    "its priority": ("[timeouts]\nnormal = 5\n", 5.0),
}


@pytest.mark.parametrize("first", range(5))
def test_a_timeout_comes_from_the_most_specific_place(
    project: Path, configured: Configure, first: int
) -> None:
    given = list(TIMEOUTS)[first:]
    text = "[queues.lane]\n" if "its queue" not in given else ""
    for place in ("its priority", "its type", "its queue"):
        text += TIMEOUTS[place][0] if place in given else ""
    options = {"timeout": 1} if "the job" in given else {}
    settings = "timeout = 3" if "its class" in given else "pass"
    job = add_tile(project, configured, text, settings, queue="lane", **options)
    assert job.timeout == TIMEOUTS[given[0]][1]


def test_without_any_a_timeout_is_that_of_the_priority_and_a_shell_job_has_none(
    project: Path, configured: Configure
) -> None:
    assert add_tile(project, configured, "", "pass").timeout == 300
    assert add_tile(project, configured, "", "pass", priority=0).timeout == 180
    assert add_tile(project, configured, "", "pass", priority=9).timeout == 600
    assert add(configured("")).timeout is None


def test_zero_and_none_are_no_timeout_and_hide_less_specific_ones(
    project: Path, configured: Configure
) -> None:
    assert add_tile(project, configured, "", "timeout = 3", timeout=0).timeout is None
    assert add_tile(project, configured, "", "timeout = 3", timeout="none").timeout is None
    assert add_tile(project, configured, "", "timeout = 0").timeout is None


def test_retries_come_from_the_most_specific_place(project: Path, configured: Configure) -> None:
    text = "[retry]\nmax_retries = 9\nbase = '1m'\n[queues.lane]\nmax_retries = 8\n"
    mine = "max_retries = 0; retry_base = 2.0"
    job = add_tile(project, configured, text, mine, queue="lane", max_retries=1, retry_base=3)
    assert (job.max_retries, job.retry_base) == (1, 3.0)
    job = add_tile(project, configured, text, mine, queue="lane")
    assert (job.max_retries, job.retry_base) == (0, 2.0)
    shell = configured(text)
    assert (add(shell, queue="lane").max_retries, add(shell).max_retries) == (8, 9)
    assert add(shell).retry_base == 60.0
    assert add(configured("")).max_retries == 3


def test_limits_of_the_default_queue_hold_from_the_start(configured: Configure) -> None:
    queue = configured("[queues.default]\nmax_retries = 7\ntimeout = 9\nmax_concurrent = 1\n")
    assert queue.queue("default").max_concurrent == 1
    job = add(queue)
    assert job.max_retries == 7
    add(queue)
    assert queue.claim(owner="me") is not None
    assert queue.claim(owner="me") is None


# -- adding many -------------------------------------------------------------------------------


def test_jobs_are_added_in_the_order_given(queue: JobQueue) -> None:
    names = ["a", "b", "c", "d"]
    specs = [{"args": TRUE, "name": name, "key": name} for name in names]
    specs[1]["after"] = ["a"]
    jobs = queue.add_many(specs)
    assert [job.name for job in jobs] == names
    assert ids(jobs) == sorted(ids(jobs))


def test_a_child_may_be_given_before_its_parent(queue: JobQueue) -> None:
    child, parent = queue.add_many(
        [JobSpec(args=TRUE, after=["p"]), JobSpec(args=TRUE, key="p", name="parent")]
    )
    assert child.parents == (Parent(parent.id, Condition.SUCCEEDED),)
    assert (child.status, parent.name) == (JobStatus.BLOCKED, "parent")


def test_keys_and_ids_can_be_mixed(queue: JobQueue) -> None:
    there = add(queue)
    _, child = queue.add_many(
        [{"args": TRUE, "key": "p"}, {"args": TRUE, "after_any": ["p"], "after_fail": [there.id]}]
    )
    assert {parent.condition for parent in child.parents} == {Condition.ENDED, Condition.FAILED}


def test_jobs_that_wait_for_each_other_are_refused(queue: JobQueue) -> None:
    with pytest.raises(UsageError, match=r"circle: (one → two → one|two → one → two)"):
        queue.add_many(
            [
                {"args": TRUE, "key": "a", "name": "one", "after": ["b"]},
                {"args": TRUE, "key": "b", "name": "two", "after": ["a"]},
            ]
        )
    with pytest.raises(UsageError, match="circle"):
        queue.add_many([{"args": TRUE, "key": "a", "after": ["a"]}])
    assert queue.find() == []


def test_a_key_belongs_to_one_job(queue: JobQueue) -> None:
    with pytest.raises(UsageError, match="key 'a' is given to two jobs"):
        queue.add_many([{"args": TRUE, "key": "a"}] * 2)


@pytest.mark.parametrize("wrong", [{"args": {}}, {"args": TRUE, "after": [10**6]}])
def test_thousands_are_checked_before_any_is_added(queue: JobQueue, wrong: dict[str, Any]) -> None:
    with pytest.raises((UsageError, NotFound)):
        queue.add_many([*[{"args": TRUE}] * 2500, wrong])
    assert queue.find() == []


def test_thousands_keep_their_parents_across_transactions(queue: JobQueue) -> None:
    specs: list[JobSpec] = [JobSpec(args=TRUE, key="0")]
    specs += [JobSpec(args=TRUE, key=str(n), after=[str(n - 1)]) for n in range(1, 2500)]
    jobs = queue.add_many(specs)
    assert [job.parents for job in jobs[1:]] == [
        (Parent(job.id, Condition.SUCCEEDED),) for job in jobs[:-1]
    ]


def test_two_jobs_with_one_unique_key_are_one_parent(queue: JobQueue) -> None:
    one, two, child = queue.add_many(
        [
            {"args": TRUE, "key": "a", "unique": "k"},
            {"args": TRUE, "key": "b", "unique": "k"},
            {"args": TRUE, "after": ["a", "b"]},
        ]
    )
    assert one == two
    assert child.parents == (Parent(one.id, Condition.SUCCEEDED),)


def test_no_jobs_are_no_error(queue: JobQueue) -> None:
    assert queue.add_many([]) == []


# -- reading -----------------------------------------------------------------------------------


def test_jobs_are_found_by_id_status_tag_and_time(queue: JobQueue) -> None:
    first, second = add(queue, tags={"k": "v"}), add(queue)
    finish(queue, first)
    assert queue.get_many([second.id, first.id])[0] == second
    assert ids(queue.find(status="completed")) == [first.id]
    assert ids(queue.find(status=["completed", JobStatus.PENDING])) == [first.id, second.id]
    assert ids(queue.find(tags={"k": "v"})) == [first.id]
    assert ids(queue.find(newest=True, limit=1)) == [second.id]
    assert queue.counts() == {
        **dict.fromkeys(JobStatus, 0),
        JobStatus.COMPLETED: 1,
        JobStatus.PENDING: 1,
    }


def test_what_is_not_there_is_not_found(queue: JobQueue) -> None:
    job = add(queue)
    for missing in (41, -1, 2**70):
        with pytest.raises(NotFound, match=str(missing)):
            queue.get(missing)
        with pytest.raises(NotFound):
            queue.get_many([job.id, missing])
        with pytest.raises(NotFound):
            queue.cancel(missing)
        with pytest.raises(NotFound):
            queue.retry(missing)
        with pytest.raises(NotFound):
            queue.wait(missing, timeout=0)
    with pytest.raises(UsageError, match=r"'done'.*completed"):
        queue.find(status="done")


# -- waiting -----------------------------------------------------------------------------------


def test_waiting_ends_when_the_last_job_has_ended(queue: JobQueue) -> None:
    first, second = add(queue), add(queue)
    finish(queue, first)
    waited: list[Job] = []
    thread = threading.Thread(
        target=lambda: waited.extend(queue.wait_all([second.id, first.id], timeout=20))
    )
    thread.start()
    finish(queue, second, JobStatus.FAILED)
    thread.join(20)
    assert [(job.id, job.status) for job in waited] == [
        (second.id, JobStatus.FAILED),
        (first.id, JobStatus.COMPLETED),
    ]


def test_waiting_sees_what_another_process_does(queue: JobQueue, project: Path) -> None:
    job = add(queue)
    with JobQueue.open(project / "jobq.toml") as other:
        timer = threading.Timer(0.05, finish, (other, job))
        timer.start()
        assert queue.wait(job.id, timeout="20s").status is JobStatus.COMPLETED
        timer.join()


def test_waiting_in_vain_times_out_and_names_the_jobs(queue: JobQueue) -> None:
    done, pending = add(queue), add(queue)
    finish(queue, done)
    with pytest.raises(TimeoutError, match=f"not ended in time: {pending.id}$"):
        queue.wait_all([done.id, pending.id], timeout=0)
    assert queue.wait(done.id, timeout=0).id == done.id


# -- cancelling --------------------------------------------------------------------------------


def test_a_cancelled_job_has_the_reason(queue: JobQueue) -> None:
    job = queue.cancel(add(queue).id, reason="enough")
    assert (job.status, job.reason) == (JobStatus.CANCELLED, "enough")
    with pytest.raises(WrongState, match="is cancelled: there is nothing to cancel"):
        queue.cancel(job.id)
    with pytest.raises(UsageError):
        queue.cancel(job.id, reason="\0")


def family(queue: JobQueue) -> list[Job]:
    return queue.add_many(
        [
            {"args": TRUE, "key": "parent"},
            {"args": TRUE, "key": "child", "after_any": ["parent"]},
            {"args": TRUE, "after_any": ["child"]},
        ]
    )


def statuses(queue: JobQueue, jobs: list[Job]) -> list[str]:
    return [job.status for job in queue.get_many(ids(jobs))]


def test_those_that_wait_are_cancelled_only_in_a_cascade(queue: JobQueue) -> None:
    jobs = family(queue)
    queue.cancel(jobs[0].id)
    assert statuses(queue, jobs) == ["cancelled", "pending", "blocked"]
    jobs = family(queue)
    queue.cancel(jobs[0].id, cascade=True)
    assert statuses(queue, jobs) == ["cancelled"] * 3


def test_a_cascade_from_a_finished_job_cancels_nobody(queue: JobQueue) -> None:
    jobs = family(queue)
    finish(queue, jobs[0])
    with pytest.raises(WrongState):
        queue.cancel(jobs[0].id, cascade=True)
    assert statuses(queue, jobs) == ["completed", "pending", "blocked"]


def test_the_cancellation_of_a_parent_reaches_thousands_of_children(queue: JobQueue) -> None:
    parent = add(queue)
    children = queue.add_many([{"args": TRUE, "after": [parent.id]}] * 1200)
    queue.cancel(parent.id)
    assert set(statuses(queue, children)) == {"cancelled"}


def test_many_are_cancelled_and_each_is_told_of(queue: JobQueue) -> None:
    done, pending = add(queue), add(queue)
    finish(queue, done)
    assert queue.cancel_many([done.id, pending.id, pending.id, 41]) == {
        done.id: CancelEffect.FINISHED,
        pending.id: CancelEffect.CANCELLED,
        41: CancelEffect.MISSING,
    }


# -- retrying ----------------------------------------------------------------------------------


def test_a_failed_job_is_retried_with_its_number(queue: JobQueue) -> None:
    job = finish(queue, add(queue), JobStatus.FAILED)
    again = queue.retry(job.id)
    assert (again.id, again.status, again.attempts) == (job.id, JobStatus.PENDING, 1)


def test_a_retry_that_is_refused_says_why(queue: JobQueue) -> None:
    job = add(queue)
    with pytest.raises(WrongState, match=f"job {job.id} is pending: only failed and cancelled"):
        queue.retry(job.id)
    failed = finish(queue, job, JobStatus.FAILED)
    child = add(queue, after=[failed.id])
    with pytest.raises(WrongState, match=f"retry {failed.id}, and this one comes back with it"):
        queue.retry(child.id)
    loser = queue.cancel(add(queue, unique="k").id)
    holder = add(queue, unique="k")
    with pytest.raises(WrongState, match=f"job {holder.id} holds the unique key of job {loser.id}"):
        queue.retry(loser.id)


def test_the_retry_of_a_parent_brings_thousands_of_children_back(queue: JobQueue) -> None:
    parent = add(queue)
    children = queue.add_many([{"args": TRUE, "after": [parent.id]}] * 1200)
    finish(queue, parent, JobStatus.FAILED)
    while backend_of(queue).settle_dependents(NOON):
        pass
    assert set(statuses(queue, children)) == {"cancelled"}
    queue.retry(parent.id)
    assert set(statuses(queue, children)) == {"blocked"}


# -- pruning -----------------------------------------------------------------------------------


def with_log(queue: JobQueue, job: Job) -> Path:
    queue.logs.create(job.id).close()
    return queue.logs.path(job.id)


def test_pruning_deletes_rows_and_directories_together(queue: JobQueue) -> None:
    done, failed, pending = add(queue), add(queue), add(queue)
    folders = [with_log(queue, job) for job in (done, failed, pending)]
    finish(queue, done)
    finish(queue, failed, JobStatus.FAILED)
    assert queue.prune() == 2
    assert ids(queue.find()) == [pending.id]
    assert [folder.exists() for folder in folders] == [False, False, True]
    assert queue.prune() == 0


def test_pruning_by_age_counts_from_the_end_of_a_job(
    queue: JobQueue, clock: FrozenDateTimeFactory
) -> None:
    old, young = add(queue), add(queue)
    finish(queue, old)
    clock.tick(timedelta(days=2))
    finish(queue, young)
    clock.tick(timedelta(days=1))
    assert queue.prunable(older_than="2d") == [old.id]
    assert queue.prune(older_than=timedelta(days=2)) == 1
    assert ids(queue.find()) == [young.id]


@pytest.mark.parametrize(("keep", "deleted"), [(0, 4), (1, 3), (3, 1), (4, 0), (5, 0), (100, 0)])
def test_pruning_keeps_the_last_ones(queue: JobQueue, keep: int, deleted: int) -> None:
    jobs = [queue.cancel(add(queue).id) for _ in range(4)]
    assert queue.prune(keep_last=keep) == deleted
    assert ids(queue.find()) == ids(jobs)[deleted:]


def test_pruning_can_be_narrowed(queue: JobQueue) -> None:
    queue.create_queue("lane")
    failed = finish(queue, add(queue), JobStatus.FAILED)
    cancelled = queue.cancel(add(queue, queue="lane").id)
    assert queue.prunable(status="failed") == [failed.id]
    assert queue.prunable(queue="lane") == [cancelled.id]
    with pytest.raises(UsageError, match="not pending, running: cancel them first"):
        queue.prune(status=["failed", "running", "pending"])
    assert len(queue.find()) == 2


def test_thousands_are_pruned(queue: JobQueue) -> None:
    jobs = queue.add_many([{"args": TRUE}] * 2500)
    queue.cancel_many(ids(jobs))
    assert queue.prune(keep_last=1) == 2499


def test_unfinished_jobs_are_not_deleted_nor_are_their_logs(queue: JobQueue) -> None:
    job = add(queue)
    folder = with_log(queue, job)
    assert queue.delete([job.id]) == []
    assert folder.exists()


def test_the_children_of_a_parent_are_told_before_it_is_deleted(queue: JobQueue) -> None:
    parent = add(queue)
    children = queue.add_many([{"args": TRUE, "after": [parent.id]}] * 1000)
    folder = with_log(queue, parent)
    finish(queue, parent)
    assert queue.delete([parent.id]) == [parent.id]
    assert not folder.exists()
    assert set(statuses(queue, children)) == {"pending"}


# -- queues ------------------------------------------------------------------------------------


def test_a_queue_is_created_changed_paused_and_deleted(queue: JobQueue) -> None:
    lane = queue.create_queue("lane", max_concurrent=2, priority="high", rate="10/min")
    assert lane == Queue(name="lane", max_concurrent=2, priority=7, rate=Rate(10, 60.0))
    assert queue.queue("lane") == lane
    assert queue.set_queue("lane", rate=None, timeout="1m").timeout == 60.0
    assert queue.queue("lane").rate is None
    assert queue.queue("lane").max_concurrent == 2
    add(queue, queue="lane")
    assert queue.pause("lane").paused
    assert queue.claim(owner="me") is None
    assert not queue.resume("lane").paused
    assert queue.claim(owner="me") is not None
    queue.create_queue("empty")
    queue.delete_queue("empty")
    assert [q.name for q in queue.queues()] == ["lane", "default"]


@pytest.mark.parametrize(
    ("limits", "complaint"),
    [
        ({"max_concurrent": 0}, "max_concurrent 0: give a whole number of at least 1"),
        ({"max_concurrent": "2"}, "max_concurrent '2'"),
        ({"max_concurrent": 1.5}, "max_concurrent 1.5"),
        ({"max_concurrent": 10**20}, "max_concurrent 1000"),
        ({"max_retries": -1}, "max_retries -1: give a whole number of at least 0"),
        ({"priority": 10}, "priority '10'"),
        ({"rate": "often"}, "'often' is not a rate"),
        ({"rate": 5}, "rate 5"),
        ({"timeout": "soon"}, "not a duration"),
        ({"description": "\0"}, "description"),
        ({"paused": "no"}, "paused 'no'"),
        ({"colour": "red"}, "a queue has no 'colour'"),
    ],
)
def test_a_wrong_limit_is_a_usage_error(
    queue: JobQueue, limits: dict[str, Any], complaint: str
) -> None:
    before = queue.queues()
    with pytest.raises(UsageError, match=complaint):
        queue.set_queue("default", **limits)
    with pytest.raises(UsageError, match=complaint):
        queue.create_queue("lane", **limits)
    assert queue.queues() == before


def test_queues_are_named_plainly_and_once(queue: JobQueue) -> None:
    for name in ("", "a b", "-a", "a/b", "x" * 65, "ż"):
        with pytest.raises(UsageError, match="queue name"):
            queue.create_queue(name)
    with pytest.raises(WrongState, match="there already"):
        queue.create_queue("default")
    with pytest.raises(NotFound, match="nowhere"):
        queue.set_queue("nowhere", priority=1)
    with pytest.raises(NotFound, match="nowhere"):
        queue.queue("nowhere")


def test_a_configured_queue_is_there_before_it_is_used(configured: Configure) -> None:
    queue = configured("[queues.ffmpeg]\nmax_concurrent = 1\n")
    assert {q.name: q.max_concurrent for q in queue.queues()} == {"default": None, "ffmpeg": 1}
    add(queue, queue="ffmpeg")
    add(queue, queue="ffmpeg")
    assert queue.claim(owner="me") is not None
    assert queue.claim(owner="me") is None


def test_configured_limits_are_applied_and_a_pause_stays(configured: Configure) -> None:
    queue = configured("[queues.ffmpeg]\nmax_concurrent = 1\n")
    queue.apply_configured_queues()
    queue.pause("ffmpeg")
    queue = configured("[queues.ffmpeg]\nmax_concurrent = 5\n")
    queue.apply_configured_queues()
    assert queue.queue("ffmpeg") == Queue(name="ffmpeg", max_concurrent=5, paused=True)
    queue.pause("default")
    queue.apply_configured_queues()
    assert queue.queue("default").paused


def test_settings_made_by_hand_do_not_hide_what_a_queue_was_set_to(tmp_path: Path) -> None:
    settings = Settings(
        path=None, database=tmp_path / "jobq.db", log_dir=tmp_path / "logs", concurrency=1
    )
    with JobQueue.from_settings(settings) as queue:
        queue.set_queue("default", max_concurrent=2, max_retries=7)
        assert queue.pause("default").max_concurrent == 2
        assert add(queue).max_retries == 7


# -- pull workers ------------------------------------------------------------------------------


def test_a_pull_worker_claims_renews_and_completes(
    queue: JobQueue, clock: FrozenDateTimeFactory
) -> None:
    job = add(queue)
    claim = queue.claim("default", owner="host:1", types=["shell"], lease=60)
    assert claim is not None
    assert (claim.job.id, claim.attempt) == (job.id, 1)
    assert queue.claim(owner="host:2") is None
    clock.tick(50)
    assert queue.heartbeat(claim)
    (attempt,) = queue.attempts(job.id)
    assert attempt.lease_until == NOON + timedelta(seconds=50 + 30)
    assert queue.progress(claim, 1, 2, "half")
    assert queue.complete(claim, result={"n": 1})
    done = queue.get(job.id)
    assert (done.status, done.result) == (JobStatus.COMPLETED, {"n": 1})
    assert done.progress == Progress(1, 2, "half")
    assert not queue.complete(claim)
    assert not queue.heartbeat(claim)
    assert not queue.progress(claim, 2)


@pytest.mark.usefixtures("clock")
def test_a_job_that_fails_is_retried_and_then_dead(configured: Configure) -> None:
    queue = configured("[retry]\nmax_retries = 1\njitter = 0\n")
    job = add(queue)
    claim = queue.claim(owner="me")
    assert claim is not None
    assert queue.fail(claim, "broke")
    waits = queue.get(job.id)
    assert (waits.status, waits.run_at) == (JobStatus.RETRYING, NOON + timedelta(seconds=10))
    assert (waits.failures, waits.error) == (1, "broke")
    assert queue.claim(owner="me") is None
    with freeze_time(NOON + timedelta(seconds=10)):
        claim = queue.claim(owner="me")
        assert claim is not None
        assert queue.fail(claim, "broke again")
    dead = queue.get(job.id)
    assert (dead.status, dead.error, dead.attempts) == (JobStatus.FAILED, "broke again", 2)


def test_a_failure_can_be_final(queue: JobQueue) -> None:
    add(queue)
    claim = queue.claim(owner="me")
    assert claim is not None
    assert queue.fail(claim, "no image", retry=False)
    assert not queue.fail(claim, "late")
    assert queue.get(claim.job.id).error == "no image"


def test_a_pull_worker_learns_that_its_job_is_to_stop(queue: JobQueue) -> None:
    add(queue)
    claim = queue.claim(owner="me")
    assert claim is not None
    queue.cancel(claim.job.id)
    assert not queue.heartbeat(claim)
    assert queue.fail(claim, "stopped")
    assert queue.get(claim.job.id).status is JobStatus.CANCELLED


def test_a_result_that_is_no_json_leaves_the_attempt_open(queue: JobQueue) -> None:
    add(queue)
    claim = queue.claim(owner="me")
    assert claim is not None
    for odd in (object(), float("nan"), {"a": {1, 2}}):
        with pytest.raises(UsageError, match="result: JSON can't hold it"):
            queue.complete(claim, result=odd)
    assert queue.complete(claim)


# -- rescue ------------------------------------------------------------------------------------


def test_an_attempt_that_nobody_holds_is_ended_and_the_job_runs_again(
    queue: JobQueue, clock: FrozenDateTimeFactory
) -> None:
    add(queue)
    claim = queue.claim(owner="gone", lease=30)
    assert claim is not None
    lost = backend_of(queue).open_attempts()
    assert recovery_of(queue).release(lost, lease_before=NOON + timedelta(seconds=30)) == 0
    clock.tick(31)
    assert recovery_of(queue).release(lost, lease_before=NOON + timedelta(seconds=31)) == 1
    assert recovery_of(queue).release(lost, lease_before=None) == 0
    job = queue.get(claim.job.id)
    assert (job.status, job.crashes, job.failures) == (JobStatus.PENDING, 1, 0)
    assert not queue.complete(claim)
    (attempt,) = queue.attempts(job.id)
    assert (attempt.outcome, "gone" in (attempt.error or "")) == (Outcome.LOST, True)
    assert recovery_of(queue).release([], lease_before=None) == 0


def test_a_job_that_is_lost_again_and_again_is_given_up(queue: JobQueue) -> None:
    job = add(queue, max_retries=100)
    for _ in range(3):
        assert queue.claim(owner="gone") is not None
        recovery_of(queue).release(backend_of(queue).open_attempts(), lease_before=None)
    assert queue.get(job.id).status is JobStatus.FAILED


def test_a_lost_job_that_was_to_stop_is_cancelled(queue: JobQueue) -> None:
    job = add(queue)
    assert queue.claim(owner="gone") is not None
    queue.cancel(job.id, reason="enough")
    recovery_of(queue).release(backend_of(queue).open_attempts(), lease_before=None)
    assert (queue.get(job.id).status, queue.get(job.id).reason) == (JobStatus.CANCELLED, "enough")


def test_dead_supervisors_are_not_shown(queue: JobQueue) -> None:
    assert isinstance(backend_of(queue), SqliteBackend)
    listener = backend_of(queue).supervisors.listen("one")
    backend_of(queue).supervisors.register(
        SupervisorInfo(
            id="one",
            host="here",
            boot_id="b",
            pid=1,
            slots=1,
            queues=None,
            types=(),
            started_at=NOON,
            heartbeat_at=NOON,
        )
    )
    assert [info.id for info in queue.supervisors()] == ["one"]
    listener.close()
    assert queue.supervisors() == []


def test_a_queue_s_timeout_holds_for_commands_and_a_priority_s_does_not(project: Path) -> None:
    (project / "jobq.toml").write_text('[queues.short]\ntimeout = "2s"\n[timeouts]\nnormal = 5\n')
    with JobQueue.open(project / "jobq.toml") as queue:
        assert queue.add("shell", {"argv": ["true"]}, queue="short").timeout == 2.0
        assert queue.add("shell", {"argv": ["true"]}).timeout is None
