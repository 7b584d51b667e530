"""`channel_download`: feeds are channels to the real yt-dlp."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pytest

from jobq import JobQueue, JobStatus, JobWorker, Permanent, Snooze
from jobq.models import Inserted, NewJob
from jobq.queue import backend_of
from jobq.testing import drain, run
from tests.support.local_site import Entry, Site, answers, clip, sends
from tests.support.workers import Channel, listed, titles_in


def test_each_item_becomes_a_job(channel: Channel, site: Site, out: Path) -> None:
    feed = site.feed(
        "/feed",
        [
            Entry("One", site.clip("/1.mp4"), guid="guid-1"),
            Entry("Zwei 🎬", site.clip("/2.mp4")),
        ],
        title="A channel",
    )

    done = channel(feed, format="best")

    assert listed(done) == (2, 2, 0)
    assert (done.result["title"], done.result["url"]) == ("A channel", feed)
    assert done.result["output_dir"] == str(out)
    assert [(job.type, job.name, job.queue) for job in done.added] == [
        ("video_download", "One", "host-127.0.0.1"),
        ("video_download", "Zwei 🎬", "host-127.0.0.1"),
    ]
    assert done.added[0].args == {
        "url": site.url("/1.mp4"),
        "output_dir": str(out),
        "format": "best",
        "title": "One",
        "item": "generic:127.0.0.1/guid-1",
    }
    assert [str(job.unique_key).partition("@")[0] for job in done.added] == [
        "download:generic:127.0.0.1/guid-1",
        f"download:generic:{site.url('/2.mp4')}",
    ]
    assert all(job.timeout is None for job in done.added)  # none: hours, if it takes hours
    assert [seen.path for seen in site.requests] == ["/feed"]  # listed, and nothing downloaded


def test_the_jobs_know_who_added_them(site: Site, queue: JobQueue, out: Path) -> None:
    url = site.numbered_feed("/feed", 2)
    parent = queue.add("channel_download", {"url": url, "output_dir": str(out)}, priority=7)

    _, *children = drain(queue, real=True)

    assert [child.status for child in children] == [JobStatus.COMPLETED] * 2
    assert {child.added_by for child in children} == {parent.id}
    assert {child.priority for child in children} == {7}
    assert titles_in(out) == ["Clip 1.mp4", "Clip 2.mp4"]


def test_a_feed_that_grows(channel: Channel, site: Site, queue: JobQueue, out: Path) -> None:
    url = site.numbered_feed("/feed", 3)
    assert listed(channel(url)) == (3, 3, 0)
    drain(queue, real=True)
    queue.prune()  # what was downloaded is remembered without the jobs
    for path in out.iterdir():
        path.unlink()  # ... and without the files

    again = channel(url)
    site.numbered_feed("/feed", 5)
    grown = channel(url)

    assert listed(again) == (3, 0, 3)
    assert again.result["skipped_because"] == {"downloaded before": 3}
    assert listed(grown) == (5, 2, 3)
    assert [job.name for job in grown.added] == ["Clip 4", "Clip 5"]


def test_what_waits_in_the_queue_is_not_added_twice(channel: Channel, site: Site) -> None:
    url = site.numbered_feed("/feed", 3)
    channel(url)

    again = channel(url)

    assert listed(again) == (3, 0, 3)
    assert again.result["skipped_because"] == {"in the queue already": 3}
    assert again.added == []


def test_another_directory_has_a_record_of_its_own(
    channel: Channel, site: Site, queue: JobQueue, tmp_path: Path
) -> None:
    url = site.numbered_feed("/feed", 1)
    channel(url)
    drain(queue, real=True)

    assert listed(channel(url, output_dir=str(tmp_path / "elsewhere"))) == (1, 1, 0)


def test_what_waits_for_one_directory_is_new_in_another(
    channel: Channel, site: Site, queue: JobQueue, tmp_path: Path
) -> None:
    url = site.numbered_feed("/feed", 1)
    elsewhere = tmp_path / "elsewhere"
    channel(url, metadata=True)

    done = channel(url, job_type="playlist_download", output_dir=str(elsewhere), metadata=True)

    assert listed(done) == (1, 1, 0)
    drain(queue, real=True)
    assert titles_in(elsewhere) == ["001 - Clip 1.mp4"]
    extracted = [job.result["path"] for job in queue.find(type="metadata_extraction")]
    assert len(set(extracted)) == 2


def test_what_is_gone_for_good_is_left_until_somebody_prunes_it(
    channel: Channel, site: Site, queue: JobQueue
) -> None:
    url = site.numbered_feed("/feed", 2)
    site.page("/clip1.mp4", answers(403))
    channel(url)
    drain(queue, real=True)

    again = channel(url)

    assert listed(again) == (2, 0, 2)
    assert again.result["skipped_because"] == {"downloaded before": 1, "failed for good before": 1}
    assert listed(channel(url, format="worst")) == (2, 1, 1)  # asked for in another way
    queue.cancel(queue.find(status="pending")[0].id)
    queue.prune()
    assert listed(channel(url)) == (2, 1, 1)


def test_what_ran_out_of_retries_is_offered_again(
    channel: Channel, site: Site, queue: JobQueue
) -> None:
    url = site.numbered_feed("/feed", 1)
    site.page("/clip1.mp4", answers(500))
    (child,) = channel(url).added
    queue.cancel(child.id)
    queue.add("video_download", child.args, unique=child.unique_key, max_retries=0)
    assert drain(queue, real=True)[0].status is JobStatus.FAILED

    assert listed(channel(url)) == (1, 1, 0)


def test_metadata_follows_each_download(
    channel: Channel, site: Site, queue: JobQueue, out: Path
) -> None:
    done = channel(site.numbered_feed("/feed", 2), metadata=True)

    assert listed(done) == (2, 2, 0)
    first, follower, second, _ = done.added
    assert (first.type, follower.type) == ("video_download", "metadata_extraction")
    assert [parent.id for parent in follower.parents] == [first.id]
    assert (follower.status, second.status) == (JobStatus.BLOCKED, JobStatus.PENDING)
    assert (follower.queue, follower.name) == ("default", "metadata: Clip 1")

    drain(queue, real=True)

    extracted = queue.get(follower.id).result
    assert extracted["path"] == queue.get(first.id).result["path"]
    assert {stream["codec"] for stream in extracted["streams"]} == {"mpeg4", "aac"}


def test_metadata_of_what_failed_is_cancelled_and_of_what_is_too_old_is_empty(
    channel: Channel, site: Site, queue: JobQueue
) -> None:
    url = site.numbered_feed("/feed", 2)
    site.page("/clip1.mp4", answers(410))
    site.page("/clip2.mp4", sends(clip(), Last_Modified="Wed, 01 Jul 2020 10:00:00 GMT"))

    done = channel(url, metadata=True, since="1d")
    drain(queue, real=True)

    gone, of_gone, old, of_old = queue.get_many([job.id for job in done.added])
    assert (gone.status, of_gone.status) == (JobStatus.FAILED, JobStatus.CANCELLED)
    assert (old.result["path"], of_old.result) == (None, {"path": None})


def test_a_download_that_waits_gets_its_metadata_job_afterwards(
    channel: Channel, site: Site
) -> None:
    url = site.numbered_feed("/feed", 1)
    (download,) = channel(url).added

    done = channel(url, metadata=True)

    assert listed(done) == (1, 0, 1)
    (follower,) = done.added
    assert [parent.id for parent in follower.parents] == [download.id]
    assert channel(url, metadata=True).added == []


def test_thousands_are_added_in_bulk(
    channel: Channel, site: Site, queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    insert = backend_of(queue).insert

    def counting(jobs: Sequence[NewJob], now: datetime) -> Sequence[Inserted]:
        batches.append(len(jobs))
        return insert(jobs, now)

    monkeypatch.setattr(backend_of(queue), "insert", counting)
    items = [Entry(f"Item {n}", site.url(f"/{n}.mp4"), guid=f"item {n}") for n in range(2000)]
    url = site.feed("/feed", items)

    done = channel(url, metadata=True)

    assert listed(done) == (2000, 2000, 0)
    assert sum(batches) == 4000
    assert len(batches) <= 4
    assert listed(channel(url)) == (2000, 0, 2000)


@pytest.mark.parametrize("status", [404, 410, 403])
def test_a_channel_that_is_gone(channel: Channel, site: Site, status: int) -> None:
    error = channel(site.page("/feed", answers(status))).error

    assert isinstance(error, Permanent)
    assert f"HTTP Error {status}" in str(error)


def test_a_channel_that_asks_for_patience(channel: Channel, site: Site) -> None:
    error = channel(site.page("/feed", answers(429, Retry_After="90"))).error

    assert isinstance(error, Snooze)
    assert error.seconds == 90


def test_files_go_beside_the_configuration_by_default(
    workers: dict[str, type[JobWorker]], site: Site, queue: JobQueue, project: Path
) -> None:
    queue.add("channel_download", {"url": site.numbered_feed("/feed", 1)})

    drain(queue, real=True)

    assert titles_in(project / "downloads") == ["Clip 1.mp4"]


def test_without_a_configuration_a_directory_is_asked_for(
    workers: dict[str, type[JobWorker]], site: Site
) -> None:
    error = run(workers["channel_download"], {"url": site.numbered_feed("/feed", 1)}).error

    assert isinstance(error, Permanent)
    assert "give output_dir" in str(error)
