"""Packaging: sdist, wheel, and the command in an environment of its own.

Dependencies come from wherever pip is configured to get them.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.media import make_clip
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

NOT_SOURCE = shutil.ignore_patterns(
    ".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "build", "dist", ".jobq"
)


def check(*command: str | Path, cwd: Path) -> str:
    """Run a command that must succeed, and return its output."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


class Installed:
    """A clean environment that the wheel was installed into."""

    def __init__(self, folder: Path) -> None:
        self.dist = build(folder)
        self.folder = folder
        self._bin = folder / "venv" / "bin"
        check(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
        (wheel,) = self.dist.glob("*.whl")
        # Compiling modules that are never imported would take longer than everything else.
        check(
            sys.executable, "-m", "pip", "--python", self._bin / "python", "install",
            "--no-compile", "--disable-pip-version-check",
            "--constraint", ROOT / "constraints.txt", f"{wheel}[media]", cwd=folder,
        )  # fmt: skip

    def jobq(self, *words: str, cwd: Path) -> str:
        return check(self._bin / "jobq", *words, cwd=cwd)

    def files(self) -> list[Path]:
        """Return what the wheel put into site-packages, relative to it."""
        script = "from importlib.metadata import files; print(*files('jobq'), sep='\\n')"
        listed = check(self._bin / "python", "-P", "-c", script, cwd=self.folder).splitlines()
        return [Path(line) for line in listed if not line.endswith(".pyc")]


def build(folder: Path) -> Path:
    """Build sdist and wheel without touching the checkout, and return their folder."""
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=NOT_SOURCE)
    check(sys.executable, "-m", "build", "--no-isolation", source, cwd=folder)
    return source / "dist"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    # Before the fixtures of single tests: pip's settings and cache are the user's own.
    return Installed(tmp_path_factory.mktemp("packaging"))


def test_what_is_installed_works(installed: Installed, tmp_path: Path) -> None:
    # One test, so that one process builds and installs once.
    the_sdist_has_what_it_takes_to_test(installed)
    only_jobq_is_installed(installed)
    bundled_types_run(installed, tmp_path)


def the_sdist_has_what_it_takes_to_test(installed: Installed) -> None:
    (sdist,) = installed.dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = "Makefile README.md CHANGELOG.md LICENSE constraints.txt pyproject.toml tools/demo.py"
    assert names >= {*wanted.split(), "docs/cli.md", "workers/cleanup.py", "tests/conftest.py"}


def only_jobq_is_installed(installed: Installed) -> None:
    files = installed.files()
    inside = {file.parts[0] for file in files if ".." not in file.parts}
    assert len(inside) == 2
    assert {name.partition("-")[0] for name in inside} == {"jobq"}
    assert [file.name for file in files if ".." in file.parts] == ["jobq"]  # the command
    bundled = {file.name for file in files if file.parent == Path("jobq/_workers")}
    assert bundled == {file.name for file in (ROOT / "workers").glob("*.py")}
    assert {Path("jobq/py.typed"), Path("jobq/templates/jobq.toml")} <= set(files)
    scripts = {file.name for file in files if file.parent == Path("jobq/backends/redis/lua")}
    assert scripts == {file.name for file in (ROOT / "jobq/backends/redis/lua").glob("*.lua")}


def bundled_types_run(installed: Installed, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    installed.jobq("init", cwd=project)
    types = json.loads(installed.jobq("types", "--json", cwd=project))
    assert {"shell", "metadata_extraction", "cleanup", "hello"} <= {each["type"] for each in types}
    make_clip(project / "clip.mp4")
    for words in (
        ["metadata_extraction", "path=clip.mp4"],
        ["cleanup", "older_than=30d"],
        ["hello", "name=Ada"],
        ["--", "true"],
    ):
        installed.jobq("add", *words, cwd=project)
    installed.jobq("work", "--drain", cwd=project)
    jobs: list[dict[str, Any]] = json.loads(installed.jobq("list", "--json", cwd=project))
    assert [(job["status"], job["error"]) for job in jobs] == [("completed", None)] * 4
    assert jobs[0]["result"]["duration"] == pytest.approx(1, abs=0.1)
