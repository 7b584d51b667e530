"""Versions: databases of older ones, and two versions of jobq on one database.

The newer version is this one with one more step of migration.
"""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlite_utils

from jobq import JobQueue, JobStatus
from jobq.backends.sqlite import migrations
from jobq.backends.sqlite.schema import SCHEMA_VERSION
from jobq.errors import DatabaseNewerError
from jobq.models import FINISHED
from jobq.queue import backend_of
from tests.support.paths import DATA
from tests.support.project import Project, project, wait_until

__all__ = ["project"]

pytestmark = pytest.mark.slow

OLD = DATA / "schema_v1.sql"
STEPS = [
    "m001_jobs", "m002_rates", "m003_job_keys", "m004_schedules", "m005_counts", "m006_signatures",
    "m007_store", "m008_totals", "m009_one_of_several",
]  # fmt: skip

NEWER = """
import sys
from jobq.backends.sqlite import connection, migrations
from jobq.cli.main import run

@migrations.migrations()
def m999_more(db):
    db.conn.execute("ALTER TABLE job_queue ADD COLUMN more TEXT")
    db.conn.execute(f"PRAGMA user_version = {connection.SCHEMA_VERSION}")

connection.SCHEMA_VERSION += 1
if "--at-once" in sys.argv:
    sys.argv.remove("--at-once")
    connection.SqliteConnection._require_no_supervisor = lambda self: None
sys.exit(run(sys.argv[1:]))
"""


def newer(project: Project, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command of the next version."""
    return subprocess.run(
        [sys.executable, "-c", NEWER, *words],
        cwd=project.root, capture_output=True, encoding="utf-8", check=False, timeout=60,
    )  # fmt: skip


def rows(path: Path) -> dict[str, list[dict[str, Any]]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        tables = [
            name
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '!_%' "
                "ESCAPE '!' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
            ).fetchall()
        ]
        return {
            table: [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]
            for table in tables
        }


def old_database(path: Path, version: int) -> None:
    """Create a database as that version left it, with jobs in every status."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(OLD.read_text("utf-8"))
        connection.execute(
            "INSERT INTO job_queue (type, status, queue, priority, args, attempts, failures, "
            "max_retries, retry_base, created_at, run_at, error) VALUES "
            "('shell', 'retrying', 'default', 5, '{\"argv\":[\"false\"]}', 1, 1, 3, 10.0, 1.5, 9.5, "
            "'exit code 1')"
        )
        if version < SCHEMA_VERSION:
            migrations.migrations.apply(
                sqlite_utils.Database(connection), stop_before=STEPS[version]
            )
        assert connection.execute("PRAGMA user_version").fetchone() == (version,)


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_an_old_database_loses_nothing(project: Project, version: int) -> None:
    path = project.root / "old.db"
    old_database(path, version)
    before = rows(path)
    done = project.jobq("list", "--json", "--limit", "0", env={"JOBQ_DATABASE": str(path)})
    assert done.returncode == 0, done.stderr
    after = rows(path)
    assert {job["status"] for job in before["job_queue"]} == set(JobStatus)
    for table, there in before.items():
        assert len(after[table]) == len(there), table
        for old, new in zip(there, after[table], strict=True):
            assert old.items() <= new.items()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_the_logs_of_an_old_database_stay_where_they_are(project: Project, version: int) -> None:
    path = project.root / "old.db"
    old_database(path, version)
    ids = [job["id"] for job in rows(path)["job_queue"]]
    folders = [project.root / "logs" / "jobs" / str(job_id) for job_id in (*ids, ids[-1] + 1)]
    for folder in folders:  # the last one is of another database
        folder.mkdir(parents=True)
        (folder / "stdout.log").write_text("before\n")
    # What ran when the old version was last seen is given back after that time.
    (project.root / "jobq.toml").write_text("[lease]\nseconds = 1\n")
    env = {"JOBQ_DATABASE": str(path)}
    assert project.jobq("cancel", "7", env=env).returncode == 0  # its arguments are made up
    new = project.jobq("add", "--", "echo", "new", env=env).stdout.strip()
    assert new == folders[-1].name
    project.jobq("work", "--drain", env=env)
    for folder in folders[:-1]:
        assert project.jobq("tail", folder.name, "-n", "all", env=env).stdout.startswith("before\n")
        assert (folder / "stdout.log").read_text().startswith("before\n")
    retried = folders[-2]
    assert (retried / ".owner").exists()
    assert project.jobq("tail", new, env=env).stdout == "new\n"
    kept = folders[-1].with_name(f"{new}.unmarked")
    assert (kept / "stdout.log").read_text() == "before\n"


def test_every_step_is_known_here() -> None:
    """If not, the databases above are not all that exist."""
    assert [step.name for step in migrations.migrations.pending(_empty())] == STEPS
    assert len(STEPS) == SCHEMA_VERSION


def _empty() -> sqlite_utils.Database:
    return sqlite_utils.Database(memory=True)


def test_a_supervisor_is_not_robbed_of_its_database(project: Project) -> None:
    job = project.shell("until [ -e go ]; do sleep 0.02; done")
    supervisor = project.work("--drain")
    project.wait_for(job, JobStatus.RUNNING)
    for verb in (["list"], ["add", "--", "true"]):
        done = newer(project, *verb)
        assert (done.returncode, done.stdout) == (5, "")
        assert done.stderr.count("\n") == 1
        assert f":{supervisor.pid}:" in done.stderr
        assert "a supervisor of an older jobq uses it" in done.stderr
    (project.root / "go").touch()
    project.wait_for(job, JobStatus.COMPLETED)
    assert supervisor.wait(20) == 0
    done = newer(project, "add", "--", "true")
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr


@pytest.mark.parametrize(("options", "status"), [((), "completed"), (("--now",), "pending")])
def test_down_ends_a_supervisor_of_an_older_version(
    project: Project, options: tuple[str, ...], status: str
) -> None:
    job = project.shell("until [ -e go ]; do sleep 0.02; done")
    supervisor = project.work()
    project.wait_for(job, JobStatus.RUNNING)
    if not options:
        (project.root / "go").touch()
    done = newer(project, "down", *options)
    assert (done.returncode, done.stdout) == (0, "Ended 1 supervisor of an older jobq\n"), (
        done.stderr
    )
    assert supervisor.wait(20) == 0
    assert f'"status":"{status}"' in newer(project, "show", str(job.id), "--json").stdout.replace(
        " ", ""
    )


def test_a_dead_supervisor_does_not_prevent_a_migration(project: Project) -> None:
    job = project.shell("sleep 60")
    supervisor = project.work()
    project.wait_for(job, JobStatus.RUNNING)
    supervisor.kill()
    supervisor.wait()
    assert newer(project, "list").returncode == 0


def test_a_supervisor_whose_database_is_taken_over_writes_nothing_more(project: Project) -> None:
    """As by another host, which does not see it. It ends its jobs, and they run again."""
    config = project.root / "jobq.toml"  # it notices with its next heartbeat
    config.write_text(config.read_text().replace("seconds = 30", "seconds = 3"))
    job = project.shell('echo $$ > pid; [ "$JOBQ_ATTEMPT" -gt 1 ] || exec sleep 60')
    supervisor = project.work("-j", "1")
    project.wait_for(job, JobStatus.RUNNING)
    wait_until((project.root / "pid").exists)
    child = int((project.root / "pid").read_text())
    assert newer(project, "--at-once", "add", "--", "true").returncode == 0
    taken_over = rows(project.queue.settings.database)
    assert supervisor.wait(20) == 5
    assert supervisor.stdout is not None
    said = [line for line in supervisor.stdout if line.startswith("jobq: ")]
    assert len(said) == 1
    assert "migrated by another version of jobq" in said[0]
    assert rows(project.queue.settings.database) == taken_over
    wait_until(lambda: not Path(f"/proc/{child}").exists())
    done = newer(project, "work", "--drain", "--wait-retries")
    assert done.returncode == 0, done.stderr
    shown = newer(project, "show", str(job.id), "--json").stdout
    assert '"outcome": "lost"' in shown
    assert newer(project, "wait", str(job.id)).returncode == 0


def test_a_client_that_has_it_open_neither_reads_nor_writes_what_it_does_not_know(
    project: Project,
) -> None:
    queue: JobQueue = project.queue
    queue.add("shell", {"argv": ["true"]})
    assert newer(project, "list").returncode == 0
    with pytest.raises(DatabaseNewerError, match="migrated by another version"):
        queue.add("shell", {"argv": ["true"]})
    with pytest.raises(DatabaseNewerError, match="migrated by another version"):
        backend_of(queue).supervisors.unregister(["another"])  # which reads nothing first
    with pytest.raises(DatabaseNewerError, match="migrated by another version"):
        queue.find(status=FINISHED)
    assert len(rows(queue.settings.database)["job_queue"]) == 1
