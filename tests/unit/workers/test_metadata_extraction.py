import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobq import ArgsError, JobQueue, JobStatus, JobWorker, Permanent, Snooze
from jobq.job_types.registry import load
from jobq.testing import Run, drain, run
from tests.support.local_site import SIZE, Entry, Site, answers, sends, serving
from tests.support.media import make_clip
from tests.support.workers import Extract


@pytest.fixture(scope="module")
def worker() -> type[JobWorker]:
    found = load([]).types["metadata_extraction"].worker
    assert found is not None
    return found


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(
        tmp_path_factory.mktemp("media") / "clip.mp4",
        language="deu",
        tags={"title": "Grüße 🎬", "comment": "one\ntwo"},
        chapters=[(0, 0.5, "Anfang ☀"), (0.5, 1, "Ende")],
    )


def streams(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {stream["type"]: stream for stream in result["streams"]}


def test_video_and_audio(extract: Extract, clip: Path) -> None:
    done = extract(clip)

    assert done.error is None
    assert done.result["path"] == str(clip)
    assert done.result["size_bytes"] == clip.stat().st_size
    assert "mp4" in done.result["container"]["name"]
    assert done.result["container"]["long_name"] == "QuickTime / MOV"
    assert done.result["duration"] == pytest.approx(1, abs=0.1)
    assert done.result["bit_rate"] > 0
    video, audio = streams(done.result)["video"], streams(done.result)["audio"]
    assert (video["index"], video["codec"]) == (0, "mpeg4")
    assert (video["width"], video["height"]) == (64, 48)
    assert (video["pixel_format"], video["frame_rate"]) == ("yuv420p", 25.0)
    assert video["duration"] == pytest.approx(1, abs=0.1)
    assert video["language"] is None  # stored as "und"
    assert (audio["codec"], audio["profile"], audio["language"]) == ("aac", "LC", "deu")
    assert (audio["sample_rate"], audio["channels"], audio["layout"]) == (44100, 1, "mono")


def test_audio_only(extract: Extract, tmp_path: Path) -> None:
    done = extract(make_clip(tmp_path / "sound.m4a", size=None))

    assert [stream["type"] for stream in done.result["streams"]] == ["audio"]
    assert done.result["duration"] == pytest.approx(1, abs=0.1)
    assert done.result["chapters"] == []


def test_what_a_format_does_not_say_is_null(extract: Extract, tmp_path: Path) -> None:
    done = extract(make_clip(tmp_path / "clip.mkv", audio=False))

    video = streams(done.result)["video"]
    assert (video["duration"], video["bit_rate"], video["language"]) == (None, None, None)
    assert done.result["duration"] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_chapters(extract: Extract, tmp_path: Path, suffix: str) -> None:
    chapters = [(0.0, 0.5, "Anfang ☀"), (0.5, 1.0, "Ende")]

    done = extract(make_clip(tmp_path / f"clip.{suffix}", chapters=chapters))

    assert done.result["chapters"] == [
        {"start": start, "end": end, "title": title} for start, end, title in chapters
    ]


def test_tags_keep_unicode_and_newlines(extract: Extract, clip: Path) -> None:
    tags = extract(clip).result["tags"]

    assert (tags["title"], tags["comment"]) == ("Grüße 🎬", "one\ntwo")


def test_tags_that_are_not_valid_text_are_made_so(extract: Extract, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mkv", audio=False, tags={"title": "MARK"})
    path.write_bytes(path.read_bytes().replace(b"MARK", b"\xff\xfeRK"))

    result = extract(path).result

    assert result["tags"]["title"] == "\N{REPLACEMENT CHARACTER}" * 2 + "RK"
    json.dumps(result, ensure_ascii=False).encode()


def test_checksum_is_that_of_hashlib_and_shows_progress(extract: Extract, clip: Path) -> None:
    done = extract(clip)

    size = clip.stat().st_size
    assert done.result["sha256"] == hashlib.sha256(clip.read_bytes()).hexdigest()
    last = done.progress[-1]
    assert (last.done, last.total, last.message) == (size, size, "sha256")


def test_a_big_file_is_read_in_blocks(extract: Extract, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", audio=False)
    with path.open("ab") as file:
        file.write(bytes(3 << 20))

    done = extract(path)

    assert len(done.progress) == 4
    assert done.result["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_checksum_can_be_left_out(extract: Extract, clip: Path) -> None:
    done = extract(clip, checksum=False)

    assert done.result["sha256"] is None
    assert done.progress == []


# -- what is no media file ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("notes.txt", b"hello\n" * 100, "not a media file"),  # FFmpeg: "tty"
        ("data.bin", bytes(200_000), "not a media file"),  # FFmpeg: "bin"
        ("lies.mp4", b"hello\n" * 100, "not a readable media file: Invalid data"),
        ("meta.txt", b";FFMETADATA1\ntitle=x\n", "not a media file"),  # no streams
        ("list.m3u8", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n", "not a readable media"),
        ("empty.mp4", b"", "the file is empty"),
    ],
)
def test_other_files_are_refused(
    extract: Extract, tmp_path: Path, name: str, content: bytes, why: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    error = extract(path).error

    assert isinstance(error, Permanent)
    assert str(error).startswith(f"{path}: {why}")
    assert "\n" not in str(error)


def test_a_missing_file_is_refused(extract: Extract, tmp_path: Path) -> None:
    error = extract(tmp_path / "gone.mp4").error

    assert isinstance(error, Permanent)
    assert str(error) == f"{tmp_path}/gone.mp4: No such file or directory"


def test_a_directory_is_refused(extract: Extract, tmp_path: Path) -> None:
    error = extract(tmp_path).error

    assert isinstance(error, Permanent)
    assert str(error) == f"{tmp_path}: a directory, not a media file"


def test_a_fifo_is_refused_rather_than_waited_for(extract: Extract, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")

    error = extract(tmp_path / "pipe.mp4").error

    assert isinstance(error, Permanent)
    assert str(error).endswith("not a regular file")


def test_without_pyav_it_says_how_to_get_it(
    extract: Extract, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)

    error = extract(clip).error

    assert isinstance(error, Permanent)
    assert "pipx inject jobq av, or in jobq's venv: pip install av" in str(error)


# -- paths -------------------------------------------------------------------------------------


def test_a_relative_path_is_meant_from_where_the_job_is_added(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clip.parent)

    stored = load([]).types["metadata_extraction"].parse({"path": clip.name})

    assert stored == {"path": str(clip)}


@pytest.mark.parametrize("name", ["-i.mp4", "a\nb 🎬.mp4", "x%03d.mp4", "http:x.mp4"])
def test_odd_names(extract: Extract, tmp_path: Path, name: str) -> None:
    done = extract(make_clip(tmp_path / name, audio=False), sidecar=True)

    assert done.error is None
    assert json.loads((tmp_path / f"{name}.json").read_text("utf-8")) == done.result


def test_a_name_that_is_not_utf_8_is_shown_escaped(extract: Extract, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.mp4")
    make_clip(tmp_path / "clip.mp4", audio=False).rename(path)

    assert extract(path).result["path"] == f"{tmp_path}/\\xff.mp4"


def test_a_path_is_required(worker: type[JobWorker]) -> None:
    with pytest.raises(ArgsError, match="'path' is missing"):
        run(worker, {})


# -- addresses ---------------------------------------------------------------------------------


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "*")
    with serving() as opened:
        yield opened


@pytest.fixture
def look_up(worker: type[JobWorker]) -> Callable[[str], Run]:
    return lambda url: run(worker, {"url": url})


def test_an_address_is_looked_at_and_nothing_downloaded(
    look_up: Callable[[str], Run], site: Site
) -> None:
    url = site.clip("/talk.mp4")

    done = look_up(url)

    assert done.error is None
    assert done.result == {
        "url": url,
        "extractor": "generic",
        "id": "talk",
        "title": "talk",
        "webpage_url": url,
        "subtitles": [],
        "formats": [{"format_id": "mp4", "ext": "mp4"}],
    }
    assert "info.json" in done.log
    assert len(site.requests) == 1


def test_all_that_is_known_is_kept_as_an_artifact(queue: JobQueue, site: Site) -> None:
    page = (
        f'<html><title>T</title><meta property="og:description" content="{"d" * 6000}">'
        '<video src="/0.mp4"></video></html>'
    )
    url = site.page("/watch", sends(page.encode(), "text/html"))
    job = queue.add("metadata_extraction", {"url": url})

    drain(queue, real=True)

    ended = queue.get(job.id)
    assert ended.status is JobStatus.COMPLETED
    assert len(ended.result["description"]) == 5000
    whole = json.loads((queue.logs.path(job.id) / "artifacts" / "info.json").read_text("utf-8"))
    assert len(whole["description"]) == 6000
    assert whole["formats"][0]["url"] == site.url("/0.mp4")


def test_a_list_tells_its_items(look_up: Callable[[str], Run], site: Site) -> None:
    entries = [Entry("One", site.url("/1.mp4")), Entry("Zwei 🎬", site.url("/2.mp4"))]

    done = look_up(site.feed("/feed", entries, title="A channel"))

    assert done.result["title"] == "A channel"
    assert done.result["items"] == [
        {"url": site.url("/1.mp4"), "title": "One"},
        {"url": site.url("/2.mp4"), "title": "Zwei 🎬"},
    ]
    assert [seen.path for seen in site.requests] == ["/feed"]


def test_an_address_that_is_gone(look_up: Callable[[str], Run], site: Site) -> None:
    error = look_up(site.page("/gone", answers(404))).error

    assert isinstance(error, Permanent)
    assert "HTTP Error 404" in str(error)


def test_an_address_of_a_busy_host(look_up: Callable[[str], Run], site: Site) -> None:
    error = look_up(site.page("/busy", answers(429, Retry_After="30"))).error

    assert isinstance(error, Snooze)
    assert error.seconds == 30


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ({}, "'path' is missing: give a path or a url"),
        ({"url": "file:///etc/passwd"}, "only http and https URLs are fetched"),
        ({"url": "http://example.org/", "path": "/a.mp4"}, "give a path or a url, not both"),
        ({"path": "/a.mp4", "of_download": True}, "give a path or a url, not both"),
        ({"url": "http://example.org/", "sidecar": True}, "sidecar needs a path"),
    ],
)
def test_arguments_that_do_not_go_together(
    worker: type[JobWorker], args: dict[str, Any], why: str
) -> None:
    with pytest.raises(ArgsError, match=why):
        run(worker, args)


def test_of_download_wants_a_download_to_wait_for(queue: JobQueue, clip: Path) -> None:
    other = queue.add("metadata_extraction", {"path": str(clip)})
    lonely = queue.add("metadata_extraction", {"of_download": True})
    follower = queue.add("metadata_extraction", {"of_download": True}, after=[other.id])

    drain(queue, real=True)

    for job in queue.get_many([lonely.id, follower.id]):
        assert (job.status, job.attempts) == (JobStatus.FAILED, 1)
        assert job.error == "of_download: none of this job's parents is a video_download"


def test_of_download_after_a_download(queue: JobQueue, site: Site, tmp_path: Path) -> None:
    args = {"url": site.clip("/a.mp4"), "output_dir": str(tmp_path)}
    download = queue.add("video_download", args)
    follower = queue.add("metadata_extraction", {"of_download": True}, after=[download.id])

    drain(queue, real=True)

    found = queue.get(follower.id).result
    assert (found["path"], found["size_bytes"]) == (
        queue.get(download.id).result["path"],
        SIZE,
    )


def test_without_ytdlp_an_address_is_refused_and_a_file_is_not(
    look_up: Callable[[str], Run], extract: Extract, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yt_dlp", None)
    monkeypatch.setitem(sys.modules, "yt_dlp.version", None)

    error = look_up("http://127.0.0.1/").error

    assert str(error) == (
        "metadata_extraction needs yt-dlp: pipx inject jobq yt-dlp, "
        "or in jobq's venv: pip install yt-dlp"
    )
    assert extract(clip).error is None
