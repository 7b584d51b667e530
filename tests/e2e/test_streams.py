"""Standard streams as others leave them: non-blocking, unbuffered, closed, full, or left alone."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobq import JobStatus
from tests.support.project import Project

JOBQ = [sys.executable, "-m", "jobq"]
JOB_COUNT = 1500
LOST = (
    "jobq: stdout: No space left on device: output was lost, but all changes were made: "
    "see `jobq list`\n"
)
pytestmark = pytest.mark.slow


def read_slowly(project: Project, *argv: str, env: dict[str, str], stderr: bool = False) -> bytes:
    """Return what a command writes to a non-blocking pipe that is full for a while."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    process = subprocess.Popen(
        [*JOBQ, *argv],
        cwd=project.root,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL if stderr else writer,
        stderr=writer if stderr else subprocess.PIPE,
    )
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        first = pipe.read(1)
        # Until it can only wait for room, or, if it does not wait, has ended.
        while process.poll() is None and not waits_for_room(process.pid):
            time.sleep(0.01)
        read = first + pipe.read()
    _, said = process.communicate()
    assert not said, said
    return read


def waits_for_room(pid: int) -> bool:
    return "poll" in Path(f"/proc/{pid}/wchan").read_text() or (
        Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"
        and not Path(f"/proc/{pid}/task/{pid}/children").read_text()
    )


@pytest.fixture
def many(project: Project) -> Project:
    """A project with more jobs than a pipe has room for."""
    specs = [{"type": "shell", "args": {"argv": ["true", "x" * 100]}}] * JOB_COUNT
    project.queue.add_many(specs)
    return project


@pytest.mark.parametrize("env", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["", "unbuffered"])
def test_output_to_a_non_blocking_pipe_is_whole(many: Project, env: dict[str, str]) -> None:
    assert len(json.loads(read_slowly(many, "list", "--json", env=env))) == JOB_COUNT
    assert read_slowly(many, "list", "--plain", env=env).count(b"\n") == JOB_COUNT
    assert read_slowly(many, "export", env=env).count(b"\n") == JOB_COUNT
    assert len(read_slowly(many, "cancel", "1-1500", env=env).split()) == JOB_COUNT
    told = read_slowly(many, "wait", "1-1500", env=env, stderr=True)
    assert told.count(b"cancelled\n") == JOB_COUNT


@pytest.mark.parametrize("env", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["", "unbuffered"])
def test_a_log_to_a_non_blocking_pipe_is_whole(project: Project, env: dict[str, str]) -> None:
    expected = "".join(f"{number}\n" for number in range(1, 50_001)).encode()
    assert read_slowly(project, "run", "--", "seq", "50000", env=env) == expected
    assert read_slowly(project, "tail", "1", "-n", "all", env=env) == expected


@pytest.mark.parametrize("verb", ["import", "add"])
def test_input_from_a_non_blocking_pipe_is_read_to_its_end(project: Project, verb: str) -> None:
    argv = ["import", "-", "--ids"] if verb == "import" else ["add", "--each", "--", "true"]
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    process = subprocess.Popen(
        [*JOBQ, *argv], cwd=project.root, stdin=reader, stdout=subprocess.PIPE
    )
    os.close(reader)
    line = b'{"argv": ["true"]}\n'
    with os.fdopen(writer, "wb", buffering=0) as pipe:
        for part in (line, line[:7], line[7:] + line * 5000):
            while b"poll" not in Path(f"/proc/{process.pid}/wchan").read_bytes():
                assert process.poll() is None
                time.sleep(0.01)
            pipe.write(part)
    ids, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert len(ids.split()) == len(project.queue.find()) == 5002


def sh(project: Project, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in which `jobq` is the command."""
    return subprocess.run(
        ["bash", "-c", f'jobq() {{ "{sys.executable}" -m jobq "$@"; }}; {script}'],
        cwd=project.root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def test_what_was_done_is_no_failure_though_its_output_is_lost(project: Project) -> None:
    for script in (
        "jobq add -- true >/dev/full",
        "jobq cancel 1 >/dev/full",
        "jobq retry 1 >/dev/full",
        "seq 9 | jobq add --each -- true >/dev/full",
        "jobq queue create q >/dev/full",
        "jobq schedule add @daily -- true >/dev/full",
        "jobq run -- echo x >/dev/full",
    ):
        done = sh(project, script)
        assert done.returncode == 0, script
        assert done.stderr in ("", LOST), script
    assert sh(project, "jobq add -- true >/dev/full").stderr == LOST
    assert len(project.queue.find()) == 12


def test_lost_output_is_a_failure_where_it_was_asked_for(project: Project) -> None:
    sh(project, "jobq add -- true")
    for verb in ("list", "list --json", "show 1", "export", "stats", "queue list"):
        done = sh(project, f"jobq {verb} >/dev/full")
        assert done.returncode == 5, verb
        assert done.stderr == "jobq: stdout: No space left on device: output was lost\n"
    read_only = sh(project, "jobq list --json 1</dev/null")
    assert read_only.returncode == 1
    assert read_only.stderr == "jobq: stdout: Bad file descriptor: output was lost\n"


def test_messages_that_are_lost_change_nothing(project: Project) -> None:
    done = sh(project, "jobq list 2>/dev/full; jobq add -q -- true 2>/dev/full")
    assert (done.returncode, done.stdout) == (0, "1\n")


def test_all_jobs_are_added_though_the_reader_of_the_ids_leaves(project: Project) -> None:
    done = sh(project, "set -o pipefail; seq 20000 | jobq add --each -- echo | head -1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    assert project.queue.counts()[JobStatus.PENDING] == 20_000


@pytest.mark.parametrize("script", ["yes", "yes >&2"])
def test_run_ends_once_the_reader_of_its_output_has_left(project: Project, script: str) -> None:
    done = sh(project, f"set -o pipefail; jobq run -- sh -c '{script}' 2>&1 | head -1")
    assert (done.returncode, done.stdout) == (141, "y\n")
    assert project.queue.get(1).status is JobStatus.CANCELLED


def test_run_exits_as_its_job_did_if_the_reader_leaves_after_the_end(project: Project) -> None:
    done = sh(project, "set -o pipefail; jobq run -- sh -c 'echo x; exit 3' | true")
    assert done.returncode == 3
    assert project.queue.get(1).status is JobStatus.FAILED


def test_files_do_not_get_the_numbers_of_closed_streams(project: Project) -> None:
    done = sh(project, "jobq add -- sh -c 'echo out; echo err >&2' <&- >&- 2>&-")
    assert done.returncode == 0
    assert sh(project, "jobq work --drain <&- >&- 2>&-").returncode == 0
    job = project.queue.get(1)
    assert job.status is JobStatus.COMPLETED
    assert project.output(job) == "out\n"
    assert project.output(job, "stderr.log") == "err\n"
