import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

import pytest

from jobq import (
    ArgsError,
    Job,
    JobQueue,
    JobStatus,
    NotFound,
    UsageError,
)
from jobq.jobs.prepare import InvalidJob, Preparer
from jobq.models import Condition, Parent
from tests.support.queues import NOON, TRUE, add

Configure = Callable[[str], JobQueue]


# -- options ---------------------------------------------------------------------------------------


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


# -- defaults --------------------------------------------------------------------------------------


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


def test_a_queue_s_timeout_holds_for_commands_and_a_priority_s_does_not(project: Path) -> None:
    (project / "jobq.toml").write_text('[queues.short]\ntimeout = "2s"\n[timeouts]\nnormal = 5\n')
    with JobQueue.open(project / "jobq.toml") as queue:
        assert queue.add("shell", {"argv": ["true"]}, queue="short").timeout == 2.0
        assert queue.add("shell", {"argv": ["true"]}).timeout is None


# -- one after the other -----------------------------------------------------------------------


def preparer(queue: JobQueue) -> Preparer:
    return Preparer(queue.job_type, queue.queue, queue.settings, NOON)


def test_all_that_is_wrong_is_reported_by_field(queue: JobQueue) -> None:
    with pytest.raises(InvalidJob) as raised:
        preparer(queue).prepare(
            {"priority": 10, "name": 5, "queue": "nowhere", "args": {}, "after": [0]}
        )
    found = {field: str(error) for field, error in raised.value.errors}
    assert list(found) == ["queue", "priority", "name", "after", "args"]
    assert found["after"].startswith("id 0: give a whole number of at least 1")


def test_limits_are_shared_by_jobs_that_give_the_same_ones(queue: JobQueue) -> None:
    prepare = preparer(queue).prepare
    job, limits = prepare({"args": TRUE, "max_retries": 1, "name": "a"})
    again, same = prepare({"max_retries": 1, "args": {"argv": ["false"]}})
    assert same is limits
    assert (job.max_retries, job.name, again.name) == (1, "a", None)
    with pytest.raises(InvalidJob):
        prepare({"args": TRUE, "max_retries": True})  # which equals 1, and is none


def test_tags_of_one_job_are_not_those_of_the_next(queue: JobQueue) -> None:
    prepare = preparer(queue).prepare
    assert prepare({"args": TRUE, "tags": {"a": "b"}})[0].tags == {"a": "b"}
    assert prepare({"args": TRUE})[0].tags == {}


@pytest.mark.parametrize("parent", [0, -1, 10**20])
def test_a_parent_that_no_job_can_be_is_a_usage_error(queue: JobQueue, parent: int) -> None:
    with pytest.raises(UsageError, match=f"id {parent}: give a whole number"):
        add(queue, after=[parent])
