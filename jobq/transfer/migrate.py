"""Migration: everything moved from one store to another: jobs, history, queues and schedules.

The source is only read. No other process can use the target before all of it has been read back
and compared.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Self

from jobq import recovery
from jobq.backends.base import Backend
from jobq.backends.factory import create_backend
from jobq.backends.messages import History
from jobq.config.settings import SQLITE, Settings
from jobq.errors import DatabaseError, HalfFilledError, UsageError, WrongState
from jobq.models import JobFilter, JobStatus

BATCH_SIZE = 500
"""Jobs in one transaction."""

_SILENT_LEASES = 3
"""A supervisor on another host counts as gone after this many leases without a heartbeat."""

SILENT = timedelta(seconds=90)
"""The same with leases as they are by default."""

_MAX_IDS_NAMED = 5

OnProgress = Callable[[str, int], None]
"""Called with a step (moving, reading, checking), and the number of jobs done so far."""


@dataclass(frozen=True, slots=True)
class Tally:
    """The contents of a store: counts, and a checksum that is the same for equal stores."""

    jobs: int
    attempts: int
    queues: int
    schedules: int
    checksum: str  # of all that is kept, in one canonical form


def tally(backend: Backend, on_jobs: Callable[[int], None] = lambda _: None) -> Tally:
    """Read everything, and return how much it is; ``on_jobs`` is called with the jobs read so far."""
    digest = hashlib.sha256()
    jobs = attempts = 0
    for page in _pages(backend, 0):
        for history in page:
            digest.update(_canonical(_kept(history)))
            attempts += len(history.attempts)
        jobs += len(page)
        on_jobs(jobs)
    setup = backend.transfer.setup()
    digest.update(_canonical(setup))
    return Tally(jobs, attempts, len(setup.queues), len(setup.schedules), digest.hexdigest())


class Migration:
    """A move from the store of some settings to that of others, which are called ``names``."""

    def __init__(self, here: Settings, there: Settings, names: tuple[str, str]) -> None:
        self._there = there
        self._names = names
        self._silent = timedelta(seconds=_SILENT_LEASES * here.lease)
        self._source = create_backend(here)
        self._target = create_backend(there)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._target.close()
        finally:
            self._source.close()

    def total(self) -> int:
        """Return how many jobs the source has."""
        return sum(sum(counts.values()) for counts in self._source.counts().values())

    def run(self, on_progress: OnProgress, *, restart: bool = False) -> Tally:
        """Move everything, and return how much: see `move`."""
        return move(
            self._source, self._target, self._names,
            restart=restart, silent=self._silent, on_progress=on_progress,
        )  # fmt: skip

    def preview(self) -> tuple[Tally, bool]:
        """Return what would be moved, and whether an interrupted move would go on.

        Where the target is a file that does not exist, none is made.

        Raises:
            UsageError: source and target are one.
            WrongState: one of them is in use, or the target has jobs of its own.
        """
        require_another(self._source, self._target, self._names)
        require_idle(self._source, self._names[0], self._silent)
        found = tally(self._source)
        if self._there.backend != SQLITE or self._there.database.exists():
            try:
                if self._target.counts() or self._target.schedules.all():
                    raise WrongState(f"{self._names[1]}: has jobs or schedules of its own")
            except HalfFilledError:
                return found, True
        return found, False


def require_another(source: Backend, target: Backend, names: tuple[str, str]) -> None:
    """Refuse to move a store into itself.

    Raises:
        UsageError: source and target are the same.
    """
    if source.transfer.place() == target.transfer.place():
        raise UsageError(f"--to {names[1]}: this is where the jobs are, as {names[0]}")


def require_idle(backend: Backend, name: str, silent: timedelta = SILENT) -> None:
    """Refuse a store that is in use.

    The death of a supervisor on another host is not noticed at once: one that has been silent for
    longer than ``silent`` is not counted, but the jobs it left running are.

    Raises:
        WrongState: a supervisor is alive, or a job is running.
    """
    there = backend.supervisors.all()
    heard = {info.id for info in there if info.heartbeat_at > backend.now() - silent}
    if live := heard - recovery.dead(backend, there):
        raise WrongState(
            f"{name}: a supervisor is alive ({', '.join(sorted(live))}): stop it first"
        )
    running = backend.find(JobFilter(statuses=frozenset({JobStatus.RUNNING})), limit=_MAX_IDS_NAMED)
    if running:
        ids = ", ".join(str(job.id) for job in running)
        raise WrongState(
            f"{name}: running jobs can't be moved ({ids}): wait for them; where their supervisor "
            "has died, `jobq work --drain` sees to them"
        )


def move(
    source: Backend,
    target: Backend,
    names: tuple[str, str],
    *,
    restart: bool = False,
    silent: timedelta = SILENT,
    on_progress: OnProgress = lambda _, __: None,
) -> Tally:
    """Copy everything from the source to an empty target, ids included, and return how much.

    After an interruption it resumes; with ``restart``, it begins anew. If the target holds exactly
    the same already, nothing is done. ``names`` are those of source and target.

    Raises:
        UsageError: they are the same store.
        WrongState: one of them is in use, or the target has jobs of its own.
        DatabaseError: the copy differs from the source; the target can't be used.
    """
    require_another(source, target, names)
    require_idle(source, names[0], silent)
    changes = source.change_counter()
    try:
        after_id = target.transfer.begin_filling(names[0], restart=restart)
    except WrongState:
        if found := _moved_before(source, target, on_progress):
            return found
        raise
    done = 0
    for page in _pages(source, after_id):
        target.transfer.load(page)
        done += len(page)
        on_progress("moving", done)
    target.transfer.load_setup(source.transfer.setup())
    expected = tally(source, lambda jobs: on_progress("reading", jobs))
    found = tally(target, lambda jobs: on_progress("checking", jobs))
    if expected != found or source.change_counter() != changes:
        raise DatabaseError(_different(names, expected, found))
    target.transfer.end_filling()
    return found


def _moved_before(source: Backend, target: Backend, on_progress: OnProgress) -> Tally | None:
    """Return what the target, which is not empty, holds, if that is exactly what the source holds."""
    counts = source.counts()
    try:
        if not counts or counts != target.counts():
            return None
    except HalfFilledError:
        return None
    found = tally(target, lambda jobs: on_progress("checking", jobs))
    return found if found == tally(source, lambda jobs: on_progress("reading", jobs)) else None


def _different(names: tuple[str, str], expected: Tally, found: Tally) -> str:
    what = "it has changed since" if expected == found else "it is not what has arrived"
    return (
        f"{names[0]}: {what} ({expected.jobs} jobs, {expected.attempts} attempts; in {names[1]}: "
        f"{found.jobs}, {found.attempts}): see that nothing uses it, then begin anew with --restart"
    )


def _pages(backend: Backend, after_id: int) -> Iterator[list[History]]:
    while page := backend.transfer.histories(after_id=after_id, limit=BATCH_SIZE):
        yield page
        after_id = page[-1].job.id


def _kept(history: History) -> list[Any]:
    """Return what is stored of a job itself, without what follows from other jobs."""
    parents = sorted((parent.id, parent.condition, parent.met) for parent in history.parents)
    job = replace(history.job, parents=())
    return [job, history.attempts, parents, history.keys, history.unsettled]


def _canonical(value: Any) -> bytes:
    return json.dumps(value, default=_plain, separators=(",", ":")).encode() + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.timestamp()
    assert is_dataclass(value)
    return [getattr(value, field.name) for field in fields(value)]
