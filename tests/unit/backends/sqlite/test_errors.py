"""Damaged databases, full disks and read-only ones, as errors of jobq."""

import os
import sqlite3
import subprocess
from contextlib import closing, suppress
from pathlib import Path

import pytest

from jobq.backends.sqlite.backend import SqliteBackend
from jobq.errors import (
    DatabaseDamagedError,
    DatabaseError,
    DatabaseLockedError,
    DatabaseReadOnlyError,
    DiskFullError,
)
from jobq.models import JobFilter
from tests.contract.driver import NOON, Jobs, new_job
from tests.unit.backends.sqlite.databases import (
    LARGE,
    create,
    foreign,
    ids,
    opened,
    pragma,
)


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


def test_a_full_database_refuses_and_stays_whole(jobs: Jobs, path: Path) -> None:
    assert isinstance(jobs.backend, SqliteBackend)
    first = jobs.add()
    create(jobs.backend)
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

    create(jobs.backend)
    with jobs.backend._db.read() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 20}")
        with pytest.raises(DiskFullError):
            fill()
        connection.execute("PRAGMA max_page_count = 100000")
    assert ids(jobs.backend) == []
    jobs.add()


def test_a_full_disk_refuses_and_stays_whole(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 500_000)
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
        create(backend)
    ballast.unlink()
    with opened(path) as backend:
        assert backend.insert([new_job()], NOON)[0].id == 1


def test_a_disk_that_is_read_only_is_an_error_of_ours(small_disk: Path) -> None:
    with opened(small_disk / "jobq.db") as backend:
        backend.insert([new_job()], NOON)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    backend = SqliteBackend(small_disk / "jobq.db")
    with closing(backend), pytest.raises(DatabaseReadOnlyError, match="writable"):
        create(backend)
