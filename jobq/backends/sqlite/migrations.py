"""Migrations: the schema of the SQLite database as the steps that lead to it.

Each step is recorded in the database, in the same transaction as its change. A step that has been
released is never edited: a new one is added, and `schema.SCHEMA_VERSION` with it.
"""

from collections.abc import Iterator
from sqlite3 import complete_statement

from sqlite_utils import Database, Migrations

from jobq.backends.sqlite.schema import APPLICATION_ID

migrations = Migrations("jobq")


def _step(db: Database, version: int, script: str) -> None:
    # Not executescript(): it commits first, and a step must commit with its record.
    for statement in statements(script):
        db.conn.execute(statement)
    db.conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.conn.execute(f"PRAGMA user_version = {version}")


def statements(script: str) -> Iterator[str]:
    """Yield the statements of a script. A trigger is one statement."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement


@migrations()
def m001_jobs(db: Database) -> None:
    _step(
        db,
        1,
        """
        CREATE TABLE queues (
            name TEXT PRIMARY KEY,
            description TEXT,
            max_concurrent INTEGER CHECK (max_concurrent > 0),
            priority INTEGER NOT NULL DEFAULT 5 CHECK (priority BETWEEN 0 AND 9),
            paused INTEGER NOT NULL DEFAULT 0,
            timeout REAL,
            max_retries INTEGER
        ) STRICT, WITHOUT ROWID;
        INSERT INTO queues (name) VALUES ('default');
        CREATE TABLE job_queue (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            type TEXT NOT NULL,
            name TEXT,
            status TEXT NOT NULL CHECK (status IN ('blocked', 'scheduled', 'pending', 'running',
                'retrying', 'completed', 'failed', 'cancelled')),
            queue TEXT NOT NULL,
            priority INTEGER NOT NULL CHECK (priority BETWEEN 0 AND 9),
            args TEXT NOT NULL,
            tags TEXT,
            unique_key TEXT,
            parents INTEGER NOT NULL DEFAULT 0,
            unmet_parents INTEGER NOT NULL DEFAULT 0,
            added_by INTEGER,
            attempts INTEGER NOT NULL DEFAULT 0,
            failures INTEGER NOT NULL DEFAULT 0,
            crashes INTEGER NOT NULL DEFAULT 0,
            max_retries INTEGER NOT NULL,
            retry_base REAL NOT NULL,
            timeout REAL,
            created_at REAL NOT NULL,
            run_at REAL,
            started_at REAL,
            finished_at REAL,
            cancel_requested INTEGER NOT NULL DEFAULT 0,
            cancelled_by INTEGER,
            progress_done REAL,
            progress_total REAL,
            progress_message TEXT,
            exit_code INTEGER,
            signal INTEGER,
            error TEXT,
            reason TEXT,
            result TEXT
        ) STRICT;
        CREATE INDEX job_queue_claim ON job_queue (queue, priority DESC, id, type)
            WHERE status = 'pending';
        CREATE INDEX job_queue_due ON job_queue (run_at)
            WHERE status IN ('scheduled', 'retrying');
        CREATE INDEX job_queue_running ON job_queue (queue) WHERE status = 'running';
        CREATE INDEX job_queue_blocked ON job_queue (id) WHERE status = 'blocked';
        CREATE INDEX job_queue_failed ON job_queue (id) WHERE status = 'failed';
        CREATE INDEX job_queue_cancelled ON job_queue (id) WHERE status = 'cancelled';
        CREATE INDEX job_queue_finished ON job_queue (finished_at)
            WHERE status IN ('completed', 'failed', 'cancelled');
        CREATE INDEX job_queue_cancelled_by ON job_queue (cancelled_by)
            WHERE cancelled_by IS NOT NULL;
        CREATE UNIQUE INDEX job_queue_unique_key ON job_queue (unique_key)
            WHERE unique_key IS NOT NULL
            AND status IN ('blocked', 'scheduled', 'pending', 'running', 'retrying');
        CREATE TABLE attempts (
            job_id INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            supervisor TEXT NOT NULL,
            pid INTEGER,
            pid_started INTEGER,
            started_at REAL NOT NULL,
            lease_until REAL NOT NULL,
            ended_at REAL,
            outcome TEXT,
            exit_code INTEGER,
            signal INTEGER,
            error TEXT,
            max_rss_bytes INTEGER,
            cpu_seconds REAL,
            stdout_offset INTEGER NOT NULL DEFAULT 0,
            stderr_offset INTEGER NOT NULL DEFAULT 0,
            events_offset INTEGER NOT NULL DEFAULT 0,
            log_offset INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (job_id, attempt)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX attempts_open ON attempts (supervisor) WHERE ended_at IS NULL;
        CREATE TABLE dependencies (
            child_id INTEGER NOT NULL,
            parent_id INTEGER NOT NULL,
            condition TEXT NOT NULL CHECK (condition IN ('succeeded', 'ended', 'failed')),
            met INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (child_id, parent_id)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX dependencies_parent ON dependencies (parent_id, child_id);
        CREATE TABLE unsettled_parents (
            parent_id INTEGER PRIMARY KEY,
            after_child INTEGER NOT NULL DEFAULT 0
        ) STRICT;
        CREATE TABLE supervisors (
            id TEXT PRIMARY KEY,
            host TEXT NOT NULL,
            boot_id TEXT NOT NULL,
            pid INTEGER NOT NULL,
            slots INTEGER NOT NULL,
            queues TEXT,
            types TEXT NOT NULL,
            started_at REAL NOT NULL,
            heartbeat_at REAL NOT NULL
        ) STRICT, WITHOUT ROWID;
        """,
    )


@migrations()
def m002_rates(db: Database) -> None:
    """Add rates of queues, and the times of their last starts."""
    _step(
        db,
        2,
        """
        ALTER TABLE queues ADD COLUMN rate_count INTEGER CHECK (rate_count > 0);
        ALTER TABLE queues ADD COLUMN rate_seconds REAL CHECK (rate_seconds > 0);
        CREATE TABLE recent_starts (
            id INTEGER PRIMARY KEY,
            queue TEXT NOT NULL,
            started_at REAL NOT NULL
        ) STRICT;
        CREATE INDEX recent_starts_queue ON recent_starts (queue, started_at);
        """,
    )


@migrations()
def m003_job_keys(db: Database) -> None:
    """Add the keys of imported jobs, so that no job is added twice."""
    _step(
        db,
        3,
        """
        CREATE TABLE job_keys (
            key TEXT PRIMARY KEY,
            job_id INTEGER NOT NULL,
            digest TEXT NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX job_keys_job ON job_keys (job_id);
        """,
    )


@migrations()
def m004_schedules(db: Database) -> None:
    """Add schedules, and the times that each has fired for."""
    _step(
        db,
        4,
        """
        CREATE TABLE schedules (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            revision INTEGER NOT NULL,
            name TEXT NOT NULL UNIQUE,
            cron TEXT NOT NULL,
            tz TEXT NOT NULL,
            type TEXT NOT NULL,
            args TEXT NOT NULL,
            queue TEXT NOT NULL,
            priority INTEGER NOT NULL CHECK (priority BETWEEN 0 AND 9),
            tags TEXT,
            timeout REAL,
            max_retries INTEGER,
            retry_base REAL,
            missed TEXT NOT NULL CHECK (missed IN ('skip', 'once', 'all')),
            overlap TEXT NOT NULL CHECK (overlap IN ('skip', 'allow')),
            paused INTEGER NOT NULL DEFAULT 0,
            created_at REAL NOT NULL,
            next_at REAL,
            settled_until REAL NOT NULL,
            last_at REAL,
            last_job_id INTEGER,
            last_error TEXT
        ) STRICT;
        CREATE INDEX schedules_due ON schedules (next_at) WHERE paused = 0;
        CREATE TABLE schedule_ticks (
            schedule_id INTEGER NOT NULL,
            at REAL NOT NULL,
            job_id INTEGER,
            created INTEGER,
            PRIMARY KEY (schedule_id, at)
        ) STRICT, WITHOUT ROWID;
        """,
    )


@migrations()
def m005_counts(db: Database) -> None:
    """Add the number of jobs by queue and status, kept up to date by triggers.

    Counting them takes a second for a million jobs, and screens show the numbers all the time.
    """
    _step(
        db,
        5,
        """
        CREATE TABLE job_counts (
            queue TEXT NOT NULL,
            status TEXT NOT NULL,
            jobs INTEGER NOT NULL,
            PRIMARY KEY (queue, status)
        ) STRICT, WITHOUT ROWID;
        INSERT INTO job_counts
            SELECT queue, status, count(*) FROM job_queue GROUP BY queue, status;
        CREATE TRIGGER job_queue_inserted AFTER INSERT ON job_queue BEGIN
            INSERT INTO job_counts VALUES (new.queue, new.status, 1)
                ON CONFLICT (queue, status) DO UPDATE SET jobs = jobs + 1; END;
        CREATE TRIGGER job_queue_deleted AFTER DELETE ON job_queue BEGIN
            UPDATE job_counts SET jobs = jobs - 1
                WHERE queue = old.queue AND status = old.status; END;
        CREATE TRIGGER job_queue_moved AFTER UPDATE OF queue, status ON job_queue
            WHEN old.status <> new.status OR old.queue <> new.queue BEGIN
            UPDATE job_counts SET jobs = jobs - 1
                WHERE queue = old.queue AND status = old.status;
            INSERT INTO job_counts VALUES (new.queue, new.status, 1)
                ON CONFLICT (queue, status) DO UPDATE SET jobs = jobs + 1; END
        """,
    )


@migrations()
def m006_signatures(db: Database) -> None:
    """Add the signatures of failures, and the index that failed jobs are grouped by.

    It has the status as well: otherwise, SQLite looks at each row to check it.
    """
    _step(
        db,
        6,
        """
        ALTER TABLE job_queue ADD COLUMN signature TEXT;
        CREATE INDEX job_queue_signature ON job_queue (signature, finished_at, status)
            WHERE status = 'failed';
        """,
    )


@migrations()
def m007_store(db: Database) -> None:
    """Add the identity of the store, which marks its log directories.

    Those of the jobs up to `marked_after` were made without marks.
    """
    _step(
        db,
        7,
        """
        CREATE TABLE store (
            id TEXT NOT NULL,
            marked_after INTEGER NOT NULL
        ) STRICT;
        INSERT INTO store SELECT lower(hex(randomblob(8))),
            coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'job_queue'), 0)
        """,
    )


@migrations()
def m008_totals(db: Database) -> None:
    """Add the numbers of jobs ever added, completed, failed and recovered.

    Of jobs that were deleted before, only the ids are known: those were added.
    """
    _step(
        db,
        8,
        """
        CREATE TABLE totals (
            added INTEGER NOT NULL DEFAULT 0,
            completed INTEGER NOT NULL DEFAULT 0,
            failed INTEGER NOT NULL DEFAULT 0,
            recovered INTEGER NOT NULL DEFAULT 0
        ) STRICT;
        INSERT INTO totals SELECT
            coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'job_queue'), 0),
            coalesce((SELECT sum(jobs) FROM job_counts WHERE status = 'completed'), 0),
            coalesce((SELECT sum(jobs) FROM job_counts WHERE status = 'failed'), 0),
            (SELECT count(*) FROM attempts WHERE outcome = 'lost');
        """,
    )


@migrations()
def m009_one_of_several(db: Database) -> None:
    """Allow the condition that one of several parents has succeeded."""
    _step(
        db,
        9,
        """
        CREATE TABLE new_dependencies (
            child_id INTEGER NOT NULL,
            parent_id INTEGER NOT NULL,
            condition TEXT NOT NULL
                CHECK (condition IN ('succeeded', 'ended', 'failed', 'one_succeeded')),
            met INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (child_id, parent_id)
        ) STRICT, WITHOUT ROWID;
        INSERT INTO new_dependencies SELECT child_id, parent_id, condition, met FROM dependencies;
        DROP TABLE dependencies;
        ALTER TABLE new_dependencies RENAME TO dependencies;
        CREATE INDEX dependencies_parent ON dependencies (parent_id, child_id);
        """,
    )


def migrate(db: Database) -> None:
    """Bring a database up to date. The caller holds the write lock."""
    migrations.apply(db)
