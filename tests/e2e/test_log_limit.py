"""No job fills the disk with its log, whatever it is and whoever dies meanwhile."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from jobq import JobStatus
from jobq.logs.truncation import compact
from jobq.models import Job
from jobq.queue import recovery_of
from tests.support.project import SETTINGS, Project, wait_until

# A portion at a time, and each only when there is room for it: so the test needs no luck.
PRINTER = """
n=0
while [ $n -lt 4 ]; do
  n=$((n + 1))
  seq ${n}00001 ${n}99999 | head -c 700000
  echo
  while [ $(du -k "$JOBQ_LOG_DIR/stdout.log" | cut -f1) -gt 1100 ]; do sleep 0.01; done
done
"""
WORKER = """
import os, subprocess, time
from jobq import JobWorker

class Loud(JobWorker):
    job_type = "loud"
    def run(self, args, job):
        path = job.log_dir / "job.log"
        for n in range(6):
            for _ in range(3000):
                job.log.info("n" * 100)
            while path.stat().st_blocks > 2200:
                time.sleep(0.01)
"""
BRIEF = """
from jobq import JobWorker

class Brief(JobWorker):
    job_type = "brief"
    def run(self, args, job):
        job.log.info("n" * 1_500_000)
"""


@pytest.fixture
def capped(project: Project) -> Project:
    (project.root / "jobq.toml").write_text(SETTINGS + '[logs]\nmax_bytes = "1MB"\n')
    return project


def used(project: Project, job: Job) -> int:
    """Bytes on disk."""
    return sum(path.stat().st_blocks * 512 for path in project.queue.logs.path(job.id).iterdir())


def events(project: Project, job: Job, name: str) -> list[dict[str, object]]:
    lines = map(json.loads, project.output(job, "events.jsonl").splitlines())
    return [event for event in lines if event["event"] == name]


def test_a_log_over_the_limit_keeps_head_and_tail(capped: Project) -> None:
    job = capped.shell(PRINTER + "echo the end")
    capped.drain()
    assert capped.queue.get(job.id).status is JobStatus.COMPLETED
    assert used(capped, job) < 1_100_000
    lines = capped.output(job).splitlines()
    assert (lines[0], lines[-1]) == ("100001", "the end")
    (marker,) = [line for line in lines if "dropped" in line]
    first, last = events(capped, job, "log_trimmed")
    assert first["file"] == last["file"] == "stdout.log"
    assert f"{last['dropped']:,} bytes were dropped here, to keep to [logs] max_bytes" in marker
    assert subprocess.run(  # an ordinary file: no zeros, which would make it binary
        ["grep", "-c", "^the end$", "stdout.log"], cwd=capped.queue.logs.path(job.id), check=True,
        capture_output=True,
    ).stdout == b"1\n"  # fmt: skip


def test_tail_of_a_running_job_goes_past_what_was_dropped(capped: Project) -> None:
    job = capped.shell(PRINTER + "echo up; while [ ! -e go ]; do sleep 0.01; done; exit 1")
    supervisor = capped.work("--drain")
    path = capped.queue.logs.path(job.id) / "stdout.log"
    wait_until(lambda: path.exists() and path.read_bytes().endswith(b"up\n"))
    assert b"\0" in path.read_bytes()
    with capped.queue.logs.create(job) as log:
        assert compact(log) == []  # it is in use
    whole = capped.jobq("tail", str(job.id), "-n", "all", "--stdout").stdout
    assert whole.startswith("100001\n")
    assert "bytes were dropped here" in whole
    assert "\0" not in whole
    assert "␀" not in whole
    assert capped.jobq("tail", str(job.id), "-n", "1", "--stdout").stdout == "up\n"
    follower = capped.start("tail", "-f", "-n", "all", "--stdout", str(job.id))
    assert follower.stdout is not None
    seen = os.read(follower.stdout.fileno(), 1).decode()  # it has begun
    (path.parent / "go").touch()
    capped.queue.cancel(job.id)
    seen += follower.communicate(timeout=30)[0]
    assert seen.startswith(whole)
    assert supervisor.wait(30) == 0


def test_attempts_are_told_apart_in_a_trimmed_log(capped: Project) -> None:
    job = capped.shell(
        "echo try $JOBQ_ATTEMPT; [ $JOBQ_ATTEMPT = 2 ] && exit 1; "
        + PRINTER
        + "echo end $JOBQ_ATTEMPT; [ $JOBQ_ATTEMPT = 3 ]"
    )
    capped.drain()
    shown = [capped.jobq("tail", "1", "--attempt", str(n), "-n", "all").stdout for n in (1, 2, 3)]
    assert shown[0].startswith("try 1\n100001\n")
    assert "dropped" in shown[0]
    assert "dropped" in shown[1]  # the third try's output has pushed it out
    assert shown[2].endswith("\nend 3\n")
    assert capped.queue.get(job.id).status is JobStatus.COMPLETED
    assert used(capped, job) < 1_100_000


def test_a_worker_that_logs_without_end(capped: Project) -> None:
    capped.worker("loud", WORKER)
    job = capped.queue.add("loud")
    capped.drain()
    assert capped.queue.get(job.id).status is JobStatus.COMPLETED
    assert used(capped, job) < 1_200_000
    assert "bytes were dropped here" in capped.output(job, "job.log")
    assert [event["outcome"] for event in events(capped, job, "finished")] == ["completed"]
    assert {event["file"] for event in events(capped, job, "log_trimmed")} >= {"job.log"}


def test_a_worker_that_logs_too_much_and_ends_before_anybody_looks(capped: Project) -> None:
    capped.worker("brief", BRIEF)
    job = capped.queue.add("brief")
    capped.drain()
    assert capped.queue.get(job.id).status is JobStatus.COMPLETED
    assert used(capped, job) < 1_200_000
    assert "bytes were dropped here" in capped.output(job, "job.log")


def test_a_supervisor_that_dies_leaves_a_log_that_is_put_right(capped: Project) -> None:
    job = capped.shell("[ $JOBQ_ATTEMPT = 2 ] && exit 0\n" + PRINTER + "echo up; sleep 600")
    path = capped.queue.logs.path(job.id) / "stdout.log"
    supervisor = capped.work()
    wait_until(lambda: path.exists() and path.read_bytes().endswith(b"up\n"))
    supervisor.kill()
    supervisor.wait()
    assert b"\0" in path.read_bytes()
    assert recovery_of(capped.queue).rescue_dead() == 1
    assert b"\0" not in path.read_bytes()
    capped.drain()
    assert capped.queue.get(job.id).status is JobStatus.COMPLETED
    assert "\0" not in capped.output(job)
    assert capped.output(job).endswith("up\n")


def test_no_limit(project: Project, tmp_path: Path) -> None:
    (project.root / "jobq.toml").write_text(SETTINGS + '[logs]\nmax_bytes = "off"\n')
    job = project.shell("head -c 3000000 /dev/zero")
    project.drain()
    assert len(project.output(job)) == 3_000_000
