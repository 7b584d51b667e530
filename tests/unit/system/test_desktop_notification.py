"""Notifications on the desktop: the command that shows them, and the jobs that ask for one."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobq.system.desktop_notification import command, notify
from tests.support.project import Project
from tests.support.project import project as project  # noqa: PLC0414 - a fixture


def desktop(project: Project) -> dict[str, str]:
    """A PATH with a notify-send that writes down what it was given."""
    folder = project.root / "bin"
    folder.mkdir()
    program = folder / "notify-send"
    program.write_text(f'#!/bin/sh\nprintf "%s|" "$@" >> {project.root}/shown\n')
    program.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.mark.slow
def test_wait_notify_shows_what_became_of_all(project: Project) -> None:
    env = desktop(project)
    for code in (0, 0, 3):
        project.shell(f"exit {code}", max_retries=0)
    project.drain()
    assert project.jobq("wait", "1-3", "--notify", env=env).returncode == 1
    shown = (project.root / "shown").read_text()
    assert shown.endswith("|jobq: 3 jobs ended|2 completed, 1 failed|")


@pytest.mark.slow
def test_add_notify_shows_the_end(project: Project) -> None:
    env = desktop(project)
    project.jobq("add", "--notify", "--name", "the film", "--", "true")
    project.jobq("add", "--", "true")
    done = project.jobq("work", "--drain", env=env)
    assert done.returncode == 0, done.stderr
    shown = (project.root / "shown").read_text()
    assert shown == "--app-name=jobq|--|jobq: the film completed|job 1|"


@pytest.mark.slow
def test_without_a_desktop_nothing_is_said_and_nothing_fails(project: Project) -> None:
    nowhere = {"PATH": str(project.root)}
    job = project.shell("exit 0", tags={"jobq:notify": "1"})
    done = project.jobq("work", "--drain", env=nowhere)
    assert (done.returncode, "notif" in done.stdout + done.stderr) == (0, False)
    waited = project.jobq("wait", str(job.id), "--notify", env=nowhere)
    assert (waited.returncode, waited.stdout, waited.stderr) == (0, "", "")


def which(*names: str) -> Callable[[str], str | None]:
    return lambda name: f"/bin/{name}" if name in names else None


def test_what_shows_a_notification() -> None:
    assert command("-t", "a < b", which("notify-send")) == [
        "/bin/notify-send", "--app-name=jobq", "--", "-t", "a &lt; b",
    ]  # fmt: skip
    apple = command('"; do shell script "id', "b", which("osascript"))
    assert apple is not None
    assert apple[-2:] == ['"; do shell script "id', "b"]  # arguments: never part of the script
    assert not any("id" in line.split() for line in apple[:-2])
    assert command("a", "b", which()) is None


def test_a_desktop_that_hangs_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "notify-send"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("jobq.system.desktop_notification.NOTIFY_TIMEOUT_S", 0.2)
    began = time.monotonic()
    assert not notify("a", "b")
    assert time.monotonic() - began < 10
