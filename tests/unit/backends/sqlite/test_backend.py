"""What is SQLite's own: the file, other people's files, many processes, locks, and full disks."""

import fcntl
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from itertools import chain
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import IO

import psutil
import pytest
import sqlite_utils

from jobq.backends.sqlite import connection, migrations
from jobq.backends.sqlite.backend import SqliteBackend
from jobq.backends.sqlite.connection import CHECKPOINT_BYTES, LOG_KEPT_BYTES
from jobq.backends.sqlite.schema import APPLICATION_ID, SCHEMA_VERSION
from jobq.backends.sqlite.write_lock import WriteLock
from jobq.errors import (
    DatabaseDamagedError,
    DatabaseError,
    DatabaseLockedError,
    DatabaseNewerError,
    DatabaseReadOnlyError,
    DiskFullError,
)
from jobq.models import Condition, JobFilter, JobStatus, Parent, Queue
from jobq.units import Rate
from tests.contract.driver import NOON, Jobs, new_job
from tests.support.paths import DATA, ROOT

OLD = DATA / "schema_v1.sql"
WITH_TESTS = {**os.environ, "PYTHONPATH": str(ROOT)}
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobq.db"


@pytest.fixture
def jobs(path: Path) -> Iterator[Jobs]:
    with ExitStack() as stack:
        yield Jobs(lambda: stack.enter_context(closing(SqliteBackend(path))))


@contextmanager
def opened(path: Path) -> Iterator[SqliteBackend]:
    with closing(SqliteBackend(path)) as backend:
        backend.open()
        yield backend


def pragma(path: Path, name: str) -> object:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


def schema(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {row[0] for row in connection.execute("SELECT sql FROM sqlite_schema")}


def ids(backend: SqliteBackend) -> list[int]:
    return [job.id for job in backend.find(JobFilter(), limit=None)]


def contents(folder: Path) -> dict[str, bytes]:
    """The files, apart from the lock and the index that readers share."""
    return {
        file.name: file.read_bytes()
        for file in folder.iterdir()
        if file.suffix != ".lock" and not file.name.endswith("-shm")
    }


# -- the file ----------------------------------------------------------------------------------


def test_the_file_says_what_it_is(path: Path) -> None:
    with opened(path):
        pass
    assert path.read_bytes()[68:72] == b"jobq" == APPLICATION_ID.to_bytes(4, "big")
    assert pragma(path, "user_version") == SCHEMA_VERSION
    assert pragma(path, "journal_mode") == "wal"
    assert pragma(path, "integrity_check") == "ok"


def test_the_last_migration_leads_to_the_schema_that_this_version_knows() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrations.migrate(sqlite_utils.Database(connection))
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


def test_every_connection_is_durable_and_never_checkpoints_out_of_turn(jobs: Jobs) -> None:
    assert isinstance(jobs.backend, SqliteBackend)
    for _ in range(2):
        with jobs.backend._db.read() as connection:
            assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
            assert connection.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
        jobs.reopen()


def test_an_empty_file_becomes_a_database(path: Path) -> None:
    path.touch()
    with opened(path) as backend:
        assert ids(backend) == []


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


def test_an_old_database_is_brought_up_to_date_with_all_that_is_in_it(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(OLD.read_text("utf-8"))
    assert pragma(path, "user_version") == 1
    with opened(path) as backend:
        jobs = backend.get(range(1, 9))
        assert [jobs[n].status for n in sorted(jobs)] == [
            "completed", "failed", "cancelled", "pending", "blocked", "running", "scheduled",
        ]  # fmt: skip
        assert (jobs[1].args["argv"], jobs[1].result) == (["echo", "żółw"], {"n": 1})
        assert jobs[5].parents == (Parent(1, Condition.SUCCEEDED), Parent(4, Condition.ENDED))
        assert [a.outcome for a in backend.attempts(1)] == ["failed", "completed"]
        ffmpeg = Queue(
            name="ffmpeg", description="two at once", max_concurrent=2, priority=8, paused=True,
            timeout=90.5, max_retries=1,
        )  # fmt: skip
        assert ffmpeg in backend.queues()
        backend.put_queues([replace(ffmpeg, rate=Rate(1, 60.0))])
        (inserted,) = backend.insert([new_job()], NOON)
        assert inserted.id == 9
    assert pragma(path, "user_version") == SCHEMA_VERSION
    with opened(path.with_name("fresh.db")):
        pass
    assert schema(path) == schema(path.with_name("fresh.db"))


def test_a_first_open_that_was_interrupted_is_taken_up_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PowerCut(Exception):
        pass

    def interrupted(db: sqlite_utils.Database) -> None:
        migrations.migrations.ensure_migrations_table(db)
        raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(migrations, "migrate", interrupted)
        with pytest.raises(PowerCut):
            SqliteBackend(path).open()
    with opened(path) as backend:
        assert backend.insert([new_job()], NOON)[0].id == 1


# -- files that are not ours -------------------------------------------------------------------


def foreign(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


NOT_OURS: dict[str, Callable[[Path], object]] = {
    "tables of another program": lambda path: foreign(path, "CREATE TABLE t (x)"),
    "a version of another program": lambda path: foreign(path, "PRAGMA user_version = 1"),
    "the mark of another program": lambda path: foreign(path, "PRAGMA application_id = 1"),
    "another program's write-ahead log": lambda path: foreign(
        path, "PRAGMA journal_mode = WAL", "CREATE TABLE t (x)"
    ),
    "no database at all": lambda path: path.write_bytes(b"#!/bin/sh\necho precious\n" * 200),
    "a few bytes": lambda path: path.write_bytes(b"precious"),
}


@pytest.mark.parametrize("case", NOT_OURS)
def test_a_file_that_is_not_ours_is_refused_and_left_untouched(path: Path, case: str) -> None:
    NOT_OURS[case](path)
    before = contents(path.parent)
    for _ in range(2):
        with closing(SqliteBackend(path)) as backend, pytest.raises(DatabaseDamagedError) as caught:
            backend.open()
        assert str(path) in str(caught.value)
        assert contents(path.parent) == before


def test_a_newer_database_is_refused_and_left_untouched(path: Path) -> None:
    with opened(path) as backend:
        backend.insert([new_job()], NOON)
    foreign(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = contents(path.parent)
    with closing(SqliteBackend(path)) as backend:
        with pytest.raises(DatabaseNewerError, match="upgrade"):
            backend.open()
        with pytest.raises(DatabaseNewerError, match="upgrade"):
            backend.insert([new_job()], NOON)
    assert contents(path.parent) == before


def test_a_newer_database_whose_last_user_crashed_is_left_untouched(path: Path) -> None:
    """Its write-ahead log is not ours to move into the database."""
    newer = f"PRAGMA user_version = {SCHEMA_VERSION + 1}"
    script = f"""
        import os, sqlite3
        from jobq.backends.sqlite.backend import SqliteBackend
        SqliteBackend(__import__("pathlib").Path({str(path)!r})).open()
        sqlite3.connect({str(path)!r}).execute({newer!r})
        os._exit(0)
    """
    run_python(script)
    before = contents(path.parent)
    assert "jobq.db-wal" in before
    with closing(SqliteBackend(path)) as backend, pytest.raises(DatabaseNewerError):
        backend.open()
    del backend
    assert contents(path.parent) == before


def test_a_database_damaged_inside_says_so(path: Path) -> None:
    with opened(path) as backend:
        backend.insert([new_job(args={"n": n}) for n in range(500)], NOON)
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)
    with closing(SqliteBackend(path)) as backend, pytest.raises(DatabaseDamagedError):
        backend.find(JobFilter(), limit=None)
    assert path.read_bytes() == data


def test_a_database_without_its_tables_says_so(path: Path) -> None:
    with opened(path):
        pass
    foreign(path, "DROP TABLE job_queue")
    with opened(path) as backend, pytest.raises(DatabaseDamagedError, match="backup"):
        backend.find(JobFilter(), limit=None)


@pytest.mark.parametrize("place", ["folder", "file/jobq.db"])
def test_a_path_that_can_hold_no_database_is_an_error_of_ours(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with closing(SqliteBackend(tmp_path / place)) as backend, pytest.raises(DatabaseError):
        backend.open()


# -- many processes ----------------------------------------------------------------------------

barrier: Barrier


def share(shared: Barrier) -> None:
    global barrier  # noqa: PLW0603 - how a pool's processes are given one
    barrier = shared


@contextmanager
def processes(number: int) -> Iterator[Callable[..., list[list[int]]]]:
    """Runs a function in so many processes at once, with a number each."""
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


def test_several_processes_can_be_the_first_to_open_a_database(tmp_path: Path) -> None:
    with processes(4) as run:
        added = run(open_first, tmp_path)
    assert [sorted(numbers) for numbers in zip(*added, strict=True)] == [[1, 2, 3, 4]] * 10


def test_eight_processes_add_at_once_and_nothing_is_lost(path: Path) -> None:
    with processes(8) as run:
        added = run(add_many, path)
    with opened(path) as backend:
        names = {job.name: job.id for job in backend.find(JobFilter(), limit=None)}
    assert [[names[f"{p}/{n}"] for n in range(ADDS)] for p in range(8)] == added
    assert sorted(names.values()) == list(range(1, 8 * ADDS + 1))
    assert pragma(path, "integrity_check") == "ok"


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


def run_python(script: str) -> str:
    lines = script.splitlines()
    indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    text = "\n".join(line[indent:] for line in lines)
    return subprocess.run(
        [sys.executable, "-c", text], check=True, stdout=subprocess.PIPE, text=True, timeout=60,
        env=WITH_TESTS,
    ).stdout  # fmt: skip


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


# -- locks -------------------------------------------------------------------------------------


@contextmanager
def held(path: Path) -> Iterator[None]:
    """The turnstile, kept by somebody else."""
    with Path(f"{path}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def let_waiters_go() -> None:
    """The threads that stood in line for somebody who gave up end once their turn comes."""
    for thread in threading.enumerate():
        if thread.name == "jobq-turnstile":
            thread.join(10)
            assert not thread.is_alive()


def test_a_writer_that_never_leaves_is_reported_and_does_no_harm_once_it_has(
    jobs: Jobs, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = jobs.add()
    monkeypatch.setattr(connection, "LOCK_SECONDS", 0.05)
    with held(path):
        for _ in range(3):
            with pytest.raises(DatabaseLockedError, match="another process"):
                jobs.add()
        assert jobs.status(first) is JobStatus.PENDING  # reading goes on
    monkeypatch.undo()
    assert [jobs.add(), jobs.add()] == [first + 1, first + 2]


def test_waiting_for_a_turn_in_vain_leaks_nothing(
    jobs: Jobs, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.add()
    before = psutil.Process().num_fds()
    monkeypatch.setattr(connection, "LOCK_SECONDS", 0.01)
    with held(path):
        for _ in range(5):
            with pytest.raises(DatabaseLockedError):
                jobs.add()
    let_waiters_go()
    assert psutil.Process().num_fds() <= before


def test_one_thread_waits_for_all_turns_and_ends_with_the_connection(path: Path) -> None:
    with opened(path) as backend, ThreadPoolExecutor(1) as pool:
        pool.submit(ids, backend).result()
        for number in range(3):
            with held(path):
                waiting = pool.submit(backend.insert, [new_job()], NOON)
                (waiter,) = waiters_once_there()
            assert waiting.result(10)[0].id == number + 1
            assert waiters_once_there() == [waiter]
    let_waiters_go()


def waiters_once_there() -> list[threading.Thread]:
    deadline = time.monotonic() + 10
    found: list[threading.Thread] = []
    while not found and time.monotonic() < deadline:
        found = [thread for thread in threading.enumerate() if thread.name == "jobq-turnstile"]
    return found


def test_who_gives_up_before_the_waiting_thread_has_begun_leaves_the_line(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late: list[threading.Thread] = []

    def start_later(thread: threading.Thread) -> None:
        late.append(thread)

    with held(path), closing(WriteLock(f"{path}.lock")) as turnstile:
        monkeypatch.setattr(threading.Thread, "start", start_later)
        with pytest.raises(DatabaseLockedError):
            turnstile.take(0.01)
        monkeypatch.undo()
    late[0].start()
    let_waiters_go()
    with closing(WriteLock(f"{path}.lock")) as turnstile:
        turnstile.take(0.01)


def test_a_process_that_waited_in_vain_can_leave(path: Path) -> None:
    with opened(path), held(path):
        run_python(f"""
            from pathlib import Path
            from tests.contract.driver import NOON, new_job
            from jobq.backends.sqlite import connection
            from jobq.backends.sqlite.backend import SqliteBackend
            from jobq.errors import DatabaseLockedError
            connection.LOCK_SECONDS = 0.01
            try:
                SqliteBackend(Path({str(path)!r})).insert([new_job()], NOON)
            except DatabaseLockedError:
                pass
            else:
                raise AssertionError
        """)


def test_a_first_open_that_waits_in_vain_leaks_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LOCK_SECONDS", 0.01)
    before = psutil.Process().num_fds()
    with held(path), closing(SqliteBackend(path)) as backend:
        for _ in range(5):
            with pytest.raises(DatabaseLockedError):
                backend.open()
    let_waiters_go()
    assert psutil.Process().num_fds() <= before
    with opened(path) as backend:
        assert ids(backend) == []


def test_another_program_that_keeps_the_database_locked_is_reported(jobs: Jobs, path: Path) -> None:
    assert isinstance(jobs.backend, SqliteBackend)
    jobs.add()
    with jobs.backend._db.read() as connection:
        connection.execute("PRAGMA busy_timeout = 10")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseLockedError, match="another program"):
            jobs.add()
    assert jobs.add() == 2


def test_a_writer_waits_for_its_turn(jobs: Jobs, path: Path) -> None:
    jobs.add()
    with ThreadPoolExecutor(1) as pool:
        with held(path):
            waiting = pool.submit(jobs.add)
            assert not waiting.done()
        assert waiting.result(10) == 2


# -- no room -----------------------------------------------------------------------------------

LARGE = new_job(args={"text": "x" * 10_000})


def test_a_rate_holds_for_who_looked_at_the_clock_and_then_waited_for_a_turn(jobs: Jobs) -> None:
    jobs.limit("lane", rate=Rate(2, 10.0))
    jobs.insert(*[new_job(queue="lane")] * 20)
    started = []
    for moment in (0.5, 0, 10.4, 10.6):
        jobs.now = NOON
        jobs.later(moment)
        started.append(len(jobs.claim(100, owner=f"at {moment}")))
    assert started == [2, 0, 0, 2]


def test_a_full_database_refuses_and_stays_whole(jobs: Jobs, path: Path) -> None:
    assert isinstance(jobs.backend, SqliteBackend)
    first = jobs.add()
    with jobs.backend._db.read() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 20}")
        with pytest.raises(DiskFullError, match=str(path)):
            jobs.insert(*[LARGE] * 100)
        assert ids(jobs.backend) == [first]
        connection.execute("PRAGMA max_page_count = 100000")
    assert jobs.insert_ids(*[LARGE] * 100)[-1] == first + 100
    assert pragma(path, "integrity_check") == "ok"


def test_a_full_database_inside_a_group_undoes_the_group(jobs: Jobs) -> None:
    assert isinstance(jobs.backend, SqliteBackend)

    def fill() -> None:
        with jobs.backend.group():
            jobs.add()
            jobs.insert(*[LARGE] * 100)

    with jobs.backend._db.read() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 20}")
        with pytest.raises(DiskFullError):
            fill()
        connection.execute("PRAGMA max_page_count = 100000")
    assert ids(jobs.backend) == []
    jobs.add()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs to mount a small disk: {error}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_refuses_and_stays_whole(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 1_000_000)
    path = small_disk / "jobq.db"
    with opened(path) as backend:
        added = []
        with pytest.raises(DiskFullError, match="disk space"):  # noqa: PT012 - until it is full
            while True:
                added.append(backend.insert([LARGE], NOON)[0].id)
        assert ids(backend) == added
        ballast.unlink()
        added.append(backend.insert([LARGE], NOON)[0].id)
        assert ids(backend) == added
    assert pragma(path, "integrity_check") == "ok"


def test_a_full_disk_at_the_first_open_is_taken_up_again(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    path = small_disk / "folder" / "jobq.db"
    with closing(SqliteBackend(path)) as backend, pytest.raises(DiskFullError):
        backend.open()
    ballast.unlink()
    with opened(path) as backend:
        assert backend.insert([new_job()], NOON)[0].id == 1


def test_a_disk_that_is_read_only_is_an_error_of_ours(small_disk: Path) -> None:
    with opened(small_disk / "jobq.db") as backend:
        backend.insert([new_job()], NOON)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    backend = SqliteBackend(small_disk / "jobq.db")
    with closing(backend), pytest.raises(DatabaseReadOnlyError, match="writable"):
        backend.open()


# -- the write-ahead log -----------------------------------------------------------------------


def wal(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


def test_the_log_is_moved_into_the_database_when_it_grows(jobs: Jobs, path: Path) -> None:
    for _ in range(15):
        jobs.insert(*[LARGE] * 100)
        assert wal(path) < CHECKPOINT_BYTES + 2_000_000
    assert path.stat().st_size > 10_000_000
    assert wal(path) >= CHECKPOINT_BYTES  # to be written over


def test_no_commit_but_one_that_fills_the_log_moves_it(jobs: Jobs, path: Path) -> None:
    jobs.add()
    while wal(path) < CHECKPOINT_BYTES:
        jobs.insert(*[LARGE] * 20)
    before = path.stat().st_mtime_ns
    for _ in range(3):
        jobs.add()
    assert path.stat().st_mtime_ns == before


def test_a_reader_keeps_the_log_until_it_leaves(jobs: Jobs, path: Path) -> None:
    jobs.add()
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM job_queue").fetchone()
        for _ in range(8):
            jobs.insert(*[LARGE] * 100)
        assert wal(path) > CHECKPOINT_BYTES
        assert reader.execute("SELECT count(*) FROM job_queue").fetchone() == (1,)
        reader.execute("COMMIT")
        for _ in range(8):
            jobs.insert(*[LARGE] * 100)
        assert wal(path) <= LOG_KEPT_BYTES
        jobs.backend.maintain()
        assert wal(path) == 0


def test_the_last_one_to_close_leaves_one_file(path: Path) -> None:
    with opened(path) as backend:
        backend.insert([new_job()], NOON)
    assert {file.name for file in path.parent.iterdir()} == {"jobq.db", "jobq.db.lock"}


# -- presence ----------------------------------------------------------------------------------


@contextmanager
def announced(path: Path, owner: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """Another process that listens, and says so; it repeats each wake-up."""
    script = (
        "import select, sys\nfrom pathlib import Path\n"
        "from jobq.backends.sqlite.backend import SqliteBackend\n"
        "listener = SqliteBackend(Path(sys.argv[1])).supervisors.listen(sys.argv[2])\n"
        "print('ready', flush=True)\n"
        "while select.select([listener], [], [])[0]:\n"
        " listener.drain()\n print('woken', flush=True)\n"
    )
    command = [sys.executable, "-c", script, str(path), owner]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process, process.stdout
        finally:
            process.kill()


def test_a_supervisor_is_woken_and_is_dead_once_it_is_killed(jobs: Jobs, path: Path) -> None:
    jobs.add()
    with announced(path, "one") as (process, output):
        jobs.add()
        assert output.readline() == "woken\n"
        process.send_signal(signal.SIGSTOP)
        assert jobs.backend.supervisors.dead(["one"]) == set()
        process.kill()
        process.wait(10)
        assert jobs.backend.supervisors.dead(["one", "two"]) == {"one"}
    fifo = Path(f"{path}.supervisors") / "one.wake"
    assert fifo.is_fifo()
    jobs.add()  # nobody reads it any more, and nobody waits for that
    jobs.backend.supervisors.unregister(["one"])
    assert not fifo.exists()


def test_a_listener_that_does_not_read_holds_nobody_up(jobs: Jobs, path: Path) -> None:
    with closing(jobs.backend.supervisors.listen("one")) as listener:
        poke = os.open(Path(f"{path}.supervisors") / "one.wake", os.O_WRONLY | os.O_NONBLOCK)
        with suppress(BlockingIOError):
            while os.write(poke, b"!" * 4096):
                pass
        os.close(poke)
        jobs.add()
        listener.drain()


def test_forgetting_an_owner_removes_no_file_elsewhere(jobs: Jobs, path: Path) -> None:
    jobs.backend.supervisors.listen("one").close()
    precious = path.parent / "precious.lock"
    precious.touch()
    jobs.backend.supervisors.unregister(["../precious"])
    assert precious.exists()
