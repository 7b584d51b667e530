"""The bundled workers, run in this process, and a site for them to download from."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobq import JobQueue, JobWorker
from jobq.job_types.registry import load
from jobq.testing import Run, run
from tests.support.local_site import Site, serving
from tests.support.workers import Channel, Clean, Download, Extract


@pytest.hookimpl(tryfirst=True)  # before the tests are selected by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what downloads as slow."""
    for item in items:
        if "site" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def workers() -> dict[str, type[JobWorker]]:
    return {name: found.worker for name, found in load([]).types.items() if found.worker}


@pytest.fixture(scope="session")
def package(workers: dict[str, type[JobWorker]]) -> str:
    """The name of the package that the bundled workers are imported as."""
    return workers["video_download"].__module__.partition(".")[0]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)  # reading the real file takes 20 ms each time
    monkeypatch.setenv("PATH", str(tmp_path / "none"))  # an FFmpeg would repair the downloads
    with serving() as opened:
        yield opened


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The directory that downloads go to."""
    return tmp_path / "out"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory to clean."""
    path = tmp_path / "files"
    path.mkdir()
    return path


@pytest.fixture
def clean(workers: dict[str, type[JobWorker]], queue: JobQueue) -> Clean:
    return lambda *folders, **args: run(
        workers["cleanup"],
        {"directories": [str(folder) for folder in folders], **args},
        queue=queue,
    )


@pytest.fixture
def extract(workers: dict[str, type[JobWorker]]) -> Extract:
    return lambda path, **args: run(workers["metadata_extraction"], {"path": str(path), **args})


@pytest.fixture
def leaky() -> Iterator[None]:
    """For a transfer of fragments that fails: yt-dlp leaves its file to the garbage collector."""
    yield
    gc.collect()


@pytest.fixture
def download(workers: dict[str, type[JobWorker]], queue: JobQueue, out: Path) -> Download:
    def call(url: str, *, attempt: int = 1, **args: Any) -> Run:
        given = {"url": url, "output_dir": str(out), **args}
        return run(workers["video_download"], given, queue=queue, attempt=attempt)

    return call


@pytest.fixture
def channel(workers: dict[str, type[JobWorker]], queue: JobQueue, out: Path) -> Channel:
    def call(url: str, *, job_type: str = "channel_download", **args: Any) -> Run:
        return run(workers[job_type], {"url": url, "output_dir": str(out), **args}, queue=queue)

    return call
