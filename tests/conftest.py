"""A project of its own for every test, and nothing of the one who runs them."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from jobq import JobQueue

if TYPE_CHECKING:
    from tests.support.redis_server import SharedServer

# With it, each of the many processes that tests start would compile all that it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

settings.register_profile("jobq", deadline=None, print_blob=True)
settings.load_profile("jobq")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("JOBQ_")]:
        monkeypatch.delenv(name)
    for kind in ("CONFIG", "STATE", "DATA", "CACHE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / "home" / kind.lower()))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with a jobq.toml in which nothing is set."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "jobq.toml").write_text("")
    return folder


@pytest.fixture
def queue(project: Path) -> Iterator[JobQueue]:
    """The queue of that project."""
    with JobQueue.open(project / "jobq.toml") as opened:
        yield opened


@pytest.fixture(scope="session")
def shared_redis() -> "Iterator[SharedServer]":
    """A Redis server for the tests of this process."""
    from tests.support.redis_server import SharedServer  # its library, only where it is wanted

    server = SharedServer(int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]))
    yield server
    server.close()


@pytest.fixture
def redis_url(shared_redis: "SharedServer") -> str:
    """The address of a Redis server on which there is nothing."""
    return shared_redis.empty()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, one megabyte large."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True,
        check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"needs the right to mount: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
