"""Recovery of jobs whose supervisor or child is killed, stopped, misled or left behind."""

import fcntl
import os
import signal
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest

from jobq import Job, JobStatus
from jobq.clock import utcnow
from jobq.models import Outcome, SupervisorInfo
from jobq.queue import backend_of, recovery_of
from jobq.system.processes import boot_id, host_name, start_time
from tests.support.project import Project, alive, fork_server, wait_until

WORKER = '''
import os, resource, signal, subprocess, sys, threading, time
from jobq import Cancelled, JobWorker


def stay():
    """A process that left everything by which it could be known."""
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork():
            os._exit(0)
        with open("escaped", "a") as file:
            print(os.getpid(), file=file, flush=True)
        time.sleep(600)
        os._exit(0)


class Escapes(JobWorker):
    job_type = "escapes"

    def run(self, args, job):
        stay()
        time.sleep(600)


class Deaf(JobWorker):
    job_type = "deaf"

    def run(self, args, job):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("up", flush=True)
        time.sleep(600)


class Waits(JobWorker):
    job_type = "waits"

    def run(self, args, job):
        print("up", flush=True)
        while not os.path.exists("go"):
            time.sleep(0.01)
        return os.getpid()
'''

SKEWED = """
import sys
from datetime import datetime, timedelta
from pathlib import Path
import jobq.clock


class Skewed(datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + timedelta(seconds=int(Path("skew").read_text()))


jobq.clock.datetime = Skewed
from jobq.__main__ import main
sys.argv[0] = "jobq"
main()
"""


@pytest.fixture
def workers(project: Project) -> Project:
    project.worker("recovery", WORKER)
    return project


def escaped(project: Project, count: int) -> list[int]:
    """The pids in the file `escaped`, once there are so many."""
    file = project.root / "escaped"
    wait_until(lambda: file.exists() and file.read_text().count("\n") >= count)
    return [int(line) for line in file.read_text().split()]


def stop_between_writes(project: Project, pid: int) -> None:
    """Stop a supervisor that renews its leases all the time: not while others wait for it."""
    process = psutil.Process(pid)

    def is_stopped_and_holds_nothing() -> bool:
        process.suspend()
        wait_until(lambda: process.status() == psutil.STATUS_STOPPED)
        with (project.root / ".jobq" / "jobq.db.lock").open("rb+") as turnstile:
            try:
                fcntl.flock(turnstile, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                process.resume()
                return False
        return True

    wait_until(is_stopped_and_holds_nothing)


# -- processes that try to stay ----------------------------------------------------------------

RUNAWAY = (
    "env -i setsid sh -c 'trap \"\" TERM; echo $$ >> escaped; while :; do sleep 0.1; done' & wait"
)


def test_descendants_without_group_and_marks_are_ended(workers: Project) -> None:
    workers.work()
    jobs = [workers.shell(RUNAWAY), workers.queue.add("escapes")]
    pids = escaped(workers, 2)
    for job in jobs:
        workers.queue.cancel(job.id)
    for job in jobs:
        workers.wait_for(job, JobStatus.CANCELLED)
    assert not [pid for pid in pids if alive(pid)]


def test_descendants_of_a_worker_that_is_killed_are_ended(workers: Project) -> None:
    workers.work()
    job = workers.queue.add("escapes", max_retries=0)
    (pid,) = escaped(workers, 1)
    wait_until(lambda: workers.queue.attempts(job.id)[0].pid)
    leader = workers.queue.attempts(job.id)[0].pid
    assert leader is not None
    other = workers.shell("sleep 1")  # so long that the leader is looked at; then it can't be
    workers.wait_for(other, JobStatus.COMPLETED)
    os.kill(leader, signal.SIGKILL)
    workers.wait_for(job, JobStatus.FAILED)
    assert not alive(pid)


def test_descendants_go_with_a_supervisor_that_is_killed(workers: Project) -> None:
    supervisor = workers.work()
    workers.shell(RUNAWAY)
    workers.queue.add("escapes")
    pids = escaped(workers, 2)
    wait_until(lambda: all(workers.queue.attempts(job)[0].pid for job in (1, 2)))
    supervisor.kill()
    wait_until(lambda: not [pid for pid in pids if alive(pid)])


def test_a_guard_is_not_kept_from_its_work_by_those_who_tell_it_again(workers: Project) -> None:
    supervisor = workers.work()
    job = workers.shell(RUNAWAY)
    (pid,) = escaped(workers, 1)
    wait_until(lambda: workers.queue.attempts(job.id)[0].pid)
    wait_until(lambda: "escapes" in workers.queue.supervisors()[0].types)  # the guard is set up
    guard = fork_server(supervisor)

    def is_over() -> bool:
        with suppress(psutil.NoSuchProcess):
            guard.terminate()
        return not alive(pid)

    supervisor.kill()
    wait_until(is_over)


@pytest.mark.parametrize("guarded", [True, False])
def test_who_ignores_sigterm_is_known_after_a_supervisor_killed_in_the_grace_period(
    workers: Project, guarded: bool
) -> None:
    """To its guard; and to another supervisor, if the guard can do nothing."""
    (workers.root / "jobq.toml").write_text("[lease]\ngrace = 600\n")
    supervisor = workers.work()
    job = workers.shell(RUNAWAY)
    (pid,) = escaped(workers, 1)
    wait_until(lambda: workers.queue.attempts(job.id)[0].pid)
    leader = workers.queue.attempts(job.id)[0].pid
    assert leader is not None
    workers.queue.cancel(job.id)
    wait_until(lambda: not alive(leader))
    assert alive(pid)
    guard = fork_server(supervisor)
    if not guarded:
        guard.suspend()
    supervisor.kill()
    supervisor.wait()
    if not guarded:
        recovery_of(workers.queue).rescue_dead()
    try:
        wait_until(lambda: not alive(pid))
    finally:
        guard.resume()
    recovery_of(workers.queue).rescue_dead()
    assert not list(workers.queue.logs.path(job.id).glob(".descendants*"))


def test_nothing_is_kept_of_the_descendants_of_a_job_that_has_ended(workers: Project) -> None:
    workers.work()
    job = workers.shell("sleep 600 & echo up; while [ ! -e go ]; do sleep 0.02; done")
    folder = workers.queue.logs.path(job.id)
    wait_until(lambda: list(folder.glob(".descendants-1")))
    (workers.root / "go").touch()
    workers.wait_for(job, JobStatus.COMPLETED)
    wait_until(lambda: not list(folder.glob(".descendants*")))


def test_a_job_cancelled_before_its_process_was_known_is_not_begun(workers: Project) -> None:
    """The fork server is silent meanwhile: the job is taken back, and never starts."""
    supervisor = workers.work("-j", "1")
    wait_until(lambda: any("deaf" in each.types for each in workers.queue.supervisors()))
    server = fork_server(supervisor)
    server.suspend()
    job = workers.queue.add("deaf")
    workers.wait_for(job, JobStatus.RUNNING)
    workers.queue.cancel(job.id)
    workers.wait_for(job, JobStatus.CANCELLED)
    server.resume()
    other = workers.queue.add("waits")
    wait_until(lambda: "up" in workers.output(other))
    assert workers.output(job) == ""


def test_a_job_cancelled_while_its_supervisor_does_not_know_its_process_is_killed(
    workers: Project,
) -> None:
    supervisor = workers.work("-j", "1")
    wait_until(lambda: any("deaf" in each.types for each in workers.queue.supervisors()))
    server = fork_server(supervisor)
    server.suspend()
    job = workers.queue.add("deaf")
    workers.wait_for(job, JobStatus.RUNNING)
    os.kill(supervisor.pid, signal.SIGSTOP)
    server.resume()
    wait_until(lambda: workers.output(job))
    workers.queue.cancel(job.id)
    os.kill(supervisor.pid, signal.SIGCONT)
    workers.wait_for(job, JobStatus.CANCELLED)


def test_a_job_that_gets_no_process_in_its_time_goes_back_and_runs_later(workers: Project) -> None:
    workers.worker("quick", "from jobq import JobWorker\nclass Quick(JobWorker):\n"
                   "    job_type = 'quick'\n    def run(self, args, job): pass\n")  # fmt: skip
    supervisor = workers.work("-j", "1")
    wait_until(lambda: any("quick" in each.types for each in workers.queue.supervisors()))
    server = fork_server(supervisor)
    server.suspend()
    job = workers.queue.add("quick", timeout=1, max_retries=0)
    workers.wait_for(job, JobStatus.RUNNING)
    first = workers.queue.get(job.id).started_at
    wait_until(lambda: workers.queue.get(job.id).started_at != first)
    server.resume()
    workers.wait_for(job, JobStatus.COMPLETED)
    assert len(workers.queue.attempts(job.id)) == 1


# -- supervisors -------------------------------------------------------------------------------


def test_jobs_of_a_killed_supervisor_run_again_in_another(workers: Project) -> None:
    first = workers.work("-j", "2")
    jobs = [workers.shell("echo up; while [ ! -e go ]; do sleep 0.02; done")]
    jobs.append(workers.queue.add("waits"))
    wait_until(lambda: all("up" in workers.output(job) for job in jobs))
    second = workers.work("-j", "2")
    wait_until(lambda: len(workers.queue.supervisors()) == 2)
    first.kill()
    wait_until(lambda: all(workers.output(job).count("up") == 2 for job in jobs))
    (workers.root / "go").touch()
    for job in jobs:
        ended = workers.wait_for(job, JobStatus.COMPLETED)
        assert (ended.attempts, ended.crashes) == (2, 1)
        attempts = workers.queue.attempts(job.id)
        assert [each.outcome for each in attempts] == [Outcome.LOST, Outcome.COMPLETED]
        assert attempts[1].supervisor.split(":")[1] == str(second.pid)


def test_a_supervisor_that_wakes_up_late_ends_what_it_lost(workers: Project) -> None:
    (workers.root / "jobq.toml").write_text("[lease]\nseconds = 0.6\ngrace = 1\n")
    first = workers.work("-j", "2")
    job = workers.shell("echo $$; [ $JOBQ_ATTEMPT = 1 ] || exit 0; sleep 600")
    worker = workers.queue.add("waits")
    wait_until(lambda: workers.output(job) and workers.output(worker))
    stop_between_writes(workers, first.pid)
    second = workers.work("-j", "2")
    workers.wait_for(job, JobStatus.COMPLETED)
    (workers.root / "go").touch()
    workers.wait_for(worker, JobStatus.COMPLETED)
    before = [workers.queue.attempts(each.id) for each in (job, worker)]
    os.kill(first.pid, signal.SIGCONT)
    second.send_signal(signal.SIGTERM)
    assert second.wait(20) == 0
    again = [workers.queue.add("waits"), workers.shell("true")]
    for each in again:  # by the first one, whose children were ended
        workers.wait_for(each, JobStatus.COMPLETED)
    assert [workers.queue.attempts(each.id) for each in (job, worker)] == before
    assert not alive(int(workers.output(job).split()[0]))


@pytest.mark.parametrize("jump", [3600, -3600])
def test_a_clock_that_jumps_an_hour_harms_nothing(project: Project, jump: int) -> None:
    (project.root / "jobq.toml").write_text("[lease]\nseconds = 1\n[retry]\nbase = 0.05\n")
    (project.root / "skew").write_text("0")
    job = project.shell("while [ ! -e go ]; do sleep 0.02; done", max_retries=0)
    supervisors = [
        subprocess.Popen(
            [sys.executable, "-c", SKEWED, "work", "-j", "2"],
            cwd=project.root,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    try:
        wait_until(lambda: len(project.queue.supervisors()) == 2)
        project.wait_for(job, JobStatus.RUNNING)
        first = lease(project, job)
        (project.root / "skew").write_text(str(jump))
        # Long enough for others to take the jump for a lease that ran out.
        wait_until(lambda: abs((lease(project, job) - first) - jump) < 600)
        settled = lease(project, job)
        wait_until(lambda: lease(project, job) > settled + 1.5)
        others = [project.shell("true") for _ in range(10)]
        for each in others:
            project.wait_for(each, JobStatus.COMPLETED)
            assert project.queue.get(each.id).attempts == 1
        (project.root / "go").touch()
        assert project.wait_for(job, JobStatus.COMPLETED).attempts == 1
    finally:
        for supervisor in supervisors:
            supervisor.kill()
            supervisor.wait()


def test_three_ctrl_c_drain_give_back_and_kill(project: Project) -> None:
    (project.root / "jobq.toml").write_text("[lease]\ngrace = 600\n")
    supervisor = project.work("-j", "1")
    job = project.shell("trap '' TERM; echo up; while :; do sleep 0.1; done")
    waiting = project.shell("true")
    wait_until(lambda: project.output(job))
    supervisor.send_signal(signal.SIGINT)
    wait_until_said(supervisor, "waiting for 1 running job")
    supervisor.send_signal(signal.SIGINT)
    wait_until_said(supervisor, "stopping 1 running job")
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(20) == 130
    assert project.queue.get(job.id).status is JobStatus.PENDING
    assert project.queue.attempts(job.id)[0].outcome is Outcome.RELEASED
    assert project.queue.get(waiting.id).attempts == 0


def wait_until_said(supervisor: "subprocess.Popen[str]", text: str) -> None:
    assert supervisor.stdout is not None
    descriptor = supervisor.stdout.fileno()
    os.set_blocking(descriptor, False)
    said = b""

    def is_said() -> bool:
        nonlocal said
        with suppress(BlockingIOError):
            said += os.read(descriptor, 65536)
        return text.encode() in said

    wait_until(is_said)


# -- another boot ------------------------------------------------------------------------------


@pytest.mark.parametrize("boot", ["another", boot_id()], ids=["other_boot", "this_boot"])
def test_nothing_of_another_boot_is_taken_for_alive_or_killed(project: Project, boot: str) -> None:
    """A living process with a job's pid and start time; and a lock that is held, at first."""
    here = boot == boot_id()
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    backend = backend_of(project.queue)
    listener = backend.supervisors.listen("before")
    backend.supervisors.register(
        SupervisorInfo(
            id="before", host=host_name(), boot_id=boot, pid=process.pid, slots=1, queues=None,
            types=("shell",), started_at=utcnow(), heartbeat_at=utcnow(),
        )
    )  # fmt: skip
    try:
        job = project.shell("true")
        claim = project.queue.claim(owner="before", lease=3600)
        assert claim is not None
        note_start(project, job, process.pid)
        assert len(project.queue.supervisors()) == here
        if here:
            listener.close()
        project.drain()
        assert project.queue.get(job.id).status is JobStatus.COMPLETED
        assert process.poll() == (-signal.SIGKILL if here else None)
    finally:
        process.kill()
        process.wait()


def lease(project: Project, job: Job) -> float:
    return project.queue.attempts(job.id)[-1].lease_until.timestamp()


def note_start(project: Project, job: Job, pid: int) -> None:
    from jobq.models import LogOffsets, Started

    (attempt,) = project.queue.attempts(job.id)
    started = Started(key=attempt.key, pid=pid, pid_started=start_time(pid), offsets=LogOffsets())
    backend_of(project.queue).started([started])
