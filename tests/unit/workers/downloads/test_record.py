"""The record of earlier downloads."""

import json
import stat
from pathlib import Path

from jobq import Job, JobQueue
from jobq.testing import drain
from tests.support.local_site import Entry, Site, clip, sends
from tests.support.workers import Channel, listed


def record_of(queue: JobQueue) -> Path:
    return queue.settings.database.with_name("jobq.downloads.jsonl")


def test_the_record_is_private_lines_of_json(
    channel: Channel, site: Site, queue: JobQueue, out: Path
) -> None:
    channel(site.numbered_feed("/feed", 2))
    done: list[Job] = drain(queue, real=True)

    lines = [json.loads(line) for line in record_of(queue).read_text().splitlines()]
    assert [line["item"] for line in lines] == [job.args["item"] for job in done]
    assert {line["directory"] for line in lines} == {str(out)}
    assert [line["file"] for line in lines] == [Path(job.result["path"]).name for job in done]
    assert stat.S_IMODE(record_of(queue).stat().st_mode) == 0o600


def test_a_deleted_line_has_its_item_fetched_again(
    channel: Channel, site: Site, queue: JobQueue
) -> None:
    url = site.numbered_feed("/feed", 2)
    channel(url)
    drain(queue, real=True)
    _, second = record_of(queue).read_text().splitlines(keepends=True)
    record_of(queue).write_text(second)

    assert listed(channel(url)) == (2, 1, 1)


def test_what_was_downloaded_stays_so_when_it_is_found_too_old(
    channel: Channel, site: Site, queue: JobQueue
) -> None:
    url = site.numbered_feed("/feed", 1)
    old = sends(clip(), Last_Modified="Wed, 01 Jul 2020 10:00:00 GMT")
    site.page("/clip1.mp4", old)
    (child,) = channel(url).added
    queue.add("video_download", {**child.args, "since": "2021-01-01"})
    drain(queue, real=True)

    again = channel(url)

    assert len(record_of(queue).read_text().splitlines()) == 2
    assert again.result["skipped_because"] == {"downloaded before": 1}


def test_a_record_that_a_power_cut_tore_is_gone_on_with(
    channel: Channel, site: Site, queue: JobQueue
) -> None:
    url = site.numbered_feed("/feed", 1)
    channel(url)
    drain(queue, real=True)
    whole = record_of(queue).read_bytes()
    record_of(queue).write_bytes(
        b'\xff\xfe{"item"\n[]\n{"item": 1}\n' + whole + whole[: len(whole) // 2]
    )

    assert listed(channel(url)) == (1, 0, 1)
    channel(site.numbered_feed("/feed", 2))
    drain(queue, real=True)
    assert listed(channel(url)) == (2, 0, 2)


def test_lines_of_before_their_source_was_noted_count(
    channel: Channel, site: Site, queue: JobQueue
) -> None:
    url = site.numbered_feed("/feed", 1)
    channel(url)
    drain(queue, real=True)
    entry = json.loads(record_of(queue).read_text())
    del entry["source"]
    record_of(queue).write_text(json.dumps(entry) + "\n")

    assert listed(channel(url)) == (1, 0, 1)


def test_the_record_holds_the_urls_of_items_without_an_id_only(
    channel: Channel, site: Site, queue: JobQueue
) -> None:
    site.clip("/1.mp4")
    site.clip("/2.mp4")
    entries = [
        Entry("One", site.url("/1.mp4?token=secret1"), guid="1"),
        Entry("Two", site.url("/2.mp4?token=secret2")),
    ]
    channel(site.feed("/feed", entries))
    drain(queue, real=True)

    assert "secret1" not in record_of(queue).read_text()
    assert "secret2" in record_of(queue).read_text()
