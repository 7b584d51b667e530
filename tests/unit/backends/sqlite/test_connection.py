"""Connections to a SQLite file: durable, private, and shared by processes and threads."""

import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import chain
from multiprocessing.synchronize import Barrier
from pathlib import Path

import psutil
import pytest

from jobq.backends.sqlite.backend import SqliteBackend
from jobq.models import JobFilter, JobStatus
from tests.contract.driver import NOON, Jobs, new_job
from tests.unit.backends.sqlite.databases import (
    WITH_TESTS,
    ids,
    opened,
    pragma,
    run_python,
)

SPAWN = multiprocessing.get_context("spawn")


def test_every_connection_is_durable_and_never_checkpoints_out_of_turn(jobs: Jobs) -> None:
    assert isinstance(jobs.backend, SqliteBackend)
    jobs.add()
    for _ in range(2):
        with jobs.backend._db.read() as connection:
            assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
            assert connection.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
        jobs.reopen()


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
def test_everything_is_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with opened(tmp_path / "new" / "folders" / "jobq.db") as backend:
            backend.insert([new_job()], NOON)
            with closing(backend.supervisors.listen("one")):
                paths = [tmp_path / "new", *(tmp_path / "new").rglob("*")]
                modes = {path.name: path.stat().st_mode & 0o777 for path in paths}
    finally:
        os.umask(before)
    folders = {"new", "folders", "jobq.db.supervisors"}
    assert {name for name, mode in modes.items() if mode == 0o700} == folders
    assert {name for name, mode in modes.items() if mode == 0o600} == {
        "jobq.db", "jobq.db-wal", "jobq.db-shm", "jobq.db.lock", "one.lock", "one.wake",
    }  # fmt: skip
    assert len(modes) == 9


barrier: Barrier


def share(shared: Barrier) -> None:
    global barrier  # noqa: PLW0603 - how a pool's processes are given one
    barrier = shared


@contextmanager
def processes(number: int) -> Iterator[Callable[..., list[list[int]]]]:
    """Run a function in several processes at the same time, with a number each."""
    pool = SPAWN.Pool(number, share, (SPAWN.Barrier(number),))
    try:
        yield lambda work, *args: pool.starmap(work, [(*args, n) for n in range(number)], 1)
    finally:
        pool.close()
        pool.join()


def open_first(folder: Path, _: int) -> list[int]:
    added = []
    for n in range(10):
        barrier.wait(10)
        with opened(folder / f"{n}.db") as backend:
            added.append(backend.insert([new_job()], NOON)[0].id)
    return added


def add_many(path: Path, number: int) -> list[int]:
    barrier.wait(10)
    with opened(path) as backend:
        return [backend.insert([new_job(name=f"{number}/{n}")], NOON)[0].id for n in range(ADDS)]


def claim_all(path: Path, number: int) -> list[int]:
    barrier.wait(10)
    with closing(SqliteBackend(path)) as backend:
        jobs = Jobs(lambda: backend)
        claimed: list[int] = []
        while claims := jobs.claim(7, owner=f"owner {number}"):
            claimed += [claim.job.id for claim in claims]
            backend.end([jobs.ending(claim, JobStatus.COMPLETED) for claim in claims], NOON)
    return claimed


ADDS = 100


@pytest.mark.slow
def test_several_processes_can_be_the_first_to_open_a_database(tmp_path: Path) -> None:
    with processes(4) as run:
        added = run(open_first, tmp_path)
    assert [sorted(numbers) for numbers in zip(*added, strict=True)] == [[1, 2, 3, 4]] * 10


@pytest.mark.slow
def test_eight_processes_add_at_once_and_nothing_is_lost(path: Path) -> None:
    with processes(8) as run:
        added = run(add_many, path)
    with opened(path) as backend:
        names = {job.name: job.id for job in backend.find(JobFilter(), limit=None)}
    assert [[names[f"{p}/{n}"] for n in range(ADDS)] for p in range(8)] == added
    assert sorted(names.values()) == list(range(1, 8 * ADDS + 1))
    assert pragma(path, "integrity_check") == "ok"


@pytest.mark.slow
def test_processes_that_claim_at_once_never_get_the_same_job(path: Path) -> None:
    with opened(path) as backend:
        backend.insert([new_job()] * 500, NOON)
    with processes(3) as run:
        claimed = run(claim_all, path)
    assert sorted(chain.from_iterable(claimed)) == list(range(1, 501))


def test_threads_share_one_backend(path: Path) -> None:
    with opened(path) as backend, ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda _: backend.insert([new_job()], NOON)[0].id, range(200)))
        assert sorted(added) == ids(backend) == list(range(1, 201))


def test_threads_that_ended_leave_no_descriptors_open(path: Path) -> None:
    with opened(path) as backend:

        def look() -> int:
            thread = threading.Thread(target=lambda: backend.insert([new_job()], NOON))
            thread.start()
            thread.join()
            return psutil.Process().num_fds()

        early = [look() for _ in range(5)]
        late = [look() for _ in range(20)]
        assert max(late) <= max(early)
        assert len(ids(backend)) == 25


def test_a_forked_child_writes_on_its_own_and_leaves_its_parent_unharmed(path: Path) -> None:
    run_python(f"""
        import os
        from pathlib import Path
        from tests.contract.driver import NOON, new_job
        from jobq.backends.sqlite.backend import SqliteBackend
        backend = SqliteBackend(Path({str(path)!r}))
        add = lambda: backend.insert([new_job()], NOON)[0].id
        assert add() == 1
        for close in (False, True):
            child = os.fork()
            if child == 0:
                add()
                if close:
                    backend.close()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            add()
        with backend.group():
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
            assert add() == 6
        backend.close()
    """)
    with opened(path) as backend:
        assert ids(backend) == [1, 2, 3, 4, 5, 6]
    assert pragma(path, "integrity_check") == "ok"


def test_what_was_acknowledged_before_a_kill_is_there_afterwards(path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom tests.contract.driver import NOON, new_job\n"
        "from jobq.backends.sqlite.backend import SqliteBackend\n"
        "backend = SqliteBackend(Path(sys.argv[1]))\n"
        "while True:\n print(backend.insert([new_job()], NOON)[0].id, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True, env=WITH_TESTS
    ) as process:
        assert process.stdout is not None
        seen = [int(process.stdout.readline()) for _ in range(50)]
        process.kill()
        seen += [int(line) for line in process.stdout if line.endswith("\n")]
    with opened(path) as backend:
        assert set(seen) <= set(ids(backend))
        backend.insert([new_job()], NOON)
    assert pragma(path, "integrity_check") == "ok"
