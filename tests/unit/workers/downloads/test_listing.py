"""The items of a list that are downloaded or skipped, and the queues they go to."""

import re
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path

import pytest

from jobq import JobQueue, JobStatus
from jobq.testing import drain
from tests.support.local_site import Entry, Site, clip, sends
from tests.support.paths import DOCS
from tests.support.workers import Channel, listed, titles_in


def days_ago(number: int) -> datetime:
    return datetime.now(UTC) - timedelta(days=number)


# -- which items -------------------------------------------------------------------------------


def test_limit_is_how_much_of_the_list_is_looked_at(
    channel: Channel, site: Site, queue: JobQueue
) -> None:
    url = site.numbered_feed("/feed", 5)

    assert listed(channel(url, limit=2)) == (2, 2, 0)
    drain(queue, real=True)
    assert listed(channel(url, limit=2)) == (2, 0, 2)
    assert listed(channel(url, limit=3)) == (3, 1, 2)


def test_since_goes_by_the_dates_in_the_list(channel: Channel, site: Site) -> None:
    items = [
        Entry(f"{days} days", site.clip(f"/{days}.mp4"), date=days_ago(days)) for days in (1, 9, 30)
    ]
    url = site.feed("/feed", items)

    done = channel(url, since="10d")

    assert listed(done) == (3, 2, 1)
    assert done.result["skipped_because"] == {"too old": 1}
    assert [job.name for job in done.added] == ["1 days", "9 days"]
    assert all("since" not in job.args for job in done.added)
    date = days_ago(5).date().isoformat()
    assert channel(url, since=date).result["skipped_because"]["too old"] == 2


def test_an_item_without_a_date_is_looked_at_once(
    channel: Channel, site: Site, queue: JobQueue
) -> None:
    old = sends(clip(), Last_Modified="Wed, 01 Jul 2020 10:00:00 GMT")
    url = site.feed("/feed", [Entry("Old", site.page("/old.mp4", old))])

    (child,) = channel(url, since="30d").added
    drain(queue, real=True)
    again = channel(url, since="30d")

    assert queue.get(child.id).result["path"] is None
    assert listed(again) == (1, 0, 1)
    assert again.result["skipped_because"] == {"too old": 1}
    assert listed(channel(url, since="2020-01-01")) == (1, 1, 0)


def test_other_addresses_in_a_feed_are_refused(channel: Channel, site: Site) -> None:
    odd = [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "javascript:alert(1)",
        "data:video/mp4,x",
        "http://",
        "http://ex ample.org/1.mp4",
        "http://127.0.0.1/\u202egnp",
        "ytsearch:cats",
    ]
    entries = [Entry(f"Odd {n}", url) for n, url in enumerate(odd)]
    url = site.feed("/feed", [*entries, Entry("Good", site.clip("/1.mp4"))])

    done = channel(url)

    assert listed(done) == (len(odd) + 1, 1, len(odd))
    assert done.result["skipped_because"] == {"refused": len(odd)}
    assert "WARNING refused file:///etc/passwd: only http and https URLs are fetched" in done.log
    assert [job.name for job in done.added] == ["Good"]


def test_an_item_that_is_listed_twice_is_added_once(channel: Channel, site: Site) -> None:
    item = Entry("One", site.clip("/1.mp4"))

    done = channel(site.feed("/feed", [item, item]))

    assert listed(done) == (2, 1, 1)
    assert done.result["skipped_because"] == {"twice in the list": 1}


def episodes(site: Site, *paths: str, guid: str = "1") -> str:
    """A feed of these files, all with one guid."""
    for path in paths:
        site.clip(path.partition("?")[0])
    return site.feed("/feed", [Entry(path, site.url(path), guid=guid) for path in paths])


def test_files_with_one_guid_are_all_downloaded(
    channel: Channel, site: Site, queue: JobQueue, out: Path
) -> None:
    for path in ("/1.mp4", "/2.mp4", "/3.mp4"):
        site.clip(path)
    same_title = [Entry("Episode", site.url(f"/{n}.mp4"), guid="1") for n in (3, 2, 1)]

    done = channel(site.feed("/feed", same_title))
    drain(queue, real=True)

    assert listed(done) == (3, 3, 0)
    assert titles_in(out) == ["Episode.mp4"] * 3
    assert {len(site.asked_for(f"/{n}.mp4")) for n in (1, 2, 3)} == {2}  # look, download
    assert listed(channel(site.url("/feed"))) == (3, 0, 3)


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("name", ["/{}.mp4", "/get.mp4?id={}"])
def test_a_guid_that_is_used_again_is_no_reason_to_leave_files_out(
    channel: Channel, site: Site, queue: JobQueue, newest_first: bool, name: str
) -> None:
    paths: list[str] = []
    for number in range(4):
        new = name.format(number)
        paths = [new, *paths] if newest_first else [*paths, new]
        done = channel(episodes(site, *paths))
        drain(queue, real=True)
        assert [job.name for job in done.added] == [new]
    assert listed(channel(episodes(site, *paths[:2]))) == (2, 0, 2)
    assert listed(channel(episodes(site, *paths[2:]))) == (2, 0, 2)
    assert listed(channel(episodes(site, name.format(9)))) == (1, 1, 0)


def test_what_waits_keeps_its_guid_when_another_file_gets_it_too(
    channel: Channel, site: Site, queue: JobQueue
) -> None:
    channel(episodes(site, "/1.mp4"))

    done = channel(episodes(site, "/2.mp4", "/1.mp4"))

    assert [job.name for job in done.added] == ["/2.mp4"]
    assert done.result["skipped_because"] == {"in the queue already": 1}


def test_signatures_do_not_make_files_with_one_guid_new(
    channel: Channel, site: Site, queue: JobQueue
) -> None:
    channel(episodes(site, "/2.mp4?signature=1", "/1.mp4?signature=1"))
    drain(queue, real=True)
    again = channel(episodes(site, "/3.mp4?signature=2", "/2.mp4?signature=2"))

    assert [job.name for job in again.added] == ["/3.mp4?signature=2"]


def test_a_file_that_moves_keeps_its_guid(channel: Channel, site: Site, queue: JobQueue) -> None:
    channel(episodes(site, "/1.mp4"))
    drain(queue, real=True)

    assert listed(channel(episodes(site, "/moved/1.mp4"))) == (1, 0, 1)


def test_a_corrected_address_is_tried(channel: Channel, site: Site, queue: JobQueue) -> None:
    wrong = site.feed("/feed", [Entry("One", site.url("/wrnog.mp4"), guid="1")])
    channel(wrong)
    (failed,) = drain(queue, real=True)
    assert failed.status is JobStatus.FAILED
    assert channel(wrong).result["skipped_because"] == {"failed for good before": 1}

    channel(site.feed("/feed", [Entry("One", site.clip("/right.mp4"), guid="1")]))

    assert drain(queue, real=True)[0].status is JobStatus.COMPLETED


def test_a_corrected_query_is_tried(channel: Channel, site: Site, queue: JobQueue) -> None:
    channel(site.feed("/feed", [Entry("One", site.url("/get.mp4?id=11"), guid="1")]))
    drain(queue, real=True)
    site.clip("/get.mp4")

    channel(site.feed("/feed", [Entry("One", site.url("/get.mp4?id=1"), guid="1")]))

    assert drain(queue, real=True)[0].status is JobStatus.COMPLETED


def test_what_is_cancelled_stays_away(channel: Channel, site: Site, queue: JobQueue) -> None:
    url = site.numbered_feed("/feed", 3)
    first, second, _ = channel(url).added
    queue.cancel(first.id)
    queue.cancel(second.id)

    again = channel(url)

    assert again.result["skipped_because"] == {"cancelled before": 2, "in the queue already": 1}
    queue.retry(first.id)
    assert channel(url).result["skipped_because"]["cancelled before"] == 1
    queue.prune()
    assert listed(channel(url)) == (3, 1, 2)


def test_what_is_cancelled_stays_away_wherever_it_moves(
    channel: Channel, site: Site, queue: JobQueue
) -> None:
    (job,) = channel(episodes(site, "/1.mp4")).added
    queue.cancel(job.id)

    assert channel(episodes(site, "/2.mp4")).result["skipped_because"] == {"cancelled before": 1}
    assert listed(channel(site.url("/feed"), format="worst")) == (1, 1, 0)  # asked in another way


def test_words_for_media_are_asked_for_another_night(
    channel: Channel, site: Site, queue: JobQueue
) -> None:
    url = site.numbered_feed("/feed", 1)
    site.page("/clip1.mp4", sends(b'{"error": "quota exceeded"}', "application/json"))
    (child,) = channel(url).added
    queue.cancel(child.id)
    queue.add("video_download", child.args, unique=child.unique_key, max_retries=0)
    assert drain(queue, real=True)[0].status is JobStatus.FAILED
    site.clip("/clip1.mp4")

    assert listed(channel(url)) == (1, 1, 0)
    assert drain(queue, real=True)[0].status is JobStatus.COMPLETED


def test_ids_of_one_feed_are_not_those_of_another_host(
    channel: Channel, site: Site, queue: JobQueue
) -> None:
    first = site.feed("/feed", [Entry("One", site.clip("/1.mp4"), guid="1")])
    other = first.replace("127.0.0.1", "localhost")

    assert listed(channel(first)) == (1, 1, 0)
    assert listed(channel(other)) == (1, 1, 0)


@pytest.mark.parametrize(
    "title", ["../../.bashrc", "$(id)", "x" * 300, "🎬" * 300, "-rf ~", "..", "", "a\u202eb\u0085c"]
)
def test_hostile_titles_in_a_feed(
    channel: Channel, site: Site, queue: JobQueue, out: Path, title: str
) -> None:
    done = channel(site.feed("/feed", [Entry(title, site.clip("/1.mp4"))]))
    assert listed(done) == (1, 1, 0)

    (job,) = drain(queue, real=True)

    assert job.status is JobStatus.COMPLETED
    assert Path(job.result["path"]).parent == out
    assert [path.name for path in out.parent.iterdir() if path.is_file()] == []
    assert job.name is None or job.name.isprintable()


def test_one_item_is_a_list_of_one(
    channel: Channel, site: Site, queue: JobQueue, out: Path
) -> None:
    assert listed(channel(site.clip("/talk.mp4"))) == (1, 1, 0)
    drain(queue, real=True)
    assert titles_in(out) == ["talk.mp4"]


def test_a_page_with_several_players(
    channel: Channel, site: Site, queue: JobQueue, out: Path
) -> None:
    site.clip("/a.mp4")
    site.clip("/b.mp4")
    page = b'<html><title>Talks</title><video src="/a.mp4"></video><video src="/b.mp4"></video>'

    done = channel(site.page("/talks", sends(page, "text/html")))
    drain(queue, real=True)

    assert listed(done) == (2, 2, 0)
    assert titles_in(out) == ["Talks (1).mp4", "Talks (2).mp4"]


def test_an_empty_feed(channel: Channel, site: Site) -> None:
    assert listed(channel(site.feed("/feed", []))) == (0, 0, 0)


def test_every_reason_is_documented(package: str) -> None:
    text = (DOCS / "downloads.md").read_text("utf-8")
    source = Path(str(import_module(f"{package}.downloads.listing").__file__)).read_text("utf-8")
    reasons = re.findall(r'\["([a-z ]+)"\] \+=|return "([a-z ]+)"|why = "([a-z ]+)"', source)
    assert len(reasons) == 8
    for reason in map("".join, reasons):
        assert f"| `{reason}` |" in text, reason


# -- queues ------------------------------------------------------------------------------------


def test_a_host_s_queue_is_limited(channel: Channel, site: Site, queue: JobQueue) -> None:
    channel(site.numbered_feed("/feed", 1))
    assert queue.queue("host-127.0.0.1").max_concurrent == 2


def test_limits_that_somebody_set_are_kept(channel: Channel, site: Site, queue: JobQueue) -> None:
    queue.create_queue("host-127.0.0.1", max_concurrent=7)
    channel(site.numbered_feed("/feed", 1), per_host=3)
    assert queue.queue("host-127.0.0.1").max_concurrent == 7


def test_a_queue_of_one_s_own(channel: Channel, site: Site, queue: JobQueue) -> None:
    done = channel(site.numbered_feed("/feed", 2), download_queue="night", per_host=1)

    assert {job.queue for job in done.added} == {"night"}
    assert queue.queue("night").max_concurrent == 1


def test_a_feed_of_many_hosts_does_not_get_a_queue_for_each(
    channel: Channel, site: Site, queue: JobQueue
) -> None:
    entries = [
        Entry(f"{host} {n}", f"http://h{host}.example.org/{n}.mp4")
        for host in range(30)
        for n in range(2 if host < 20 else 1)
    ]

    done = channel(site.feed("/feed", entries))

    of_hosts = {job.queue for job in done.added}
    assert len(of_hosts) == 21
    assert {"host-h0.example.org", "host-h19.example.org", "host-127.0.0.1"} <= of_hosts


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("www.Example.org", "host-example.org"),
        ("127.0.0.1", "host-127.0.0.1"),
        ("::1", "host---1"),
        ("bücher.example", "host-b-cher.example"),
        ("", "host-"),
    ],
)
def test_names_of_queues(package: str, queue: JobQueue, host: str, name: str) -> None:
    queue_of = import_module(f"{package}.downloads.listing").queue_of

    assert queue_of(host) == name
    queue.create_queue(name)
    long = {queue_of(f"{host}{'a' * 200}{n}.example.org") for n in range(2)}
    assert len(long) == 2
    for one in long:
        queue.create_queue(one)
