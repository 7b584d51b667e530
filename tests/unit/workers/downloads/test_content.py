"""Media told from words that hosts send in their place, and the types of files from scripts."""

import gzip
from importlib import import_module
from pathlib import Path

import pytest

from jobq import Permanent
from tests.support.local_site import Site, clip, sends
from tests.support.workers import LEAKY, Download

ERROR = b'{"error": "quota exceeded", "retry": "tomorrow"}\n'
XML = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'
PAGE = b"<!DOCTYPE html><html><body>Down for maintenance</body></html>"


# -- words -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (ERROR, "application/json"),
        (ERROR, "text/plain"),
        (ERROR, "video/mp4"),
        (ERROR, "application/octet-stream"),
        (b"Fehler: nicht verf\xfcgbar", "text/plain; charset=iso-8859-1"),
        ("Fehler: nicht verfügbar".encode("utf-16"), "text/plain"),
        (b"Quota exceeded. " * 1000, "text/plain"),
        (PAGE, "text/html"),
        (PAGE, "video/mp4"),
        (XML, "application/xml"),
        (XML, "text/xml"),
        (ERROR + b"\0", "application/json"),
        (ERROR.decode().encode("utf-16-le"), "application/json"),
    ],
)
@pytest.mark.parametrize("path", ["/film.mp4", "/talk.mp3"])
def test_words_are_not_saved_and_tried_again(
    download: Download, site: Site, out: Path, path: str, body: bytes, kind: str
) -> None:
    url = site.page(path, sends(body, kind))

    error = download(url).error

    assert type(error).__name__ == "DownloadFailed"  # neither completed nor failed for good
    assert str(error).startswith(f"{url}: the host sent ")
    assert list(out.iterdir()) == []
    site.page(path, sends(clip()))
    assert download(url).error is None


@pytest.mark.parametrize(
    ("body", "kind", "name"),
    [
        (b"GIF89a\1\0\1\0\x80\0\0", "image/gif", "a picture"),
        (b"\x89PNG\r\n\x1a\n\0\0", "video/mp4", "a picture"),
        (b"%PDF-1.4\n\0", "application/pdf", "a PDF document"),
        (gzip.compress(ERROR, mtime=0), "application/json", "a gzip archive"),
    ],
)
def test_other_files_are_not_saved_as_media(
    download: Download, site: Site, out: Path, body: bytes, kind: str, name: str
) -> None:
    error = download(site.page("/film.mp4", sends(body, kind))).error

    assert str(error).endswith(f"/film.mp4: the host sent {name} ({kind}), not media")
    assert list(out.iterdir()) == []


def test_words_are_quoted(download: Download, site: Site) -> None:
    error = download(site.page("/a.mp4", sends(ERROR, "application/json"))).error

    said = '"{"error": "quota exceeded", "retry": "tomorrow"}"'
    assert str(error).endswith(
        f"the host sent text (application/json), which begins {said}, not media"
    )


def test_words_during_the_transfer_are_not_saved(download: Download, site: Site, out: Path) -> None:
    error = download(site.page("/a.mp4", sends(clip()), sends(PAGE, "text/html"))).error

    assert type(error).__name__ == "DownloadFailed"
    assert "which begins" in str(error)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "text/html", ""])
def test_media_of_a_wrong_type_are_saved(
    download: Download, site: Site, out: Path, kind: str
) -> None:
    assert download(site.page("/film.mp4", sends(clip(), kind))).error is None

    (file,) = out.iterdir()
    assert file.read_bytes() == clip()


def test_subtitles_are_text(download: Download, site: Site) -> None:
    text = b"WEBVTT\n\n00:00.000 --> 00:01.000\nHello\n"
    assert download(site.page("/talk.vtt", sends(text, "text/vtt"))).error is None


@LEAKY
@pytest.mark.usefixtures("leaky")
def test_words_for_a_part_of_a_stream_are_not_saved(
    download: Download, site: Site, out: Path
) -> None:
    text = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/0.ts\n#EXT-X-ENDLIST\n"
    url = site.page("/a.m3u8", sends(text.encode(), "application/x-mpegurl"))
    site.page("/0.ts", sends(PAGE, "text/html"))

    error = download(url).error

    assert type(error).__name__ == "DownloadFailed"
    assert "Down for maintenance" in str(error)
    assert [path for path in out.iterdir() if path.suffix == ".mp4"] == []


# -- types -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/get.aspx", "/get", "/v1.5", "/get.cgi", "/get.bin", "/a.json"])
def test_an_address_that_names_no_type(
    download: Download, site: Site, out: Path, path: str
) -> None:
    assert download(site.page(path, sends(clip(), "audio/mpeg"))).error is None

    (file,) = out.iterdir()
    assert file.suffix == ".mp3"


@pytest.mark.parametrize(
    ("headers", "suffix"),
    [
        ({"Content_Type": "audio/mpeg"}, ".mp3"),
        ({"Content_Type": "Audio/X-MPEG; charset=utf-8"}, ".mp3"),
        ({"Content_Type": "audio/ogg"}, ".ogg"),
        ({"Content_Type": "application/ogg"}, ".ogg"),
        ({"Content_Type": "audio/mp4"}, ".m4a"),
        ({"Content_Type": "audio/x-m4a"}, ".m4a"),
        ({"Content_Type": "video/mp4"}, ".mp4"),
        ({"Content_Type": "video/webm"}, ".webm"),
        ({"Content_Disposition": 'attachment; filename="Talk 1.mp3"'}, ".mp3"),
        ({"Content_Disposition": "attachment; filename*=UTF-8''%C3%9C.ogg"}, ".ogg"),
        ({"Content_Disposition": 'attachment; filename="../x.M4A"'}, ".m4a"),
        ({"Content_Type": "audio/mpeg", "Content_Disposition": "inline; filename=a.php"}, ".mp3"),
    ],
)
def test_what_a_script_sends_is_named_by_its_type(
    download: Download, site: Site, out: Path, headers: dict[str, str], suffix: str
) -> None:
    given = dict(headers)
    kind = given.pop("Content_Type", "application/octet-stream")

    assert download(site.page("/get.php", sends(clip(), kind, **given))).error is None

    (file,) = out.iterdir()
    assert file.suffix == suffix
    assert file.read_bytes() == clip()


@pytest.mark.parametrize(
    "headers", [{}, {"Content_Disposition": "attachment; filename=run.sh"}], ids=["none", "program"]
)
def test_a_script_that_does_not_say_what_it_sends(
    download: Download, site: Site, out: Path, headers: dict[str, str]
) -> None:
    url = site.page("/get.php", sends(clip(), "application/octet-stream", **headers))

    download(url)

    assert all(path.suffix == ".unknown_video" for path in out.iterdir())


def test_a_script_of_an_unknown_type_of_video(download: Download, site: Site) -> None:
    error = download(site.page("/get.php", sends(clip(), "video/x-strange"))).error

    assert isinstance(error, Permanent)
    assert "files of type php are not saved" in str(error)


def test_a_script_in_a_player(download: Download, site: Site, out: Path) -> None:
    site.page("/get.php", sends(clip(), "video/webm"))
    page = b'<html><title>A</title><video><source src="/get.php"></video></html>'

    assert download(site.page("/watch", sends(page, "text/html"))).error is None

    (file,) = out.iterdir()
    assert file.suffix == ".webm"


def test_programs_are_those_of_a_user(package: str) -> None:
    content = import_module(f"{package}.downloads.content")

    assert not content.PROGRAM_SUFFIXES & content.ALLOWED_SUFFIXES
    assert not any(map(content.is_unclear, [*content.PROGRAM_SUFFIXES, "mp3", "MP4", "mkv"]))
