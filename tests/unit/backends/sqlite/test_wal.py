"""The write-ahead log: when it is moved into the database."""

import sqlite3
from contextlib import closing
from pathlib import Path

from jobq.backends.sqlite.connection import CHECKPOINT_BYTES, MAX_IDLE_LOG_BYTES
from tests.contract.driver import NOON, Jobs, new_job
from tests.unit.backends.sqlite.databases import LARGE, opened


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
        assert wal(path) <= MAX_IDLE_LOG_BYTES
        jobs.backend.maintain()
        assert wal(path) == 0


def test_the_last_one_to_close_leaves_one_file(path: Path) -> None:
    with opened(path) as backend:
        backend.insert([new_job()], NOON)
    assert {file.name for file in path.parent.iterdir()} == {"jobq.db", "jobq.db.lock"}
