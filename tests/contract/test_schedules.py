from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from jobq.backends.base import FIRING_RETENTION, Backend
from jobq.errors import NotFound, WrongState
from jobq.models import Fired, JobFilter, Missed, Overlap, Schedule
from tests.contract.driver import NOON, Jobs, new_job

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def schedule(name: str = "nightly", **fields: Any) -> Schedule:
    plain = Schedule(
        name=name,
        cron="30 2 * * *",
        tz="Europe/Berlin",
        type="shell",
        args={"argv": ["true"]},
        queue="default",
        priority=5,
        missed=Missed.ONCE,
        overlap=Overlap.SKIP,
        created_at=NOON,
        settled_until=NOON,
        next_at=NOON,
    )
    return replace(plain, **fields)


def put(backend: Backend, name: str = "nightly", **fields: Any) -> Schedule:
    backend.schedules.add(schedule(name, **fields))
    return get(backend, name)


def get(backend: Backend, name: str = "nightly") -> Schedule:
    (found,) = (s for s in backend.schedules.all() if s.name == name)
    return found


def fire(backend: Backend, *ticks: datetime, **changes: Any) -> list[Fired] | None:
    before = get(backend)
    after = replace(before, **changes)
    return backend.schedules.fire(before, after, new_job(), ticks or (NOON,), NOON)


def test_a_schedule_is_kept_as_it_is(backend: Backend) -> None:
    full = schedule(
        args={"argv": ["é", "\n"]}, tags={"a": "b"}, timeout=1.5, max_retries=0, retry_base=0.0,
        missed=Missed.ALL, overlap=Overlap.ALLOW, paused=True, next_at=None, last_at=NOON,
        last_job_id=7, last_error="why",
    )  # fmt: skip
    backend.schedules.add(full)
    backend.schedules.add(schedule("a"))
    found = backend.schedules.all()
    assert [s.name for s in found] == ["a", "nightly"]
    assert found[0].id != found[1].id
    assert replace(found[1], id=0, revision=0) == full


def test_a_name_is_there_once(backend: Backend) -> None:
    first = put(backend)
    with pytest.raises(WrongState, match="'nightly' already exists"):
        backend.schedules.add(schedule(cron="@daily"))
    assert backend.schedules.all() == [first]


def test_those_that_are_due(backend: Backend) -> None:
    put(backend, "later", next_at=NOON + HOUR)
    put(backend, "now")
    put(backend, "before", next_at=NOON - HOUR)
    put(backend, "paused", paused=True)
    put(backend, "over", next_at=None)
    assert [s.name for s in backend.schedules.all(due=NOON)] == ["before", "now"]
    assert backend.schedules.all(due=NOON - DAY) == []
    assert backend.schedules.next_tick() == NOON - HOUR


def test_the_next_time_of_none(backend: Backend) -> None:
    assert backend.schedules.next_tick() is None
    put(backend, "over", next_at=None)
    put(backend, "paused", paused=True)
    assert backend.schedules.next_tick() is None


def test_only_what_is_as_it_was_read_is_changed(backend: Backend) -> None:
    before = put(backend)
    paused = replace(before, paused=True)
    assert backend.schedules.replace(before, paused)
    assert not backend.schedules.replace(before, replace(before, cron="@daily"))
    assert replace(get(backend), revision=0) == replace(paused, revision=0)
    assert backend.schedules.replace(get(backend), before)


def test_one_that_was_removed_and_added_again_is_another_one(backend: Backend) -> None:
    before = put(backend)
    assert backend.schedules.remove("nightly")
    assert not backend.schedules.remove("nightly")
    put(backend)
    assert not backend.schedules.replace(before, replace(before, paused=True))
    assert backend.schedules.fire(before, before, new_job(), [NOON], NOON) is None
    assert backend.find(JobFilter(), limit=None) == []


def test_it_fires_for_a_time_once(backend: Backend) -> None:
    put(backend)
    first = fire(backend, NOON, next_at=NOON + DAY)
    assert first == [Fired(NOON, 1, created=True)]
    after = get(backend)
    assert (after.next_at, after.last_at, after.last_job_id) == (NOON + DAY, NOON, 1)
    assert fire(backend, NOON) == []  # as when the clock was set back
    assert fire(backend, NOON, NOON + HOUR) == [Fired(NOON + HOUR, 2, created=True)]
    assert [job.id for job in backend.find(JobFilter(), limit=None)] == [1, 2]
    assert get(backend).last_at == NOON + HOUR


def test_a_firing_for_what_was_changed_meanwhile_adds_nothing(backend: Backend) -> None:
    before = put(backend)
    backend.schedules.replace(before, replace(before, paused=True))
    assert (
        backend.schedules.fire(before, replace(before, next_at=None), new_job(), [NOON], NOON)
        is None
    )
    assert backend.find(JobFilter(), limit=None) == []
    assert get(backend).paused
    assert get(backend).next_at == NOON
    assert backend.schedules.firings("nightly", 9) == []


def test_where_its_key_is_held_the_holder_is_noted(jobs: Jobs) -> None:
    put(jobs.backend)
    holder = jobs.add(unique_key="k")
    before = get(jobs.backend)
    fired = jobs.backend.schedules.fire(
        before, before, new_job(unique_key="k"), [NOON, NOON + HOUR], NOON
    )
    assert fired == [Fired(NOON, holder, created=False), Fired(NOON + HOUR, holder, created=False)]
    assert get(jobs.backend).last_job_id == holder
    assert jobs.backend.schedules.firings("nightly", 9) == fired[::-1]


def test_a_firing_that_fails_leaves_everything_as_it_was(backend: Backend) -> None:
    before = put(backend)
    with pytest.raises(NotFound, match="nosuch"):
        backend.schedules.fire(
            before, replace(before, next_at=None), new_job(queue="nosuch"), [NOON], NOON
        )
    assert get(backend) == before
    assert backend.schedules.firings("nightly", 9) == []
    assert fire(backend, NOON) == [Fired(NOON, 1, created=True)]


def test_firings_the_latest_first(backend: Backend) -> None:
    put(backend)
    fired = fire(backend, NOON, NOON + HOUR, NOON + 2 * HOUR)
    assert fired is not None
    assert (get(backend).last_at, get(backend).last_job_id) == (fired[-1].at, fired[-1].job_id)
    assert [f.at for f in backend.schedules.firings("nightly", 2)] == [NOON + 2 * HOUR, NOON + HOUR]
    assert backend.schedules.firings("other", 2) == []
    backend.schedules.remove("nightly")
    put(backend)
    assert backend.schedules.firings("nightly", 2) == []


def test_old_firings_are_forgotten_and_settled(backend: Backend) -> None:
    put(backend)
    ticks = [NOON + n * HOUR for n in range(30 * 24)]
    fire(backend, *ticks)
    fire(backend, ticks[-1] + HOUR)
    kept = backend.schedules.firings("nightly", 1000)
    assert 7 * 24 < len(kept) < 9 * 24
    settled = get(backend).settled_until
    assert settled == kept[-1].at - HOUR  # whoever aims by it, does not fire for those again
    assert kept[-1].at == ticks[-1] + HOUR - FIRING_RETENTION
    later = NOON + 400 * DAY
    fire(backend, NOON + 365 * DAY, settled_until=later)
    assert len(backend.schedules.firings("nightly", 1000)) == 20
    assert get(backend).settled_until == later


def test_those_who_fire_at_once_fire_once(open_backend: Callable[[], Backend]) -> None:
    backends = [open_backend() for _ in range(4)]
    put(backends[0])
    for number in range(15):
        tick = NOON + number * HOUR
        reads = [get(backend) for backend in backends]

        def race(pair: tuple[Backend, Schedule], tick: datetime = tick) -> list[Fired] | None:
            backend, before = pair
            after = replace(before, next_at=tick + HOUR)
            return backend.schedules.fire(before, after, new_job(), [tick], NOON)

        with ThreadPoolExecutor(len(backends)) as pool:
            results = list(pool.map(race, zip(backends, reads, strict=True)))
        assert sorted(map(str, results))[:3] == ["None"] * 3
    assert len(backends[0].find(JobFilter(), limit=None)) == 15
