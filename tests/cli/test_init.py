import os
import stat
from pathlib import Path

import pytest

from jobq.cli.main import run
from jobq.config import loader
from jobq.config.loader import load_settings
from jobq.serializers import settings_document
from tests.support.cli_runner import Cli
from tests.support.paths import ROOT
from tests.support.users import STRANGER, as_root, common, jobq_as

__all__ = ["common"]

WORKER = '''
from typing import Literal
from pydantic import BaseModel, Field
from jobq import JobContext, JobWorker

class Thumbnail(JobWorker):
    """Shrink a picture.

    More about it.
    """
    job_type = "thumbnail"

    class Args(BaseModel):
        path: str = Field(description="which picture")
        width: int = Field(description="in pixels", examples=[320])
        mode: Literal["fit", "fill"] = "fit"
        tags: list[str] = []
        note: str | None = None

    def run(self, args: Args, job: JobContext) -> None:
        pass
'''


@pytest.fixture
def workers(project: Path) -> Path:
    folder = project / "workers"
    folder.mkdir()
    (folder / "thumbnail.py").write_text(WORKER)
    return folder


def test_init(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli("init", "new/place")
    assert result.code == 0
    place = tmp_path / "new" / "place"
    for name in (".jobq", "logs"):
        assert stat.S_IMODE((place / name).stat().st_mode) == 0o700
        assert (place / name / ".gitignore").read_text() == "*\n"
    assert "created new/place/jobq.toml" in result.lines
    assert "cd new/place" in result.err
    assert max(len(line) for line in result.err.splitlines()) < 80
    monkeypatch.chdir(place)
    assert cli("config", "check").out.startswith("jobq.toml is fine")
    assert cli("add", "hello", "name=you").out == "1\n"
    assert cli("add", "hello", "nme=you").code == 2


def test_init_keeps_what_is_there(cli: Cli, project: Path) -> None:
    (project / "jobq.toml").write_text("concurrency = 7\n")
    result = cli("init")
    assert result.code == 0
    assert "kept jobq.toml" in result.lines
    assert "created workers/hello.py" in result.lines
    assert load_settings(project / "jobq.toml").concurrency == 7
    again = cli("init", ".")
    assert {line.split()[0] for line in again.lines} == {"kept"}


def test_init_refuses_a_file(cli: Cli, project: Path) -> None:
    result = cli("init", "jobq.toml")
    assert result.code == 2
    assert "not a directory" in result.err


def test_every_key_of_the_template_is_there_with_its_default(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cli("init")
    file = tmp_path / "jobq.toml"
    defaults = settings_document(load_settings(file))
    text = file.read_text()
    uncommented = "\n".join(
        line.removeprefix("# ") if "=" in line or line.startswith(("#   ", "# ]", "# [")) else line
        for line in text.splitlines()
    )
    file.write_text(uncommented)
    shown = settings_document(load_settings(file))
    queues = shown.pop("queues")
    assert queues["downloads"] == {
        "description": "one site, politely",
        "max_concurrent": 2,
        "priority": 5,
        "rate": "10/min",
        "timeout": 3600.0,
        "max_retries": 5,
    }
    del defaults["queues"], defaults["concurrency"], shown["concurrency"]
    assert shown == defaults
    for key in (
        *loader._TOP_KEYS,
        *loader._TABLE_KEYS,
        *(k for t in loader._TABLE_KEYS.values() for k in t),
    ):
        assert key in uncommented


@pytest.mark.parametrize(
    ("umask", "mode"), [(0, 0o644), (0o002, 0o644), (0o022, 0o644), (0o077, 0o600), (0o777, 0o600)]
)
def test_its_files_are_for_others_to_read_at_most_whatever_the_umask(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], umask: int, mode: int
) -> None:
    root = tmp_path / "above" / "new"
    before = os.umask(umask)
    try:
        assert run(["init", str(root)]) == 0
        assert run(["--config", str(root / "jobq.toml"), "add", "hello", "name=x"]) == 0
    finally:
        os.umask(before)
    capsys.readouterr()
    folder_mode = mode | (mode & 0o444) >> 2
    for path in ("jobq.toml", "workers/hello.py"):
        assert (root / path).stat().st_mode & 0o777 == mode, path
    for path in ("", "../", "workers"):
        assert (root / path).stat().st_mode & 0o777 == folder_mode, path
    for path in ("logs", ".jobq"):
        assert (root / path).stat().st_mode & 0o777 == 0o700, path


@as_root
def test_a_user_can_go_on_after_init_with_any_umask(common: Path) -> None:
    if not all(folder.stat().st_mode & 0o001 for folder in (ROOT / "jobq" / "templates").parents):
        pytest.skip("another user can't read the templates of this checkout")
    common.chmod(0o1777)
    before = os.umask(0o777)
    try:
        made = jobq_as(STRANGER, common, "init", "new")
    finally:
        os.umask(before)
    assert (made.returncode, "Permission denied" in made.stderr) == (0, False)
    assert jobq_as(STRANGER, common / "new", "add", "--", "true").stdout == "1\n"
