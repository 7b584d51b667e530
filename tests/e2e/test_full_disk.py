"""A disk without room: nothing is lost or torn, and all goes on once there is some."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from jobq import Job, JobStatus
from tests.support.cli_runner import on_terminal
from tests.support.project import SETTINGS, Project, wait_until


def fill(disk: Path) -> None:
    """Leave no room at all."""
    filler = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with suppress(OSError):
        while True:
            os.write(filler, b"x" * 4096)
    os.close(filler)


def make_room(disk: Path) -> None:
    (disk / "filler").unlink()


def use(project: Project, disk: Path, *keys: str, min_free: str = "off") -> None:
    """Keep these of a project on another disk."""
    paths = {"database": disk / "jobq.db", "log_dir": disk / "logs"}
    top = "".join(f'{key} = "{paths[key]}"\n' for key in keys)
    (project.root / "jobq.toml").write_text(f'{top}{SETTINGS}[logs]\nmin_free = "{min_free}"\n')
    project.reopen()


def said(project: Project, text: str) -> bool:
    return text in (project.root / "said").read_text()


def event_names(project: Project, job: Job) -> list[str]:
    return [json.loads(line)["event"] for line in project.output(job, "events.jsonl").splitlines()]


def test_the_outcome_of_a_job_that_fills_the_disk_is_recorded_once_there_is_room(
    project: Project, small_disk: Path
) -> None:
    use(project, small_disk, "database", "log_dir")
    job = project.shell(
        "until grep -q started $JOBQ_LOG_DIR/events.jsonl; do sleep 0.01; done; "
        f"cat /dev/zero > {small_disk}/filler; touch {project.root}/done; exit 3",
        max_retries=0,
    )
    supervisor = project.work(said="said")
    wait_until(lambda: said(project, "free some disk space"))
    wait_until((project.root / "done").exists)
    assert project.queue.get(job.id).status is JobStatus.RUNNING
    make_room(small_disk)
    project.wait_for(job, JobStatus.FAILED)
    wait_until(lambda: said(project, "can be written to again"))
    assert project.queue.get(job.id).exit_code == 3
    assert [each.outcome for each in project.queue.attempts(job.id)] == ["failed"]
    wait_until(lambda: "finished" in project.output(job, "events.jsonl"))
    assert event_names(project, job) == ["enqueued", "started", "finished"]
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(20) == 0
    assert project.jobq("verify").returncode == 0


def test_a_full_disk_of_the_logs_alone_costs_output_and_no_outcome(
    project: Project, small_disk: Path
) -> None:
    use(project, small_disk, "log_dir")
    job = project.shell("echo up; while [ ! -e go ]; do sleep 0.01; done; seq 1 100000; exit 4",
                        max_retries=0)  # fmt: skip
    supervisor = project.work(said="said")
    wait_until(lambda: "started" in project.output(job, "events.jsonl"))
    wait_until(lambda: project.output(job))
    fill(small_disk)
    (project.root / "go").touch()
    project.wait_for(job, JobStatus.FAILED)
    assert project.queue.get(job.id).exit_code == 4
    add = project.jobq("add", "--stdin", "-", "--", "cat", stdin="x" * 100_000)
    assert (add.returncode, add.stderr.count("\n")) == (5, 1)
    rows = "".join(json.dumps({"args": {"argv": ["echo", "x" * 5000, n]}}) + "\n" for n in "abc")
    imported = project.jobq("import", "-", stdin=rows * 300)
    assert (imported.returncode, imported.stderr.count("\n")) == (5, 1), imported.stderr
    assert "free some disk space" in add.stderr
    assert "free some disk space" in imported.stderr
    assert len(project.queue.find()) == 1
    make_room(small_disk)
    again = project.shell("echo fine")
    project.wait_for(again, JobStatus.COMPLETED)
    assert project.output(again) == "fine\n"
    for each in (job, again):
        assert event_names(project, each)[:2] == ["enqueued", "started"]
    assert supervisor.poll() is None


PRINTS = """
import ctypes, os, sys, time
from jobq import JobWorker


class Prints(JobWorker):
    job_type = "prints"

    def run(self, args, job):
        print("up", flush=True)
        while not os.path.exists("go"):
            time.sleep(0.01)
        for number in range(1000):
            print("x" * 99)
            print("y" * 99, file=sys.stderr)
        for number in range(100):
            job.log.info("z" * 99)
        job.progress(1, 2, "half way")
        libc = ctypes.CDLL(None)
        for number in range(1000):
            libc.printf(b"%s", b"c" * 100)
        return "done"
"""


def test_a_worker_that_prints_to_a_full_disk_goes_on_and_its_loss_is_counted(
    project: Project, small_disk: Path
) -> None:
    use(project, small_disk, "log_dir")
    project.worker("prints", PRINTS)
    supervisor = project.work("-j", "1", said="said")
    job = project.queue.add("prints", max_retries=0)
    wait_until(lambda: project.output(job))
    fill(small_disk)
    (project.root / "go").touch()
    done = project.wait_for(job, JobStatus.COMPLETED)
    assert done.result == "done"
    wait_until(lambda: said(project, "not all of its output could be kept"))
    (line,) = [
        line for line in (project.root / "said").read_text().splitlines() if "not all" in line
    ]
    assert line.endswith(" and what C code printed")
    lost = float(line.rpartition("full: ")[2].split()[0])
    kept = sum(
        path.stat().st_size for path in project.queue.logs.path(job.id).iterdir() if path.is_file()
    )
    assert 190 < lost + kept / 1000 < 240  # KB: two streams, and the log
    make_room(small_disk)
    again = project.queue.add("prints")
    project.wait_for(again, JobStatus.COMPLETED)
    assert project.output(again).count("x") == 99_000
    assert (project.root / "said").read_text().count("not all of its output") == 1
    assert supervisor.poll() is None


@pytest.mark.parametrize(
    "words",
    [
        ["add", "--", "echo", "y" * 100_000],
        ["run", "--", "true"],
        ["work", "--drain"],
    ],
    ids=lambda words: words[0],
)
def test_a_full_disk_of_the_database_refuses(
    project: Project, small_disk: Path, words: list[str]
) -> None:
    use(project, small_disk, "database")
    project.shell("true")
    project.queue.close()  # the files beside the database go with its last user
    fill(small_disk)
    done = project.jobq(*words)
    assert done.returncode == 5, done.stderr
    assert done.stderr.count("\n") == 1
    assert "free some disk space" in done.stderr
    make_room(small_disk)
    assert len(project.queue.find()) == 1
    assert project.jobq("add", "--", "true").stdout == "2\n"


def test_nothing_is_started_while_there_is_little_room(project: Project, small_disk: Path) -> None:
    use(project, small_disk, "log_dir", min_free="500K")
    supervisor = project.work(said="said")
    running = project.shell("echo up; while [ ! -e go ]; do sleep 0.01; done")
    wait_until(lambda: project.output(running))
    fill(small_disk)
    job = project.shell("echo fine")
    wait_until(lambda: said(project, "no jobs are started until there is more"))
    explained = project.jobq("explain", str(job.id)).stdout
    assert "only 0 B free" in explained
    assert "[logs] min_free is 500 KB" in explained
    refused = project.jobq("run", "--", "true")
    assert refused.returncode == 5
    assert "min_free is 500 KB: free some disk space" in refused.stderr
    (project.root / "go").touch()
    project.wait_for(running, JobStatus.COMPLETED)
    assert project.queue.get(job.id).status is JobStatus.PENDING
    make_room(small_disk)
    project.wait_for(job, JobStatus.COMPLETED)
    assert len(project.queue.find()) == 2
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(20) == 0
    assert (project.root / "said").read_text().count("no jobs are started") == 1
    assert said(project, "there is room on the disk again")


def test_drain_leaves_when_nothing_waits_for_the_room(project: Project, small_disk: Path) -> None:
    use(project, small_disk, "log_dir", min_free="500K")
    fill(small_disk)
    project.drain()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("add -- true > /dev/full", 0),
        ("add -- true > /dev/full 2> /dev/full", 0),
        ("stats > /dev/full 2> /dev/full", 5),
        ("add -- true >&- 2>&-", 0),
        ("show 99 2> /dev/full", 3),
        ("add --nonsense 2> /dev/full", 2),
    ],
)
def test_the_exit_code_is_right_though_nothing_can_be_said(
    project: Project, line: str, code: int
) -> None:
    script = f"{sys.executable} -m jobq {line}"
    done = subprocess.run(["sh", "-c", script], cwd=project.root, check=False)
    assert done.returncode == code
    assert len(project.queue.find()) == line.count("true")


def test_a_torn_event_is_shown_and_the_next_one_is_whole(project: Project) -> None:
    job = project.shell(
        "cd $JOBQ_LOG_DIR; until grep -q started events.jsonl; do sleep 0.01; done; "
        "[ $JOBQ_ATTEMPT = 2 ] || printf '{\"tor' >> events.jsonl; exit 1",
        max_retries=1,
    )
    project.drain()
    lines = project.output(job, "events.jsonl").splitlines()
    assert lines[2] == '{"tor'
    assert [json.loads(line)["event"] for line in lines if line != '{"tor'] == [
        "enqueued", "started", "finished", "retry", "started", "finished",
    ]  # fmt: skip
    shown = on_terminal(project.root, "tail", str(job.id), "--events")
    assert shown.code == 0
    assert '{"tor' in shown.lines
    assert "finished" in shown.lines[-1]
