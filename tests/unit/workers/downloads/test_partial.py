"""Partial files: gone on with only where the bytes are the same, and complete when they are done."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.local_site import SIZE, Handler, Respond, Site, clip, sends, serves
from tests.support.workers import LEAKY, Download

HALF = SIZE // 2
DATE = "Wed, 01 Jul 2026 10:00:00 GMT"
LATER = "Thu, 02 Jul 2026 10:00:00 GMT"


def other_clip(length: int = SIZE) -> bytes:
    """A clip that differs from `clip()` everywhere behind its first bytes."""
    return clip()[:1000] + bytes([1]) * (length - 1000)


def only_file(folder: Path) -> bytes:
    (file,) = folder.iterdir()
    assert file.suffix == ".mp4"
    return file.read_bytes()


def last_start(site: Site, path: str = "/a.mp4") -> int | None:
    return site.asked_for(path)[-1].first_byte


def broken_off(download: Download, site: Site, out: Path, **headers: str) -> str:
    """Download half of a clip; return its URL."""
    url = site.page("/a.mp4", sends(clip(), **headers), serves(clip(), HALF, **headers))
    assert download(url).error is not None
    assert sorted(path.suffix for path in out.iterdir()) == [".part", ".ytdl"]
    return url


# -- the same bytes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "if_range"),
    [
        ({"ETag": '"1"', "Last_Modified": DATE}, '"1"'),
        ({"ETag": 'W/"1"', "Last_Modified": DATE}, DATE),
        ({"Last_Modified": DATE}, DATE),
        ({"ETag": 'W/"1"'}, None),
        ({}, None),
    ],
    ids=["ETag", "weak ETag and date", "date", "weak ETag", "length alone"],
)
def test_the_rest_of_the_same_file_is_asked_for(
    download: Download, site: Site, out: Path, headers: dict[str, str], if_range: str | None
) -> None:
    url = broken_off(download, site, out, **headers)
    site.page("/a.mp4", serves(clip(), **headers))

    assert download(url).error is None

    seen = site.asked_for("/a.mp4")[-1]
    assert (seen.first_byte, seen.headers.get("if-range")) == (HALF, if_range)
    assert only_file(out) == clip()


@pytest.mark.parametrize("server", [serves, sends], ids=["heeds If-Range", "ignores If-Range"])
@pytest.mark.parametrize(
    ("before", "after", "length"),
    [
        ({"ETag": '"1"'}, {"ETag": '"2"'}, SIZE),
        ({"ETag": 'W/"1"'}, {"ETag": 'W/"2"'}, SIZE),
        ({"Last_Modified": DATE}, {"Last_Modified": LATER}, SIZE),
        ({}, {"ETag": '"2"'}, SIZE),
        ({}, {}, SIZE + 7),
        ({}, {}, SIZE - 7),
        ({"ETag": '"1"'}, {"ETag": '"1"'}, SIZE + 7),
    ],
    ids=["ETag", "weak ETag", "date", "new ETag", "longer", "shorter", "longer with its ETag"],
)
def test_another_version_is_begun_anew(
    download: Download,
    site: Site,
    out: Path,
    server: Callable[..., Respond],
    before: dict[str, str],
    after: dict[str, str],
    length: int,
) -> None:
    url = broken_off(download, site, out, **before)
    site.page("/a.mp4", server(other_clip(length), **after))

    assert download(url).error is None

    assert only_file(out) == other_clip(length)


def test_a_signature_in_the_query_may_change(download: Download, site: Site, out: Path) -> None:
    site.page("/a.mp4", sends(clip(), ETag='"1"'), serves(clip(), HALF, ETag='"1"'))
    assert download(site.url("/a.mp4?signature=1"), item="x:1", title="A").error is not None

    site.page("/a.mp4", serves(clip(), ETag='"1"'))
    assert download(site.url("/a.mp4?signature=2"), item="x:1", title="A").error is None

    assert last_start(site) == HALF
    assert only_file(out) == clip()


def test_without_a_version_the_query_belongs_to_the_address(
    download: Download, site: Site, out: Path
) -> None:
    site.page("/a.mp4", sends(clip()), serves(clip(), HALF))
    assert download(site.url("/a.mp4?id=1"), item="x:1", title="A").error is not None

    site.page("/a.mp4", serves(other_clip()))
    assert download(site.url("/a.mp4?id=2"), item="x:1", title="A").error is None

    assert only_file(out) == other_clip()


def test_another_address_of_the_item_is_begun_anew(
    download: Download, site: Site, out: Path
) -> None:
    site.page("/a.mp4", sends(clip(), ETag='"1"'), serves(clip(), HALF, ETag='"1"'))
    assert download(site.url("/a.mp4"), item="x:1", title="A").error is not None

    url = site.page("/b.mp4", serves(other_clip(), ETag='"1"'))
    assert download(url, item="x:1", title="A").error is None

    assert last_start(site, "/b.mp4") is None
    assert only_file(out) == other_clip()


def test_another_format_is_begun_anew(download: Download, site: Site, out: Path) -> None:
    formats = "".join(
        f'<Representation id="{name}" mimeType="video/mp4" codecs="avc1" width="{width}" '
        f'height="36" bandwidth="{width}"><BaseURL>/get?{name}</BaseURL></Representation>'
        for name, width in (("small", 64), ("large", 640))
    )
    manifest = (
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet>'
        f"{formats}</AdaptationSet></Period></MPD>"
    )
    url = site.page("/a.mpd", sends(manifest.encode(), "application/dash+xml"))
    site.page("/get", serves(clip(), HALF, ETag='"1"'))
    assert download(url, format="bv").error is not None

    site.page("/get", serves(other_clip(), ETag='"1"'))
    assert download(url, format="wv").error is None

    assert only_file(out) == other_clip()


# -- a partial file that is none ---------------------------------------------------------------


@pytest.mark.parametrize("length", [1, HALF, SIZE, SIZE + 50, SIZE + 5000])
def test_a_partial_file_of_unknown_origin_is_not_used(
    download: Download, site: Site, out: Path, length: int
) -> None:
    url = site.page("/a.mp4", serves(clip(), ETag='"1"'))
    path = Path(download(url).result["path"])
    path.unlink()
    path.with_name(f"{path.name}.part").write_bytes(b"\1" * length)

    assert download(url).error is None

    assert only_file(out) == clip()


@pytest.mark.parametrize("length", [SIZE, SIZE + 50, SIZE + 5000])
def test_a_partial_file_as_long_as_the_file_or_longer_is_begun_anew(
    download: Download, site: Site, out: Path, length: int
) -> None:
    url = broken_off(download, site, out, ETag='"1"')
    next(out.glob("*.part")).write_bytes(b"\1" * length)
    site.page("/a.mp4", serves(clip(), ETag='"1"'))

    assert download(url).error is None

    assert only_file(out) == clip()


@pytest.mark.parametrize("origin", ["", "{}", "[]", '{"format": 1}', "\0"])
def test_an_origin_that_is_damaged_is_none(
    download: Download, site: Site, out: Path, origin: str
) -> None:
    url = broken_off(download, site, out, ETag='"1"')
    next(out.glob("*.ytdl")).write_text(origin)
    site.page("/a.mp4", serves(clip(), ETag='"1"'))

    assert download(url).error is None

    assert last_start(site) is None
    assert only_file(out) == clip()


def test_the_origin_holds_no_address(download: Download, site: Site, out: Path) -> None:
    site.page("/a.mp4", sends(clip()), serves(clip(), HALF))
    download(site.url("/a.mp4?token=secret"))

    (origin,) = out.glob("*.ytdl")

    assert "secret" not in origin.read_text()
    assert "127.0.0.1" not in origin.read_text()


# -- odd answers -------------------------------------------------------------------------------


def part(first: int, last: int, total: int | str, **headers: str) -> Respond:
    """An answer with a part of the other clip, whatever was asked for; all of it without a range."""

    def respond(handler: Handler) -> None:
        if handler.seen.first_byte is None:
            handler.body(other_clip(), "video/mp4", ETag='"1"')
            return
        where = f"bytes {first}-{last}/{total}"
        handler.begin(206, "video/mp4", last + 1 - first, Content_Range=where, **headers)
        handler.wfile.write(other_clip()[first : last + 1])

    return respond


@pytest.mark.parametrize(
    "answer",
    [
        part(HALF + 1, SIZE - 1, SIZE),
        part(0, SIZE - 1, SIZE),
        part(HALF, SIZE - 11, SIZE),
        part(HALF, SIZE - 1, SIZE + 1),
        part(HALF, SIZE - 1, "*"),
        part(HALF, SIZE - 1, SIZE, Content_Encoding="gzip"),
        part(HALF, SIZE - 1, SIZE, ETag='"2"'),
    ],
    ids=["later", "from the start", "too short", "length", "no length", "encoded", "ETag"],
)
def test_an_answer_with_other_bytes_is_not_appended(
    download: Download, site: Site, out: Path, answer: Respond
) -> None:
    url = broken_off(download, site, out, ETag='"1"')
    site.page("/a.mp4", sends(clip(), ETag='"1"'), answer)

    assert download(url).error is None

    assert last_start(site) is None
    assert only_file(out) == other_clip()


def test_a_part_that_was_not_asked_for_is_not_the_file(
    download: Download, site: Site, out: Path
) -> None:
    def half(handler: Handler) -> None:
        handler.begin(206, "video/mp4", HALF, Content_Range=f"bytes 0-{HALF - 1}/{SIZE}")
        handler.wfile.write(clip()[:HALF])

    error = download(site.page("/a.mp4", sends(clip()), half)).error

    assert type(error).__name__ == "DownloadFailed"
    assert "the host sent only a part of the file" in str(error)
    assert list(out.iterdir()) == []


def test_a_compressed_file_is_never_gone_on_with(download: Download, site: Site, out: Path) -> None:
    packed = gzip.compress(clip())

    def compressed(handler: Handler) -> None:
        handler.begin(200, "video/mp4", len(packed), Content_Encoding="gzip", ETag='"1"')
        handler.wfile.write(packed)

    def cut(handler: Handler) -> None:
        handler.begin(200, "video/mp4", len(packed), Content_Encoding="gzip", ETag='"1"')
        handler.wfile.write(packed[:-10])

    url = site.page("/a.mp4", sends(clip()), cut, compressed)

    assert download(url).error is not None
    assert download(url).error is None
    assert {seen.first_byte for seen in site.asked_for("/a.mp4")} == {None}
    assert only_file(out) == clip()


# -- complete files ----------------------------------------------------------------------------


def test_a_file_that_a_power_cut_left_short_is_fetched_again(
    download: Download, site: Site, out: Path
) -> None:
    url = broken_off(download, site, out, ETag='"1"')
    partial = next(out.glob("*.part"))
    partial.rename(partial.with_suffix(""))  # renamed when it was whole, and then cut short
    site.page("/a.mp4", serves(clip(), ETag='"1"'))

    done = download(url)

    assert done.result["downloaded"] is True
    assert only_file(out) == clip()


def test_a_file_of_one_s_own_stays_as_it_is(download: Download, site: Site, out: Path) -> None:
    url = site.page("/a.mp4", serves(clip(), ETag='"1"'))
    path = Path(download(url).result["path"])
    path.write_bytes(b"cut by me")

    done = download(url)

    assert (done.error, done.result["downloaded"]) == (None, False)
    assert path.read_bytes() == b"cut by me"


# -- fragments ---------------------------------------------------------------------------------


def stream(site: Site, path: str, *parts: str) -> str:
    """A stream of parts; those that the site does not have yet break it off."""
    listed = "".join(f"#EXTINF:1,\n{part}\n" for part in parts)
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n{listed}#EXT-X-ENDLIST\n"
    return site.page(path, sends(text.encode(), "application/x-mpegurl"))


def ts(number: int) -> bytes:
    return b"\x47\0" + bytes([number]) * 1000


@LEAKY
@pytest.mark.usefixtures("leaky")
@pytest.mark.parametrize(
    ("parts", "kept"),
    [
        (["/0.ts?sig=2", "/1.ts?sig=2", "/2.ts?sig=2"], True),
        (["/9.ts", "/1.ts", "/2.ts"], False),
        (["/0.ts", "/1.ts"], False),
    ],
    ids=["signed anew", "other parts", "fewer parts"],
)
def test_a_stream_is_gone_on_with_if_it_lists_the_same(
    download: Download, site: Site, out: Path, parts: list[str], kept: bool
) -> None:
    url = stream(site, "/a.m3u8", "/0.ts?sig=1", "/1.ts?sig=1", "/2.ts?sig=1")
    site.page("/0.ts", sends(ts(0), "video/mp2t"))
    assert download(url).error is not None
    stream(site, "/a.m3u8", *parts)
    for number in (0, 1, 2, 9):
        site.page(f"/{number}.ts", sends(ts(number), "video/mp2t"))
    before = len(site.asked_for("/0.ts"))

    assert download(url).error is None

    numbers = [int(name[1]) for name in parts]
    assert only_file(out) == b"".join(map(ts, numbers))
    assert (len(site.asked_for("/0.ts")) == before) is (kept or 0 not in numbers)


@LEAKY
@pytest.mark.usefixtures("leaky")
def test_another_stream_of_the_item_is_begun_anew(
    download: Download, site: Site, out: Path
) -> None:
    site.page("/0.ts", sends(ts(0), "video/mp2t"))
    assert download(stream(site, "/a.m3u8", "/0.ts", "/1.ts"), item="x:1", title="A").error

    for number in (1, 2, 3):
        site.page(f"/{number}.ts", sends(ts(number), "video/mp2t"))
    assert not download(stream(site, "/b.m3u8", "/2.ts", "/3.ts"), item="x:1", title="A").error

    assert only_file(out) == ts(2) + ts(3)


@LEAKY
@pytest.mark.usefixtures("leaky")
def test_a_stream_of_ranges_needs_a_host_that_sends_them(
    download: Download, site: Site, out: Path
) -> None:
    text = (
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-BYTERANGE:1002@0\n#EXTINF:1,\n/all.ts\n"
        "#EXT-X-BYTERANGE:1002@1002\n#EXTINF:1,\n/all.ts\n#EXT-X-ENDLIST\n"
    )
    url = site.page("/a.m3u8", sends(text.encode(), "application/x-mpegurl"))

    def ranges(handler: Handler) -> None:
        start = handler.seen.first_byte or 0
        where = f"bytes {start}-{start + 1001}/2004"
        handler.begin(206, "video/mp2t", 1002, Content_Range=where)
        handler.wfile.write((ts(0) + ts(1))[start : start + 1002])

    def everything(handler: Handler) -> None:
        handler.begin(200, "video/mp2t", 2004)
        handler.wfile.write(ts(0) + ts(1))

    site.page("/all.ts", everything)
    error = download(url).error
    site.page("/all.ts", ranges)

    assert type(error).__name__ == "DownloadFailed"
    assert "the host did not send the range asked for" in str(error)
    assert download(url).error is None
    assert only_file(out) == ts(0) + ts(1)
