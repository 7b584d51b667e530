"""What has to be done from time to time: see also the tests of queues, schedules and backends."""

import time
from datetime import timedelta
from pathlib import Path

from jobq import JobQueue
from jobq.clock import utcnow
from jobq.scheduling.maintenance import Scheduler


def test_leases_that_nobody_could_renew_are_given_time(project: Path) -> None:
    """On a full disk they stand still, and their owners live."""
    (project / "jobq.toml").write_text("[lease]\nseconds = 0.05\n")
    with JobQueue.open(project / "jobq.toml") as queue:
        queue.add("shell", {"argv": ["true"]})
        assert queue.claim(owner="somewhere:1:abc") is not None
        scheduler = Scheduler(queue, "here:1:abc")
        later = utcnow() + timedelta(seconds=1)
        seen = time.monotonic()
        assert scheduler.rescue_expired(later, own=()) == 0
        while time.monotonic() < seen + 0.1:
            pass
        scheduler.doubt_leases()
        assert scheduler.rescue_expired(later, own=()) == 0
        seen = time.monotonic()
        while time.monotonic() < seen + 0.1:
            pass
        assert scheduler.rescue_expired(later, own=()) == 1
