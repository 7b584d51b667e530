import time
from datetime import timedelta
from pathlib import Path

from jobq import JobQueue
from jobq.clock import utcnow
from jobq.queue import recovery_of
from jobq.recovery import ExpiredLeases


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
