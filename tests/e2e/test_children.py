"""Children and the fork server that they come from: replaced, restored, and started again."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from jobq import JobStatus
from jobq.models import Outcome
from tests.support.project import Project, alive, fork_server, is_fork_server, wait_until

WORKER = """
import os, resource, signal, sys, threading, time
from jobq import JobWorker


class Waits(JobWorker):
    job_type = "waits"

    def run(self, args, job):
        print("up", flush=True)
        while not os.path.exists("go"):
            time.sleep(0.01)
        return os.getpid()


class Leaks(JobWorker):
    job_type = "leaks"

    def run(self, args, job):
        os.chdir("/")
        os.umask(0)
        os.environ["LEAKED"] = "1"
        sys.path.insert(0, "/leaked")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        signal.setitimer(signal.ITIMER_REAL, 600)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        sys.stdout = None
        return os.getpid()


class LeaksThread(JobWorker):
    job_type = "leaks_thread"

    def run(self, args, job):
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        return os.getpid()


class Closes(JobWorker):
    job_type = "closes"

    def run(self, args, job):
        os.close(1)
        return os.getpid()


class Sees(JobWorker):
    job_type = "sees"

    def run(self, args, job):
        mask = os.umask(0)
        os.umask(mask)
        print("seen", flush=True)
        return {
            "pid": os.getpid(), "cwd": os.getcwd(), "mask": mask, "path": sys.path[0],
            "leaked": os.environ.get("LEAKED"), "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
            "timer": signal.getitimer(signal.ITIMER_REAL)[0],
            "term": signal.getsignal(signal.SIGTERM) is signal.SIG_IGN,
        }
"""


PICKY = """
import sys
from jobq import JobWorker

if any("fork_server" in word for word in sys.orig_argv):
    raise ImportError("not here")


class Picky(JobWorker):
    job_type = "picky"

    def run(self, args, job):
        return "ran"
"""


@pytest.fixture
def workers(project: Project) -> Project:
    project.worker("children", WORKER)
    return project


# -- the fork server ---------------------------------------------------------------------------


def test_a_fork_server_that_dies_early_is_started_again(workers: Project) -> None:
    job = workers.queue.add("sees")  # first: it reads the workers, too
    workers.worker(
        "aaa_slow", "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)\n"
    )
    supervisor = workers.work()
    wait_until(lambda: any(map(is_fork_server, psutil.Process(supervisor.pid).children())))
    fork_server(supervisor).kill()
    (workers.root / "go").touch()
    workers.wait_for(job, JobStatus.COMPLETED)


def test_workers_go_on_after_the_process_they_are_forked_from_is_killed(workers: Project) -> None:
    supervisor = workers.work()
    first = workers.queue.add("sees")
    workers.wait_for(first, JobStatus.COMPLETED)
    fork_server(supervisor).kill()
    second = workers.queue.add("sees")
    workers.wait_for(second, JobStatus.COMPLETED)


def test_a_fork_server_whose_supervisor_was_gone_before_it_ran_leaves(workers: Project) -> None:
    workers.worker("aaa_hangs", "import time; time.sleep(600)")
    supervisor = workers.work()
    wait_until(lambda: psutil.Process(supervisor.pid).children())
    (server,) = psutil.Process(supervisor.pid).children()
    server.suspend()
    supervisor.kill()
    supervisor.wait()
    server.resume()
    wait_until(lambda: not alive(server.pid))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import time; time.sleep(600)", "bad.py: does not import: not done after 1"),
        ("import os; os._exit(3)", "bad.py: does not import: it ends the process"),
    ],
)
def test_a_file_that_can_not_be_imported_takes_only_its_own_types(
    workers: Project, source: str, said: str
) -> None:
    path = workers.root / "jobq.toml"
    path.write_text(path.read_text() + '[workers]\nimport_timeout = "1s"\n')
    job = workers.queue.add("sees")
    workers.worker("bad", source)
    assert said in workers.drain()
    assert workers.queue.get(job.id).status is JobStatus.COMPLETED


@pytest.mark.parametrize("source", ["import time; time.sleep(600)", "import os; os._exit(3)"])
def test_run_is_not_ended_by_a_file_of_other_types_that_can_not_be_imported(
    workers: Project, source: str
) -> None:
    path = workers.root / "jobq.toml"
    path.write_text(path.read_text() + '[workers]\nimport_timeout = "1s"\n')
    workers.worker("bad", source)
    assert workers.jobq("run", "sees").returncode == 0
    (job,) = workers.queue.find()
    assert (job.status, job.attempts) == (JobStatus.COMPLETED, 1)


def test_run_fails_where_only_children_can_not_import_the_type(workers: Project) -> None:
    workers.worker("picky", PICKY)
    assert workers.jobq("run", "picky").returncode == 1
    (job,) = workers.queue.find()
    assert job.status is JobStatus.FAILED
    assert "unknown job type 'picky'" in str(job.error)


def test_a_broken_worker_file_takes_only_its_own_types(workers: Project) -> None:
    workers.worker("broken", "import no_such_module\n")
    job = workers.queue.add("sees")
    said = workers.drain()
    assert workers.queue.get(job.id).status is JobStatus.COMPLETED
    assert "broken.py:1: does not import: ModuleNotFoundError" in said


def test_a_signal_from_elsewhere_neither_cancels_a_job_nor_ends_the_guard(
    workers: Project,
) -> None:
    supervisor = workers.work("-j", "2")
    command = workers.shell("echo up; while [ ! -e go ]; do sleep 0.02; done", max_retries=0)
    worker = workers.queue.add("waits")
    wait_until(lambda: workers.output(command) and workers.output(worker))
    wait_until(lambda: workers.queue.attempts(worker.id)[0].pid)
    fork_server(supervisor).terminate()
    pid = workers.queue.attempts(worker.id)[0].pid
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    (workers.root / "go").touch()
    workers.wait_for(command, JobStatus.COMPLETED)
    workers.wait_for(worker, JobStatus.COMPLETED)
    first, *_ = workers.queue.attempts(worker.id)
    assert (first.outcome, first.signal) == (Outcome.CRASHED, signal.SIGTERM)


# -- what a job leaves behind in a child -------------------------------------------------------


def test_what_a_job_changes_of_its_process_is_not_the_next_job_s(workers: Project) -> None:
    jobs = [workers.queue.add(name) for name in ("sees", "leaks", "sees")]
    workers.drain("-j", "1")
    before, leaked, after = (workers.queue.get(job.id).result for job in jobs)
    assert before["pid"] == leaked == after["pid"]
    assert after == before
    assert workers.output(jobs[2]) == "seen\n"


@pytest.mark.parametrize("name", ["leaks_thread", "closes"])
def test_a_child_that_can_not_be_put_right_is_replaced(workers: Project, name: str) -> None:
    jobs = [workers.queue.add(each) for each in (name, "sees", "sees")]
    workers.drain("-j", "1")
    first, second, third = (workers.queue.get(job.id).result for job in jobs)
    assert second["pid"] == third["pid"]
    assert (first == second["pid"]) == (name == "closes")
    assert workers.output(jobs[1]) == "seen\n"


def test_a_task_that_nobody_reads_yet_holds_nobody_up(workers: Project) -> None:
    """More than a socket takes, for a child that is stopped."""
    big = "import os, signal\nfrom jobq import JobWorker\nfrom pydantic import BaseModel\n"
    big += "class Big(JobWorker):\n    job_type = 'big'\n    class Args(BaseModel):\n"
    big += "        text: str\n    def run(self, args, job):\n        return len(args.text)\n"
    workers.worker("big", big)
    supervisor = workers.work("-j", "2")
    workers.wait_for(workers.queue.add("sees"), JobStatus.COMPLETED)
    (child,) = fork_server(supervisor).children()
    child.suspend()
    job = workers.queue.add("big", {"text": "x" * 500_000}, name="big")
    workers.wait_for(job, JobStatus.RUNNING)
    workers.wait_for(workers.shell("true"), JobStatus.COMPLETED)
    child.resume()
    assert workers.wait_for(job, JobStatus.COMPLETED).result == 500_000


STARTS = """
import signal, subprocess
from jobq import JobWorker


class Starts(JobWorker):
    job_type = "starts"

    def run(self, args, job):
        script = "trap 'echo int; exit' INT; echo up; while :; do sleep 0.02; done"
        process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE)
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        said = process.communicate()[0].decode().strip()
        status = subprocess.check_output(["cat", "/proc/self/status"]).decode()
        ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
        names = ("SIGINT", "SIGQUIT", "SIGTSTP", "SIGTTIN", "SIGTTOU")
        return {"said": said, "ignored": [
            name for name in names if ignored >> (getattr(signal, name) - 1) & 1
        ]}
"""


def test_what_a_worker_starts_ignores_no_signal_though_its_supervisor_may(workers: Project) -> None:
    workers.worker("starts", STARTS)
    job = workers.queue.add("starts")
    script = f"trap '' INT QUIT TSTP TTIN TTOU; exec {sys.executable} -m jobq work --drain"
    subprocess.run(["sh", "-c", script], cwd=workers.root, check=True, capture_output=True)
    assert workers.queue.get(job.id).result == {"said": "int", "ignored": []}


def test_a_sigint_for_a_child_means_nothing(workers: Project) -> None:
    workers.work()
    job = workers.queue.add("waits")
    wait_until(lambda: workers.output(job))
    wait_until(lambda: workers.queue.attempts(job.id)[0].pid)
    os.kill(workers.queue.attempts(job.id)[0].pid or 0, signal.SIGINT)
    (workers.root / "go").touch()
    workers.wait_for(job, JobStatus.COMPLETED)
    assert len(workers.queue.attempts(job.id)) == 1
