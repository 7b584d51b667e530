"""The contract: lists of jobs in pages, and the jobs that ended since."""

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from jobq.backends.lists import MAX_LIGHT_ARGS_BYTES, Order, Page, Position
from jobq.limits import DROPPED_KEY
from jobq.models import FINISHED, UNFINISHED, JobFilter, JobStatus, LogOffsets, Started, TextSearch
from tests.contract.driver import Jobs, after

ALL = JobFilter()


def page(jobs: Jobs, wanted: JobFilter = ALL, limit: int = 100, **options: Any) -> Page:
    return jobs.backend.lists.page(wanted, limit=limit, **options)


def ids(page: Page) -> list[int]:
    return [job.id for job in page.jobs]


def through(jobs: Jobs, wanted: JobFilter, limit: int, **options: Any) -> list[int]:
    """Return the ids of all pages."""
    found: list[int] = []
    place: Position | None = None
    for _ in range(1000):
        part = page(jobs, wanted, limit, after=place, **options)
        assert len(part.jobs) <= limit
        assert part.read <= options.get("max_rows", 20_000)
        found += ids(part)
        place = part.last
        if part.complete:
            return found
    raise AssertionError("the pages do not end")


@pytest.fixture
def every(jobs: Jobs) -> dict[JobStatus, list[int]]:
    """Two jobs in each status, in two queues and with several priorities, in a mixed order."""
    jobs.limit("fast")
    order = [status for status in JobStatus for _ in range(2)]
    random.Random(7).shuffle(order)
    made: dict[JobStatus, list[int]] = {status: [] for status in JobStatus}
    for number, status in enumerate(order):
        queue = "fast" if number % 2 else "default"
        made[status].append(jobs.put(status, queue=queue, priority=number % 10, name="wanted"))
        jobs.later(1)
    return made


GROUPS: list[Sequence[JobStatus]] = [
    *([status] for status in JobStatus),
    [JobStatus.RUNNING, JobStatus.PENDING],
    [JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.BLOCKED],
    [JobStatus.SCHEDULED, JobStatus.RETRYING, JobStatus.COMPLETED],
    [],
]


@pytest.mark.parametrize("order", [Order.NEWEST, Order.OLDEST])
def test_each_job_of_some_statuses_is_in_one_page(
    jobs: Jobs, every: dict[JobStatus, list[int]], order: Order
) -> None:
    for statuses in [*GROUPS, list(JobStatus)]:
        wanted = JobFilter(statuses=frozenset(statuses))
        expected = sorted(
            (job.id for job in jobs.backend.find(ALL, limit=None) if job.status in statuses),
            reverse=order is Order.NEWEST,
        )
        assert {job_id for status in statuses for job_id in every[status]} <= set(expected)
        assert ids(page(jobs, wanted, order=order)) == expected
        assert through(jobs, wanted, 2, order=order) == expected
        assert through(jobs, wanted, 2, order=order, max_rows=3) == expected
        newest = order is Order.NEWEST
        found = jobs.backend.find(wanted, limit=3, newest=newest)
        assert [job.id for job in found] == expected[:3]


@pytest.mark.usefixtures("every")
def test_pages_narrow_as_finding_does(jobs: Jobs) -> None:
    mean = jobs.now - timedelta(seconds=8)
    for wanted in (
        JobFilter(queue="fast"),
        JobFilter(queue="fast", statuses=frozenset({JobStatus.PENDING, JobStatus.RUNNING})),
        JobFilter(type="other"),
        JobFilter(since=mean),
        JobFilter(until=mean, statuses=frozenset({JobStatus.FAILED})),
        JobFilter(finished_before=mean),
        JobFilter(ended_since=mean),
        JobFilter(after_id=3, before_id=9),
        JobFilter(ids=(2, 9, 4, 700)),
        JobFilter(ids=(2, 9, 4), after_id=2, statuses=frozenset(JobStatus)),
        JobFilter(tags={"k": "v"}),
    ):
        expected = [job.id for job in jobs.backend.find(wanted, limit=None, newest=True)]
        assert through(jobs, wanted, 2) == expected, wanted
        assert through(jobs, wanted, 2, order=Order.OLDEST) == expected[::-1], wanted
        in_ended = {job.id for job in jobs.backend.find(wanted, limit=None) if job.finished_at}
        assert set(through(jobs, wanted, 2, order=Order.ENDED)) == in_ended, wanted


def test_jobs_are_found_by_their_parent_by_the_job_that_added_them_and_by_their_end(
    jobs: Jobs,
) -> None:
    parent, other = jobs.add(), jobs.add()
    children = [jobs.add(parents=after(parent)), jobs.add(parents=after(parent, other))]
    added = jobs.add(added_by=parent)
    jobs.add(parents=after(other))
    assert ids(page(jobs, JobFilter(parent=parent))) == children[::-1]
    assert through(jobs, JobFilter(parent=parent), 1, order=Order.OLDEST) == children
    assert ids(page(jobs, JobFilter(added_by=parent))) == [added]
    assert page(jobs, JobFilter(parent=added)) == Page([], None, complete=True, read=0)
    jobs.finish(other, JobStatus.COMPLETED)
    jobs.later(5)
    jobs.finish(parent, JobStatus.FAILED)
    wanted = JobFilter(ended_since=jobs.now, statuses=FINISHED)
    assert parent in ids(page(jobs, wanted))
    assert other not in ids(page(jobs, wanted))


@pytest.mark.parametrize("value", ["v", 'a "quoted" one', "żółw", "back\\slash", "/", "\n", ""])
def test_jobs_are_found_by_any_tag(jobs: Jobs, value: str) -> None:
    made = jobs.add(tags={"a": "1", "k:x": value, "z": "2"}, args={"k:x": value})
    jobs.add(tags={"k:x": value + "?", "a": "1"}, args={"k:x": value})
    jobs.add(args={"tags": {"k:x": value, "a": "1"}})
    for wanted in (JobFilter(tags={"k:x": value}), JobFilter(tags={"k:x": value, "a": "1"})):
        assert ids(page(jobs, wanted)) == [made]
        assert [job.id for job in jobs.backend.find(wanted, limit=None)] == [made]


def test_a_page_says_how_far_it_came(jobs: Jobs) -> None:
    wanted = JobFilter(tags={"rare": "yes"})
    rare = jobs.add(tags={"rare": "yes"})
    others = [jobs.add() for _ in range(9)]
    first = page(jobs, wanted, 5, max_rows=6)
    assert first == Page([], Position(others[3]), complete=False, read=6)
    second = page(jobs, wanted, 5, after=first.last, max_rows=6)
    assert (ids(second), second.complete, second.read) == ([rare], True, 4)
    full = page(jobs, limit=4)
    assert (ids(full), full.last, full.complete) == (others[:4:-1], Position(others[5]), False)
    assert page(jobs, limit=0).jobs == []


def test_an_empty_list_is_complete(jobs: Jobs) -> None:
    for order in Order:
        assert page(jobs, order=order) == Page([], None, complete=True, read=0)


def test_jobs_are_listed_by_their_end_the_last_first(jobs: Jobs) -> None:
    made = [jobs.add() for _ in range(4)]
    for job_id in reversed(made):
        jobs.finish(job_id, JobStatus.COMPLETED)
        jobs.later(1)
    jobs.add()
    assert ids(page(jobs, order=Order.ENDED)) == made
    assert through(jobs, ALL, 1, order=Order.ENDED) == made
    unfinished = page(jobs, JobFilter(statuses=UNFINISHED), order=Order.ENDED)
    assert unfinished == Page([], None, complete=True, read=0)


def test_jobs_that_ended_at_one_moment_are_each_in_one_page(jobs: Jobs) -> None:
    made = [jobs.add() for _ in range(12)]
    jobs.backend.cancel(made, None, jobs.now)
    found = through(jobs, ALL, 5, order=Order.ENDED)
    assert sorted(found) == made
    assert len(set(found)) == len(found)


def test_a_list_goes_on_where_a_job_has_been_deleted(jobs: Jobs) -> None:
    made = [jobs.finish(jobs.add(), JobStatus.COMPLETED) for _ in range(6)]
    for order in (Order.NEWEST, Order.ENDED):
        first = page(jobs, limit=2, order=order)
        assert jobs.backend.delete([first.jobs[-1].id]) == [first.jobs[-1].id]
        rest = through_from(jobs, first, order)
        assert sorted(ids(first) + rest) == made
        made.remove(first.jobs[-1].id)


def through_from(jobs: Jobs, first: Page, order: Order) -> list[int]:
    return ids(page(jobs, after=first.last, order=order))


def test_rows_are_light(jobs: Jobs) -> None:
    large = {"text": "x" * 2 * MAX_LIGHT_ARGS_BYTES}
    plain = {"text": "żółw/" * 1000, "numbers": [1, 2.5, 10**20], "none": {}}
    first = jobs.add(args=large, tags={"k": "v"}, name="n", timeout=2.5, added_by=7)
    second = jobs.add(args=plain, parents=after(first))
    jobs.end(jobs.start(first), result={"r": "y" * 50_000})
    rows = {job.id: job for job in page(jobs).jobs}
    full = jobs.get(first)
    assert list(rows[first].args) == [DROPPED_KEY]
    assert rows[first].result is None
    assert (rows[first].tags, rows[first].name) == ({"k": "v"}, "n")
    assert (rows[first].timeout, rows[first].added_by, rows[first].retry_base) == (2.5, 7, 10.0)
    assert (rows[first].status, rows[first].finished_at) == (full.status, full.finished_at)
    assert rows[second] == jobs.get(second)
    assert full.args == large


def test_rows_have_the_signature_of_their_failure(jobs: Jobs) -> None:
    first, second = jobs.add(), jobs.add()
    for job_id, signature in ((first, "3fa9c1aa"), (second, "00000000")):
        jobs.end(jobs.start(job_id), status=JobStatus.FAILED, signature=signature)
    found = page(jobs, JobFilter(signature="3fa9c1aa"))
    assert [(job.id, job.signature) for job in found.jobs] == [(first, "3fa9c1aa")]


def test_the_backend_does_not_search_text(jobs: Jobs) -> None:
    """It does not know what is secret."""
    wanted = JobFilter(text=TextSearch(words=("a",)))
    with pytest.raises(ValueError, match="text"):
        page(jobs, wanted)
    with pytest.raises(ValueError, match="text"):
        jobs.backend.find(wanted, limit=1)


# -- ended -----------------------------------------------------------------------------------------

START = Position(0)


def test_jobs_that_ended_after_a_position_come_with_what_they_took(jobs: Jobs) -> None:
    jobs.limit("fast")
    begun = jobs.now
    completed = jobs.add(type="tile", queue="fast")
    jobs.later(2)
    claim = jobs.start(completed)
    jobs.backend.started([Started(claim.key, None, None, LogOffsets())])
    jobs.later(5)
    assert jobs.end(claim)
    jobs.later(1)
    cancelled = jobs.put(JobStatus.CANCELLED)
    jobs.put(JobStatus.PENDING)
    later = jobs.now + timedelta(seconds=1)
    first, second = jobs.backend.lists.ended_after(START, later, 9)
    assert first[:5] == (
        completed, begun + timedelta(seconds=7), JobStatus.COMPLETED, "tile", "fast",
    )  # fmt: skip
    assert (first.waited, first.ran) == pytest.approx((2.0, 5.0))
    assert (second.id, second.status, second.waited, second.ran) == (
        cancelled, JobStatus.CANCELLED, None, None,
    )  # fmt: skip
    assert jobs.backend.lists.ended_after(first.position, later, 9) == [second]
    assert jobs.backend.lists.ended_after(second.position, later, 9) == []
    assert jobs.backend.lists.ended_after(START, jobs.now, 9) == [first]


def test_jobs_that_ended_at_one_moment_are_each_told_once(jobs: Jobs) -> None:
    made = [jobs.add() for _ in range(12)]
    jobs.backend.cancel(made, None, jobs.now)
    place, found = START, []
    later = jobs.now + timedelta(seconds=1)
    while ended := jobs.backend.lists.ended_after(place, later, 5):
        found += [each.id for each in ended]
        place = ended[-1].position
    assert sorted(found) == made
