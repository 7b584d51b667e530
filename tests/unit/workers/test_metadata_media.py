"""`metadata_extraction`: text that FFmpeg takes for media, names it takes for patterns, pictures."""

from pathlib import Path

import av
import pytest

from jobq import Permanent
from tests.support.media import make_clip
from tests.support.workers import Extract

SUBTITLES = "1\n00:00:01,000 --> 00:00:02,000\nGrüße\n\n" * 9
LINES = "[00:12.00] one\n[ 1, 2 ]\n" * 50


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("manifest.json", b'[\n {"a": 1},\n {"b": 2}\n]\n' * 50),  # FFmpeg: "lrc"
        ("jobq.toml", b"[a]\nb = 1\n[c]\nd = 2\n"),  # FFmpeg: "lrc"
        ("app.log", LINES.encode()),
        ("latin-1.srt", SUBTITLES.encode("latin-1")),
        ("utf-16.srt", SUBTITLES.encode("utf-16")),
        ("film.srt", SUBTITLES.encode()),
        ("film.vtt", b"WEBVTT\n\n00:01.000 --> 00:02.000\nHello\n\n"),
        ("page.jpg", b"<!doctype html>\n<p>404</p>\n" * 50),  # FFmpeg: "image2"
        ("page.xhtml", b'<?xml version="1.0"?>\n<html>\n<svg></svg></html>\n'),  # "svg_pipe"
        ("width.h", b"#define X_H 1\n#define x_width 10\nstatic char x[] = {1};\n"),  # "xbm_pipe"
        ("answer.gsm", b'{"error": "not found"}\n' * 50),
        ("error.thd", b"Service unavailable\n" * 50),
    ],
)
def test_text_is_no_media(extract: Extract, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)

    error = extract(tmp_path / name).error

    assert isinstance(error, Permanent)
    assert str(error) == f"{tmp_path / name}: not a media file"


def test_a_playlist_is_not_the_media_that_it_names(extract: Extract, tmp_path: Path) -> None:
    make_clip(tmp_path / "a.ts", audio=False)
    playlist = tmp_path / "list.m3u8"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n")
    script = tmp_path / "list.ffconcat"
    script.write_text("ffconcat version 1.0\nfile 'a.ts'\n")

    for path in (playlist, script):
        assert str(extract(path).error) == f"{path}: not a media file"
    assert extract(tmp_path / "a.ts").error is None


def test_pictures_in_the_form_of_text_are_media(extract: Extract, tmp_path: Path) -> None:
    (tmp_path / "a.ppm").write_bytes(b"P3\n2 1\n255\n" + b"255 0 0\n" * 2)
    (tmp_path / "a.y4m").write_bytes(b"YUV4MPEG2 W64 H64 F25:1 C420\nFRAME\n" + b"@" * 6144)

    for name, size in (("a.ppm", (2, 1)), ("a.y4m", (64, 64))):
        (video,) = extract(tmp_path / name).result["streams"]
        assert (video["width"], video["height"]) == size


# -- pictures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rotation", "shown"), [(0, (64, 48)), (90, (48, 64)), (180, (64, 48)), (270, (48, 64))]
)
def test_how_a_picture_is_shown(
    extract: Extract, tmp_path: Path, rotation: int, shown: tuple[int, int]
) -> None:
    video, audio = extract(make_clip(tmp_path / "clip.mp4", rotation=rotation)).result["streams"]

    assert video["rotation"] == rotation
    assert (video["width"], video["height"]) == (64, 48)
    assert (video["display_width"], video["display_height"]) == shown
    assert "rotation" not in audio


def test_pixels_that_are_not_square(extract: Extract, tmp_path: Path) -> None:
    pixels = b"@" * (720 * 576 * 3 // 2)
    (tmp_path / "a.y4m").write_bytes(b"YUV4MPEG2 W720 H576 F25:1 A64:45 C420\nFRAME\n" + pixels)

    (video,) = extract(tmp_path / "a.y4m").result["streams"]

    assert (video["width"], video["display_width"], video["display_height"]) == (720, 1024, 576)


def test_without_a_picture_that_can_be_read_nothing_is_claimed(
    extract: Extract, tmp_path: Path
) -> None:
    (tmp_path / "a.y4m").write_bytes(b"YUV4MPEG2 W64 H48 F25:1 C420\n")

    (video,) = extract(tmp_path / "a.y4m").result["streams"]

    assert (video["width"], video["rotation"], video["display_width"]) == (64, None, None)


def make_picture(path: Path, size: tuple[int, int]) -> Path:
    with av.open(path.with_name("made.png"), "w", format="image2", options={"update": "1"}) as file:
        stream = file.add_stream("png", rate=1)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *size, "rgb24"
        file.mux(list(stream.encode(av.VideoFrame(*size, "rgb24"))))
        file.mux(list(stream.encode(None)))
    return path.with_name("made.png").rename(path)


@pytest.mark.parametrize(
    ("name", "matching"),
    [
        ("shot%03d.png", "shot001.png"),
        ("shot%d.png", "shot0.png"),
        ("%%%*.png", "%a.png"),
        ("[ab]*.png", "aa.png"),
        ("?.png", "a.png"),
        ("-shot%1d.png", "-shot1.png"),
        ("concat:a.png|b.png", "a.png"),
        ("file:a.png", "a.png"),
    ],
)
def test_the_file_of_that_name_is_read_not_those_that_it_matches(
    extract: Extract, tmp_path: Path, name: str, matching: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_picture(tmp_path / name, (64, 48))
    make_picture(tmp_path / matching, (32, 16))

    (video,) = extract(name).result["streams"]

    assert (video["width"], video["height"]) == (64, 48)
