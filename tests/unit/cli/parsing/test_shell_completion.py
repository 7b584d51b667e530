"""The completion protocol, as bash, zsh and fish speak it."""

import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from jobq import JobQueue
from jobq.cli.command_table import VERBS
from jobq.cli.main import run
from jobq.cli.parsing.completers import harmless
from jobq.scheduling.schedules import Schedules
from tests.architecture.test_startup import HEAVY
from tests.support.cli_runner import Cli, Result

SHELLS = ("bash", "zsh", "fish")


def variables(shell: str, line: str) -> dict[str, str]:
    """How a shell asks for what a line may go on with."""
    asked = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    return {**asked, "_JOBQ_COMPLETE": f"complete_{shell}"}


def complete(shell: str, cwd: Path, line: str) -> Result:
    """What it is told, in this process."""
    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        for name, value in variables(shell, line).items():
            patch.setenv(name, value)
        try:
            code = run([])
        except SystemExit as left:  # as Typer does
            code = int(left.code or 0)
    return Result(code, out.getvalue(), err.getvalue())


def imported_by(shell: str, cwd: Path, line: str) -> set[str]:
    """The packages that are imported for it, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "from jobq.__main__ import main; main()"],
        cwd=cwd,
        env={**os.environ, **variables(shell, line)},
        capture_output=True,
        encoding="utf-8",
        check=True,
        timeout=60,
    )
    return {entry.rpartition("|")[2].strip().partition(".")[0] for entry in done.stderr.split("\n")}


def offered(cwd: Path, line: str) -> dict[str, str]:
    """What fish is told: words, and what they mean."""
    done = complete("fish", cwd, line)
    assert done.err == ""
    pairs = (entry.partition("\t") for entry in done.lines if entry)
    return {word: about for word, _, about in pairs}


@pytest.fixture
def cli(queue: JobQueue, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(queue, capsys)


@pytest.mark.parametrize("shell", SHELLS)
def test_verbs(project: Path, shell: str) -> None:
    done = complete(shell, project, "jobq ")
    assert done.err == ""
    for verb in VERBS:
        assert verb in done.out
    assert "explain" in complete(shell, project, "jobq ex").out
    assert "list" not in complete(shell, project, "jobq ex").out


@pytest.mark.parametrize("shell", SHELLS)
def test_job_ids(project: Path, cli: Cli, shell: str) -> None:
    for _ in range(11):
        cli.add(name="encode a film")
    out = complete(shell, project, "jobq show 1").out
    for job_id in (1, 10, 11):
        assert str(job_id) in out
    assert "9" not in out
    if shell != "bash":  # which shows no more than the words
        assert "pending" in out
        assert "encode a film" in out


def test_a_verb_is_offered_the_jobs_that_it_is_for(project: Path, cli: Cli) -> None:
    waits, failed, done = cli.add(), cli.failed(), cli.completed()
    everything = {"last", *(str(job.id) for job in (waits, failed, done))}
    assert set(offered(project, "jobq cancel ")) == {"last", str(waits.id)}
    assert set(offered(project, "jobq wait ")) == {"last", str(waits.id)}
    assert set(offered(project, "jobq retry ")) == {"last", str(failed.id)}
    assert set(offered(project, "jobq add --after ")) == {"last", str(waits.id)}
    for verb in ("show", "explain", "tail", "list"):
        assert set(offered(project, f"jobq {verb} ")) == everything, verb


def test_lists_of_ids_go_on(project: Path, cli: Cli) -> None:
    cli.add()
    assert set(offered(project, "jobq list 7,")) == {"7,1", "7,last"}


def test_a_command_is_what_a_job_without_a_name_is_known_by(project: Path, cli: Cli) -> None:
    cli.add("ffmpeg", "-i", "a.mkv")
    assert offered(project, "jobq show ")["1"] == "pending: ffmpeg -i a.mkv"


def test_queues_statuses_and_sorts(project: Path, cli: Cli) -> None:
    cli.queue.create_queue("downloads", description="one site")
    for line in ("list -Q ", "add --queue ", "work --queue ", "queue pause ", "queue show "):
        assert offered(project, f"jobq {line}") == {"default": "queue", "downloads": "one site"}
    assert set(offered(project, "jobq list --status c")) == {"completed", "cancelled"}
    assert "failed,running" in offered(project, "jobq list --status failed,r")


def test_schedules(project: Path, cli: Cli) -> None:
    schedules = Schedules(cli.queue)
    for name in ("nightly", "noon"):
        schedules.add(name, "@daily", {"args": {"argv": ["true"]}}, tz="UTC")
    schedules.pause("noon")
    for verb in ("show", "pause", "resume", "remove", "run-now"):
        found = offered(project, f"jobq schedule {verb} n")
        assert found == {"nightly": "shell", "noon": "paused shell"}


def test_types_and_their_arguments(project: Path) -> None:
    (project / "workers").mkdir()
    (project / "workers" / "noisy.py").write_text(
        "from pydantic import BaseModel\nfrom jobq import JobWorker\nprint('loaded')\n"
        "class Noisy(JobWorker):\n    'Makes noise.'\n    job_type = 'noisy'\n"
        "    class Args(BaseModel):\n        volume: int\n        key: str = ''\n"
        "    def run(self, args, job): ...\n"
    )
    assert offered(project, "jobq add noi") == {}  # TAB runs no worker files
    with redirect_stdout(StringIO()), pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        assert run(["types", "--json"]) == 0
    assert offered(project, "jobq add noi") == {"noisy": "Makes noise."}
    for line in ("list --type ", "work --type ", "types "):
        assert "noisy" in offered(project, f"jobq {line}"), line
    assert set(offered(project, "jobq schedule add @daily noi")) == {"noisy"}
    assert set(offered(project, "jobq add noisy ")) == {"volume=", "key="}
    assert set(offered(project, "jobq add noisy volume=3 ")) == {"key="}


def test_a_database_is_not_made_by_it(project: Path) -> None:
    before = sorted(project.rglob("*"))
    for line in ("show ", "list -Q ", "queue pause ", "schedule pause ", "cancel "):
        complete("bash", project, f"jobq {line}")
    assert sorted(project.rglob("*")) == before
    assert offered(project, "jobq list -Q ") == {"default": "queue"}


def test_whatever_is_wrong_nothing_is_said(project: Path) -> None:
    (project / "jobq.toml").write_text("concurrency = 'many'")
    done = complete("bash", project, "jobq show ")
    assert (done.out.strip(), done.err) == ("", "")
    (project / "jobq.toml").write_text("")
    (project / ".jobq").mkdir()
    (project / ".jobq" / "jobq.db").write_bytes(b"no database" * 1000)
    assert offered(project, "jobq show ") == {}


def test_the_config_named_on_the_line_is_used(project: Path, cli: Cli, tmp_path: Path) -> None:
    cli.add(name="there")
    found = offered(tmp_path, f"jobq --config {project / 'jobq.toml'} show ")
    assert found["1"] == "pending: there"


EVIL = [
    "$(touch evil)", "`touch evil`", "\\$(touch evil)", "'; touch evil; '", '"; touch evil; "',
    "\\'; touch evil #", "a))'; touch evil; : '((", "[/nope]", "a\nb\x1b[31m", "x\\", "${IFS}",
]  # fmt: skip


@pytest.mark.parametrize("name", EVIL)
def test_the_name_of_a_job_is_no_command(project: Path, cli: Cli, name: str) -> None:
    """What zsh is given, it evaluates: as the contents of double quotes, in the end."""
    cli.add("x", name=name)
    for shell in SHELLS:
        done = complete(shell, project, "jobq show ")
        assert done.err == ""
        assert "1" in done.out
    spec = complete("zsh", project, "jobq show ").out
    script = (
        '_arguments() { s="${1#*: :((}"; s="${s%))}"; eval "ws=( $s )"; echo "${#ws[@]}"; }\n'
        + spec
    )
    ran = subprocess.run(
        ["bash", "-c", script], cwd=project, capture_output=True, encoding="utf-8", check=False
    )
    assert ran.stdout.strip() == "2", ran.stderr  # last, and the job
    assert not (project / "evil").exists()
    about = offered(project, "jobq show ")["1"]
    assert not set(about) & set("$`\\'\"[](){};&|<>*?!~#\n\x1b")


def test_only_harmless_characters_are_kept() -> None:
    assert harmless("ffmpeg -i 'a b'.mkv; rm $(x)") == "ffmpeg -i a b .mkv rm x"
    assert harmless("映画 é 3/4 10% a_b") == "映画 é 3/4 10% a_b"
    assert len(harmless("x" * 1000)) == 60


@pytest.mark.parametrize("line", ["jobq ", "jobq show ", "jobq list --status "])
def test_nothing_heavy_is_imported(project: Path, cli: Cli, line: str) -> None:
    cli.add()
    for shell in SHELLS:
        imported = imported_by(shell, project, line)
        assert "jobq" in imported
        assert not imported & HEAVY, shell


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_shown(project: Path, shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobq", "--show-completion", shell],
        cwd=project,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert f"_JOBQ_COMPLETE=complete_{shell}" in done.stdout
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=done.stdout, encoding="utf-8", check=True)


def test_a_shell_that_is_not_known(project: Path) -> None:
    words = [sys.executable, "-m", "jobq", "--show-completion", "tcsh"]
    done = subprocess.run(words, cwd=project, capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


@pytest.mark.slow
def test_bash_itself_completes(project: Path, cli: Cli) -> None:
    cli.add()
    bin_dir = Path(sys.executable).parent
    script = (
        'eval "$(jobq --show-completion bash)"\n'
        "COMP_WORDS=(jobq show 1)\nCOMP_CWORD=2\n_jobq_completion jobq\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=project,
        env={**os.environ, "PATH": f"{bin_dir}:{os.environ['PATH']}"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stdout.split() == ["1"]


CHOICE = """
from typing import Literal
from pydantic import BaseModel
from jobq import JobWorker

class Shrink(JobWorker):
    job_type = "shrink"

    class Args(BaseModel):
        mode: Literal["fit", "fill"] = "fit"
        flags: str = ""
        fast: bool = False

    def run(self, args, job):
        pass
"""


def test_values_of_an_argument(project: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "workers").mkdir()
    (project / "workers" / "shrink.py").write_text(CHOICE)
    monkeypatch.chdir(project)
    assert cli("types").code == 0
    assert set(offered(project, "jobq add shrink mode=fi")) == {"mode=fit", "mode=fill"}
    assert set(offered(project, "jobq add shrink fast=")) == {"fast=true", "fast=false"}
    assert set(offered(project, "jobq add shrink f")) == {"flags=", "fast="}
    # bash takes words apart at the =, and completes what follows it
    assert complete("bash", project, "jobq add shrink mode = fi").lines == ["fit", "fill"]
    assert complete("bash", project, "jobq add shrink mode =").lines == ["fit", "fill"]
    assert complete("bash", project, "jobq add shrink mode = fit fl").lines == ["flags="]
    assert "mode=fit" in complete("zsh", project, "jobq add shrink mode=f").out


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_after_the_dashes(project: Path, shell: str) -> None:
    assert "uname" in complete(shell, project, "jobq add -- unam").out
    assert "uname" not in complete(shell, project, "jobq run -- echo unam").out


def test_in_a_real_bash(project: Path, cli: Cli) -> None:
    cli.add()
    (project / "bin").mkdir()
    (project / "bin" / "jobq").symlink_to(Path(sys.executable).with_name("jobq"))
    script = """
        eval "$(jobq --show-completion bash)"
        asked() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _jobq_completion jobq; echo "${COMPREPLY[*]}"; }
        asked jobq expl
        asked jobq add -- unam
        asked jobq add cleanup dry_run = t
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=project,
        env={**os.environ, "PATH": f"{project}/bin:{os.environ['PATH']}"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stdout.split() == ["explain", "uname", "true"]
