"""yt-dlp held to http and https, to one directory and to media files."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from jobq import Permanent
from tests.support.local_site import (
    Respond,
    Site,
    answers,
    clip,
    sends,
)
from tests.support.workers import LEAKY, Download


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "ftp://127.0.0.1/x",
        "data:text/plain,x",
        "gopher:x",
    ],
)
@pytest.mark.parametrize("before", [(), (sends(clip()),)], ids=["at once", "during the transfer"])
def test_a_redirect_elsewhere_is_refused(
    download: Download, site: Site, out: Path, target: str, before: tuple[Respond, ...]
) -> None:
    error = download(site.page("/a.mp4", *before, answers(302, Location=target))).error

    assert isinstance(error, Permanent)
    assert f"it redirects to {target}, which is not fetched" in str(error)
    assert list(out.iterdir()) == []


@LEAKY
@pytest.mark.usefixtures("leaky")
@pytest.mark.parametrize("place", ["segment", "key", "manifest", "embed"])
def test_what_a_page_or_manifest_names_is_not_fetched_either(
    download: Download, site: Site, out: Path, tmp_path: Path, place: str
) -> None:
    secret = tmp_path / "secret.ts"
    secret.write_bytes(b"my secret")
    named = secret.as_uri()
    key = f'#EXT-X-KEY:METHOD=AES-128,URI="{named}"\n' if place == "key" else ""
    segment = named if place == "segment" else "/a.ts"
    site.page("/a.ts", sends(bytes(1600), "video/mp2t"))
    pages = {
        "manifest": (f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{named}\n", "application/x-mpegurl"),
        "embed": (f'<html><body><video src="{named}"></video></body></html>', "text/html"),
    }
    media = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n{key}#EXTINF:1,\n{segment}\n#EXT-X-ENDLIST\n"
    text, kind = pages.get(place, (media, "application/x-mpegurl"))

    done = download(site.page("/page", sends(text.encode(), kind)))

    assert done.error is not None
    assert not any(b"secret" in file.read_bytes() for file in out.iterdir())


@pytest.mark.parametrize("suffix", ["sh", "desktop", "py", "exe", "html"])
def test_programs_are_not_saved(download: Download, site: Site, out: Path, suffix: str) -> None:
    error = download(site.page(f"/film.{suffix}", sends(clip()))).error

    assert isinstance(error, Permanent)
    assert f"files of type {suffix} are not saved" in str(error)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("suffix", ["", ".part"])
def test_a_symbolic_link_is_not_written_through(
    download: Download, site: Site, tmp_path: Path, out: Path, suffix: str
) -> None:
    victim = tmp_path / "victim"
    url = site.clip("/a.mp4")
    path = Path(download(url).result["path"])
    path.unlink()
    path.with_name(path.name + suffix).symlink_to(victim)

    error = download(url).error

    assert isinstance(error, Permanent)
    assert "is a symbolic link, which is not followed" in str(error)
    assert not victim.exists()


def test_a_page_s_title_is_no_path(download: Download, site: Site, tmp_path: Path) -> None:
    site.clip("/1.mp4")
    page = b'<html><title>\x1b[2J../../../../tmp/$(id)</title><video src="/1.mp4"></video></html>'

    path = Path(download(site.page("/watch", sends(page, "text/html"))).result["path"])

    assert path.parent == tmp_path / "out"
    assert "\x1b" not in path.name


def test_lists_within_lists_are_one_list(package: str) -> None:
    """As the tabs of a channel come."""
    entries = import_module(f"{package}.downloads.ytdlp")._entries

    def tab(*ids: str) -> dict[str, Any]:
        return {"_type": "playlist", "entries": [{"_type": "url", "id": one} for one in ids]}

    nested = {"_type": "playlist", "entries": [tab("a", "b"), None, tab(), tab("c")]}
    assert [entry["id"] for entry in entries(None, nested)] == ["a", "b", "c"]
