"""Changes that a job makes to its process, which must not reach the next job."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from jobq import Job, JobStatus
from tests.support.project import SETTINGS, Project

WORKER = """
import faulthandler, io, logging, logging.config, os, resource, signal, sys, time
from pydantic import BaseModel
from jobq import JobWorker

KEPT = []


class Raises:
    def write(self, text):
        pass

    def flush(self):
        raise RuntimeError("no")


class Disturbs(JobWorker):
    job_type = "disturbs"

    class Args(BaseModel):
        what: str

    def run(self, args, job):
        getattr(self, args.what)(job)

    def replaces_the_environment(self, job):
        os.environ = dict(os.environ, LEAKED="1")

    def replaces_the_environment_in_bytes(self, job):
        os.environb = {b"LEAKED": b"1"}

    def sets_odd_bytes_in_the_environment(self, job):
        os.environb[b"\\xff"] = b"\\xfe"

    def changes_the_time_zone(self, job):
        os.environ["TZ"] = "Asia/Tokyo"
        time.tzset()

    def changes_its_effective_user(self, job):
        if os.geteuid() == 0:
            os.seteuid(65534)

    def changes_its_user(self, job):
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)

    def stays_on_one_core(self, job):
        os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])

    def sets_timers(self, job):
        signal.setitimer(signal.ITIMER_VIRTUAL, 600)
        signal.setitimer(signal.ITIMER_PROF, 600)

    def may_open_no_more_files(self, job):
        resource.setrlimit(resource.RLIMIT_NOFILE, (5, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    def opens_all_the_files_that_it_may(self, job):
        try:
            while True:
                KEPT.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass

    def closes_its_files(self, job):
        for descriptor in (0, 1, 2):
            os.close(descriptor)

    def reads_from_elsewhere(self, job):
        os.dup2(os.open(__file__, os.O_RDONLY), 0)

    def takes_its_stdout_apart(self, job):
        sys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding="utf-8")

    def sets_up_its_stdout(self, job):
        sys.stdout.reconfigure(encoding="ascii", errors="strict", line_buffering=False)

    def closes_its_stdout(self, job):
        sys.stdout.close()

    def deletes_its_stdout(self, job):
        del sys.stdout

    def has_a_stdout_that_raises(self, job):
        sys.stdout = Raises()

    def keeps_a_signal_from_itself(self, job):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        os.kill(os.getpid(), signal.SIGUSR1)

    def sets_up_logging(self, job):
        logging.config.dictConfig({"version": 1})

    def disables_logging(self, job):
        logging.disable(logging.CRITICAL)

    def filters_its_log(self, job):
        job.log.addFilter(lambda record: False)

    def limits_its_stack(self, job):
        sys.setrecursionlimit(100)

    def is_to_be_ended_in_a_moment(self, job):
        faulthandler.dump_traceback_later(0.1, exit=True)


class Fails(JobWorker):
    job_type = "fails"

    class Args(BaseModel):
        how: str

    def run(self, args, job):
        if args.how == "closed":
            sys.stderr.close()
        elif args.how == "closed below":
            os.close(2)
        elif args.how == "full":
            os.dup2(os.open("/dev/full", os.O_WRONLY), 2)
        raise RuntimeError("what went wrong")


class Forks(JobWorker):
    job_type = "forks"

    def run(self, args, job):
        if os.fork():
            os.wait()
            raise RuntimeError("after its fork")


class Sees(JobWorker):
    job_type = "sees"

    def run(self, args, job):
        print("é", flush=True)
        job.log.info("seen")
        until = time.monotonic() + 0.2
        while time.monotonic() < until:  # on the core: some timers only run there
            pass
        return {
            "stdin": os.readlink("/proc/self/fd/0"),
            "stdout": [sys.stdout.encoding, sys.stdout.errors, sys.stdout.line_buffering],
            "environ": type(os.environ).__name__,
            "variables": sorted(set(os.environ)),
            "zone": time.strftime("%Z"),
            "users": [os.getresuid(), os.getresgid(), os.getgroups()],
            "cores": sorted(os.sched_getaffinity(0)),
            "timers": [signal.getitimer(each) for each in (0, 1, 2)],
            "files": resource.getrlimit(resource.RLIMIT_NOFILE),
            "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
            "recursion": sys.getrecursionlimit(),
        }
"""

DISTURBANCES = [
    line.split("(")[0].removeprefix("    def ")
    for line in WORKER.partition("class Disturbs")[2].partition("class Fails")[0].splitlines()
    if line.startswith("    def ") and "run(" not in line
]


class Outcome:
    """The results of a job that disturbs, and of the one after it."""

    def __init__(self, project: Project, first: Job, then: Job) -> None:
        self.first = project.queue.get(first.id)
        self.then = project.queue.get(then.id)
        self.printed = project.output(then)
        self.logged = project.output(then, "job.log")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Outcome]]:
    """All of them one after another in one slot: the next one gets the same child, if it may."""
    root = tmp_path_factory.mktemp("between")
    (root / "jobq.toml").write_text(SETTINGS)
    project = Project(root)
    project.worker("disturbs", WORKER)
    kinds = ["", *DISTURBANCES]
    pairs = {
        kind: (
            project.queue.add("disturbs", {"what": kind}) if kind else project.queue.add("sees"),
            project.queue.add("sees"),
        )
        for kind in kinds
    }
    project.drain("-j", "1")
    yield {kind: Outcome(project, *pair) for kind, pair in pairs.items()}
    project.close()


@pytest.mark.parametrize("what", DISTURBANCES)
def test_what_a_job_changes_does_not_reach_the_next_one(
    outcomes: dict[str, Outcome], what: str
) -> None:
    found = outcomes[what]
    assert (found.first.status, found.first.error) == (JobStatus.COMPLETED, None)
    assert (found.then.status, found.then.error) == (JobStatus.COMPLETED, None)
    assert found.then.attempts == 1
    assert found.then.result == outcomes[""].first.result
    assert found.printed == "é\n"
    assert found.logged.endswith("INFO seen\n")


@pytest.mark.parametrize("how", ["", "closed", "closed below", "full"])
def test_an_error_is_told_whatever_became_of_stderr(project: Project, how: str) -> None:
    project.worker("disturbs", WORKER)
    job = project.queue.add("fails", {"how": how}, max_retries=0)
    project.drain()
    assert project.queue.get(job.id).error == "RuntimeError: what went wrong"


def test_a_forked_process_that_comes_back_notes_no_end(project: Project) -> None:
    project.worker("disturbs", WORKER)
    job = project.queue.add("forks", max_retries=0)
    project.drain()
    assert project.queue.get(job.id).error == "RuntimeError: after its fork"
    assert [event["event"] for event in events(project, job)] == ["enqueued", "started", "finished"]


def events(project: Project, job: Job) -> list[dict[str, Any]]:
    return [json.loads(line) for line in project.output(job, "events.jsonl").splitlines()]
