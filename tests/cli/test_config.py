from pathlib import Path

import pytest

from jobq.cli.commands.config import toml_lines
from jobq.config.loader import load_settings
from jobq.serializers import settings_document
from tests.support.cli_runner import Cli

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


SETTINGS = """
concurrency = 3
[workers]
paths = ["workers", "../more"]
[retry]
base = "3s"
[timeouts.types]
thumbnail = "1m"
[env]
capture = ["PATH", "A \\"quoted\\" ü"]
[queues.slow]
max_concurrent = 2
rate = "10/min"
timeout = "none"
[queues."with.dot"]
description = "tab\\t"
"""


def test_config_show_can_be_read_again(cli: Cli, project: Path) -> None:
    (project / "jobq.toml").write_text(SETTINGS)
    before = load_settings(project / "jobq.toml")
    (project / "jobq.toml").write_text("\n".join(toml_lines(settings_document(before))))
    assert load_settings(project / "jobq.toml") == before
    assert before.queues["slow"].max_concurrent == 2


def test_config_show(cli: Cli, project: Path) -> None:
    (project / "jobq.toml").write_text(SETTINGS)
    shown = cli("config", "show")
    assert "concurrency = 3" in shown.lines
    assert "[queues.slow]" in shown.lines
    assert cli("config") == shown
    document = cli("config", "show", "--json").json
    assert document["queues"]["slow"]["rate"] == "10/min"
    assert document["database"] == str(project / ".jobq" / "jobq.db")


def test_config_path(cli: Cli, project: Path, tmp_path: Path) -> None:
    assert cli("config", "path").out == f"{project / 'jobq.toml'}\n"
    (project / "jobq.toml").write_text("broken =")
    assert cli("config", "path").out == f"{project / 'jobq.toml'}\n"


def test_config_path_where_there_is_no_file(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli("config", "path")
    assert (result.code, result.out) == (0, "")
    assert "the defaults apply" in result.err
    assert cli("config", "check").out.startswith("The defaults are fine")


def test_config_check(cli: Cli, project: Path, workers: Path) -> None:
    result = cli("config", "check")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("jobq.toml is fine: ")
    (workers / "broken.py").write_text("x = \n")
    broken = cli("config", "check")
    assert (broken.code, broken.out) == (2, "")
    assert "broken.py:1: does not import: SyntaxError" in broken.err
    (project / "jobq.toml").write_text("\nconcurency = 3\n")
    wrong = cli("config", "check")
    assert (wrong.code, wrong.out) == (2, "")
    assert "jobq.toml:2: concurency: no such key" in wrong.err


def test_config_check_tells_of_folders_that_are_not_there(cli: Cli) -> None:
    result = cli("config", "check")
    assert result.code == 0
    assert result.err == "no workers are loaded from workers: the folder does not exist\n"


def test_a_named_file_that_is_not_there(cli: Cli) -> None:
    for argv in (["config", "path"], ["config", "check"], ["list"]):
        assert cli("--config", "nowhere.toml", *argv).code == 2
