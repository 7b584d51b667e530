"""What a worker's process does besides running jobs: set-up, library logs, stacks, crashes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobq import Job, JobStatus
from tests.support.project import SETTINGS, Project

WORKERS = """
import asyncio, logging, os, subprocess, threading, time
from pathlib import Path
from jobq import JobContext, JobWorker, job_type

print("printed at import")
os.write(1, b"written at import\\n")
subprocess.run(["echo", "echoed at import"])
log = logging.getLogger(__name__)
NOTES = Path(__file__).with_name("notes")


def note(text):
    with NOTES.open("a") as file:
        file.write(f"{text} {os.getpid()}\\n")


class Counted(JobWorker):
    job_type = "counted"
    threads = []

    @classmethod
    def setup(cls):
        note("setup")
        cls.threads.append(threading.Thread(target=time.sleep, args=(60,), daemon=True))
        cls.threads[0].start()

    @classmethod
    def teardown(cls):
        note("teardown")

    def run(self, args, job):
        return os.getpid()


def fail_once():
    if not NOTES.with_name("failed").exists():
        NOTES.with_name("failed").touch()
        raise ConnectionError("no server yet")


@job_type("prepared", setup=fail_once, teardown=lambda: note("over"), max_retries=1, retry_base=0.01)
def prepared():
    return "ran"


@job_type("chatty")
def chatty(job: JobContext):
    logging.getLogger("library.part").info("read %d rows", 3)
    logging.getLogger("library.part").debug("unseen")
    log.warning("a warning")
    job.log.debug("the worker's own")


@job_type("slow", timeout=0.3, max_retries=0)
def slow():
    stands_here()


def stands_here():
    time.sleep(30)


@job_type("waits", timeout=0.3, max_retries=0)
async def waits():
    await awaits_here()


async def awaits_here():
    await asyncio.sleep(30)


@job_type("stuck", timeout=0.3, max_retries=0)
def stuck():
    import ctypes
    ctypes.PyDLL(None).usleep(30_000_000)  # keeps the interpreter's lock, as C code may
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, dict[str, Job]]]:
    """A project in which one job of each type was run, of `counted` three."""
    root = tmp_path_factory.mktemp("project")
    (root / "jobq.toml").write_text(SETTINGS.replace("concurrency = 2", "concurrency = 1"))
    project = Project(root)
    project.worker("many", WORKERS)
    names = ("counted", "counted", "counted", "prepared", "chatty", "slow", "waits", "stuck")
    added = [(name, project.queue.add(name)) for name in names]
    project.said = project.drain()  # type: ignore[attr-defined]
    yield project, {name: project.queue.get(job.id) for name, job in added}
    project.close()


Ran = tuple[Project, dict[str, Job]]


def line_of(text: str) -> int:
    """Return the line of the workers' file on which a text first stands."""
    return WORKERS[: WORKERS.index(text)].count("\n") + 1


def notes(project: Project, word: str) -> list[str]:
    text = Path(project.root / "workers" / "notes").read_text()
    return [line.split()[1] for line in text.splitlines() if line.startswith(word)]


def test_a_type_is_set_up_once_in_each_process_and_torn_down(ran: Ran) -> None:
    project, _ = ran
    jobs = project.queue.find(type="counted")
    pids = [str(job.result) for job in jobs]
    assert len(pids) == 3
    assert len(set(pids)) == 1  # the thread that the set-up started may stay
    assert notes(project, "setup") == [pids[0]]
    assert notes(project, "teardown") == [pids[0]]


def test_a_set_up_that_fails_fails_the_attempt_and_is_done_again(ran: Ran) -> None:
    project, jobs = ran
    assert (jobs["prepared"].status, jobs["prepared"].attempts) == (JobStatus.COMPLETED, 2)
    assert "ConnectionError: no server yet" in project.output(jobs["prepared"], "stderr.log")
    assert len(notes(project, "over")) == 1


def test_log_records_of_libraries_reach_the_log(ran: Ran) -> None:
    project, jobs = ran
    lines = project.output(jobs["chatty"], "job.log").splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [
        "INFO library.part: read 3 rows", "WARNING many: a warning", "DEBUG the worker's own",
    ]  # fmt: skip
    assert project.output(jobs["chatty"], "stderr.log") == ""


def test_a_time_limit_shows_where_the_worker_stood(ran: Ran) -> None:
    project, jobs = ran
    assert jobs["slow"].error == "timed out after 0.3s"
    text = project.output(jobs["slow"], "stderr.log")
    assert text.startswith("jobq: timed out after 0.3s; innermost call first:\n")
    assert f'many.py", line {line_of("time.sleep(30)")} in stands_here' in text
    assert "Traceback" not in text


def test_a_time_limit_shows_what_a_coroutine_waited_for(ran: Ran) -> None:
    project, jobs = ran
    assert jobs["waits"].error == "timed out after 0.3s"
    text = project.output(jobs["waits"], "stderr.log")
    assert f"line {line_of('await asyncio.sleep')}, in awaits_here\n    await asyncio.sleep" in text


def test_a_time_limit_shows_where_c_code_was_called(ran: Ran) -> None:
    project, jobs = ran
    assert jobs["stuck"].status is JobStatus.FAILED
    text = project.output(jobs["stuck"], "stderr.log")
    assert f'many.py", line {line_of("usleep")} in stuck' in text


def test_what_worker_files_print_at_import_never_reaches_stdout(ran: Ran) -> None:
    project, _ = ran
    done = project.jobq("add", "--json", "counted")
    assert done.stdout.startswith("{")
    assert done.stdout.count("\n") == 1
    for word in ("printed", "written", "echoed"):
        assert f"{word} at import" in done.stderr
