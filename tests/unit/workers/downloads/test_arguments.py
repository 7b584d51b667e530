"""Arguments of the download workers, checked when a job is added."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from jobq import ArgsError, JobQueue, JobSpec, JobWorker
from jobq.job_types.arguments import args_model
from jobq.models import QUEUE_NAME
from tests.support.paths import DOCS


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("file:///etc/passwd", "only http and https"),
        ("ftp://example.org/a", "only http and https"),
        ("ytsearch:cats", "only http and https"),
        ("example.org/a.mp4", "only http and https"),
        ("http://", "has no host"),
        ("http:///etc/passwd", "has no host"),
        ("http://example.org:99999/", "not a URL"),
        ("http://[::1/", "not a URL"),
        ("http://example.org/a b", "not a URL"),
        ("http://example.org/\n--exec=id", "not a URL"),
        ("http://example.org/\x1b[2J", "not a URL"),
        ("http://example.org/#__youtubedl_smuggle=%7B%7D", "not a URL"),
        ("http://example.org/" + "a" * 5000, "not a URL"),
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


@pytest.mark.parametrize(
    "wrong", [{"limit": 0}, {"per_host": 0}, {"metadata": "maybe"}, {"download_queue": "a b"}]
)
def test_arguments_are_checked(queue: JobQueue, wrong: dict[str, Any]) -> None:
    with pytest.raises(ArgsError, match=next(iter(wrong))):
        queue.add_many(
            [JobSpec(type="channel_download", args={"url": "http://example.org/", **wrong})]
        )


def test_queue_names_are_those_that_jobq_accepts(package: str) -> None:
    arguments = import_module(f"{package}.downloads.arguments")

    assert QUEUE_NAME.pattern == arguments.QUEUE_NAME


@pytest.mark.parametrize("name", ["channel_download", "playlist_download", "video_download"])
def test_every_argument_is_documented(workers: dict[str, type[JobWorker]], name: str) -> None:
    text = (DOCS / "downloads.md").read_text("utf-8")
    assert f"`{name}`" in text
    for argument in args_model(workers[name]).model_fields:
        assert f"`{argument}`" in text, argument
