"""Downloads through real supervisors: the command, its children, yt-dlp, and a site to ask."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from yt_dlp.aes import aes_cbc_encrypt_bytes

from jobq import Job, JobStatus
from jobq.models import Outcome
from tests.support.local_site import (
    SIZE,
    Gate,
    Site,
    answers,
    breaks_off,
    clip,
    sends,
    serving,
    waits_at,
)
from tests.support.project import Project, wait_until


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)  # to read all there are takes 20 ms each time
    with serving() as opened:
        yield opened


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def add(project: Project, job_type: str, url: str, out: Path, *args: str) -> Job:
    """Add a job as people do."""
    done = project.jobq("add", job_type, f"url={url}", f"output_dir={out}", *args)
    assert done.returncode == 0, done.stderr
    return project.queue.get(int(done.stdout))


def wait_until_midway(project: Project, job: Job) -> None:
    """Wait until a download shows progress; how much, before it gets stuck, is yt-dlp's choice."""
    wait_until(lambda: (seen := project.queue.get(job.id).progress) and seen.done > SIZE // 8)


def outcomes(project: Project, job: Job) -> list[Outcome | None]:
    return [attempt.outcome for attempt in project.queue.attempts(job.id)]


def test_a_growing_feed_run_twice(project: Project, site: Site, out: Path) -> None:
    url = site.numbered_feed("/feed", 3)
    first = add(project, "channel_download", url, out, "metadata=true")
    project.drain()
    site.numbered_feed("/feed", 5)
    second = add(project, "channel_download", url, out, "metadata=true")
    project.drain()

    counts = [
        {name: project.queue.get(job.id).result[name] for name in ("found", "new", "skipped")}
        for job in (first, second)
    ]
    assert counts == [
        {"found": 3, "new": 3, "skipped": 0},
        {"found": 5, "new": 2, "skipped": 3},
    ]
    assert [path.read_bytes() == clip() for path in out.iterdir()] == [True] * 5
    assert {len(site.asked_for(f"/clip{n}.mp4")) for n in range(1, 6)} == {2}  # look, download
    jobs = project.queue.find()
    assert {job.status for job in jobs} == {JobStatus.COMPLETED}
    metadata = [job.result for job in jobs if job.type == "metadata_extraction"]
    assert sorted(found["path"] for found in metadata) == sorted(map(str, out.iterdir()))
    assert all(found["size_bytes"] == SIZE and found["streams"] for found in metadata)


def test_what_broke_off_is_resumed_by_the_next_try(project: Project, site: Site, out: Path) -> None:
    job = add(project, "video_download", site.page("/big.mp4", breaks_off()), out)

    project.drain()

    assert outcomes(project, job) == [Outcome.FAILED, Outcome.COMPLETED]
    assert "Downloaded 100000 bytes, expected 200000" in str(
        project.queue.attempts(job.id)[0].error
    )
    assert [seen.first_byte for seen in site.asked_for("/big.mp4")][-1] == SIZE // 2
    (file,) = out.iterdir()
    assert file.read_bytes() == clip()


def test_what_is_removed_or_private_is_tried_once(project: Project, site: Site, out: Path) -> None:
    jobs = [
        add(project, "video_download", site.page(f"/{status}.mp4", answers(status)), out)
        for status in (403, 404, 410)
    ]

    project.drain()

    ended = project.queue.get_many([job.id for job in jobs])
    assert [(job.status, job.attempts) for job in ended] == [(JobStatus.FAILED, 1)] * 3
    assert [str(job.error).rpartition("HTTP Error ")[2] for job in ended] == [
        "403: Forbidden",
        "404: Not Found",
        "410: Gone",
    ]


def test_a_host_that_is_busy_is_given_the_time_it_asks_for(
    project: Project, site: Site, out: Path
) -> None:
    url = site.page("/a.mp4", answers(429, Retry_After="1"), sends(clip()))
    job = add(project, "video_download", url, out)

    project.drain()

    assert outcomes(project, job) == [Outcome.SNOOZED, Outcome.COMPLETED]
    first, second = project.queue.attempts(job.id)
    assert first.ended_at is not None
    assert (second.started_at - first.ended_at).total_seconds() > 0.9
    assert project.queue.get(job.id).failures == 0  # it cost no retry


def test_cancelling_a_download_midway(project: Project, site: Site, out: Path) -> None:
    gate = Gate()
    job = add(project, "video_download", site.page("/a.mp4", sends(clip()), waits_at(gate)), out)
    project.work()
    wait_until_midway(project, job)

    assert project.jobq("cancel", str(job.id)).returncode == 0

    project.wait_for(job, JobStatus.CANCELLED)
    partial, origin = sorted(out.iterdir())
    assert partial.name.endswith(".mp4.part")
    assert origin.name == f"{partial.name}.ytdl"
    gate.opened.set()
    site.clip("/a.mp4")
    project.queue.retry(job.id)
    project.wait_for(job, JobStatus.COMPLETED)
    assert [path.read_bytes() == clip() for path in out.iterdir()] == [True]


def dash(*representations: str) -> bytes:
    """A manifest of these representations, each a file of its own."""
    sets = "".join(f"<AdaptationSet>{one}</AdaptationSet>" for one in representations)
    return f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period>{sets}</Period></MPD>'.encode()


def test_another_format_does_not_go_on_with_what_was_cancelled(
    project: Project, site: Site, out: Path
) -> None:
    formats = (
        f'<Representation id="{name}" mimeType="video/mp4" codecs="avc1" width="{width}" '
        f'height="36" bandwidth="{width}"><BaseURL>/{name}.mp4</BaseURL></Representation>'
        for name, width in (("small", 64), ("large", 640))
    )
    url = site.page("/a.mpd", sends(dash(*formats), "application/dash+xml"))
    gate = Gate()
    site.page("/large.mp4", waits_at(gate))
    small = clip()[:1000] + bytes([1]) * (SIZE - 1000)
    site.page("/small.mp4", sends(small))
    first = add(project, "video_download", url, out, "format=bv")
    project.work()
    wait_until_midway(project, first)
    assert project.jobq("cancel", str(first.id)).returncode == 0
    project.wait_for(first, JobStatus.CANCELLED)
    gate.opened.set()

    second = add(project, "video_download", url, out, "format=wv")

    project.wait_for(second, JobStatus.COMPLETED)
    assert [path.read_bytes() == small for path in out.iterdir()] == [True]


def test_two_jobs_do_not_write_into_one_file(project: Project, site: Site, out: Path) -> None:
    gate = Gate()
    url = site.page("/a.mp4", sends(clip()), waits_at(gate), sends(clip()))
    first = add(project, "video_download", url, out)
    project.work("-j", "2")
    wait_until_midway(project, first)

    second = add(project, "video_download", url, out)

    waiting = project.wait_for(second, JobStatus.SCHEDULED)
    assert outcomes(project, waiting) == [Outcome.SNOOZED]
    gate.opened.set()
    project.wait_for(first, JobStatus.COMPLETED)
    done = project.wait_for(second, JobStatus.COMPLETED)
    assert (done.result["downloaded"], done.failures) == (False, 0)
    assert [path.read_bytes() == clip() for path in out.iterdir()] == [True]


def test_a_supervisor_that_is_killed_midway(project: Project, site: Site, out: Path) -> None:
    gate = Gate()
    job = add(project, "video_download", site.page("/a.mp4", sends(clip()), waits_at(gate)), out)
    supervisor = project.work()
    wait_until_midway(project, job)
    supervisor.kill()
    supervisor.wait()
    site.clip("/a.mp4")

    project.drain()

    gate.opened.set()
    assert outcomes(project, job) == [Outcome.LOST, Outcome.COMPLETED]
    went_on_at = site.asked_for("/a.mp4")[-1].first_byte
    assert went_on_at is not None
    assert 0 < went_on_at <= SIZE // 2
    (file,) = out.iterdir()
    assert file.read_bytes() == clip()


def test_a_host_is_asked_for_a_few_files_at_once(project: Project, site: Site, out: Path) -> None:
    gate = Gate()
    url = site.numbered_feed("/feed", 5)
    for number in range(1, 6):
        site.page(f"/clip{number}.mp4", sends(clip()), waits_at(gate))
    add(project, "channel_download", url, out)
    project.work("-j", "5")

    wait_until(lambda: gate.inside == 2)
    downloads = project.queue.find(type="video_download")
    gate.opened.set()

    assert sorted(job.status for job in downloads) == ["pending"] * 3 + ["running"] * 2
    wait_until(lambda: project.queue.counts()[JobStatus.COMPLETED] == 6)
    assert gate.most == 2


EVIL = """
import pathlib
pathlib.Path({marker!r}).write_text("loaded")
from yt_dlp.extractor.common import InfoExtractor


class EvilIE(InfoExtractor):
    _VALID_URL = r"http://127\\.0\\.0\\.1.*"

    def _real_extract(self, url):
        pathlib.Path({marker!r}).write_text("used")
        return {{"id": "evil", "title": "evil", "url": url, "ext": "mp4"}}
"""


def test_nothing_that_is_set_up_for_yt_dlp_is_honoured(
    project: Project, site: Site, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, modules, marker = tmp_path / "home", tmp_path / "modules", tmp_path / "marker"
    config = home / "config" / "yt-dlp"
    plugins = (config / "plugins" / "evil", modules)
    for folder in plugins:
        (folder / "yt_dlp_plugins" / "extractor").mkdir(parents=True)
        (folder / "yt_dlp_plugins" / "extractor" / "evil.py").write_text(
            EVIL.format(marker=str(marker))
        )
    options = f"--exec 'touch {marker}'\n-o {tmp_path}/elsewhere.mp4\n--netrc\n--user-agent evil\n"
    for file in (config / "config", home / ".yt-dlp" / "config", project.root / "yt-dlp.conf"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(options)
    (home / ".netrc").write_text("machine 127.0.0.1 login ada password secret\n")
    (home / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(home))
    path = os.pathsep.join(filter(None, [str(modules), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    url = site.clip("/a.mp4")

    command = [sys.executable, "-m", "yt_dlp", "--simulate", url]
    subprocess.run(command, cwd=project.root, check=True, capture_output=True)
    assert marker.exists(), "the trap does not work: yt-dlp itself does not step into it"
    marker.unlink()
    site.requests.clear()
    job = add(project, "video_download", url, out)
    project.drain()

    assert project.queue.get(job.id).status is JobStatus.COMPLETED
    assert not marker.exists()
    assert not (tmp_path / "elsewhere.mp4").exists()
    assert [path.parent for path in out.iterdir()] == [out]
    for seen in site.requests:
        assert "authorization" not in seen.headers
        assert seen.headers["user-agent"] != "evil"


def test_a_worker_of_one_s_own_that_loads_plugins_changes_nothing(
    project: Project, site: Site, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child runs jobs of all types: what one has loaded is there when the next one runs."""
    marker = tmp_path / "marker"
    folder = tmp_path / "modules" / "yt_dlp_plugins" / "extractor"
    folder.mkdir(parents=True)
    (folder / "evil.py").write_text(EVIL.format(marker=str(marker)))
    path = os.pathsep.join(filter(None, [str(folder.parents[1]), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    project.worker(
        "own",
        "import jobq\n"
        "class Own(jobq.JobWorker):\n"
        "    job_type = 'own'\n"
        "    def run(self, args, job):\n"
        "        import yt_dlp\n"
        "        yt_dlp.YoutubeDL({'quiet': True}).close()\n",
    )
    project.queue.add("own")
    job = add(project, "video_download", site.clip("/a.mp4"), out)

    project.drain("-j", "1")

    assert marker.read_text() == "loaded"
    assert project.queue.get(job.id).result["item"].startswith("generic:")


FFMPEG = """#!/bin/sh
# Copies files that are here, and notes what it is to fetch.
echo "ffmpeg version 7.0 Copyright (c) 2000-2024"
for last; do
  [ "$before" = -i ] && source=${{source:-$last}}
  before=$last
done
case "$source" in
  file:*) cp "${{source#file:}}" "${{last#file:}}" ;;
  http:*) echo "$source" >>"{fetched}" ;;
esac
"""


@pytest.fixture
def fake_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An FFmpeg that joins nothing; where it notes what it was told to fetch."""
    fetched = tmp_path / "fetched"
    for name in ("ffmpeg", "ffprobe"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(FFMPEG.format(fetched=fetched))
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return fetched


def picture_and_sound(site: Site) -> str:
    """A film of two files, /video.mp4 and /audio.mp4."""
    tracks = (
        f'<Representation id="{kind}" mimeType="{kind}/mp4" codecs="{codec}" bandwidth="1000">'
        f"<BaseURL>/{kind}.mp4</BaseURL></Representation>"
        for kind, codec in (("video", "avc1"), ("audio", "mp4a"))
    )
    return site.page("/a.mpd", sends(dash(*tracks), "application/dash+xml"))


def test_picture_and_sound_become_one_file(
    project: Project, site: Site, out: Path, fake_ffmpeg: Path
) -> None:
    for kind in ("video", "audio"):
        site.clip(f"/{kind}.mp4")
    url = picture_and_sound(site)
    job = add(project, "video_download", url, out, "title=" + "ü" * 300)

    project.drain()

    ended = project.queue.get(job.id)
    assert ended.status is JobStatus.COMPLETED, ended.error
    assert [str(path) for path in out.iterdir()] == [ended.result["path"]]
    assert Path(ended.result["path"]).read_bytes() == clip()
    assert ended.progress is not None
    assert (ended.progress.done, ended.progress.total) == (2 * SIZE, 2 * SIZE)
    assert not fake_ffmpeg.exists()


@pytest.mark.parametrize("changed", [False, True])
def test_a_half_is_kept_if_the_host_still_has_it(
    project: Project, site: Site, out: Path, fake_ffmpeg: Path, changed: bool
) -> None:
    """The FFmpeg of this test makes the file of the picture alone."""
    other = clip()[:1000] + bytes([1]) * (SIZE - 1000)
    site.page("/video.mp4", sends(clip(), ETag='"1"'))
    gate = Gate()
    site.page("/audio.mp4", waits_at(gate))
    job = add(project, "video_download", picture_and_sound(site), out)
    project.work()
    wait_until(lambda: gate.inside)
    assert project.jobq("cancel", str(job.id)).returncode == 0
    project.wait_for(job, JobStatus.CANCELLED)
    gate.opened.set()
    if changed:
        site.page("/video.mp4", sends(other, ETag='"2"'))
    site.clip("/audio.mp4")
    before = len(site.asked_for("/video.mp4"))

    project.queue.retry(job.id)
    project.wait_for(job, JobStatus.COMPLETED)

    assert len(site.asked_for("/video.mp4")) - before == (2 if changed else 1)  # the first looks
    (film,) = out.iterdir()
    assert film.read_bytes() == (other if changed else clip())
    assert not fake_ffmpeg.exists()


def test_ffmpeg_fetches_nothing(
    project: Project, site: Site, out: Path, tmp_path: Path, fake_ffmpeg: Path
) -> None:
    """yt-dlp leaves some streams to FFmpeg, which fetches whatever they name."""
    fetched = fake_ffmpeg
    plain, key = b"G" * 1880, b"k" * 16
    site.page("/key", sends(key, "application/octet-stream"))
    site.page("/a.ts", sends(bytes(aes_cbc_encrypt_bytes(plain, key, bytes(16))), "video/mp2t"))
    urls = {}
    for method in ("SAMPLE-AES", "AES-128"):
        text = (
            "#EXTM3U\n#EXT-X-TARGETDURATION:1\n"
            f'#EXT-X-KEY:METHOD={method},URI="/key",IV=0x0\n#EXTINF:1,\n/a.ts\n#EXT-X-ENDLIST\n'
        )
        answer = sends(text.encode(), "application/x-mpegurl")
        urls[method] = site.page(f"/{method}.m3u8", answer)

    for url in urls.values():
        command = [sys.executable, "-m", "yt_dlp", "-P", str(tmp_path), url]
        subprocess.run(command, check=False, capture_output=True)
        assert fetched.exists(), "the trap does not work: yt-dlp alone does not step into it"
        fetched.unlink()
    jobs = {name: add(project, "video_download", url, out).id for name, url in urls.items()}
    project.drain()

    refused, done = (project.queue.get(jobs[method]) for method in urls)
    assert (refused.status, refused.attempts) == (JobStatus.FAILED, 1)
    assert "this stream needs FFmpeg" in str(refused.error)
    assert Path(done.result["path"]).read_bytes() == plain
    assert not fetched.exists()
