import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT


def demo(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tools.demo", *arguments],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=300,
    )


def test_every_job_of_the_demo_ends_as_it_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBQ_DATABASE", str(tmp_path / "the-users-own.db"))
    done = demo(str(tmp_path / "demo"))
    assert done.returncode == 0, done.stdout + done.stderr
    for command in ("work -j 4 --drain --wait-retries", "cancel", "list --status failed", "tail"):
        assert f"\n$ jobq {command}" in done.stdout
    assert f"cd {tmp_path / 'demo'} && " in done.stdout.splitlines()[-1]
    assert len(list((tmp_path / "demo").glob("logs/jobs/*/artifacts/*.png"))) == 6
    assert [file.name for file in tmp_path.iterdir()] == ["demo"]


def test_the_demo_spares_a_directory_in_use(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    done = demo(str(tmp_path))
    assert done.returncode == 1
    assert "not empty" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]
