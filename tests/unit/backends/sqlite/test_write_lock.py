"""The write lock: writers take turns, and waiting in vain does no harm."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from jobq.backends.sqlite import connection
from jobq.backends.sqlite.backend import SqliteBackend
from jobq.backends.sqlite.write_lock import WriteLock
from jobq.errors import (
    DatabaseLockedError,
)
from jobq.models import JobStatus
from tests.contract.driver import NOON, Jobs, new_job
from tests.unit.backends.sqlite.databases import create, held, ids, opened, run_python


def let_waiters_go() -> None:
    """Check that abandoned waiting threads end once they are granted the lock."""
    for thread in threading.enumerate():
        if thread.name == "jobq-write-lock":
            thread.join(10)
            assert not thread.is_alive()


def test_a_writer_that_never_leaves_is_reported_and_does_no_harm_once_it_has(
    jobs: Jobs, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = jobs.add()
    monkeypatch.setattr(connection, "LOCK_TIMEOUT_S", 0.05)
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
    monkeypatch.setattr(connection, "LOCK_TIMEOUT_S", 0.01)
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
        found = [thread for thread in threading.enumerate() if thread.name == "jobq-write-lock"]
    return found


def test_who_gives_up_before_the_waiting_thread_has_begun_leaves_the_line(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late: list[threading.Thread] = []

    def start_later(thread: threading.Thread) -> None:
        late.append(thread)

    with held(path), closing(WriteLock(f"{path}.lock")) as lock:
        monkeypatch.setattr(threading.Thread, "start", start_later)
        with pytest.raises(DatabaseLockedError):
            lock.acquire(0.01)
        monkeypatch.undo()
    late[0].start()
    let_waiters_go()
    with closing(WriteLock(f"{path}.lock")) as lock:
        lock.acquire(0.01)


def test_a_process_that_waited_in_vain_can_leave(path: Path) -> None:
    with opened(path), held(path):
        run_python(f"""
            from pathlib import Path
            from tests.contract.driver import NOON, new_job
            from jobq.backends.sqlite import connection
            from jobq.backends.sqlite.backend import SqliteBackend
            from jobq.errors import DatabaseLockedError
            connection.LOCK_TIMEOUT_S = 0.01
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
    monkeypatch.setattr(connection, "LOCK_TIMEOUT_S", 0.01)
    before = psutil.Process().num_fds()
    with held(path), closing(SqliteBackend(path)) as backend:
        for _ in range(5):
            with pytest.raises(DatabaseLockedError):
                create(backend)
    let_waiters_go()
    assert psutil.Process().num_fds() <= before
    with opened(path) as backend:
        assert ids(backend) == []


def test_a_writer_waits_for_its_turn(jobs: Jobs, path: Path) -> None:
    jobs.add()
    with ThreadPoolExecutor(1) as pool:
        with held(path):
            waiting = pool.submit(jobs.add)
            assert not waiting.done()
        assert waiting.result(10) == 2
