"""`cleanup`: the jobs that it prunes, with their logs."""

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest
from freezegun import freeze_time

from jobq import JobQueue, JobStatus, JobWorker, NotFound
from jobq.logs.directory import JobLogs
from jobq.logs.owner import Owner
from jobq.testing import run
from tests.support.workers import DAY, Clean, make_file


@pytest.fixture
def module(workers: dict[str, type[JobWorker]]) -> ModuleType:
    return sys.modules[workers["cleanup"].__module__]


def finished(queue: JobQueue, *, age: timedelta, fail: bool = False) -> int:
    """A job that ended so long ago, with a log."""
    with freeze_time(datetime.now(UTC) - age):
        job = queue.add("shell", {"argv": ["true"]})
        claim = queue.claim(owner="t:1")
        assert claim is not None
        with queue.logs.create(job) as log:
            os.close(log.append("stdout.log"))
        if fail:
            assert queue.fail(claim, "no", retry=False)
        else:
            assert queue.complete(claim)
    return job.id


def left(queue: JobQueue) -> list[int]:
    return [job.id for job in queue.find()]


def test_old_jobs_go_with_their_logs(clean: Clean, queue: JobQueue) -> None:
    old, young = finished(queue, age=8 * DAY), finished(queue, age=6 * DAY)
    waiting = queue.add("shell", {"argv": ["true"]}).id

    done = clean(older_than="7d")

    assert done.error is None
    assert done.result == {
        "jobs_deleted": 1,
        "files_deleted": 0,
        "bytes_freed": 0,
        "errors": [],
        "error_count": 0,
        "dry_run": False,
    }
    assert f"deleted job {old} and its logs\n" in done.log
    assert left(queue) == [young, waiting]
    with pytest.raises(NotFound):
        queue.get(old)
    assert not queue.logs.path(old).exists()
    assert queue.logs.path(young).exists()


def test_without_an_age_the_configured_one_counts(clean: Clean, queue: JobQueue) -> None:
    finished(queue, age=31 * DAY)
    kept = finished(queue, age=29 * DAY)

    assert clean().result["jobs_deleted"] == 1
    assert left(queue) == [kept]


def test_the_configured_number_of_jobs_is_kept(
    workers: dict[str, type[JobWorker]], tmp_path: Path
) -> None:
    config = tmp_path / "jobq.toml"
    config.write_text("[retention]\nolder_than = '1d'\nkeep_last = 2\n", "utf-8")
    with JobQueue.open(config) as queue:
        ids = [finished(queue, age=age * DAY) for age in (5, 4, 3, 2)]

        assert run(workers["cleanup"], {}, queue=queue).result["jobs_deleted"] == 2
        assert left(queue) == ids[2:]
        assert run(workers["cleanup"], {"keep_last": 1}, queue=queue).result["jobs_deleted"] == 1


def test_only_jobs_of_a_status(clean: Clean, queue: JobQueue) -> None:
    finished(queue, age=9 * DAY)
    failed = finished(queue, age=9 * DAY, fail=True)

    clean(older_than="1d", status=["completed"])

    assert [(job.id, job.status) for job in queue.find()] == [(failed, JobStatus.FAILED)]


def test_jobs_can_be_left_out(clean: Clean, queue: JobQueue, folder: Path) -> None:
    job_id = finished(queue, age=90 * DAY)
    make_file(folder / "old", age=90 * DAY)

    done = clean(folder, older_than="1d", jobs=False)

    assert (done.result["jobs_deleted"], done.result["files_deleted"]) == (0, 1)
    assert left(queue) == [job_id]


def test_a_dry_run_deletes_no_job(clean: Clean, queue: JobQueue) -> None:
    job_id = finished(queue, age=9 * DAY)

    done = clean(older_than="1d", dry_run=True)

    assert done.result["jobs_deleted"] == 1
    assert done.stdout == f"would delete job {job_id} and its logs\n"
    assert left(queue) == [job_id]
    assert queue.logs.path(job_id).exists()


def test_it_does_not_delete_the_job_that_it_is(clean: Clean, queue: JobQueue) -> None:
    itself = queue.add("cleanup", {"older_than": "0s"})
    assert queue.claim(owner="t:1") is not None

    assert clean(older_than="0s").result["jobs_deleted"] == 0
    assert queue.get(itself.id).status is JobStatus.RUNNING


def test_logs_that_cannot_be_deleted_hold_up_no_other_job(
    clean: Clean, queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, free = finished(queue, age=9 * DAY), finished(queue, age=9 * DAY)
    delete = JobLogs.delete

    def refuse(logs: JobLogs, owner: Owner) -> None:
        if owner.job_id == stuck:
            raise PermissionError(13, "Permission denied")
        delete(logs, owner)

    monkeypatch.setattr(JobLogs, "delete", refuse)
    done = clean(older_than="1d")

    assert (done.result["jobs_deleted"], left(queue)) == (2, [])
    assert done.result["errors"] == [f"job {stuck}: Permission denied"]
    assert not queue.logs.path(free).exists()


def test_more_jobs_than_fit_in_one_transaction(
    clean: Clean, queue: JobQueue, module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH_SIZE", 2)
    for _ in range(5):
        finished(queue, age=9 * DAY)

    done = clean(older_than="1d")

    assert done.result["jobs_deleted"] == 5
    assert [(step.done, step.total) for step in done.progress] == [(2, 5), (4, 5), (5, 5)]
