"""Liveness locks of supervisors."""

import fcntl
import threading
from pathlib import Path

from jobq.backends.liveness import LivenessLocks


def test_who_looks_whether_a_supervisor_is_alive_does_not_keep_it_from_starting(
    tmp_path: Path,
) -> None:
    looked_at = (tmp_path / "me.lock").open("w")
    fcntl.flock(looked_at, fcntl.LOCK_SH)  # as `LivenessLocks.live` does, for a moment
    threading.Timer(0.1, looked_at.close).start()
    presence = LivenessLocks(tmp_path)
    listener = presence.announce("me")
    assert presence.live() == {"me"}
    listener.close()
