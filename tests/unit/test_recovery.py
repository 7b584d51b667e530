import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from freezegun import freeze_time
from freezegun.api import FrozenDateTimeFactory

from jobq import JobQueue, JobStatus
from jobq.clock import utcnow
from jobq.logs import descendants
from jobq.models import Outcome
from jobq.queue import backend_of, recovery_of
from jobq.recovery import ExpiredLeases, tree_left
from tests.support.queues import NOON, add


def test_an_attempt_that_nobody_holds_is_ended_and_the_job_runs_again(
    queue: JobQueue, clock: FrozenDateTimeFactory
) -> None:
    add(queue)
    claim = queue.claim(owner="gone", lease=30)
    assert claim is not None
    lost = backend_of(queue).open_attempts()
    assert recovery_of(queue).release(lost, lease_before=NOON + timedelta(seconds=30)) == 0
    clock.tick(31)
    assert recovery_of(queue).release(lost, lease_before=NOON + timedelta(seconds=31)) == 1
    assert recovery_of(queue).release(lost, lease_before=None) == 0
    job = queue.get(claim.job.id)
    assert (job.status, job.crashes, job.failures) == (JobStatus.PENDING, 1, 0)
    assert not queue.complete(claim)
    (attempt,) = queue.attempts(job.id)
    assert (attempt.outcome, "gone" in (attempt.error or "")) == (Outcome.LOST, True)
    assert recovery_of(queue).release([], lease_before=None) == 0


def test_a_job_that_is_lost_again_and_again_is_given_up(queue: JobQueue) -> None:
    job = add(queue, max_retries=100)
    for _ in range(3):
        assert queue.claim(owner="gone") is not None
        recovery_of(queue).release(backend_of(queue).open_attempts(), lease_before=None)
    assert queue.get(job.id).status is JobStatus.FAILED


def test_a_lost_job_that_was_to_stop_is_cancelled(queue: JobQueue) -> None:
    job = add(queue)
    assert queue.claim(owner="gone") is not None
    queue.cancel(job.id, reason="enough")
    recovery_of(queue).release(backend_of(queue).open_attempts(), lease_before=None)
    assert (queue.get(job.id).status, queue.get(job.id).reason) == (JobStatus.CANCELLED, "enough")


def test_leases_that_nobody_could_renew_are_given_time(project: Path) -> None:
    """On a full disk they stand still, and their owners live."""
    (project / "jobq.toml").write_text("[lease]\nseconds = 0.05\n")
    with JobQueue.open(project / "jobq.toml") as queue:
        queue.add("shell", {"argv": ["true"]})
        assert queue.claim(owner="somewhere:1:abc") is not None
        expired = ExpiredLeases(recovery_of(queue), queue.settings.lease)
        later = utcnow() + timedelta(seconds=1)
        seen = time.monotonic()
        assert expired.rescue(later) == 0
        while time.monotonic() < seen + 0.1:
            pass
        expired.forget()
        assert expired.rescue(later) == 0
        seen = time.monotonic()
        while time.monotonic() < seen + 0.1:
            pass
        assert expired.rescue(later) == 1


def test_leases_are_doubted_by_who_was_kept_waiting_itself(project: Path) -> None:
    """What kept it waiting, such as a write lock that was held for long, kept their owners, too."""
    (project / "jobq.toml").write_text("[lease]\nseconds = 4\n")
    with JobQueue.open(project / "jobq.toml") as queue, freeze_time(NOON) as clock:
        queue.add("shell", {"argv": ["true"]})
        assert queue.claim(owner="somewhere:1:abc") is not None
        expired = ExpiredLeases(recovery_of(queue), queue.settings.lease)
        assert expired.rescue(utcnow()) == 0
        clock.tick(7)
        assert expired.rescue(utcnow()) == 0
        for _ in range(4):
            assert expired.rescue(utcnow()) == 0
            clock.tick(1)
        assert expired.rescue(utcnow()) == 1


def test_what_was_there_before_a_process_is_none_of_its_descendants(queue: JobQueue) -> None:
    """A file in a log directory names processes, and each of them is sent signals."""
    job = add(queue)
    assert queue.claim(owner="gone") is not None
    ((_, attempt),) = backend_of(queue).open_attempts()
    with queue.logs.create(job) as log:
        descendants.write(log, 1, {10: 99, 11: 100, 12: 101})
    begun = replace(attempt, pid=9, pid_started=100)
    assert tree_left(queue.logs, job, begun).descendants == {11: 100, 12: 101}
