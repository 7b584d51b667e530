"""Jobs whose owner went without a word: of `jobq run`, and of pull workers."""

import signal
from pathlib import Path

from jobq import JobStatus
from jobq.queue import backend_of
from tests.support.project import Project, wait_until


def start_run(project: Project, *words: str) -> int:
    """Start `jobq run`, wait until its job runs, and kill it; return the job's id."""
    running = project.start("run", *words)
    wait_until((project.root / "f").exists)
    running.send_signal(signal.SIGKILL)
    running.wait(20)
    return project.queue.find(newest=True, limit=1)[0].id


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


SLOW = ("--", "sh", "-c", "echo x >> f; exec sleep 60")


def test_what_jobq_run_began_is_not_run_again_behind_its_back(project: Project) -> None:
    job_id = start_run(project, *SLOW)
    project.drain()
    job = project.queue.get(job_id)
    assert job.status is JobStatus.FAILED
    assert job.error == "its `jobq run` was killed: it may have run"
    assert lines(project.root / "f") == 1


def test_a_killed_run_does_not_keep_its_unique_key(project: Project) -> None:
    """No supervisor is there that could find it dead: the next night's run does."""
    first = start_run(project, "--unique", "nightly", *SLOW)
    done = project.jobq("run", "--unique", "nightly", "--", "echo", "second night")
    assert (done.returncode, done.stdout) == (0, "second night\n")
    assert project.queue.get(first).status is JobStatus.FAILED


def test_a_run_that_lives_keeps_its_unique_key(project: Project) -> None:
    running = project.start("run", "--unique", "k", *SLOW)
    wait_until((project.root / "f").exists)
    assert project.jobq("run", "--unique", "k", *SLOW).returncode == 0
    assert lines(project.root / "f") == 1
    running.send_signal(signal.SIGINT)
    running.wait(20)


def test_a_run_that_was_killed_while_it_waited_is_cancelled(project: Project) -> None:
    """Its queue is paused, so that it has not claimed its job yet."""
    project.queue.pause("default")
    waiting = project.start("run", "--", "touch", "ran")
    wait_until(
        lambda: len(project.queue.find()) == 1 and backend_of(project.queue).supervisors.all()
    )
    waiting.send_signal(signal.SIGKILL)
    waiting.wait(20)
    project.queue.resume("default")
    project.drain()
    (job,) = project.queue.find()
    assert job.status is JobStatus.CANCELLED
    assert "`jobq run` was killed" in (job.reason or "")
    assert not (project.root / "ran").exists()


def test_draining_takes_what_a_pull_worker_let_expire(project: Project) -> None:
    job = project.shell("echo done")
    assert project.queue.claim(owner="gone", lease=0.01) is not None
    project.drain()
    assert project.queue.get(job.id).status is JobStatus.COMPLETED


def test_draining_waits_for_a_lease_that_is_about_to_run_out(project: Project) -> None:
    job = project.shell("echo done")
    assert project.queue.claim(owner="gone", lease=3) is not None  # a tenth of [lease] seconds
    said = project.drain()
    assert f"waiting for job {job.id}: the lease of its owner" in said
    assert project.queue.get(job.id).status is JobStatus.COMPLETED


def test_draining_does_not_wait_for_a_worker_that_renews_its_lease(project: Project) -> None:
    project.shell("echo done")
    claim = project.queue.claim(owner="busy", lease=30)
    assert claim is not None
    assert "waiting" not in project.drain()
    assert project.queue.complete(claim)


def test_doctor_is_content_with_a_healthy_pull_queue(project: Project) -> None:
    project.shell("true")
    claim = project.queue.claim(owner="somewhere:1")
    assert claim is not None
    project.shell("true")
    done = project.jobq("doctor")
    assert done.returncode == 0, done.stdout
