"""Worker files that change while `jobq work` runs."""

import json
import sys
from pathlib import Path
from textwrap import dedent

from jobq import Job, JobStatus
from jobq.job_types.worker_files import PROJECT
from tests.support.project import Project, wait_until

CODE = """
from pathlib import Path
from jobq import job_type
from .lib.words import WORD

@job_type("tell")
def tell(wait: Path | None = None{more}) -> str:
    if wait:
        wait.with_suffix(".begun").touch()
        while not wait.exists():
            pass
    return "{word} " + WORD
"""


def write(project: Project, word: str, more: str = "", name: str = "tell") -> Path:
    folder = project.root / "workers" / "lib"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "words.py").exists():
        (folder / "words.py").write_text("WORD = 'one'\n")
    file = project.root / "workers" / f"{name}.py"
    file.write_text(CODE.format(word=word, more=more).replace('"tell"', f'"{name}"'))
    return file


def run(project: Project, type_: str = "tell", **args: object) -> Job:
    return project.queue.wait(project.queue.add(type_, args, max_retries=0).id, timeout=20)


def run_anew(project: Project, type_: str, **args: object) -> Job:
    """Run a job that is added as by a new process: one that loads the workers now."""
    for name in [name for name in sys.modules if name.startswith(PROJECT)]:
        del sys.modules[name]
    project.reopen()
    return run(project, type_, **args)


def started(project: Project, job: Job) -> dict[str, object]:
    lines: list[dict[str, object]] = [
        json.loads(line) for line in project.output(job, "events.jsonl").splitlines()
    ]
    return next(line for line in lines if line["event"] == "started")


def test_changed_workers_are_loaded_again_between_jobs(project: Project) -> None:
    write(project, "old")
    project.work(said="said")
    before = run(project)
    assert before.result == "old one"
    go = project.root / "go"
    running = project.queue.add("tell", {"wait": str(go)})
    wait_until(go.with_suffix(".begun").exists)

    # The same size, and most likely the same second.
    write(project, "new")
    after = run(project)
    assert after.result == "new one"
    assert started(project, after)["code"] != started(project, before)["code"]
    go.touch()
    assert project.queue.wait(running.id, timeout=20).result == "old one"

    # A file that it imports, an argument, and a type.
    (project.root / "workers" / "lib" / "words.py").write_text("WORD = 'two'\n")
    assert run(project).result == "new two"
    write(project, "more", ", loud: bool = False")
    assert run_anew(project, "tell", loud=True).result == "more two"
    write(project, "born", name="new_type")
    assert run_anew(project, "new_type").result == "born two"

    # A file that does not import takes its own type with it until it is mended.
    file = write(project, "late", more="(")
    wait_until(lambda: "does not import" in (project.root / "said").read_text())
    waiting = project.queue.add("tell")
    assert run_anew(project, "new_type").result == "born two"
    assert project.queue.get(waiting.id).status is JobStatus.PENDING
    file.write_text(write(project, "late").read_text())
    assert project.queue.wait(waiting.id, timeout=20).result == "late two"
    said = (project.root / "said").read_text()
    line = "tell.py changed: workers are loaded again; 1 running job finishes on the old code"
    assert said.count(line) == 1
    assert said.count("words.py changed: workers are loaded again\n") == 1


def test_without_reload_an_unknown_argument_fails_the_job_by_name(project: Project) -> None:
    write(project, "old")
    project.work("--no-reload", said="said")
    assert run(project).result == "old one"
    write(project, "new", ", loud: bool = False")
    failed = run_anew(project, "tell", loud=True)
    assert failed.status is JobStatus.FAILED
    assert failed.error == "tell: no argument 'loud': it takes wait"
    assert run(project).result == "old one"
    assert "changed" not in (project.root / "said").read_text()


def test_a_crash_on_the_old_code_is_told_as_any(project: Project) -> None:
    write(project, "old")
    (project.root / "workers" / "crash.py").write_text(
        dedent("""
        import ctypes
        from pathlib import Path
        from jobq import job_type

        @job_type("crash", max_retries=0)
        def crash(wait: Path) -> None:
            wait.with_suffix(".begun").touch()
            while not wait.exists():
                pass
            ctypes.string_at(0)
        """)
    )
    project.work("-j", "2")
    go = project.root / "go"
    running = project.queue.add("crash", {"wait": str(go)})
    wait_until(go.with_suffix(".begun").exists)
    write(project, "new")
    assert run(project).result == "new one"
    go.touch()
    wait_until(lambda: project.queue.get(running.id).crashes)
    error = project.queue.get(running.id).error
    assert error is not None
    assert error.startswith("the worker's process died: killed by SIGSEGV: segmentation fault at ")
    assert "ctypes" in error
    assert 'workers/crash.py", line 11 in crash' in project.output(running, "stderr.log")
