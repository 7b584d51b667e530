"""Random sequences of verbs on schedules, against a model of their ticks."""

import shutil
import tempfile
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

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
from jobq.errors import WrongState
from jobq.models import Fired, JobFilter, Schedule
from tests.contract.conftest import BACKENDS
from tests.contract.driver import NOON, new_job
from tests.contract.test_model import EXAMPLES
from tests.contract.test_schedules import schedule

HOUR = timedelta(hours=1)
names = st.sampled_from("ab")
hours = st.integers(0, 12)


@dataclass
class Model:
    now: Schedule
    fired: dict[datetime, Fired]


class Machine(RuleBasedStateMachine):
    backend_name = "sqlite"

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.opened: list[Backend] = []
        self.open()
        self.models: dict[str, Model] = {}
        self.reads: list[Schedule] = []  # by whoever may come too late
        self.jobs = 0
        self.holder: int | None = None

    def open(self) -> None:
        for backend in self.opened:
            backend.close()
        self.opened = [BACKENDS[self.backend_name](self.folder)]
        self.backend = self.opened[0]

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.backend.close()
            shutil.rmtree(self.folder)

    def is_current(self, read: Schedule) -> bool:
        return read.name in self.models and self.models[read.name].now == read

    def read_again(self, name: str) -> None:
        (found,) = (s for s in self.backend.schedules.all() if s.name == name)
        self.models[name].now = found
        self.reads.append(found)

    @rule(name=names)
    def add(self, name: str) -> None:
        if name in self.models:
            with pytest.raises(WrongState):
                self.backend.schedules.add(schedule(name))
            return
        self.backend.schedules.add(schedule(name))
        self.models[name] = Model(schedule(name), {})
        self.read_again(name)

    @rule(name=names)
    def remove(self, name: str) -> None:
        assert self.backend.schedules.remove(name) is (name in self.models)
        self.models.pop(name, None)

    @precondition(lambda self: self.reads)
    @rule(place=st.integers(0, 10**6), paused=st.booleans(), hour=hours | st.none())
    def change(self, place: int, paused: bool, hour: int | None) -> None:
        before = self.reads[place % len(self.reads)]
        next_at = None if hour is None else NOON + hour * HOUR
        current = self.is_current(before)
        after = replace(before, paused=paused, next_at=next_at)
        assert self.backend.schedules.replace(before, after) is current
        if current:
            self.read_again(before.name)
            found = self.models[before.name].now
            assert (found.paused, found.next_at, found.id) == (paused, next_at, before.id)

    @precondition(lambda self: self.reads)
    @rule(place=st.integers(0, 10**6), ticks=st.sets(hours, max_size=4), overlap=st.booleans())
    def fire(self, place: int, ticks: set[int], overlap: bool) -> None:
        before = self.reads[place % len(self.reads)]
        job = new_job(unique_key=None if overlap else "k")
        times = [NOON + hour * HOUR for hour in sorted(ticks)]
        fired = self.backend.schedules.fire(before, before, job, times, NOON)
        if not self.is_current(before):
            assert fired is None
            return
        model = self.models[before.name]
        expected = [self.expected(at, overlap) for at in times if at not in model.fired]
        assert fired == expected
        model.fired |= {item.at: item for item in expected}
        self.read_again(before.name)
        if expected:
            assert model.now.last_at == expected[-1].at
            assert model.now.last_job_id == expected[-1].job_id

    def expected(self, at: datetime, overlap: bool) -> Fired:
        if not overlap and self.holder is not None:
            return Fired(at, self.holder, created=False)
        self.jobs += 1
        if not overlap:
            self.holder = self.jobs
        return Fired(at, self.jobs, created=True)

    @precondition(lambda self: self.holder)
    @rule()
    def end(self) -> None:
        self.backend.cancel([self.holder or 0], None, NOON)
        self.holder = None

    @rule()
    def crash(self) -> None:
        self.open()

    @invariant()
    def all_is_as_in_the_model(self) -> None:
        if not hasattr(self, "models"):
            return
        kept = [self.models[name].now for name in sorted(self.models)]
        assert self.backend.schedules.all() == kept
        open_ones = [s for s in kept if not s.paused and s.next_at is not None]
        times = [s.next_at for s in open_ones if s.next_at is not None]
        assert self.backend.schedules.next_tick() == min(times, default=None)
        due = {s.name for s in open_ones if s.next_at is not None and s.next_at <= NOON + 6 * HOUR}
        assert {s.name for s in self.backend.schedules.all(due=NOON + 6 * HOUR)} == due
        for name, model in self.models.items():
            fired = [model.fired[at] for at in sorted(model.fired, reverse=True)]
            assert self.backend.schedules.firings(name, 99) == fired
        assert len(self.backend.find(JobFilter(), limit=None)) == self.jobs


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_a_backend_keeps_schedules_as_the_model_does(name: str) -> None:
    machine = type("Machine", (Machine,), {"backend_name": name})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=30,
            suppress_health_check=list(HealthCheck),
        ),
    )
