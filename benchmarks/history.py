"""A project with a long history, made quickly."""

import sqlite3

from benchmarks.harness import Project

_NOW = 1_700_000_000.0

_JOBS = """
INSERT INTO job_queue (type, status, queue, priority, args, attempts, max_retries, retry_base,
    created_at, run_at, started_at, finished_at, exit_code)
WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < :count)
SELECT 'shell', :status, 'default', 5, '{"argv":["convert","in/' || n || '.png"],"cwd":"/tmp"}',
    :done, 3, 10.0, :now + n, iif(:done, NULL, :now * 2 + n), iif(:done, :now + n, NULL),
    iif(:done, :now + n + 1, NULL), iif(:done, 0, NULL)
FROM number
"""
_ATTEMPTS = """
INSERT INTO attempts (job_id, attempt, supervisor, pid, started_at, lease_until, ended_at, outcome,
    exit_code, max_rss_bytes, cpu_seconds)
SELECT id, 1, 'host:1:abcdef01', 4242, started_at, started_at + 30, finished_at, 'completed', 0,
    2000000, 0.01
FROM job_queue WHERE status = 'completed'
"""


def filled(project: Project, finished: int, scheduled: int) -> Project:
    """Fill a project with completed jobs and their attempts, and with others that are not due."""
    connection = sqlite3.connect(project.database, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")  # not needed after a power cut
    connection.execute("BEGIN IMMEDIATE")
    for status, count, done in (("completed", finished, 1), ("scheduled", scheduled, 0)):
        if count:
            values = {"status": status, "count": count, "done": done, "now": _NOW}
            connection.execute(_JOBS, values)
    connection.execute(_ATTEMPTS)
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # no other connection has it open
    connection.close()
    return project
