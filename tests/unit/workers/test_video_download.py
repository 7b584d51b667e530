"""`video_download`, with the real yt-dlp, from a real site."""

import email.utils
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from jobq import ArgsError, JobQueue, JobWorker, Permanent, RetryAfter, Snooze
from jobq.job_types.registry import load
from jobq.testing import Run, run
from tests.support.local_site import (
    SIZE,
    Entry,
    Gate,
    Handler,
    Respond,
    Site,
    answers,
    breaks_off,
    clip,
    drips,
    sends,
    serving,
    waits_at,
)

Download = Callable[..., Run]


@pytest.fixture(scope="module")
def worker() -> type[JobWorker]:
    found = load([]).types["video_download"].worker
    assert found is not None
    return found


@pytest.fixture(scope="module")
def names(worker: type[JobWorker]) -> Any:
    return import_module(f"{worker.__module__.partition('.')[0]}.downloads.names")


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)  # to read all there are takes 20 ms each time
    monkeypatch.setenv("PATH", str(tmp_path / "none"))  # an FFmpeg would mend what is downloaded
    with serving() as opened:
        yield opened


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def download(worker: type[JobWorker], queue: JobQueue, out: Path) -> Download:
    def call(url: str, *, attempt: int = 1, **args: Any) -> Run:
        given = {"url": url, "output_dir": str(out), **args}
        return run(worker, given, queue=queue, attempt=attempt)

    return call


@pytest.fixture
def leaky() -> Iterator[None]:
    """For a transfer of fragments that fails: yt-dlp leaves its file to the garbage collector."""
    yield
    gc.collect()


LEAKY = pytest.mark.filterwarnings(
    "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"
)


def only_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


# -- the usual ---------------------------------------------------------------------------------


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


# -- a partial file ----------------------------------------------------------------------------


def test_what_broke_off_is_gone_on_with(download: Download, site: Site, out: Path) -> None:
    url = site.page("/big.mp4", breaks_off())

    first = download(url)

    assert type(first.error).__name__ == "DownloadFailed"
    assert only_file(out).name.endswith(".mp4.part")
    assert only_file(out).stat().st_size == SIZE // 2
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


# -- what goes wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403, 404, 410, 451])
def test_what_is_gone_or_private_is_not_tried_again(
    download: Download, site: Site, status: int
) -> None:
    url = site.page("/gone.mp4", answers(status))

    error = download(url).error

    assert isinstance(error, Permanent)
    assert str(error).startswith(f"{url}: HTTP Error {status}: ")
    assert len(site.asked_for("/gone.mp4")) == 1


@pytest.mark.parametrize("status", [408, 500, 502, 503])
def test_what_may_pass_is_tried_again(download: Download, site: Site, status: int) -> None:
    error = download(site.page("/busy.mp4", answers(status))).error

    assert type(error).__name__ == "DownloadFailed"
    assert f"HTTP Error {status}" in str(error)


@pytest.mark.parametrize("status", [403, 404, 503])
def test_an_address_that_ran_out_during_the_transfer_is_found_out_anew(
    download: Download, site: Site, status: int
) -> None:
    error = download(site.page("/a.mp4", sends(clip()), answers(status))).error

    assert type(error).__name__ == "DownloadFailed"
    assert f"HTTP Error {status}" in str(error)


@pytest.mark.parametrize("before", [(), (sends(clip()),)], ids=["at once", "during the transfer"])
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(
    download: Download, site: Site, status: int, before: tuple[Respond, ...]
) -> None:
    error = download(site.page("/a.mp4", *before, answers(status, Retry_After="7"))).error

    assert isinstance(error, Snooze)
    assert error.seconds == 7
    assert f"HTTP Error {status}" in str(error)


def test_retry_after_as_a_date(download: Download, site: Site) -> None:
    then = email.utils.format_datetime(datetime.now(UTC) + timedelta(minutes=5), usegmt=True)

    error = download(site.page("/a.mp4", answers(429, Retry_After=then))).error

    assert isinstance(error, Snooze)
    assert error.seconds == pytest.approx(300, abs=10)


def test_retry_after_as_a_date_of_the_oldest_form(
    download: Download, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    then = (datetime.now(UTC) + timedelta(minutes=5)).ctime()
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        error = download(site.page("/a.mp4", answers(429, Retry_After=then))).error
    time.tzset()

    assert isinstance(error, Snooze)
    assert error.seconds == pytest.approx(300, abs=10)


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 60), (2, 120), (3, 240), (30, 3600)])
def test_without_retry_after_the_pauses_grow(
    download: Download, site: Site, attempt: int, seconds: int
) -> None:
    error = download(site.page("/a.mp4", answers(429)), attempt=attempt).error

    assert isinstance(error, Snooze)
    assert error.seconds == seconds


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 1),
        ("999999", 6 * 3600),
        ("9" * 5000, 6 * 3600),
        ("soon", 60),
        ("-3", 60),
        ("Sun, 06 Nov 99999999999999999999 08:49:37 GMT", 60),
        ("Fri, 31 Dec 9999 23:59:59 -1200", 60),
    ],
)
def test_odd_values_of_retry_after(
    download: Download, site: Site, header: str, seconds: int
) -> None:
    error = download(site.page("/a.mp4", answers(429, Retry_After=header))).error

    assert isinstance(error, Snooze)
    assert error.seconds == seconds


def test_a_host_that_is_not_there_is_tried_again(download: Download, site: Site) -> None:
    url = site.url("/a.mp4")
    site.close()

    error = download(url).error

    assert type(error).__name__ == "DownloadFailed"
    assert "Connection refused" in str(error)


def test_a_host_that_falls_silent_is_given_up(
    download: Download,
    site: Site,
    worker: type[JobWorker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params = import_module(f"{worker.__module__.partition('.')[0]}.downloads.ytdlp")._PARAMS
    assert params["socket_timeout"] == 30
    monkeypatch.setitem(params, "socket_timeout", 0.1)
    gate = Gate()

    error = download(site.page("/a.mp4", sends(clip()), waits_at(gate))).error

    gate.opened.set()
    assert type(error).__name__ == "DownloadFailed"
    assert "timed out" in str(error)


def test_a_page_without_anything_to_download(download: Download, site: Site) -> None:
    page = sends(b"<html><body>nothing</body></html>", "text/html")

    error = download(site.page("/page", page)).error

    assert isinstance(error, Permanent)
    assert "Unsupported URL" in str(error)


def test_a_list_is_not_one_item(download: Download, site: Site, out: Path) -> None:
    url = site.feed("/feed", [Entry("One", site.clip("/1.mp4")), Entry("Two", site.clip("/2.mp4"))])

    error = download(url).error

    assert isinstance(error, Permanent)
    assert str(error) == f"{url}: a list, not one item: playlist_download takes it"
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("chosen", ["best[height=7777]", "best[", "12345"])
def test_a_format_that_is_not_there_is_not_tried_again(
    download: Download, site: Site, chosen: str
) -> None:
    assert isinstance(download(site.clip("/a.mp4"), format=chosen).error, Permanent)


def test_picture_and_sound_apart_want_ffmpeg(download: Download, site: Site) -> None:
    tracks = "".join(
        f'<AdaptationSet><Representation id="{kind}" mimeType="{kind}/mp4" codecs="{codec}" '
        f'bandwidth="1"><BaseURL>/{kind}.mp4</BaseURL></Representation></AdaptationSet>'
        for kind, codec in (("video", "avc1"), ("audio", "mp4a"))
    )
    manifest = f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period>{tracks}</Period></MPD>'

    error = download(site.page("/a.mpd", sends(manifest.encode(), "application/dash+xml"))).error

    assert isinstance(error, Permanent)
    assert "ffmpeg is not installed" in str(error)


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


def test_a_directory_that_cannot_be_made(download: Download, site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    error = download(site.clip("/a.mp4"), output_dir=str(tmp_path / "file" / "below")).error

    assert isinstance(error, Permanent)
    assert "Not a directory" in str(error)


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
    assert str(error) == "video_download needs yt-dlp: pip install 'jobq[media]'"


@pytest.mark.parametrize("version", ["2025.12.31", "2026.07.03", "2026.7.3.1"])
def test_a_ytdlp_with_known_holes_is_refused(
    download: Download, site: Site, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(import_module("yt_dlp.version"), "__version__", version)

    error = download(site.clip("/a.mp4")).error

    assert isinstance(error, Permanent)
    assert f"yt-dlp {version} has known vulnerabilities" in str(error)
    assert site.requests == []


# -- http and https, and nothing else ----------------------------------------------------------


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


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("file:///etc/passwd", "only http and https"),
        ("ftp://example.org/a", "only http and https"),
        ("ytsearch:cats", "only http and https"),
        ("example.org/a.mp4", "only http and https"),
        ("http://", "without a host"),
        ("http:///etc/passwd", "without a host"),
        ("http://example.org:99999/", "not an address"),
        ("http://[::1/", "not an address"),
        ("http://example.org/a b", "not an address"),
        ("http://example.org/\n--exec=id", "not an address"),
        ("http://example.org/\x1b[2J", "not an address"),
        ("http://example.org/#__youtubedl_smuggle=%7B%7D", "not an address"),
        ("http://example.org/" + "a" * 5000, "not an address"),
        ("", "only http and https"),
    ],
)
def test_other_addresses_are_refused_when_they_are_added(
    queue: JobQueue, url: str, why: str
) -> None:
    for job_type in ("video_download", "channel_download", "playlist_download"):
        with pytest.raises(ArgsError, match=why):
            queue.add(job_type, {"url": url})
    assert queue.find() == []


@pytest.mark.parametrize("chosen", ["", " ", "-", "best,worst", "a\nb"])
def test_formats_that_are_refused_when_they_are_added(queue: JobQueue, chosen: str) -> None:
    with pytest.raises(ArgsError, match="'format'"):
        queue.add("video_download", {"url": "http://example.org/", "format": chosen})


@pytest.mark.parametrize("chosen", ["best", "bv*[vcodec~='^(avc|h264),']+ba/b", "137+140"])
def test_formats_that_are_taken(queue: JobQueue, chosen: str) -> None:
    queue.add("video_download", {"url": "http://example.org/", "format": chosen})


def test_paths_and_dates_are_checked_when_they_are_added(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    given = {"url": "https://example.org/", "since": "30d"}

    for path, stored in (("here", f"{tmp_path}/here"), ("~/Videos", "/home/ada/Videos")):
        job = queue.add("video_download", {**given, "output_dir": path})
        assert job.args["output_dir"] == stored
    for wrong in (
        {"since": "yesteryear"},
        {"output_dir": "~nobody-of-that-name/x"},
        {"number": -1},
    ):
        with pytest.raises(ArgsError, match=next(iter(wrong))):
            queue.add("video_download", {**given, **wrong})


# -- file names --------------------------------------------------------------------------------

HOSTILE = [
    "../../.bashrc",
    "/etc/passwd",
    "..",
    ".",
    "",
    "   ",
    "~/.ssh/authorized_keys",
    "$(id)",
    "`id`; rm -rf ~ #",
    "-rf --exec=id",
    "%(id)s %s %n %% $HOME ${HOME}",
    "a\0b",
    "line\nbreak\r\ttab",
    "\x1b]0;owned\x07\x1b[2J\x7f\x9b31m",
    "C:\\Windows\\..\\system32\\con",
    "ends with dots ...",
    "x" * 300,
    "ü" * 300,
    "🎬" * 300,
    "👨\u200d👩\u200d👧 family",
    "\u202egnp.exe",
    "\ud800 half a character",
    "e\u0301" * 200,
    "\u2215\uff0f\u29f8 slashes of other kinds",
    ".part",
]


def files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("title", HOSTILE, ids=range(len(HOSTILE)))
def test_no_title_leads_out_of_the_directory(
    download: Download, site: Site, queue: JobQueue, tmp_path: Path, out: Path, title: str
) -> None:
    database = queue.settings.database
    own = {database.with_suffix(f".downloads.{suffix}") for suffix in ("jsonl", "lock")}
    before = files_below(tmp_path) | own
    url = site.page("/odd.mp4", breaks_off())
    title = title.encode(errors="replace").decode()

    download(url, title=title)
    partial = files_below(tmp_path) - before
    done = download(url, title=title)

    assert done.error is None
    (new,) = files_below(tmp_path) - before
    for path in (new, *partial):
        assert os.path.realpath(path.parent) == os.path.realpath(out)
        assert path.name[0] not in "-.~ "
        assert path.name.isprintable() or "\u200d" in title
        assert len(os.fsencode(path.name)) <= 255
    assert [path.name for path in partial] == [f"{new.name}.part"]
    assert new.suffix == ".mp4"
    assert new.read_bytes() == clip()


@pytest.mark.parametrize("title", HOSTILE, ids=range(len(HOSTILE)))
def test_names_leave_room_for_what_yt_dlp_adds(names: Any, title: str) -> None:
    stem = names.file_stem(title, "youtube:" + "x" * 40, 99_999)

    assert "/" not in stem
    assert len(f"{stem}.f{'9' * 30}.unknown_video.part-Frag99999.part".encode()) <= 255


def test_a_page_s_title_is_no_path(download: Download, site: Site, tmp_path: Path) -> None:
    site.clip("/1.mp4")
    page = b'<html><title>\x1b[2J../../../../tmp/$(id)</title><video src="/1.mp4"></video></html>'

    path = Path(download(site.page("/watch", sends(page, "text/html"))).result["path"])

    assert path.parent == tmp_path / "out"
    assert "\x1b" not in path.name


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
    assert "a symbolic link is not written through" in str(error)
    assert not victim.exists()


@pytest.mark.parametrize(
    ("title", "stem"),
    [
        ("A talk", "A talk [abc]"),
        ("  A\n talk ", "A talk [abc]"),
        ("AC/DC: Live?", "AC_DC_ Live_ [abc]"),
        ("../../.bashrc", "bashrc [abc]"),
        ("$(id)", "$(id) [abc]"),
        ("...", "untitled [abc]"),
        ("e\u0301te\u0301", "été [abc]"),
        ("👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧 [abc]"),
        ("ü" * 300, "ü" * 60 + " [abc]"),
        ("🎬" * 31, "🎬" * 30 + " [abc]"),
    ],
)
def test_what_names_are_like(names: Any, title: str, stem: str) -> None:
    assert names.file_stem(title, "youtube:abc") == stem


def test_ids_that_are_not_plain_become_digests(names: Any) -> None:
    ids = {names.file_id(key) for key in ("x:../a", "x:a/b", "x:" + "a" * 41, "x:", "y:../a")}

    assert len(ids) == 5
    assert all(len(one) == 16 and one.isalnum() for one in ids)


def test_keys_are_of_bounded_length(names: Any) -> None:
    assert names.item_key("Youtube", "dQw4") == "youtube:dQw4"
    for odd in ("a" * 5000, "a\nb", "a\0b"):
        key = names.item_key("Generic", odd)
        assert key.startswith("generic:sha256-")
        assert key != names.item_key("Generic", odd + "!")
