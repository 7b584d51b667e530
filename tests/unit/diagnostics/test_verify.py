"""`verify`: quiet on what can be, and loud on what can't."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jobq import JobQueue
from jobq.backends.sqlite.backend import SqliteBackend
from jobq.diagnostics.verify import RULES, verify
from jobq.models import JobStatus
from tests.contract.driver import Jobs, after, new_job
from tests.support.cli_runner import Cli

S = JobStatus


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    backend = SqliteBackend(tmp_path / "jobq.db")
    yield Jobs(lambda: backend)
    backend.close()


def with_one_of_each(jobs: Jobs) -> None:
    for status in JobStatus:
        jobs.put(status, unique_key=f"key of {status}")
    jobs.add(parents=after(jobs.put(S.COMPLETED)))
    jobs.backend.requeue([jobs.put(S.FAILED)], jobs.now)


def tamper(database: Path, *statements: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        for statement in statements:
            assert connection.execute(statement).rowcount > 0, statement


def test_a_queue_with_jobs_in_every_state_is_fine(jobs: Jobs) -> None:
    with_one_of_each(jobs)
    found = verify(jobs.backend, thorough=True)
    assert found.violations == []
    assert found.jobs == 12
    assert found.attempts == 6


WRONG = {
    "numbers": "UPDATE attempts SET attempt = 2 WHERE job_id = (SELECT id FROM job_queue "
    "WHERE status = 'completed')",
    "open": "UPDATE job_queue SET status = 'pending' WHERE status = 'running'",
    "outcomes": "UPDATE attempts SET outcome = 'completed' WHERE outcome = 'failed'",
    "times": "UPDATE job_queue SET finished_at = NULL WHERE status = 'failed'",
    "parents": "UPDATE job_queue SET unmet_parents = 0 WHERE status = 'blocked'",
    "released": "UPDATE job_queue SET status = 'pending' WHERE status = 'blocked'",
    "counts": "UPDATE job_counts SET jobs = jobs + 1 WHERE status = 'failed'",
    "storage": "DELETE FROM job_queue WHERE status = 'completed'",
}


@pytest.mark.parametrize("rule", WRONG)
def test_each_rule_finds_what_breaks_it(jobs: Jobs, tmp_path: Path, rule: str) -> None:
    with_one_of_each(jobs)
    tamper(tmp_path / "jobq.db", WRONG[rule])
    assert rule in {violation.rule for violation in verify(jobs.backend).violations}


def test_every_rule_is_broken_by_a_case() -> None:
    assert set(RULES) <= {*WRONG, "unique"}


def test_two_holders_of_a_key(jobs: Jobs, tmp_path: Path) -> None:
    first, second = jobs.add(unique_key="k"), jobs.add()
    with closing(sqlite3.connect(tmp_path / "jobq.db")) as connection, connection:
        connection.execute("DROP INDEX job_queue_unique_key")
        connection.execute("UPDATE job_queue SET unique_key = 'k' WHERE id = ?", (second,))
    (found,) = [each for each in verify(jobs.backend).violations if each.rule == "unique"]
    assert found.job_id == second
    assert str(first) in found.message


def test_a_child_that_waits_for_a_parent_that_is_over(jobs: Jobs, tmp_path: Path) -> None:
    parent = jobs.add()
    child = jobs.add(parents=after(parent))
    jobs.finish(parent, S.COMPLETED)
    tamper(
        tmp_path / "jobq.db",
        f"UPDATE job_queue SET status = 'blocked', unmet_parents = 1 WHERE id = {child}",
        "UPDATE dependencies SET met = 0",
    )
    (found,) = verify(jobs.backend).violations
    assert (found.rule, found.job_id) == ("released", child)


@pytest.mark.slow
def test_a_child_that_is_still_to_be_told_is_fine(jobs: Jobs) -> None:
    parent = jobs.add()
    for _ in range(600):  # more than are told at once
        jobs.add(parents=after(parent))
    jobs.finish(parent, S.COMPLETED)
    assert jobs.backend.counts()["default"][S.BLOCKED] > 0
    assert verify(jobs.backend).violations == []


def test_more_than_one_page_of_jobs(jobs: Jobs) -> None:
    for _ in range(3):
        jobs.backend.insert([new_job()] * 400, jobs.now)
    assert verify(jobs.backend).jobs == 1200


def test_a_queue_whose_limit_was_lowered_is_named_and_is_no_violation(jobs: Jobs) -> None:
    jobs.put(S.RUNNING)
    jobs.put(S.RUNNING)
    jobs.limit("default", max_concurrent=1)
    found = verify(jobs.backend)
    assert [(queue.name, running) for queue, running in found.over_limits] == [("default", 2)]
    assert found.violations == []


def test_the_command(
    queue: JobQueue,
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(project)
    cli = Cli(queue, capsys)
    cli("add", "--", "true")
    assert cli("verify").out == "1 job, 0 attempts: nothing wrong\n"
    assert cli("verify", "--json", "--thorough").json["violations"] == []
    tamper(queue.settings.database, "UPDATE job_queue SET status = 'running'")
    found = cli("verify")
    assert found.code == 1
    assert found.lines == [
        "job 1: it is running attempt 0, but its open attempts are []",
        "1 job, 0 attempts: 1 violation",
    ]
    (violation,) = cli("verify", "--json").json["violations"]
    assert (violation["rule"], violation["job"]) == ("open", 1)
