"""Programs are started as shells start them, and say why they can't be."""

import os
from pathlib import Path

import pytest

from jobq import JobQueue
from jobq.execution.commands import COMMAND_NOT_EXECUTABLE
from jobq.jobs.outcome import Exit
from jobq.models import Outcome
from tests.support.runs import claim_shell
from tests.unit.execution.test_commands import output, run_to_its_end


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    return tmp_path


def script(folder: Path, text: bytes, name: str = "bin/tool") -> None:
    (folder / name).write_bytes(text)
    (folder / name).chmod(0o755)


COMMANDS = [
    (["bin/tool", "a b"], {}),
    (["./bin/tool", "a b"], {}),
    (["tool", "a b"], {"PATH": "{here}/bin:/usr/bin:/bin"}),
    (["tool", "a b"], {"PATH": "/no/such:bin:/usr/bin:/bin"}),
]


@pytest.mark.parametrize(("argv", "env"), COMMANDS)
def test_a_script_without_an_interpreter_is_run_by_sh(
    queue: JobQueue, here: Path, argv: list[str], env: dict[str, str]
) -> None:
    script(here, b'echo "$# $1"; exit 3\n')
    env = {name: value.format(here=here) for name, value in env.items()}
    run = claim_shell(queue, *argv, cwd=str(here), env=env)
    assert run_to_its_end(run).exit_code == 3
    assert output(run) == "1 a b\n"


def test_an_empty_script_succeeds(queue: JobQueue, here: Path) -> None:
    script(here, b"")
    assert run_to_its_end(claim_shell(queue, "bin/tool", cwd=str(here))).exit_code == 0


def refused(end: Exit) -> str:
    assert (end.outcome, end.exit_code) == (Outcome.FAILED, COMMAND_NOT_EXECUTABLE)
    assert not end.retryable
    assert end.error is not None
    return end.error


def test_a_binary_of_another_kind_is_not_run_by_sh(queue: JobQueue, here: Path) -> None:
    script(here, b"\x7fOTHER\0\1\2\3\necho x\n")
    error = refused(run_to_its_end(claim_shell(queue, "bin/tool", cwd=str(here))))
    assert error == "bin/tool: Exec format error"


@pytest.mark.parametrize(("argv", "env"), COMMANDS)
@pytest.mark.parametrize("first", ["#!/bin/sh", "#!/usr/bin/python3"])
def test_line_ends_of_windows_are_told(
    queue: JobQueue, here: Path, argv: list[str], env: dict[str, str], first: str
) -> None:
    script(here, f"{first}\r\necho x\r\n".encode())
    env = {name: value.format(here=here) for name, value in env.items()}
    error = refused(run_to_its_end(claim_shell(queue, *argv, cwd=str(here), env=env)))
    assert error == (
        f"{argv[0]}: its interpreter '{first[2:]}' is not found, since the file has the line "
        r"ends of Windows: remove them with `sed -i 's/\r$//'`"
    )


@pytest.mark.parametrize("first", ["#!/no/such/python3", "#! /no/such/python3 -u"])
def test_a_missing_interpreter_is_named(queue: JobQueue, here: Path, first: str) -> None:
    script(here, f"{first}\necho x\n".encode())
    error = refused(run_to_its_end(claim_shell(queue, "bin/tool", cwd=str(here))))
    assert error == (
        "bin/tool: its interpreter '/no/such/python3' is not found: correct its first line"
    )


def test_pwd_is_the_directory_of_the_command(queue: JobQueue, here: Path) -> None:
    (here / "sub").mkdir()
    (here / "link").symlink_to("sub")
    for cwd, expected in (
        (here / "sub", here / "sub"),
        (here / "link", here / "link"),  # as it is in a shell after `cd link`
        (here / "sub/../link/..", here),
    ):
        run = claim_shell(queue, "printenv", "PWD", cwd=str(cwd), env={"PWD": "/captured"})
        run_to_its_end(run)
        assert output(run) == f"{expected}\n"


def test_pwd_of_what_inherits_the_directory_is_no_other_one(
    queue: JobQueue, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobq.config.environment import job_environment

    (here / "link").symlink_to("bin")
    monkeypatch.chdir(here / "bin")
    for inherited, expected in ((None, "bin"), ("/usr", "bin"), (str(here / "link"), "link")):
        if inherited is None:
            monkeypatch.delenv("PWD", raising=False)
        else:
            monkeypatch.setenv("PWD", inherited)
        assert job_environment(queue.settings)["PWD"] == str(here / expected)
    assert os.environ["PWD"] == str(here / "link")
