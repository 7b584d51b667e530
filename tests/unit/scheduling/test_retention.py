"""The jobs that supervisors delete by `[retention]`, with a clock moved by the test."""

import os
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from jobq import JobQueue
from jobq.clock import utcnow
from jobq.logs.directory import JobLogs
from jobq.logs.owner import Owner
from jobq.models import FINISHED, Job
from jobq.scheduling import retention
from jobq.scheduling.maintenance import Scheduler
from jobq.scheduling.retention import Expiry
from tests.support.cli_runner import Cli
from tests.support.nested import nest

RETENTION = '[retention]\ncompleted = "1h"\nfailed = "24h"\n'


@pytest.fixture
def cli(project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(project)
    Path("jobq.toml").write_text(RETENTION)
    return Cli(JobQueue.open(), capsys)


def logged(cli: Cli, job: Job) -> Path:
    with cli.queue.logs.create(job) as log:
        os.close(log.append("stdout.log"))
    return cli.queue.logs.path(job.id)


def test_each_kind_goes_after_its_time_with_its_logs(cli: Cli) -> None:
    completed, failed, cancelled = cli.completed(), cli.failed(), cli.cancelled()
    log = logged(cli, completed)
    waits = cli.add(after_any=[completed.id, failed.id])
    pending, now = cli.add(), utcnow()
    scheduler = Scheduler(cli.queue, "here:1:abc")

    def left(hours: float) -> set[int]:
        scheduler.tick(now + timedelta(hours=hours), own=())
        return {job.id for job in cli.queue.find()}

    kept = {failed.id, cancelled.id, waits.id, pending.id}
    assert left(0.9) == {completed.id, *kept}
    assert log.exists()
    assert left(1.1) == kept
    assert not log.exists()
    assert left(23.9) == kept
    assert left(24.1) == {cancelled.id, waits.id, pending.id}
    assert left(24 * 365) == {cancelled.id, waits.id, pending.id}
    assert cli("verify").code == 0
    assert cli.status(waits.id) == "pending"


def test_without_it_nothing_goes(cli: Cli) -> None:
    Path("jobq.toml").write_text("")
    with JobQueue.open() as queue:
        cli.completed()
        Scheduler(queue, "here:1:abc").tick(utcnow() + timedelta(days=9999), own=())
        assert len(queue.find()) == 1


def test_many_go_in_portions_and_those_that_stay_are_passed_over(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH_SIZE", 3)
    monkeypatch.setattr(retention, "STEP_LIMIT_S", 0.0)
    for _ in range(2):
        cli.queue.cancel_many([cli.add().id for _ in range(7)])
        for _ in range(4):
            cli.completed()
    later = utcnow() + timedelta(hours=2)
    before = len(cli.queue.find(status="completed"))
    deleting = Expiry(cli.queue, lambda _: None)
    gone = []
    while cli.queue.find(status="completed"):
        deleting.step(later)
        gone.append(before - len(cli.queue.find(status="completed")))
        assert len(gone) < 30
    assert all(b - a <= 3 for a, b in pairwise(gone)), gone
    assert len(gone) >= 6, "the cancelled ones are looked at once"
    assert len(cli.queue.find(status=FINISHED)) == 14


def test_a_log_that_stays_is_told_of(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    log = logged(cli, cli.completed())

    def refuse(logs: JobLogs, owner: Owner) -> Iterator[None]:
        yield
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(JobLogs, "deletion", refuse)
    told: list[str] = []
    Expiry(cli.queue, told.append).step(utcnow() + timedelta(hours=2))
    assert told == [f"{log}: not deleted: [Errno 1] Operation not permitted"]
    assert cli.queue.find() == []


def test_a_job_that_left_many_files_takes_several_steps_and_all_go_at_the_end(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "STEP_LIMIT_S", 0.0)
    large, small = logged(cli, cli.completed()), logged(cli, cli.completed())
    for number in range(1000):
        (large / str(number)).touch()
    told: list[str] = []
    deleting = Expiry(cli.queue, told.append)
    deleting.step(utcnow() + timedelta(hours=2))
    assert cli.queue.find() == []
    assert 0 < len(list(large.iterdir())) < 1000
    deleting.close()
    assert not large.exists()
    assert not small.exists()
    assert told == []


def test_a_job_that_left_directories_nested_by_the_thousand_holds_up_no_other(cli: Cli) -> None:
    logs = [logged(cli, cli.completed()) for _ in range(3)]
    nest(logs[0] / "artifacts", 2000)
    Path("jobq.toml").write_text('[retention]\ncompleted = "0.001s"\n')
    done = cli("work", "--drain")
    assert (done.code, done.err) == (0, "")
    assert cli.queue.find() == []
    assert not any(log.exists() for log in logs)
