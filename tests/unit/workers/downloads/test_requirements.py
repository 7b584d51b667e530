"""yt-dlp, missing or too old."""

import subprocess
import sys
from importlib import import_module

import pytest

from jobq import Permanent
from tests.support.local_site import (
    Site,
)
from tests.support.workers import Download


def test_listing_the_job_types_neither_needs_ytdlp_nor_loads_it() -> None:
    program = (
        "import sys; sys.modules['yt_dlp'] = None\n"
        "from jobq.job_types.registry import load\n"
        "found = load([])\n"
        "print(found.errors, 'video_download' in found.types)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert done.stdout == "[] True\n", done.stderr


def test_without_ytdlp_it_says_how_to_get_it(
    download: Download, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yt_dlp", None)
    monkeypatch.setitem(sys.modules, "yt_dlp.version", None)

    error = download(site.clip("/a.mp4")).error

    assert isinstance(error, Permanent)
    assert str(error) == (
        "video_download needs yt-dlp: pipx inject jobq yt-dlp, "
        "or in jobq's venv: pip install yt-dlp"
    )


@pytest.mark.parametrize("version", ["2025.12.31", "2026.07.03", "2026.7.3.1"])
def test_a_ytdlp_with_known_holes_is_refused(
    download: Download, site: Site, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(import_module("yt_dlp.version"), "__version__", version)

    error = download(site.clip("/a.mp4")).error

    assert isinstance(error, Permanent)
    assert f"yt-dlp {version} has known vulnerabilities" in str(error)
    assert site.requests == []
