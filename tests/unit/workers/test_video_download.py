"""`video_download`, with the real yt-dlp, from a real site."""

from pathlib import Path

import pytest

from jobq import JobQueue, Permanent, RetryAfter
from tests.support.local_site import (
    SIZE,
    Entry,
    Handler,
    Site,
    answers,
    breaks_off,
    clip,
    drips,
    sends,
)
from tests.support.workers import LEAKY, Download


def only_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


# -- a download --------------------------------------------------------------------------------


def test_a_file_is_downloaded_and_described(download: Download, site: Site, out: Path) -> None:
    url = site.page("/talk.mp4", sends(clip(), Last_Modified="Wed, 01 Jul 2026 10:00:00 GMT"))

    done = download(url)

    assert done.error is None
    file = only_file(out)
    assert file.read_bytes() == clip()
    assert file.name.startswith("talk [")
    assert file.suffix == ".mp4"
    assert done.result == {
        "path": str(file),
        "size_bytes": SIZE,
        "downloaded": True,
        "item": f"generic:{url}",
        "title": "talk",
        "url": url,
        "duration": None,
        "date": "2026-07-01T10:00:00Z",
    }


def test_progress_is_in_bytes_with_the_speed(download: Download, site: Site) -> None:
    done = download(site.page("/slow.mp4", drips()))

    assert done.error is None
    steps = [step.done for step in done.progress]
    assert steps == sorted(steps)
    assert len(set(steps)) > 5
    assert {step.total for step in done.progress} == {SIZE}
    assert (done.progress[-1].done, done.progress[-1].total) == (SIZE, SIZE)
    speeds = [step.message for step in done.progress if step.message]
    assert speeds
    assert all(speed.endswith((" KB/s", " MB/s")) for speed in speeds)


def test_a_file_that_is_there_is_not_fetched_again(download: Download, site: Site) -> None:
    url = site.clip("/talk.mp4")
    path = download(url).result["path"]
    before = len(site.asked_for("/talk.mp4"))

    again = download(url)

    assert (again.error, again.result["path"]) == (None, path)
    assert again.result["downloaded"] is False
    assert len(site.asked_for("/talk.mp4")) == before + 1  # what it is, but not the file


def test_a_title_of_one_s_own(download: Download, site: Site, out: Path) -> None:
    done = download(site.clip("/a1b2.mp4"), title="Grüße aus Köln", number=7)

    assert done.result["title"] == "Grüße aus Köln"
    assert only_file(out).name.startswith("007 - Grüße aus Köln [")


def test_items_of_one_title_have_files_of_their_own(download: Download, site: Site) -> None:
    paths = {
        download(site.clip(f"/{folder}/same.mp4"), title="same").result["path"]
        for folder in ("one", "two")
    }

    assert len(paths) == 2


def test_a_page_with_a_player_in_it(download: Download, site: Site, out: Path) -> None:
    site.clip("/media/1.mp4")
    page = b'<html><title>My talk</title><body><video src="/media/1.mp4"></video></body></html>'

    done = download(site.page("/watch", sends(page, "text/html")))

    assert done.error is None
    assert only_file(out).read_bytes() == clip()
    assert done.result["title"].startswith("My talk")


def test_a_redirect_to_http_is_followed(download: Download, site: Site) -> None:
    site.clip("/there.mp4")

    done = download(site.page("/here", answers(302, Location="/there.mp4")))

    assert done.result["url"] == site.url("/there.mp4")


def test_a_format_is_chosen(download: Download, site: Site, out: Path) -> None:
    stream = b"#EXTM3U\n" + b"".join(
        f"#EXT-X-STREAM-INF:BANDWIDTH={rate},RESOLUTION={size}\n{name}.m3u8\n".encode()
        for name, rate, size in (("small", 100_000, "64x36"), ("large", 900_000, "640x360"))
    )
    for name in ("small", "large"):
        parts = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{name}.ts\n#EXT-X-ENDLIST\n"
        site.page(f"/{name}.m3u8", sends(parts.encode(), "application/vnd.apple.mpegurl"))
        site.page(f"/{name}.ts", sends(clip("ts"), "video/mp2t"))
    url = site.page("/talk.m3u8", sends(stream, "application/vnd.apple.mpegurl"))

    done = download(url, format="best[height<=36]")

    assert done.error is None, done.log
    assert only_file(out).stat().st_size > 0
    assert site.asked_for("/small.ts")
    assert not site.asked_for("/large.ts")


@LEAKY
@pytest.mark.usefixtures("leaky")
def test_a_stream_with_a_part_missing_is_not_taken_for_whole(
    download: Download, site: Site, out: Path
) -> None:
    parts = "".join(f"#EXTINF:1,\n/{n}.ts\n" for n in range(3))
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n{parts}#EXT-X-ENDLIST\n"
    for number in (0, 2):
        site.page(f"/{number}.ts", sends(clip("ts"), "video/mp2t"))
    url = site.page("/talk.m3u8", sends(text.encode(), "application/x-mpegurl"))

    first = download(url)
    site.page("/1.ts", sends(clip("ts"), "video/mp2t"))
    second = download(url)

    assert type(first.error).__name__ == "DownloadFailed"
    assert second.error is None
    assert only_file(out).stat().st_size == 3 * SIZE
    assert len(site.asked_for("/0.ts")) == 1  # what is there is gone on with


def test_what_is_too_old_is_noted_and_not_downloaded(
    download: Download, site: Site, out: Path, queue: JobQueue
) -> None:
    url = site.page("/old.mp4", sends(clip(), Last_Modified="Wed, 01 Jul 2026 10:00:00 GMT"))

    done = download(url, since="2026-07-02")

    assert done.error is None
    assert (done.result["path"], done.result["downloaded"]) == (None, False)
    assert list(out.iterdir()) == []
    assert download(url, since="2026-06-30").result["downloaded"]


def test_a_directory_that_cannot_be_made(download: Download, site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    error = download(site.clip("/a.mp4"), output_dir=str(tmp_path / "file" / "below")).error

    assert isinstance(error, Permanent)
    assert "Not a directory" in str(error)


def test_a_list_is_not_one_item(download: Download, site: Site, out: Path) -> None:
    url = site.feed("/feed", [Entry("One", site.clip("/1.mp4")), Entry("Two", site.clip("/2.mp4"))])

    error = download(url).error

    assert isinstance(error, Permanent)
    assert str(error) == f"{url}: a list, not one item: use playlist_download"
    assert list(out.iterdir()) == []


def test_a_stream_on_air_is_left_for_later(download: Download, site: Site, out: Path) -> None:
    manifest = (
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="dynamic" '
        'profiles="urn:mpeg:dash:profile:isoff-live:2011"><Period><AdaptationSet>'
        '<Representation id="1" mimeType="video/mp4" codecs="avc1" width="64" height="36" '
        'bandwidth="1000"><BaseURL>/a.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>'
    )
    url = site.page("/live.mpd", sends(manifest.encode(), "application/dash+xml"))

    error = download(url).error

    assert isinstance(error, RetryAfter)
    assert error.seconds == 1800
    assert list(out.iterdir()) == []


# -- a partial file ----------------------------------------------------------------------------


def test_what_broke_off_is_gone_on_with(download: Download, site: Site, out: Path) -> None:
    url = site.page("/big.mp4", breaks_off())

    first = download(url)

    assert type(first.error).__name__ == "DownloadFailed"
    partial, origin = sorted(out.iterdir())
    assert partial.name.endswith(".mp4.part")
    assert partial.stat().st_size == SIZE // 2
    assert origin.name == f"{partial.name}.ytdl"
    assert {seen.first_byte for seen in site.asked_for("/big.mp4")} == {None}

    second = download(url, attempt=2)

    assert second.error is None
    assert site.asked_for("/big.mp4")[-1].first_byte == SIZE // 2
    assert only_file(out).read_bytes() == clip()
    assert second.progress[0].done > SIZE // 2


def test_a_host_that_cannot_go_on_sends_it_all_again(
    download: Download, site: Site, out: Path
) -> None:
    def all_of_it(handler: Handler) -> None:
        handler.begin(200, "video/mp4", SIZE)
        handler.wfile.write(clip())

    url = site.page("/big.mp4", sends(clip()), breaks_off(), all_of_it)
    assert download(url).error is not None

    done = download(url)

    assert done.error is None
    assert site.asked_for("/big.mp4")[-1].first_byte == SIZE // 2
    assert only_file(out).read_bytes() == clip()
