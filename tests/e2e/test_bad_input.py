"""Whatever is wrong: one line on stderr, the right exit code, and nothing stored."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from jobq import UsageError
from tests.support.project import Project

WORKER = """
from pydantic import BaseModel
from jobq import JobWorker

class Typed(JobWorker):
    job_type = "typed"
    class Args(BaseModel):
        path: str
        width: int = 3
    def run(self, args, job):
        pass
"""


def refuse(project: Project, *words: str, code: int, text: str, stdin: str | None = None) -> None:
    """The command is refused in one line, and has stored nothing."""
    before = len(project.queue.find())
    done = project.jobq(*words, stdin=stdin)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert text in done.stderr
    assert done.stderr.startswith("jobq: ")
    assert len(project.queue.find()) == before


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["nosuch", "a=1"], 2, "unknown job type 'nosuch'"),
        (["typed", "path=x", "hight=1"], 2, "no argument 'hight': it takes path, width"),
        (["typed", "width=1"], 2, "argument 'path' is missing"),
        (["typed", "path=x", "width=wide"], 2, "argument 'width'"),
        (["typed", "path=x", "path=y"], 2, "'path' is given twice"),
        (["typed", "path=x", "--", "true"], 2, "goes with shell jobs"),
        (["--priority", "11", "--", "true"], 2, "priority '11'"),
        (["--priority", "urgent", "--", "true"], 2, "priority 'urgent'"),
        (["--timeout=-5", "--", "true"], 2, "--timeout: '-5'"),
        (["--delay", "soon", "--", "true"], 2, "--delay: 'soon'"),
        (["--at", "noonish", "--", "true"], 2, "'noonish'"),
        (["--at", "18:00", "--delay", "1m", "--", "true"], 2, "not both"),
        (["--retries", "many", "--", "true"], 2, "--retries"),
        (["--retries=-1", "--", "true"], 2, "retries -1"),
        (["--queue", "nosuch", "--", "true"], 3, "no queue 'nosuch'"),
        (["--after", "77", "--", "true"], 3, "no job 77"),
        (["--after", "x", "--", "true"], 2, "'x' is not a job id"),
        (["--tag", "novalue", "--", "true"], 2, "tag 'novalue'"),
        (["--env", "NOT_SET_ANYWHERE", "--", "true"], 2, "NOT_SET_ANYWHERE"),
        (["--args", "[1]"], 2, "--args: expected a JSON object"),
        (["--args", "{"], 2, "--args: not valid JSON"),
        (["--args", '{"argv": ["a\\u0000b"]}'], 2, "NUL"),
        (["--args", '{"argv": "echo"}'], 2, "expected a list of strings"),
        (["--args", '{"argv": ["x"], "envv": {}}'], 2, "no argument 'envv'"),
        ([], 2, "give a command"),
        (["--"], 2, "give a command"),
        (["--shell", "x", "--", "y"], 2, "give a command"),
        (["--no-such-option", "--", "y"], 2, "--no-such-option"),
    ],
)
def test_add_refuses(project: Project, words: list[str], code: int, text: str) -> None:
    project.worker("typed", WORKER)
    refuse(project, "add", *words, code=code, text=text)


def test_an_argument_of_two_megabytes(project: Project) -> None:
    args = json.dumps({"argv": ["echo", "x" * 2_000_000]})
    refuse(project, "add", "--args", "-", code=2, text="argv[1]: 2,000,000 bytes", stdin=args)


def test_invalid_utf8_on_the_command_line(project: Project) -> None:
    for words in ([b"--", b"echo", b"\xff\xfe"], [b"--name", b"\xff", b"--", b"true"]):
        done = subprocess.run(
            [os.fsencode(sys.executable), b"-m", b"jobq", b"add", *words],
            cwd=project.root, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert b"not valid UTF-8" in done.stderr
        assert done.stderr.count(b"\n") == 1
    assert project.queue.find() == []


def test_a_circle_of_jobs(project: Project) -> None:
    with pytest.raises(UsageError, match="in a circle"):
        project.queue.add_many(
            [
                {"args": {"argv": ["a"]}, "key": "a", "after": ["b"]},
                {"args": {"argv": ["b"]}, "key": "b", "after": ["a"]},
            ]
        )
    assert project.queue.find() == []


@pytest.mark.parametrize("verb", ["show", "tail", "cancel", "retry", "wait"])
def test_a_job_that_does_not_exist(project: Project, verb: str) -> None:
    refuse(project, verb, "4711", code=3, text="no job 4711")


def test_a_worker_file_that_does_not_import(project: Project) -> None:
    project.worker("broken", "def\n")
    refuse(project, "add", "mine", code=2, text="broken.py:1: does not import: SyntaxError")


def test_a_configuration_that_is_wrong(project: Project) -> None:
    (project.root / "jobq.toml").write_text("\n[retry]\nbase = true\n")
    text = 'jobq.toml:3: retry.base: expected a duration, in seconds or as "10m", or "none"'
    refuse(project, "add", "--", "true", code=2, text=text)


def test_a_database_that_is_none(project: Project) -> None:
    garbage = b"this is not a database " * 1000
    (project.root / "garbage.db").write_bytes(garbage)
    done = project.jobq("add", "--", "true", env={"JOBQ_DATABASE": "garbage.db"})
    assert done.returncode == 5
    assert "file is not a database: left untouched" in done.stderr
    assert done.stderr.count("\n") == 1
    assert (project.root / "garbage.db").read_bytes() == garbage


def test_a_read_only_disk(project: Project, small_disk: Path) -> None:
    env = {"JOBQ_DATABASE": str(small_disk / "jobq.db")}
    assert project.jobq("add", "--", "true", env=env).returncode == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = project.jobq("add", "--", "true", env=env)
    assert done.returncode == 5
    assert done.stderr.count("\n") == 1
    assert "Read-only file system" in done.stderr
    for verb in (["list"], ["stats"], ["show", "1"]):
        read = project.jobq(*verb, env=env)
        assert read.returncode == 0, read


@pytest.mark.parametrize(
    "words",
    [
        ["import", "-"],
        ["add", "--each", "--", "true"],
        ["add", "--stdin", "-", "--", "true"],
        ["add", "typed", "--args", "-"],
        ["run", "--stdin", "-", "--", "true"],
        ["cancel", "-"],
    ],
)
def test_stdin_that_is_closed(project: Project, words: list[str]) -> None:
    project.worker("typed", WORKER)
    line = shlex.join([sys.executable, "-m", "jobq", *words])
    done = subprocess.run(
        ["/bin/sh", "-c", f"{line} <&-"],
        cwd=project.root, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "jobq: stdin is closed: there is nothing to read\n"
    assert project.queue.find() == []
