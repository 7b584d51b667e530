"""Migrations of the SQLite database."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import sqlite_utils

from jobq.backends.sqlite import migrations
from jobq.backends.sqlite.backend import SqliteBackend
from jobq.backends.sqlite.schema import SCHEMA_VERSION
from jobq.models import Condition, Parent, Queue
from jobq.units import Rate
from tests.contract.driver import NOON, new_job
from tests.support.paths import DATA
from tests.unit.backends.sqlite.databases import create, ids, opened, pragma, schema

OLD = DATA / "schema_v1.sql"


def test_the_last_migration_leads_to_the_schema_that_this_version_knows() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrations.migrate(sqlite_utils.Database(connection))
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


def test_an_empty_file_becomes_a_database(path: Path) -> None:
    path.touch()
    with opened(path) as backend:
        assert ids(backend) == []


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
            create(SqliteBackend(path))
    with opened(path) as backend:
        assert backend.insert([new_job()], NOON)[0].id == 1
