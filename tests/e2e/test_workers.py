"""Jobs of `JobWorker` classes: what they print, how they end, and how they are cancelled."""

from itertools import pairwise

import pytest

from jobq import JobStatus
from jobq.models import Outcome
from tests.support.project import Project, alive, wait_until

WORKER = '''
import asyncio, ctypes, os, subprocess, sys, time
from pydantic import BaseModel
from jobq import Cancelled, JobWorker, Permanent, RetryAfter, Snooze


class Many(JobWorker):
    """Does what it is told."""

    job_type = "many"

    class Args(BaseModel):
        do: str

    def run(self, args, job):
        return getattr(self, args.do)(job)

    def speak(self, job):
        print("from python")
        os.system("echo from a grandchild")
        ctypes.CDLL(None).puts(b"from C")
        print("to stderr", file=sys.stderr)
        job.log.info("from the logger")
        job.progress(1, 4, "one")
        job.progress(3, 4, "three")
        (job.artifacts / "kept.txt").write_text("kept")
        return {"spoke": True}

    def crash(self, job):
        ctypes.string_at(0)

    def leave(self, job):
        os._exit(3)

    def fail(self, job):
        raise ValueError("no good")

    def permanent(self, job):
        raise Permanent("never")

    def later(self, job):
        if job.attempt == 1:
            raise RetryAfter(0.1, "not yet")
        return job.attempt

    def snooze(self, job):
        if job.attempt < 4:
            raise Snooze(0.05)
        return job.attempt

    def add(self, job):
        return job.add("many", {"do": "speak"}).id

    def not_json(self, job):
        return object()

    def hang(self, job):
        try:
            print("hanging", flush=True)
            time.sleep(600)
        except Cancelled:
            print("tidied up")
            raise

    def leave_process(self, job):
        return subprocess.Popen(["sleep", "600"]).pid


class Slow(JobWorker):
    job_type = "slow"

    async def run(self, args, job):
        print("hanging", flush=True)
        await asyncio.sleep(600)


class Polite(JobWorker):
    job_type = "polite"
    cooperative = True

    def run(self, args, job):
        print("hanging", flush=True)
        while not job.cancelled:
            time.sleep(0.01)
        print("left the loop")


class Plain(JobWorker):
    job_type = "plain"

    async def run(self, args, job):
        await asyncio.sleep(0)
        return [1, "two"]
'''


@pytest.fixture
def many(project: Project) -> Project:
    project.worker("many", WORKER)
    return project


def test_all_that_a_worker_says_is_captured(many: Project) -> None:
    job = many.queue.add("many", {"do": "speak"})
    many.drain()
    lines = many.output(job).splitlines()
    assert sorted(lines) == ["from C", "from a grandchild", "from python"]
    assert many.output(job, "stderr.log") == "to stderr\n"
    assert many.output(job, "job.log").endswith("INFO from the logger\n")
    assert many.output(job, "artifacts/kept.txt") == "kept"
    job = many.queue.get(job.id)
    assert job.result == {"spoke": True}
    assert job.progress is not None
    assert job.progress.message == "three"


def test_how_workers_end(many: Project) -> None:
    expected = {
        "crash": (JobStatus.FAILED, 2, "the worker's process died: killed by SIGSEGV"),
        "leave": (JobStatus.FAILED, 2, "the worker's process died: exit code 3"),
        "fail": (JobStatus.FAILED, 2, "ValueError: no good"),
        "permanent": (JobStatus.FAILED, 1, "never"),
        "later": (JobStatus.COMPLETED, 2, None),
        "snooze": (JobStatus.COMPLETED, 4, None),
    }
    jobs = {do: many.queue.add("many", {"do": do}, max_retries=1) for do in expected}
    plain = many.queue.add("plain")
    not_json = many.queue.add("many", {"do": "not_json"})
    many.drain()
    for do, job in jobs.items():
        ended = many.queue.get(job.id)
        status, attempts, error = expected[do]
        assert (do, ended.status, ended.attempts) == (do, status, attempts)
        assert (ended.error or "").startswith(error or "")
    assert many.queue.get(plain.id).result == [1, "two"]
    assert "JSON" in (many.queue.get(not_json.id).error or "")
    trace = many.output(jobs["fail"], "stderr.log")
    assert "ValueError: no good" in trace
    assert "call.py" not in trace


def test_a_worker_adds_jobs_that_know_where_they_are_from(many: Project) -> None:
    job = many.queue.add("many", {"do": "add"})
    many.drain()
    child = many.queue.get(many.queue.get(job.id).result)
    assert (child.status, child.added_by) == (JobStatus.COMPLETED, job.id)


def test_processes_that_a_worker_leaves_behind_end_with_its_run(many: Project) -> None:
    job = many.queue.add("many", {"do": "leave_process"})
    many.drain()
    assert not alive(many.queue.get(job.id).result)


@pytest.mark.parametrize("job_type", ["many", "slow", "polite"])
def test_a_running_worker_is_cancelled_and_may_tidy_up(many: Project, job_type: str) -> None:
    supervisor = many.work()
    job = many.queue.add(job_type, {"do": "hang"} if job_type == "many" else {})
    wait_until(lambda: "hanging" in many.output(job))
    many.queue.cancel(job.id, "changed my mind")
    cancelled = many.wait_for(job, JobStatus.CANCELLED)
    assert cancelled.reason == "changed my mind"
    said = {"many": "tidied up", "polite": "left the loop", "slow": ""}[job_type]
    assert said in many.output(job)
    again = many.queue.add("plain")
    many.wait_for(again, JobStatus.COMPLETED)
    assert supervisor.poll() is None


def test_a_killed_supervisor_s_processes_go_and_its_jobs_run_again(many: Project) -> None:
    supervisor = many.work()
    command = many.shell(
        "[ $JOBQ_ATTEMPT = 2 ] && exit 0; "
        "echo $$; env -i sleep 601 & setsid sleep 602 & echo $!; wait"
    )
    worker = many.queue.add("many", {"do": "hang"})
    wait_until(lambda: many.output(command).count("\n") == 2 and many.output(worker))
    wait_until(lambda: many.queue.attempts(command.id)[0].pid)
    pids = [int(line) for line in many.output(command).split()]
    pids += [a.pid for a in many.queue.attempts(worker.id) if a.pid]
    supervisor.kill()
    wait_until(lambda: not [pid for pid in pids if alive(pid)])
    many.queue.cancel(worker.id)
    many.work()
    job = many.wait_for(command, JobStatus.COMPLETED)
    assert (job.attempts, job.crashes) == (2, 1)
    assert [a.outcome for a in many.queue.attempts(job.id)] == [Outcome.LOST, Outcome.COMPLETED]
    many.wait_for(worker, JobStatus.CANCELLED)


@pytest.mark.parametrize("slow", ["", "import time; time.sleep(1)\n"], ids=["", "slow imports"])
def test_the_first_job_is_that_of_the_highest_priority_whatever_its_type(
    project: Project, slow: str
) -> None:
    project.worker("first", slow + "from jobq import JobWorker\nclass First(JobWorker):\n"
                   "    job_type = 'first'\n    def run(self, args, job): pass\n")  # fmt: skip
    urgent = project.queue.add("first", priority=9)
    command = project.shell("true", priority=0)
    assert project.jobq("work", "--max-jobs", "1").returncode == 0
    statuses = [project.queue.get(job.id).status for job in (urgent, command)]
    assert statuses == [JobStatus.COMPLETED, JobStatus.PENDING]


def test_commands_do_not_wait_for_types_that_no_job_before_them_has(project: Project) -> None:
    project.worker("slow", "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)\n")
    command = project.shell("true", priority=5)
    behind = project.shell("true", priority=1)
    project.work()
    for job in (command, behind):
        project.wait_for(job, JobStatus.COMPLETED)


AWAITS = """
import asyncio, time
from jobq import Cancelled, JobWorker
from pydantic import BaseModel


class Awaits(JobWorker):
    job_type = "awaits"

    class Args(BaseModel):
        how: str

    async def run(self, args, job):
        print("hanging", flush=True)
        try:
            if args.how == "sleeps":
                await asyncio.sleep(600)
            elif args.how == "gathers":
                await asyncio.gather(asyncio.sleep(600), asyncio.sleep(600))
            elif args.how == "in time":
                async with asyncio.timeout(600):
                    await asyncio.Event().wait()
            elif args.how == "computes":
                while True:
                    time.sleep(0.01)
        except Cancelled:
            await asyncio.sleep(0.05)
            print("tidied up", flush=True)
            raise
"""


@pytest.mark.parametrize("how", ["sleeps", "gathers", "in time", "computes"])
def test_cancelled_is_raised_where_a_coroutine_waits(project: Project, how: str) -> None:
    project.worker("awaits", AWAITS)
    supervisor = project.work("-j", "1")
    job = project.queue.add("awaits", {"how": how})
    wait_until(lambda: "hanging" in project.output(job))
    project.queue.cancel(job.id)
    project.wait_for(job, JobStatus.CANCELLED)
    assert "tidied up" in project.output(job)
    assert "Traceback" not in project.output(job, "stderr.log")
    assert supervisor.poll() is None


REASONS = """
from jobq import Cancelled, JobWorker, Permanent, Snooze


class Gives(JobWorker):
    job_type = "gives_up"

    def run(self, args, job):
        raise Cancelled("nothing to do")


class Silent(JobWorker):
    job_type = "silent"

    def run(self, args, job):
        raise Permanent


class Impatient(JobWorker):
    job_type = "impatient"

    def run(self, args, job):
        if job.attempt < 3:
            raise Snooze(0)
"""


def test_a_worker_s_reason_is_kept_and_an_error_is_never_empty(project: Project) -> None:
    project.worker("reasons", REASONS)
    cancelled, failed = project.queue.add("gives_up"), project.queue.add("silent")
    project.drain()
    job = project.queue.get(cancelled.id)
    assert (job.status, job.reason) == (JobStatus.CANCELLED, "nothing to do")
    assert project.queue.get(failed.id).error == "Permanent"


def test_a_snooze_is_never_shorter_than_a_second(project: Project) -> None:
    project.worker("reasons", REASONS)
    job = project.queue.add("impatient")
    project.drain()
    attempts = project.queue.attempts(job.id)
    starts = [attempt.started_at.timestamp() for attempt in attempts]
    assert len(starts) == 3
    assert min(after - before for before, after in pairwise(starts)) >= 1
