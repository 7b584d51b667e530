"""`jobq run cleanup` as cron calls it: what is deleted, what is printed, and the exit code."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.restricted import NEEDS_MOUNTS, with_mounts

JOBQ = (sys.executable, "-m", "jobq")


def jobq(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*JOBQ, *words], cwd=folder, capture_output=True, encoding="utf-8", check=False
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project made 40 days ago, with an old file and a new one."""
    assert jobq(tmp_path, "init").returncode == 0
    (tmp_path / "old").write_text("12345")
    for path in tmp_path.rglob("*"):
        os.utime(path, (time.time() - 40 * 86400,) * 2)
    (tmp_path / "new").touch()
    return tmp_path


def clean(folder: Path) -> tuple[str, ...]:
    return "run", "cleanup", f"directories={json.dumps([str(folder)])}", "older_than=30d"


def test_a_project_survives_its_own_cleanup(folder: Path) -> None:
    before = {path for path in folder.rglob("*") if path.is_file()}

    done = jobq(folder, *clean(folder))

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert {path.name for path in before if not path.exists()} == {"old"}
    assert {"jobq.toml", "workers"} <= {path.name for path in folder.iterdir()}


def test_a_dry_run_prints_its_list(folder: Path) -> None:
    done = jobq(folder, *clean(folder), "dry_run=true")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"would delete '{folder}/old' (5 bytes)\n"
    assert (folder / "old").exists()


@NEEDS_MOUNTS
@pytest.mark.parametrize("places", [["a", "b"], ["a"]], ids=["all", "some"])
def test_what_could_not_be_deleted_is_told_for_cron_to_mail(
    folder: Path, places: list[str]
) -> None:
    mounts: list[list[str | Path]] = []
    for place in ("a", "b"):
        (folder / "files" / place).mkdir(parents=True)
        (folder / "files" / place / "old").touch()
        os.utime(folder / "files" / place / "old", (0, 0))
    for place in places:  # an immutable file would do, if every file system had them
        target = folder / "files" / place / "old"
        mounts.append(["--bind", target, target])

    done = with_mounts(mounts, *JOBQ, *clean(folder / "files"), cwd=folder)

    why = f"'{folder}/files/a/old': Device or resource busy"
    if places == ["a"]:
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr == f"not everything could be deleted: {why}\n"
    else:
        assert (done.returncode, done.stdout) == (1, "")
        assert "no file could be deleted: 2 errors, the first: " in done.stderr
        assert "Device or resource busy" in done.stderr
        assert len(done.stderr.splitlines()) == 1
