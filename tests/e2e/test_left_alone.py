"""Supervisors that lose what they work with: their terminal's attention, or their database."""

import fcntl
import shutil

import psutil
import pytest

from jobq import JobStatus
from tests.support.project import Project, wait_until


def test_output_that_nobody_reads_holds_no_job_up(project: Project) -> None:
    """As on a terminal that was stopped with Ctrl-S."""
    for _ in range(40):
        project.shell("true", name="a long name " * 15)
    supervisor = project.work("--drain")
    assert supervisor.stdout is not None
    fcntl.fcntl(supervisor.stdout, fcntl.F_SETPIPE_SZ, 4096)
    wait_until(lambda: project.queue.counts()[JobStatus.COMPLETED] == 40)
    shown, _ = supervisor.communicate(timeout=30)
    assert supervisor.returncode == 0
    assert shown.count(" completed in ") == 40
    assert shown.endswith("40 attempts: 40 completed\n")


@pytest.mark.parametrize("replaced", [False, True], ids=["deleted", "replaced"])
def test_a_database_that_goes_away_ends_the_supervisor(project: Project, replaced: bool) -> None:
    database = project.queue.settings.database
    supervisor = project.work()
    job = project.shell("echo $$; sleep 600")
    wait_until(lambda: project.output(job).endswith("\n"))
    pid = int(project.output(job))
    project.queue.close()
    copy = database.with_name("copy")
    shutil.copy(database, copy)
    if replaced:
        copy.rename(database)
    else:
        database.unlink()
    before = database.read_bytes() if replaced else None
    said, _ = supervisor.communicate(timeout=30)
    assert supervisor.returncode == 5
    assert "deleted or replaced while it was in use" in said.splitlines()[-1]
    wait_until(lambda: not psutil.pid_exists(pid))
    if replaced:
        assert database.read_bytes() == before
    else:
        assert not database.exists()
    assert '"reason": "lost"' in project.output(job, "events.jsonl")
