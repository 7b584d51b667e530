"""Errors of hosts and of yt-dlp: which are retried, which snooze the job, which fail it."""

import email.utils
import time
from datetime import UTC, datetime, timedelta
from importlib import import_module

import pytest

from jobq import Permanent, Snooze
from tests.support.local_site import (
    Gate,
    Handler,
    Respond,
    Site,
    answers,
    clip,
    sends,
    waits_at,
)
from tests.support.workers import Download


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
    package: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params = import_module(f"{package}.downloads.ytdlp")._PARAMS
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


def test_messages_of_yt_dlp_name_a_cause_once_and_ask_for_no_report(
    download: Download, site: Site
) -> None:
    def breaks(handler: Handler) -> None:
        handler.begin(200, "text/html", 10_000)
        handler.wfile.write(b"<html>" + b" " * 1000)

    done = download(site.page("/page", breaks))

    assert type(done.error).__name__ == "DownloadFailed"
    for text in (str(done.error), done.log):
        assert "report this issue" not in text
        assert "caused by" not in text
        assert "yt-dlp -U" not in text
    assert "the page broke off: 494 bytes read, 8994 more expected" in str(done.error)


REPORT = (
    "please report this issue on  https://github.com/yt-dlp/yt-dlp/issues?q= , filling out the "
    "appropriate issue template. Confirm you are on the latest version using  yt-dlp -U"
)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (f"[x] a: No title (caused by KeyError('title')); {REPORT}", "[x] a: No title"),
        ("No title. Please report this issue on  https://github.com/x", "No title"),
        ("Please report to the site (caused by you)", "Please report to the site"),
        ("No title", "No title"),
    ],
)
def test_messages_in_plain_words(package: str, message: str, shown: str) -> None:
    assert import_module(f"{package}.downloads.errors").plain(message) == shown
