"""``jobq tail``: what a job wrote, as it is written, harmless and however long."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest

from jobq import JobStatus
from tests.support.cli_runner import on_terminal
from tests.support.project import Project, wait_until


def test_the_last_lines_of_each_stream(project: Project) -> None:
    job = project.shell("seq 1 300; echo oops >&2")
    project.drain()
    shown = project.jobq("tail", str(job.id), "-n", "2")
    assert shown.stdout == "==> stdout.log <==\n299\n300\n\n==> stderr.log <==\noops\n"
    assert project.jobq("tail", "last", "--stdout").stdout.splitlines()[0] == "201"
    assert project.jobq("tail", "last", "--stdout", "-n", "all").stdout.splitlines()[0] == "1"
    assert project.jobq("tail", "last", "--stderr").stdout == "oops\n"
    events = project.jobq("tail", "last", "--events").stdout.splitlines()
    assert [json.loads(line)["event"] for line in events] == ["enqueued", "started", "finished"]


def test_follow_starts_before_the_job_and_goes_on_over_retries(project: Project) -> None:
    job = project.shell("echo try $JOBQ_ATTEMPT; [ $JOBQ_ATTEMPT = 3 ]")
    follower = project.start("tail", "-f", str(job.id))
    project.drain()
    shown, _ = follower.communicate(timeout=30)
    hint = "1 job waits, and no supervisor is running: jobq work\n"
    assert shown.removeprefix(hint) == "try 1\ntry 2\ntry 3\n"
    assert follower.returncode == 0


def test_follow_shows_streams_as_they_arrive_and_partial_lines(project: Project) -> None:
    project.work()
    wait_until(project.queue.supervisors)
    job = project.queue.add(
        "shell",
        {
            "shell": "printf 'name? '; while [ ! -e one ]; do sleep 0.01; done; echo >&2 second; "
            "while [ ! -e two ]; do sleep 0.01; done; echo third",
            "cwd": str(project.root),
        },
    )
    follower = project.start("tail", "-f", str(job.id))
    assert follower.stdout is not None
    shown = read_until(follower, "name? ")
    (project.root / "one").touch()
    shown += read_until(follower, "second\n")
    (project.root / "two").touch()
    shown += follower.communicate(timeout=30)[0]
    assert shown == "name? second\nthird\n"


@pytest.mark.parametrize("verb", ["tail", "run"])
def test_follow_goes_on_in_a_log_that_was_truncated(project: Project, verb: str) -> None:
    """As logrotate does with copytruncate; the job appends."""
    script = (
        "echo a long first line; while [ ! -e one ]; do sleep 0.01; done; printf 'new\\n'; "
        "while [ ! -e two ]; do sleep 0.01; done; echo end"
    )
    if verb == "tail":
        project.work()
        wait_until(project.queue.supervisors)
        project.queue.add("shell", {"shell": script, "cwd": str(project.root)})
        follower = project.start("tail", "-f", "1")
    else:
        follower = project.start("run", "--shell", script)
    shown = read_until(follower, "first line\n")
    os.truncate(project.queue.logs.path(1) / "stdout.log", 0)
    shown = read_until(follower, "\n")
    assert shown == "stdout.log of job 1 was truncated: continuing with what is new\n"
    (project.root / "one").touch()
    shown = read_until(follower, "new\n")
    (project.root / "two").touch()
    assert shown + follower.communicate(timeout=30)[0] == "new\nend\n"
    assert follower.returncode == 0


def read_until(process: "subprocess.Popen[str]", text: str) -> str:
    """Read what a process prints, up to and with a text."""
    assert process.stdout is not None
    read, deadline = "", time.monotonic() + 20
    while not read.endswith(text):
        assert time.monotonic() < deadline, read
        if select.select([process.stdout], [], [], 1)[0]:
            read += os.read(process.stdout.fileno(), 1).decode()
    return read


def test_what_could_harm_a_terminal_is_shown_as_signs(project: Project) -> None:
    hostile = r"\033[31mred\033[0m \033[2J\033]52;c;ZXZpbA==\007 \x9b2J \xe2\x80\xae \xff"
    job = project.queue.add("shell", {"argv": ["printf", hostile + "\n"]})
    project.drain()
    shown = on_terminal(project.root, "tail", str(job.id)).raw
    assert "\x1b[31mred\x1b[0m" in shown
    assert "␛[2J␛]52;c;ZXZpbA==␇" in shown
    assert "\x1b" not in shown.replace("\x1b[31m", "").replace("\x1b[0m", "")
    assert "\u202e" not in shown
    plain = on_terminal(project.root, "tail", str(job.id), env={"NO_COLOR": "1"}).raw
    assert "\x1b" not in plain
    for words in (["--raw"], []):  # in a pipe there is nothing to harm
        raw = subprocess.run(
            [sys.executable, "-m", "jobq", "tail", str(job.id), *words],
            cwd=project.root, capture_output=True, check=True,
        )  # fmt: skip
        assert raw.stdout == (project.queue.logs.path(job.id) / "stdout.log").read_bytes()


WITH_ITS_PEAK = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-m", "jobq", *sys.argv[1:]], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
"""


def test_a_log_of_a_gigabyte_is_not_read_whole(project: Project) -> None:
    job = project.shell("echo first")
    project.drain()
    with (project.queue.logs.path(job.id) / "stdout.log").open("r+b") as file:
        file.truncate(1 << 30)
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + b"".join(b"line %d\n" % n for n in range(1000)))
    done = subprocess.run(
        [sys.executable, "-c", WITH_ITS_PEAK, "tail", str(job.id), "-n", "100"],
        cwd=project.root, capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[0] == "line 900"
    assert done.stdout.count("\n") == 100
    assert int(done.stderr) < 200_000  # kilobytes


def test_a_job_without_a_log_says_so(project: Project) -> None:
    job = project.shell("true")
    shown = project.jobq("tail", str(job.id))
    assert (shown.returncode, shown.stdout) == (0, "")
    assert "it has no log yet" in shown.stderr


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["99"], 3, "no job 99"),
        (["1", "-n", "many"], 2, "'many'"),
        (["1", "--attempt", "7"], 3, "no attempt 7"),
        (["1", "-f", "--attempt", "1"], 2, "not both"),
        (["1", "--events", "--stdout"], 2, "--events"),
        (["x"], 2, "'x' is not a job id"),
    ],
)
def test_bad_input_is_one_line(project: Project, words: list[str], code: int, text: str) -> None:
    project.shell("true")
    project.drain()
    shown = project.jobq("tail", *words)
    assert shown.returncode == code
    assert text in shown.stderr
    assert shown.stderr.count("\n") == 1


def test_stderr_is_dimmed_on_a_terminal(project: Project) -> None:
    job = project.shell("echo plain; echo dim >&2")
    project.drain()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "jobq", "tail", "-f", "-n", "0", str(job.id)],
        cwd=project.root, stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    assert process.wait(30) == 0
    os.close(ours)
    again = project.shell("echo plain; sleep 0.2; echo dim >&2")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "jobq", "tail", "-f", str(again.id)],
        cwd=project.root, stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    said = b""
    while b"waiting for it to start" not in said:  # else it could come when all is over
        said += os.read(ours, 65536)
    project.drain()
    assert process.wait(30) == 0
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "\x1b[2mdim" in shown
    assert "\x1b[2mplain" not in shown


def test_add_follow_leaves_with_the_job_s_exit_code(project: Project) -> None:
    project.work()
    done = project.jobq("add", "--follow", "--retries", "0", "--shell", "echo out; exit 7")
    assert done.returncode == 7
    assert done.stdout.endswith("out\n")
    assert "exit code 7" in done.stderr


# -- jobq run ----------------------------------------------------------------------------------


def test_run_shows_records_and_leaves_like_the_command(project: Project) -> None:
    done = project.jobq("run", "--shell", "echo out; echo err >&2; exit 4")
    assert (done.returncode, done.stdout) == (4, "out\n")
    assert done.stderr == "err\njobq: job 1 failed: exit code 4: err\n"
    (job,) = project.queue.find()
    assert (job.status, job.attempts) == (JobStatus.FAILED, 1)
    good = project.jobq("run", "--", "true")
    assert (good.returncode, good.stdout, good.stderr) == (0, "", "")


def test_run_of_a_worker_is_silent_when_it_is_well(project: Project) -> None:
    done = project.jobq("run", "cleanup", "older_than=30d")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert project.queue.get(1).result is not None


def test_run_does_not_overlap_with_itself_when_asked(project: Project) -> None:
    first = project.start("run", "--unique", "nightly", "--", "sleep", "600")
    wait_until(lambda: project.queue.find(status="running"))
    second = project.jobq("run", "--unique", "nightly", "--", "sleep", "600")
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert len(project.queue.find()) == 1
    first.send_signal(signal.SIGINT)
    assert first.wait(20) == 130
    (job,) = project.queue.find()
    assert job.status is JobStatus.CANCELLED


def test_run_waits_for_its_turn(project: Project) -> None:
    project.queue.create_queue("one", max_concurrent=1)
    holder = project.shell("while [ ! -e go ]; do sleep 0.01; done", queue="one")
    claim = project.queue.claim("one", owner="test:1")
    assert claim is not None
    assert claim.job.id == holder.id
    runner = project.start("run", "--queue", "one", "--", "echo", "my turn")
    wait_until(lambda: len(project.queue.find(status="pending")) == 1)
    project.queue.complete(claim)
    assert runner.communicate(timeout=30)[0] == "my turn\n"
