"""Jobs from adding to recording: real supervisors, commands, children and signals."""

import json
import os
import signal
import subprocess
import sys
from datetime import datetime

import pytest

from jobq import JobStatus
from jobq.clock import utcnow
from jobq.diagnostics.explain import explain
from jobq.diagnostics.explain_facts import gather
from jobq.models import Outcome
from tests.support.project import Project, alive, wait_until
from tests.support.terminal import OnTerminal

# -- commands ----------------------------------------------------------------------------------


def test_a_command_s_output_and_exit_code_are_recorded(project: Project) -> None:
    good = project.shell("echo out; echo err >&2; (echo grandchild)")
    bad = project.shell("echo went wrong >&2; exit 3", max_retries=0)
    project.drain()
    assert project.output(good) == "out\ngrandchild\n"
    assert project.output(good, "stderr.log") == "err\n"
    good, bad = project.queue.get_many([good.id, bad.id])
    assert (good.status, good.exit_code) == (JobStatus.COMPLETED, 0)
    assert (bad.status, bad.exit_code) == (JobStatus.FAILED, 3)
    assert bad.error == "exit code 3: went wrong"
    (attempt,) = project.queue.attempts(bad.id)
    assert attempt.outcome is Outcome.FAILED
    assert attempt.pid is not None
    assert attempt.cpu_seconds is not None
    assert attempt.ended_at is not None


def test_arguments_reach_the_command_exactly(project: Project) -> None:
    words = ["%s|", "a b", "$HOME", "*", "it's", "", "new\nline", "--", "-x", "ünïcödé 🎬", "\t"]
    added = project.jobq("add", "--", "printf", *words)
    assert added.returncode == 0, added.stderr
    project.drain()
    alone = subprocess.run(["printf", *words], capture_output=True, check=True, encoding="utf-8")
    job = project.queue.get(int(added.stdout))
    assert project.output(job) == alone.stdout
    shown = project.jobq("tail", str(job.id), "--raw")
    assert shown.stdout == alone.stdout


def test_three_ways_to_add_the_same_command(project: Project) -> None:
    for words in (["shell", 'argv=["echo","hi"]'], ["shell", "--", "echo", "hi"]):
        assert project.jobq("add", *words).returncode == 0
    project.jobq("add", "--", "echo", "hi")
    first, *others = project.queue.find()
    assert first.args["argv"] == ["echo", "hi"]
    assert all(other.args == first.args for other in others)


def test_a_command_runs_where_and_with_what_it_was_added(project: Project) -> None:
    folder = project.root / "deep"
    folder.mkdir()
    show = 'pwd; echo "$ONE|$TWO|$JOBQ_JOB_ID|$JOBQ_ATTEMPT"; cat; ls -d "$JOBQ_LOG_DIR"'
    added = project.jobq(
        "add", "--cwd", "deep", "--env", "ONE=1", "--env", "TWO", "--stdin", "-", "--shell", show,
        stdin="from stdin\n", env={"TWO": "2"},
    )  # fmt: skip
    assert added.returncode == 0, added.stderr
    project.drain()
    job = project.queue.get(int(added.stdout))
    assert project.output(job).splitlines() == [
        str(folder), f"1|2|{job.id}|1", "from stdin", str(project.queue.logs.path(job.id)),
    ]  # fmt: skip


def test_a_command_inside_a_job_reaches_the_same_queue(project: Project) -> None:
    inner = f"cd / && {sys.executable} -m jobq add -- echo inner"
    project.shell(inner)
    project.drain()
    assert [job.status for job in project.queue.find()] == [JobStatus.COMPLETED] * 2


@pytest.mark.parametrize(
    ("argv", "options", "code", "error"),
    [
        (["no-such-command-here"], {}, 127, "no-such-command-here: command not found"),
        (["/"], {}, 126, "/: Permission denied"),
        (["true"], {"cwd": "/no/such/place"}, None, "/no/such/place: No such file or directory"),
    ],
)
def test_what_can_not_be_started_fails_for_good(
    project: Project, argv: list[str], options: dict[str, str], code: int | None, error: str
) -> None:
    job = project.queue.add("shell", {"argv": argv, **options})
    project.drain()
    job = project.queue.get(job.id)
    assert (job.status, job.exit_code, job.error, job.attempts) == (
        JobStatus.FAILED, code, error, 1,
    )  # fmt: skip


def test_a_failing_command_is_retried_and_ends_in_the_dead_letter_queue(project: Project) -> None:
    job = project.shell("echo try $JOBQ_ATTEMPT; exit 1", max_retries=2)
    project.drain()
    assert project.output(job) == "try 1\ntry 2\ntry 3\n"
    assert project.queue.get(job.id).status is JobStatus.FAILED
    second = project.jobq("tail", str(job.id), "--attempt", "2")
    assert second.stdout == "try 2\n"


def test_a_crashing_command_has_a_limit_of_its_own(project: Project) -> None:
    job = project.shell("kill -SEGV $$", max_retries=100)
    project.drain()
    job = project.queue.get(job.id)
    assert (job.status, job.attempts, job.signal) == (JobStatus.FAILED, 3, signal.SIGSEGV)
    assert job.error == "killed by SIGSEGV"


def test_progress_comes_from_a_file(project: Project) -> None:
    job = project.shell('echo 40/100 encoding > "$JOBQ_PROGRESS"')
    project.drain()
    progress = project.queue.get(job.id).progress
    assert progress is not None
    assert (progress.done, progress.total, progress.message) == (40, 100, "encoding")
    events = [json.loads(line) for line in project.output(job, "events.jsonl").splitlines()]
    assert [event["event"] for event in events] == ["enqueued", "started", "progress", "finished"]


def test_events_say_how_long_a_job_waited_and_ran(project: Project) -> None:
    (project.root / "workers").mkdir()
    (project.root / "workers/naps.py").write_text(
        "import time\nfrom jobq import JobWorker\n\nclass Nap(JobWorker):\n    job_type = 'nap'\n"
        "    def run(self, args, job):\n        time.sleep(0.1)\n"
    )
    for job in (
        project.shell("sleep 0.1; exit $((JOBQ_ATTEMPT == 1))", max_retries=1),
        project.queue.add("nap"),
    ):
        project.drain()
        lines = project.output(job, "events.jsonl").splitlines()
        enqueued, started, *others = [json.loads(line) for line in lines]
        assert enqueued["time"] == job.created_at.isoformat()
        waited = datetime.fromisoformat(started["time"]) - job.created_at
        assert started["queued_for"] == pytest.approx(waited.total_seconds(), abs=0.002)
        ends = [event for event in others if event["event"] == "finished"]
        assert len(ends) == project.queue.get(job.id).attempts
        assert all(0.1 <= end["duration"] < 20 for end in ends)
        assert not any("queued_for" in event for event in others)


def test_a_timeout_ends_the_whole_group(project: Project) -> None:
    job = project.shell("sleep 600 & echo $!; wait", timeout=0.2, max_retries=0)
    project.drain()
    job = project.queue.get(job.id)
    assert job.status is JobStatus.FAILED
    assert job.error == "timed out after 0.2s"
    assert project.queue.attempts(job.id)[0].outcome is Outcome.TIMED_OUT
    assert not alive(int(project.output(job)))


def test_what_a_command_leaves_behind_ends_with_it_unless_it_left_its_group(
    project: Project,
) -> None:
    job = project.shell("sleep 600 & echo $!")
    daemon = project.shell(
        "setsid sh -c 'touch up; exec sleep 600' & while [ ! -e up ]; do sleep 0.01; done; echo $!"
    )
    project.drain()
    assert not alive(int(project.output(job)))
    pid = int(project.output(daemon))
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)


# -- cancel and stop ---------------------------------------------------------------------------


def test_cancel_sends_a_command_the_signal_that_was_named(project: Project) -> None:
    job = project.shell("trap 'echo saved; exit 3' INT; echo ready; while :; do sleep 0.02; done")
    supervisor = project.work("--drain")
    wait_until(lambda: "ready" in project.output(job))
    assert project.jobq("cancel", str(job.id), "--signal", "int").returncode == 0
    assert supervisor.wait(timeout=30) == 0
    assert project.queue.get(job.id).status is JobStatus.CANCELLED
    assert project.output(job) == "ready\nsaved\n"


def test_cancel_ends_a_grandchild_that_ignores_sigterm_and_left_the_group(
    project: Project,
) -> None:
    script = (
        "setsid sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.1; done' & "
        "sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.1; done' & wait"
    )
    project.work()
    job = project.shell(script)
    wait_until(lambda: project.output(job).count("\n") == 2)
    pids = [int(line) for line in project.output(job).split()]
    project.queue.cancel(job.id)
    project.wait_for(job, JobStatus.CANCELLED)
    assert not [pid for pid in pids if alive(pid)]


def test_the_first_signal_drains_and_the_second_gives_back(project: Project) -> None:
    supervisor = project.work()
    short = project.shell("echo up; while [ ! -e go ]; do sleep 0.05; done", max_retries=0)
    long = project.shell("echo up; sleep 600", max_retries=0)
    waiting = project.shell("true")
    wait_until(lambda: project.output(short) and project.output(long))
    supervisor.send_signal(signal.SIGTERM)
    (project.root / "go").touch()
    project.wait_for(short, JobStatus.COMPLETED)
    assert project.queue.get(waiting.id).status is JobStatus.PENDING
    assert project.queue.get(long.id).status is JobStatus.RUNNING
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(20) == 0
    long = project.queue.get(long.id)
    assert (long.status, long.failures, long.attempts) == (JobStatus.PENDING, 0, 1)
    assert project.queue.attempts(long.id)[0].outcome is Outcome.RELEASED
    assert project.queue.supervisors() == []


@pytest.mark.parametrize(
    "words", [["work"], ["work", "--max-jobs", "1"], ["run", "--", "sleep", "600"]], ids=" ".join
)
def test_nobody_counts_on_one_that_takes_no_more(project: Project, words: list[str]) -> None:
    if words[0] == "work":
        project.shell("sleep 600")
    supervisor = project.start(*words)
    wait_until(lambda: project.queue.find(status="running"))
    if words == ["work"]:
        assert project.queue.supervisors()[0].takes_jobs
        supervisor.send_signal(signal.SIGTERM)
    wait_until(lambda: not project.queue.supervisors()[0].takes_jobs)
    waiting = project.shell("true")
    (reason,) = explain(gather(project.queue, waiting, utcnow()))
    assert (reason.code, reason.command) == ("queue_not_taken", "jobq work --queue default")
    assert "no supervisor is running" in project.jobq("list").stderr


def test_ctrl_c_leaves_with_130(project: Project) -> None:
    supervisor = project.work()
    wait_until(project.queue.supervisors)
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(20) == 130


# -- several supervisors, and dead ones --------------------------------------------------------


def test_a_job_that_kills_its_supervisor_can_not_do_so_for_ever(project: Project) -> None:
    job = project.shell("kill -9 $PPID; sleep 600")
    for _ in range(3):
        project.work().wait(20)
    project.drain()
    job = project.queue.get(job.id)
    assert (job.status, job.attempts) == (JobStatus.FAILED, 3)


def test_a_supervisor_that_overslept_its_lease_writes_nothing(project: Project) -> None:
    (project.root / "jobq.toml").write_text("[lease]\nseconds = 0.6\ngrace = 1\n")
    first = project.work()
    job = project.shell(
        "echo $JOBQ_ATTEMPT; [ $JOBQ_ATTEMPT = 1 ] || exit 0; "
        "while [ ! -e go ]; do sleep 0.02; done; echo late"
    )
    wait_until(lambda: project.output(job))
    os.kill(first.pid, signal.SIGSTOP)
    project.work()
    done = project.wait_for(job, JobStatus.COMPLETED)
    (project.root / "go").touch()
    os.kill(first.pid, signal.SIGCONT)
    again = project.shell("true")
    project.wait_for(again, JobStatus.COMPLETED)
    assert project.queue.get(job.id) == done
    assert "late" not in project.output(job)


def test_max_concurrent_holds_over_two_supervisors(project: Project) -> None:
    project.queue.create_queue("narrow", max_concurrent=3)
    jobs = [project.shell("sleep 0.02", queue="narrow") for _ in range(40)]
    supervisors = [project.work("-j", "2", "--drain") for _ in range(2)]
    for supervisor in supervisors:
        assert supervisor.wait(60) == 0
    moments = []
    for job in jobs:
        (attempt,) = project.queue.attempts(job.id)
        assert attempt.ended_at is not None
        moments += [(attempt.started_at, 1), (attempt.ended_at, -1)]
    running, most = 0, 0
    for _, step in sorted(moments):
        running += step
        most = max(most, running)
    assert most == 3


def test_parents_come_first_and_failures_cancel_down(project: Project) -> None:
    log = project.root / "order"
    first = project.shell(f"echo first >> {log}")
    second = project.shell(f"echo second >> {log}", after=[first.id], priority=9)
    bad = project.shell("exit 1", max_retries=0)
    barred = project.shell("true", after=[bad.id])
    below = project.shell("true", after=[barred.id])
    cleanup = project.shell("true", after_fail=[bad.id])
    project.drain()
    statuses = {job.id: job for job in project.queue.find()}
    assert statuses[second.id].status is JobStatus.COMPLETED
    assert statuses[barred.id].reason == f"parent {bad.id} failed"
    assert statuses[below.id].reason == f"parent {barred.id} was cancelled"
    assert statuses[cleanup.id].status is JobStatus.COMPLETED
    assert log.read_text() == "first\nsecond\n"


def test_many_processes_add_at_once(project: Project) -> None:
    script = (
        "import sys; from jobq import JobQueue\n"
        "with JobQueue.open(sys.argv[1]) as queue:\n"
        "    for n in range(10):\n"
        "        queue.add('shell', {'argv': ['true']})\n"
        "        queue.add('shell', {'argv': ['true']}, unique='one')\n"
    )
    adders = [
        subprocess.Popen([sys.executable, "-c", script, str(project.root / "jobq.toml")])
        for _ in range(12)
    ]
    assert [adder.wait(60) for adder in adders] == [0] * 12
    jobs = project.queue.find()
    assert len(jobs) == 121
    assert len([job for job in jobs if job.unique_key == "one"]) == 1


def test_closing_the_terminal_drains(project: Project) -> None:
    job = project.shell("echo up; while [ ! -e go ]; do sleep 0.02; done")
    later = project.shell("true")
    with OnTerminal(project.root, "work", "-j", "1") as terminal:
        terminal.until(lambda screen: "job 1 started" in screen.text)
        terminal.close()
        wait_until(lambda: not any(info.queues is None for info in project.queue.supervisors()))
        assert project.queue.get(job.id).status is JobStatus.RUNNING
        (project.root / "go").touch()
        assert terminal.process.wait(20) == 0
    assert len(project.queue.attempts(job.id)) == 1
    assert project.queue.get(job.id).status is JobStatus.COMPLETED
    assert project.queue.get(later.id).status is JobStatus.PENDING
