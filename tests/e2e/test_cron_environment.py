"""`jobq run` as cron starts it: by sh, at home, with hardly any environment and no terminal."""

import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from jobq import JobStatus
from jobq.clock import utcnow
from jobq.queue import backend_of
from jobq.scheduling.schedules import Schedules
from tests.support.project import Project, wait_until

JOBQ = Path(sys.executable).parent / "jobq"
CLIP = "Bj\u00f6rk \U0001f3b5"


class Cron:
    """Runs lines of a crontab."""

    def __init__(self, project: Project, home: Path) -> None:
        self.home = home
        self.variables = {
            "HOME": str(home),
            "LOGNAME": "ada",
            "PATH": "/usr/bin:/bin",
            "SHELL": "/bin/sh",
            "JOBQ": str(JOBQ),
            "JOBQ_CONFIG": str(project.root / "jobq.toml"),
        }

    def start(self, line: str, **variables: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            ["/bin/sh", "-c", line],
            cwd=self.home,
            env={**self.variables, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # no terminal to control it
        )

    def run(self, line: str, **variables: str) -> tuple[int, str, str]:
        process = self.start(line, **variables)
        out, err = process.communicate(timeout=60)
        return process.returncode, out.decode("utf-8", "surrogateescape"), err.decode("utf-8")


@pytest.fixture
def cron(project: Project, tmp_path: Path) -> Cron:
    home = tmp_path / "home of ada"
    home.mkdir()
    return Cron(project, home)


def test_what_goes_well_is_silent(cron: Cron, project: Project) -> None:
    old = project.shell("true")
    assert cron.run("$JOBQ run cleanup older_than=30d") == (0, "", "")
    assert cron.run("$JOBQ run -- true") == (0, "", "")
    assert cron.run('$JOBQ run --shell \'test "$PWD" = "$HOME"\'') == (0, "", "")
    statuses = [job.status for job in project.queue.find()]
    assert statuses == [JobStatus.PENDING, *[JobStatus.COMPLETED] * 3]
    assert project.queue.get(old.id).status is JobStatus.PENDING


def test_without_jobq_config_the_option_says_which_project(cron: Cron, project: Project) -> None:
    config = cron.variables.pop("JOBQ_CONFIG")
    assert cron.run(f'$JOBQ --config "{config}" run -- true') == (0, "", "")
    assert len(project.queue.find()) == 1


def test_with_no_variables_at_all(project: Project, tmp_path: Path) -> None:
    words = [str(JOBQ), "--config", str(project.root / "jobq.toml"), "run"]
    for job in (["cleanup", "older_than=30d"], ["--", "sh", "-c", 'test -z "$HOME"']):
        done = subprocess.run(
            [*words, *job], cwd=tmp_path, env={}, capture_output=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_what_fails_says_so_in_one_line(cron: Cron, project: Project) -> None:
    folder = cron.home / "media"
    folder.write_text("a file where a directory is expected")
    line = f"$JOBQ run cleanup older_than=30d 'directories=[\"{folder}\"]' max_total_size=x"
    code, out, err = cron.run(line)
    assert (code, out, err.count("\n")) == (2, "", 1)
    code, out, err = cron.run("$JOBQ run -- false")
    assert (code, out) == (1, "")
    assert err == "jobq: job 1 failed: exit code 1\n"
    code, out, err = cron.run("$JOBQ run -- sh -c 'exit 42'")
    assert (code, out, err) == (42, "", "jobq: job 2 failed: exit code 42\n")


def test_a_worker_that_fails_says_so_in_one_line(cron: Cron, project: Project) -> None:
    project.worker(
        "breaks",
        "from jobq import JobWorker, Permanent\n"
        "class Breaks(JobWorker):\n"
        "    job_type = 'breaks'\n"
        "    def run(self, args, job):\n"
        "        job.log.info('about to')\n"
        "        raise Permanent('the disk is f\\xfcll')\n",
    )
    code, out, err = cron.run("$JOBQ run breaks")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "the disk is f\xfcll" in err


def test_one_at_a_time_where_asked(cron: Cron, project: Project) -> None:
    gate = cron.home / "gate"
    os.mkfifo(gate)
    line = "$JOBQ run --unique feed --shell 'read line <\"$HOME/gate\"'"
    first = cron.start(line)
    wait_until(lambda: project.queue.find(status="running"))
    assert cron.run(line) == (0, "", "")
    assert len(project.queue.find()) == 1
    gate.write_text("go\n")
    assert first.communicate(timeout=60) == (b"", b"")
    assert first.returncode == 0
    assert cron.run("$JOBQ run --unique feed -- true") == (0, "", "")
    assert len(project.queue.find()) == 2


@pytest.mark.parametrize(
    "variables",
    [
        {}, {"LC_ALL": "C"}, {"LANG": "de_DE.ISO-8859-1"}, {"PYTHONIOENCODING": "ascii"},
        {"PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ],
    ids=str,
)  # fmt: skip
def test_text_is_utf_8_whatever_the_locale(
    cron: Cron, project: Project, variables: dict[str, str]
) -> None:
    file = cron.home / "titles"
    file.write_text(f"{CLIP}\n", "utf-8")
    failing = (
        '$JOBQ run --name titles --shell \'cat "$HOME/titles"; cat "$HOME/titles" >&2; exit 3\''
    )
    code, out, err = cron.run(failing, **variables)
    assert (code, out) == (3, f"{CLIP}\n")
    assert err.startswith(f"{CLIP}\n")
    project.queue.add("shell", {"argv": ["echo", CLIP]}, name=CLIP)
    code, out, _ = cron.run("$JOBQ list --plain && $JOBQ show last --json", **variables)
    assert code == 0
    assert out.count(CLIP) >= 3


def test_bytes_that_are_no_text_do_not_break_it(cron: Cron, project: Project) -> None:
    code, out, err = cron.run("$JOBQ run -- printf 'a\\377\\n'")
    assert (code, out, err) == (0, "a\udcff\n", "")
    (job,) = project.queue.find()
    assert (project.queue.logs.path(job.id) / "stdout.log").read_bytes() == b"a\xff\n"


def test_due_schedules_are_left_to_those_who_work(cron: Cron, project: Project) -> None:
    """`jobq run` does what it was asked, and nothing else."""
    schedules = Schedules(project.queue)
    added = schedules.add("s", "* * * * *", {"args": {"argv": ["true"]}})
    due = replace(added, next_at=utcnow() - timedelta(minutes=5))
    assert backend_of(project.queue).schedules.replace(added, due)
    assert cron.run("$JOBQ run -- true") == (0, "", "")
    assert [job.name for job in project.queue.find()] == [None]
    project.drain()
    assert [job.name for job in project.queue.find()] == [None, "s"]
