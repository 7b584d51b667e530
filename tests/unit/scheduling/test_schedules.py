import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobq import JobQueue
from jobq.errors import NotFound, UsageError, WrongState
from jobq.models import Job, JobFilter, Schedule
from jobq.queue import backend_of
from jobq.scheduling.maintenance import Scheduler
from jobq.scheduling.schedules import MAX_MISSED_RUNS, Schedules, local_zone, next_runs
from tests.support.paths import DOCS

JOB = {"args": {"argv": ["true"]}}
BERLIN = "Europe/Berlin"
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class World:
    """A queue with schedules, and supervisors that fire them at a given time."""

    def __init__(self, queue: JobQueue) -> None:
        self.queue = queue
        self.schedules = Schedules(queue)
        self.told: list[str] = []
        self.scheduler = self.another()

    def another(self) -> Scheduler:
        return Scheduler(self.queue, "test", tell=self.told.append)

    def add(self, cron: str, now: datetime, **options: Any) -> Schedule:
        options = {"overlap": "allow", "tz": BERLIN, **options}
        name = options.pop("name", "s")
        with freeze_time(now):
            return self.schedules.add(name, cron, options.pop("job", JOB), **options)

    def tick(self, now: datetime) -> bool:
        return self.scheduler.fire_schedules(now)

    def look_on(self, start: datetime, end: datetime) -> None:
        """Fire what is due every 20 seconds; a supervisor does so more often."""
        now = start
        while now < end:
            self.tick(now)
            now += timedelta(seconds=20)

    def jobs(self) -> list[Job]:
        return backend_of(self.queue).find(JobFilter(), limit=None)

    def fired(self, name: str = "s") -> list[datetime]:
        return [fired.at for fired in backend_of(self.queue).schedules.firings(name, 10_000)][::-1]

    def end_all(self) -> None:
        self.queue.cancel_many([job.id for job in self.jobs()])


@pytest.fixture
def world(queue: JobQueue) -> World:
    return World(queue)


# -- the two nights of the year ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("night", "runs"),
    [
        ("2026-03-27", ["2026-03-28 01:30", "2026-03-29 01:00", "2026-03-30 00:30"]),
        ("2026-10-23", ["2026-10-24 00:30", "2026-10-25 00:30", "2026-10-26 01:30"]),
    ],
)
def test_a_nightly_run_through_the_change_of_the_clock(
    world: World, night: str, runs: list[str]
) -> None:
    start = at(f"{night} 12:00")
    world.add("30 2 * * *", start)
    world.look_on(start, start + 3 * DAY)
    assert world.fired() == [at(run) for run in runs]
    assert len(world.jobs()) == 3


@pytest.mark.parametrize(("cron", "an_hour"), [("0 * * * *", 1), ("*/15 * * * *", 4)])
@pytest.mark.parametrize(("start", "hours"), [("2026-03-28 23:00", 23), ("2026-10-24 22:00", 25)])
def test_what_runs_every_hour_goes_on_by_elapsed_time(
    world: World, cron: str, an_hour: int, start: str, hours: int
) -> None:
    begin = at(start)
    world.add(cron, begin - timedelta(seconds=1))
    world.look_on(begin, begin + hours * timedelta(hours=1))
    fired = world.fired()
    assert fired == [begin + n * timedelta(hours=1) / an_hour for n in range(hours * an_hour)]


# -- missed times ------------------------------------------------------------------------------


@pytest.mark.parametrize(("missed", "jobs"), [("skip", 0), ("once", 1), ("all", 5)])
def test_nobody_worked_for_five_nights(world: World, missed: str, jobs: int) -> None:
    start = at("2026-06-01 12:00")
    world.add("0 3 * * *", start, missed=missed)
    back = start + 5 * DAY
    assert world.tick(back) is bool(jobs)
    assert len(world.jobs()) == jobs
    assert not world.tick(back + MINUTE)
    assert len(world.jobs()) == jobs
    last = at("2026-06-06 01:00")
    assert world.fired() == [last - n * DAY for n in range(jobs)][::-1]
    assert world.schedules.get("s").next_at == last + DAY
    assert world.tick(last + DAY)  # on time
    assert len(world.jobs()) == jobs + 1


def test_a_supervisor_that_is_late_by_seconds_has_missed_nothing(world: World) -> None:
    start = at("2026-06-01 12:00")
    world.add("0 3 * * *", start, missed="skip")
    assert world.tick(at("2026-06-02 01:00:59"))
    assert not world.tick(at("2026-06-03 01:01:01"))


def test_all_are_so_many_at_most(world: World) -> None:
    start = at("2026-06-01 12:00")
    world.add("* * * * *", start, missed="all")
    now = start + 400 * DAY
    world.tick(now)
    assert world.fired() == [now - n * MINUTE for n in range(MAX_MISSED_RUNS)][::-1]
    assert len(world.jobs()) == MAX_MISSED_RUNS
    assert world.schedules.get("s").next_at == now + MINUTE


# -- the clock is set --------------------------------------------------------------------------


@pytest.mark.parametrize("back", [timedelta(seconds=5), timedelta(hours=3), 2 * DAY])
@pytest.mark.parametrize("restart", [False, True])
def test_a_clock_set_back_fires_nothing_twice(world: World, back: timedelta, restart: bool) -> None:
    start = at("2026-06-01 12:00")
    world.add("*/30 * * * *", start)
    world.look_on(start, start + 2 * DAY)
    before = world.fired()
    if restart:
        world.scheduler = world.another()
    now = start + 2 * DAY
    world.look_on(now - back, now)
    assert world.fired() == before
    assert len(world.jobs()) == len(before) == 95
    world.look_on(now, now + timedelta(hours=1))
    assert world.fired()[95:] == [now, now + timedelta(minutes=30)]


def test_a_clock_set_back_by_weeks_fires_nothing_twice_either(world: World) -> None:
    start = at("2026-06-01 12:00")
    world.add("0 * * * *", start, missed="all")
    for day in (*range(1, 21), *range(5, 21)):  # what was fired for on day 5 is forgotten by then
        world.tick(start + day * DAY)
    assert len(world.jobs()) == 20 * 24


def test_a_clock_that_was_years_ahead_leaves_no_silence(world: World) -> None:
    start = at("2026-06-01 12:00")
    world.add("*/30 * * * *", start)
    world.tick(start + MINUTE)
    world.tick(at("2031-01-01 00:10"))  # and set right again
    world.look_on(start + 2 * MINUTE, start + timedelta(hours=2))
    assert at("2031-01-01 00:00") in world.fired()
    assert len(world.fired()) == 1 + 3
    assert next(t for t in world.fired() if t.year == 2026) == start + timedelta(minutes=30)


def test_a_schedule_made_while_the_clock_was_ahead_does_not_wait_for_it(world: World) -> None:
    start = at("2026-06-01 12:00")
    world.add("*/30 * * * *", start + timedelta(hours=5))
    world.look_on(start + timedelta(minutes=1), start + timedelta(hours=1, minutes=1))
    assert world.fired() == [start + timedelta(minutes=30), start + timedelta(hours=1)]


@pytest.mark.parametrize("verb", ["resume", "run_now"])
def test_nor_does_one_that_was_changed_then(world: World, verb: str) -> None:
    start = at("2026-06-01 12:00")
    world.add("*/30 * * * *", start)
    world.tick(start + MINUTE)
    with freeze_time(start + DAY):
        world.schedules.pause("s")
        world.schedules.resume("s")
        if verb == "run_now":
            world.schedules.run_now("s")
    world.tick(start + DAY)
    world.look_on(start + 2 * MINUTE, start + timedelta(minutes=31))
    assert start + timedelta(minutes=30) in world.fired()


def test_nor_does_one_whose_zone_was_gone_then(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = at("2026-06-01 12:00")
    world.add("*/30 * * * *", start)

    def gone(_: Schedule) -> None:
        raise UsageError("no such zone")

    with monkeypatch.context() as patch:
        patch.setattr("jobq.scheduling.schedules._cron_of", gone)
        world.tick(start + DAY)
        world.tick(start + 2 * MINUTE)
    assert world.schedules.get("s").next_at == start + timedelta(hours=1, minutes=2)


def test_a_clock_set_forward_is_time_missed(world: World) -> None:
    start = at("2026-06-01 12:00")
    world.add("0 * * * *", start)
    world.tick(start + MINUTE)
    world.tick(start + 10 * DAY)
    assert world.fired() == [start + 10 * DAY]


@given(
    # Within the eight days for which it is remembered what a schedule fired for.
    st.lists(st.integers(-3 * 24 * 60, 3 * 24 * 60), min_size=1, max_size=12),
    st.sampled_from(["30 2 * * *", "*/30 * * * *", "7 */5 * * *"]),
    st.sampled_from(["skip", "once", "all"]),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.slow
def test_however_the_clock_jumps_a_time_fires_once(
    tmp_path_factory: pytest.TempPathFactory, moments: list[int], cron: str, missed: str
) -> None:
    folder = tmp_path_factory.mktemp("world")
    (folder / "jobq.toml").write_text("")
    with JobQueue.open(folder / "jobq.toml") as queue:
        world = World(queue)
        start = at("2026-10-24 12:00")
        world.add(cron, start, missed=missed)
        for moment in moments:
            for scheduler in (world.scheduler, world.another()):
                scheduler.fire_schedules(start + moment * MINUTE)
        fired = world.fired()
        assert len(fired) == len(set(fired)) == len(world.jobs())


# -- overlap -----------------------------------------------------------------------------------


def test_a_job_that_has_not_ended_keeps_the_next_one_out(world: World) -> None:
    start = at("2026-06-01 12:00")
    world.add("0 * * * *", start, overlap="skip")
    world.tick(start + timedelta(hours=1))
    world.tick(start + timedelta(hours=2))
    (job,) = world.jobs()
    assert job.unique_key == "schedule:s"
    assert [f.created for f in backend_of(world.queue).schedules.firings("s", 9)] == [False, True]
    world.queue.cancel(job.id)
    world.tick(start + timedelta(hours=3))
    assert len(world.jobs()) == 2


def test_whoever_makes_up_for_all_lets_them_overlap_unless_told(world: World) -> None:
    start = at("2026-06-01 12:00")
    chosen = {
        (missed, overlap): world.add(
            "@daily", start, name=f"{missed}-{overlap}", missed=missed, overlap=overlap
        ).overlap.value
        for missed in ("once", "all")
        for overlap in (None, "skip", "allow")
    }
    assert chosen == {
        ("once", None): "skip", ("once", "skip"): "skip", ("once", "allow"): "allow",
        ("all", None): "allow", ("all", "skip"): "skip", ("all", "allow"): "allow",
    }  # fmt: skip


# -- the job -----------------------------------------------------------------------------------


def test_the_job_is_as_add_would_make_it_at_that_time(world: World) -> None:
    start = at("2026-06-01 12:00")
    job = {"type": "shell", "args": {"argv": ["x"]}, "priority": "high", "tags": {"a": "b"},
           "timeout": "5m", "queue": "q"}  # fmt: skip
    world.queue.create_queue("q", max_retries=1)
    world.add("@hourly", start, job=job, name="mine")
    world.queue.set_queue("q", max_retries=7)
    now = start + timedelta(hours=1, seconds=3)
    world.tick(now)
    (added,) = world.jobs()
    assert (added.queue, added.priority, added.timeout, added.max_retries) == ("q", 7, 300.0, 7)
    assert (added.name, added.tags) == ("mine", {"a": "b", "schedule": "mine"})
    assert added.created_at == now
    assert added.run_at is None


def test_what_can_not_be_added_is_told_and_does_not_stop_the_others(world: World) -> None:
    start = at("2026-06-01 12:00")
    world.queue.create_queue("gone")
    world.add("@hourly", start, job={**JOB, "queue": "gone"}, name="a")
    world.add("@hourly", start, name="b")
    world.queue.delete_queue("gone")
    world.tick(start + timedelta(hours=1))
    assert [job.name for job in world.jobs()] == ["b"]
    assert len(world.told) == 1
    assert "schedule a: no job added: no queue 'gone'" in world.told[0]
    failed = world.schedules.get("a")
    assert "no queue 'gone'" in (failed.last_error or "")
    assert failed.next_at == start + timedelta(hours=2)
    assert not world.tick(start + timedelta(hours=1, minutes=1))
    world.queue.create_queue("gone")
    world.tick(start + timedelta(hours=2))
    assert world.schedules.get("a").last_error is None
    assert len(world.jobs()) == 3


def test_a_worker_whose_arguments_can_not_be_checked_stops_nobody(
    project: Path, queue: JobQueue
) -> None:
    (project / "workers").mkdir()
    (project / "workers" / "odd.py").write_text(
        "import os\n"
        "from pydantic import BaseModel, field_validator\n"
        "from jobq import JobWorker\n"
        "class Odd(JobWorker):\n"
        "    job_type = 'odd'\n"
        "    class Args(BaseModel):\n"
        "        path: str\n"
        "        @field_validator('path')\n"
        "        @classmethod\n"
        "        def there(cls, path):\n"
        "            os.stat(path)\n"
        "            return path\n"
        "    def run(self, args, job): pass\n"
    )
    (project / "file").touch()
    world, start = World(queue), at("2026-06-01 12:00")
    world.add("@hourly", start, job={"type": "odd", "args": {"path": str(project / "file")}})
    (project / "file").unlink()
    world.tick(start + timedelta(hours=1))
    assert "no job added: FileNotFoundError" in world.told[0]
    assert world.schedules.get("s").next_at == start + timedelta(hours=2)


def test_a_queue_of_jobq_toml_is_made_when_a_schedule_needs_it(project: Path) -> None:
    (project / "jobq.toml").write_text("[queues.night]\nmax_concurrent = 1\n")
    with JobQueue.open(project / "jobq.toml") as queue:
        world, start = World(queue), at("2026-06-01 12:00")
        world.add("@hourly", start, job={**JOB, "queue": "night"})
        world.tick(start + timedelta(hours=1))
        assert [job.queue for job in world.jobs()] == ["night"]


# -- changing ----------------------------------------------------------------------------------


def test_what_passes_during_a_pause_is_left_out(world: World) -> None:
    start = at("2026-06-01 12:00")
    world.add("0 * * * *", start, missed="all")
    assert world.schedules.pause("s").paused
    assert world.schedules.pause("s").paused
    assert not world.tick(start + DAY)
    assert next_runs(world.schedules.get("s"), start, 3) == []
    with freeze_time(start + DAY + MINUTE):
        resumed = world.schedules.resume("s")
    assert resumed.next_at == start + DAY + timedelta(hours=1)
    with freeze_time(start):
        assert world.schedules.resume("s") == resumed
    world.tick(start + DAY + timedelta(hours=1))
    assert len(world.jobs()) == 1


def test_run_now_keeps_the_rhythm(world: World) -> None:
    start = at("2026-06-01 12:00")
    before = world.add("0 * * * *", start, overlap="skip")
    first, again = world.schedules.run_now("s"), world.schedules.run_now("s")
    assert (first.created, again.created, again.id) == (True, False, first.id)
    after = world.schedules.get("s")
    assert (after.next_at, after.last_job_id, after.last_at) == (before.next_at, first.id, None)
    world.end_all()
    assert world.schedules.run_now("s").created


def test_what_is_removed_is_gone_and_its_jobs_stay(world: World) -> None:
    world.add("@hourly", at("2026-06-01 12:00"))
    world.schedules.run_now("s")
    world.schedules.remove("s")
    assert len(world.jobs()) == 1
    for verb in ("get", "remove", "pause", "resume", "run_now"):
        with pytest.raises(NotFound, match="no schedule 's'"):
            getattr(world.schedules, verb)("s")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"name": "a b"}, "schedule name"), ({"name": ""}, "schedule name"),
        ({"tz": "Europe/Berln"}, "no time zone"), ({"missed": "never"}, "skip or once or all"),
        ({"overlap": "maybe"}, "skip or allow"), ({"job": {"type": "nosuch"}}, "unknown job type"),
        ({"job": {**JOB, "delay": 5}}, "can't have 'delay'"), ({"job": {}}, "give a command"),
        ({"job": {**JOB, "unique": "k"}}, "can't have 'unique'"),
        ({"job": {**JOB, "after": [1]}}, "can't have 'after'"),
        ({"job": {**JOB, "priority": 11}}, "priority"), ({"job": {**JOB, "nosuch": 1}}, "nosuch"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_and_nothing_is_added(
    world: World, options: dict[str, Any], what: str
) -> None:
    with pytest.raises(UsageError, match=what):
        world.add("@daily", at("2026-06-01 12:00"), **options)
    assert world.schedules.all() == []


def test_a_name_that_is_there_and_one_that_is_free(world: World) -> None:
    now = at("2026-06-01 12:00")
    assert world.schedules.free_name("s") == "s"
    world.add("@daily", now)
    with pytest.raises(WrongState, match="already exists"):
        world.add("@daily", now)
    assert world.schedules.free_name("s") == "s-2"
    assert world.schedules.free_name("/bin/my prog.sh") == "bin-my-prog.sh"
    assert world.schedules.free_name("…") == "schedule"


def test_next_runs_are_those_that_come(world: World) -> None:
    start = at("2026-10-24 12:00")
    schedule = world.add("30 2 * * *", start)
    runs = [at("2026-10-25 00:30"), at("2026-10-26 01:30"), at("2026-10-27 01:30")]
    assert next_runs(schedule, start, 3) == runs
    assert next_runs(schedule, runs[0], 2) == runs[1:]  # due, and nobody works


# -- the zone of this machine ------------------------------------------------------------------


@pytest.fixture
def no_tz() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as changed:
        changed.delenv("TZ", raising=False)
        changed.setattr(time, "timezone", 0)
        changed.setattr(time, "daylight", 0)
        yield
    time.tzset()


def test_the_zone_of_this_machine(no_tz: None, tmp_path: Path) -> None:
    link, file = tmp_path / "localtime", tmp_path / "timezone"
    assert local_zone(link, file) == "UTC"
    file.write_text("Asia/Tokyo\n")
    assert local_zone(link, file) == "Asia/Tokyo"
    link.symlink_to("/usr/share/zoneinfo/Europe/Berlin")
    assert local_zone(link, file) == "Europe/Berlin"
    file.write_text("nonsense")
    link.unlink()
    assert local_zone(link, file) == "UTC"


@pytest.mark.parametrize(
    ("tz", "name"),
    [(":Europe/Paris", "Europe/Paris"), ("/usr/share/zoneinfo/Asia/Tokyo", "Asia/Tokyo"),
     ("UTC0", "UTC"), ("Nowhere/AtAll", "UTC")],
)  # fmt: skip
def test_the_zone_of_tz(
    no_tz: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tz: str, name: str
) -> None:
    (tmp_path / "timezone").write_text("Asia/Seoul")
    monkeypatch.setenv("TZ", tz)
    time.tzset()
    assert local_zone(tmp_path / "localtime", tmp_path / "timezone") == name


@pytest.mark.parametrize("tz", ["CET-1CEST,M3.5.0,M10.5.0/3", "GMT0BST,M3.5.0/1,M10.5.0", "MSK-3"])
def test_a_zone_without_a_name_is_asked_for(
    no_tz: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tz: str
) -> None:
    monkeypatch.setenv("TZ", tz)
    time.tzset()
    with pytest.raises(UsageError, match="--tz"):
        local_zone(tmp_path / "localtime", tmp_path / "timezone")


def test_the_example_of_the_docs(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    page = DOCS / "schedules.md"
    source = page.read_text("utf-8").partition("```python\n")[2].partition("```")[0]
    exec(compile(source, str(page), "exec"), {})
    with JobQueue.open() as queue:
        assert Schedules(queue).all() == []
