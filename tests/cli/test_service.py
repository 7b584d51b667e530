import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jobq.cli.commands import service
from jobq.config.loader import load_settings
from tests.support.cli_runner import Cli

HOSTILE = 'my 100% "dir" $HOME \\x é'

SYSTEMCTL = """#!/bin/sh
echo "$*" >>"$STUB/calls"
case "$*" in
*show-environment) test -e "$STUB/reachable" ;;
*is-active*) cat "$STUB/state"; grep -q ^active "$STUB/state" ;;
*is-enabled*) echo enabled ;;
*" enable "*) test ! -e "$STUB/refuse" || { echo "Failed: no" >&2; exit 1; } ;;
esac
"""


class Stub:
    """A systemctl that notes what it is asked, where the real one has nothing to talk to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        self.write("systemctl", SYSTEMCTL)
        self.write("loginctl", "#!/bin/sh\necho no\n")
        (folder / "reachable").touch()
        (folder / "state").write_text("active\n")

    def write(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def calls(self) -> list[str]:
        file = self.folder / "calls"
        calls = file.read_text().splitlines() if file.exists() else []
        file.write_text("")
        return [call for call in calls if "show-environment" not in call]


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stub:
    stub = Stub(tmp_path / "stub")
    monkeypatch.setenv("STUB", str(stub.folder))
    monkeypatch.setenv("PATH", f"{stub.bin}:/usr/bin:/bin")
    return stub


@pytest.fixture
def unit(project: Path) -> service.Service:
    return service.Service(load_settings(project / "jobq.toml"))


# -- the unit ----------------------------------------------------------------------------------


def test_the_unit_that_is_printed(cli: Cli, project: Path, unit: service.Service) -> None:
    printed = cli("service", "install", "--print", "-j", "3")
    assert (printed.code, printed.err) == (0, "")
    settings = dict(line.split("=", 1) for line in printed.lines if re.match(r"[A-Z]\w+=", line))
    assert settings["ExecStart"].endswith(f"jobq --config {project}/jobq.toml work --jobs 3")
    assert settings["ExecStart"].startswith(str(Path(sys.executable).parent))
    assert settings["KillMode"] == "mixed"
    assert settings["Restart"] == "on-failure"
    assert settings["TimeoutStopSec"] == "30"
    assert settings["WorkingDirectory"] == str(project)
    assert settings["OOMPolicy"] == "continue"
    assert not unit.path.exists()


def test_paths_are_escaped_as_systemd_wants_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / HOSTILE
    folder.mkdir()
    (folder / "jobq.toml").touch()
    monkeypatch.setenv("PATH", "/a b:/100%")
    text = service.Service(load_settings(folder / "jobq.toml")).unit(None)
    doubled = HOSTILE.replace("%", "%%")
    quoted = doubled.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    assert f'--config "{tmp_path}/{quoted}/jobq.toml" work\n' in text
    assert f"WorkingDirectory={tmp_path}/{doubled}\n" in text
    assert 'Environment="PATH=/a b:/100%%"\n' in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize("name", ["plain", HOSTILE])
def test_systemd_finds_nothing_wrong_with_it(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "jobq.toml").touch()
    project = service.Service(load_settings(folder / "jobq.toml"))
    file = tmp_path / project.name

    def complaints(text: str) -> str:
        file.write_text(text)
        done = subprocess.run(
            ["systemd-analyze", "--user", "verify", file],
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        return "\n".join(line for line in done.stderr.splitlines() if project.name in line)

    text = project.unit(2)
    assert complaints(text) == ""
    assert "mixde" in complaints(text.replace("mixed", "mixde"))  # it would have told


@pytest.mark.parametrize("name", ["new\nline", "ends so\\", "ends so ", "a\x1bb"])
def test_a_path_that_no_unit_can_have(cli: Cli, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "jobq.toml").touch()
    refused = cli("--config", str(folder / "jobq.toml"), "service", "install", "--print")
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert "rename it" in refused.err


def test_every_project_has_a_unit_of_its_own(tmp_path: Path) -> None:
    names = set()
    for folder in ("a/media", "b/media", "ö", "x" * 200):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "jobq.toml").touch()
        names.add(service.Service(load_settings(tmp_path / folder / "jobq.toml")).name)
    assert len(names) == 4
    assert all(re.fullmatch(r"jobq-[\w-]{8,60}\.service", name) for name in names)
    assert sum(name.startswith("jobq-media-") for name in names) == 2


def test_the_database_of_the_environment_goes_with_it(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JOBQ_DATABASE", str(tmp_path / "other.db"))
    text = cli("service", "install", "--print").out
    assert f"Environment=JOBQ_DATABASE={tmp_path}/other.db\n" in text
    assert "JOBQ_LOG_DIR" not in text


# -- install, status, uninstall ----------------------------------------------------------------


def test_install_status_uninstall(cli: Cli, stub: Stub, unit: service.Service) -> None:
    installed = cli("service", "install")
    assert installed.code == 0
    assert unit.name in installed.out
    assert "loginctl enable-linger" in installed.err
    assert unit.path.parent == Path(os.environ["XDG_CONFIG_HOME"], "systemd", "user")
    assert unit.path.read_text() == unit.unit(None)
    assert stub.calls() == [
        "--user daemon-reload", f"--user enable {unit.name}", f"--user start {unit.name}",
    ]  # fmt: skip
    status = cli("service", "status")
    assert (status.code, status.err) == (0, "")
    assert "state         active" in status.out
    assert "stops: `loginctl enable-linger`" in status.out
    stub.calls()
    assert cli("service", "uninstall").out == f"Removed {unit.name}\n"
    assert stub.calls() == [f"--user disable --now {unit.name}", "--user daemon-reload"]
    assert not unit.path.exists()


def test_installed_again_it_is_restarted_if_it_changed(cli: Cli, stub: Stub) -> None:
    cli("service", "install")
    cli("service", "install")
    assert "restart" not in "".join(stub.calls())
    cli("service", "install", "--jobs", "2")
    assert "restart" in stub.calls()[-1]


def test_where_services_linger_nothing_is_said_of_it(cli: Cli, stub: Stub) -> None:
    stub.write("loginctl", "#!/bin/sh\necho yes\n")
    assert cli("service", "install").err == ""
    assert "keeps running" in cli("service", "status").out


@pytest.mark.parametrize("umask", [0, 0o777])
def test_nobody_else_may_change_the_unit_whatever_the_umask(
    cli: Cli, unit: service.Service, umask: int
) -> None:
    before = os.umask(umask)
    try:
        cli("service", "install")
    finally:
        os.umask(before)
    assert unit.path.stat().st_mode & 0o777 == (0o600 if umask else 0o644)


def test_status_of_one_that_failed(cli: Cli, stub: Stub, unit: service.Service) -> None:
    cli("service", "install")
    (stub.folder / "state").write_text("failed\n")
    status = cli("service", "status", "--json")
    assert status.code == 1
    assert status.json == {
        "unit": unit.name, "path": str(unit.path), "installed": True, "enabled": True,
        "active": False, "linger": False,
    }  # fmt: skip


@pytest.mark.parametrize("verb", ["status", "uninstall"])
def test_where_it_is_not_installed(cli: Cli, stub: Stub, verb: str) -> None:
    missing = cli("service", verb)
    assert (missing.code, missing.out, missing.err.count("\n")) == (3, "", 1)
    assert "jobq service install" in missing.err


def test_without_systemctl_nothing_is_written(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unit: service.Service
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    refused = cli("service", "install")
    assert (refused.code, refused.out, refused.err.count("\n")) == (1, "", 1)
    assert "systemctl was not found" in refused.err
    assert not unit.path.exists()
    assert cli("service", "install", "--print").code == 0


def test_without_a_manager_it_is_written_and_said_how_to_go_on(
    cli: Cli, stub: Stub, unit: service.Service
) -> None:
    (stub.folder / "reachable").unlink()
    refused = cli("service", "install")
    assert (refused.code, refused.out, refused.err.count("\n")) == (1, "", 1)
    assert f"systemctl --user enable --now {unit.name}" in refused.err
    assert unit.path.exists()
    assert stub.calls() == []
    assert cli("service", "uninstall").code == 0
    assert not unit.path.exists()


def test_what_systemctl_refuses_is_passed_on(cli: Cli, stub: Stub) -> None:
    (stub.folder / "refuse").touch()
    refused = cli("service", "install")
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "Failed: no" in refused.err


# -- the server --------------------------------------------------------------------------------


def test_the_server_has_a_service_of_its_own(cli: Cli, stub: Stub, project: Path) -> None:
    printed = cli("service", "install", "--serve", "--print")
    assert f"jobq --config {project}/jobq.toml serve\n" in printed.out
    assert "Description=jobq serve for " in printed.out
    assert "SIGHUP" not in printed.out
    assert cli("service", "install", "--serve").code == 0
    of_server = service.Service(load_settings(project / "jobq.toml"), serve=True)
    assert of_server.name.startswith("jobq-serve-")
    assert of_server.path.exists()
    assert cli("service", "status").code == 3, "the one of jobs is not installed"
    assert cli("service", "status", "--serve").code in (0, 1)
    assert cli("service", "uninstall", "--serve").code == 0
    assert not of_server.path.exists()
    refused = cli("service", "install", "--serve", "-j", "2")
    assert (refused.code, refused.err) == (2, "jobq: --serve runs no jobs: leave out --jobs\n")
