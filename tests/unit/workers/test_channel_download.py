"""`channel_download` and `playlist_download`: feeds are channels to the real yt-dlp."""

import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from jobq import ArgsError, Job, JobQueue, JobSpec, JobStatus, JobWorker, Permanent, Snooze
from jobq.job_types.arguments import args_model
from jobq.job_types.registry import load
from jobq.models import Inserted, NewJob
from jobq.testing import Run, drain, run
from tests.support.local_site import Entry, Site, answers, clip, sends, serving
from tests.support.paths import DOCS

Channel = Callable[..., Run]


@pytest.fixture(scope="module")
def workers() -> dict[str, type[JobWorker]]:
    return {name: found.worker for name, found in load([]).types.items() if found.worker}


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
def channel(workers: dict[str, type[JobWorker]], queue: JobQueue, out: Path) -> Channel:
    def call(url: str, *, job_type: str = "channel_download", **args: Any) -> Run:
        return run(workers[job_type], {"url": url, "output_dir": str(out), **args}, queue=queue)

    return call


def counts(done: Run) -> tuple[int, int, int]:
    assert done.error is None, done.error
    return done.result["found"], done.result["new"], done.result["skipped"]


def files(folder: Path) -> list[str]:
    """The names in it, without the ids."""
    return sorted(f"{path.name.partition(' [')[0]}{path.suffix}" for path in folder.iterdir())


def days_ago(number: int) -> datetime:
    return datetime.now(UTC) - timedelta(days=number)


# -- what is added -----------------------------------------------------------------------------


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

    assert counts(done) == (2, 2, 0)
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

    _, *children = drain(queue)

    assert [child.status for child in children] == [JobStatus.COMPLETED] * 2
    assert {child.added_by for child in children} == {parent.id}
    assert {child.priority for child in children} == {7}
    assert files(out) == ["Clip 1.mp4", "Clip 2.mp4"]


def test_a_feed_that_grows(channel: Channel, site: Site, queue: JobQueue, out: Path) -> None:
    url = site.numbered_feed("/feed", 3)
    assert counts(channel(url)) == (3, 3, 0)
    drain(queue)
    queue.prune()  # what was downloaded is remembered without the jobs
    for path in out.iterdir():
        path.unlink()  # ... and without the files

    again = channel(url)
    site.numbered_feed("/feed", 5)
    grown = channel(url)

    assert counts(again) == (3, 0, 3)
    assert again.result["skipped_because"] == {"downloaded before": 3}
    assert counts(grown) == (5, 2, 3)
    assert [job.name for job in grown.added] == ["Clip 4", "Clip 5"]


def test_what_waits_in_the_queue_is_not_added_twice(channel: Channel, site: Site) -> None:
    url = site.numbered_feed("/feed", 3)
    channel(url)

    again = channel(url)

    assert counts(again) == (3, 0, 3)
    assert again.result["skipped_because"] == {"in the queue already": 3}
    assert again.added == []


def test_another_directory_has_a_record_of_its_own(
    channel: Channel, site: Site, queue: JobQueue, tmp_path: Path
) -> None:
    url = site.numbered_feed("/feed", 1)
    channel(url)
    drain(queue)

    assert counts(channel(url, output_dir=str(tmp_path / "elsewhere"))) == (1, 1, 0)


def test_what_waits_for_one_directory_is_new_in_another(
    channel: Channel, site: Site, queue: JobQueue, tmp_path: Path
) -> None:
    url = site.numbered_feed("/feed", 1)
    elsewhere = tmp_path / "elsewhere"
    channel(url, metadata=True)

    done = channel(url, job_type="playlist_download", output_dir=str(elsewhere), metadata=True)

    assert counts(done) == (1, 1, 0)
    drain(queue)
    assert files(elsewhere) == ["001 - Clip 1.mp4"]
    extracted = [job.result["path"] for job in queue.find(type="metadata_extraction")]
    assert len(set(extracted)) == 2


def test_what_is_gone_for_good_is_left_until_somebody_prunes_it(
    channel: Channel, site: Site, queue: JobQueue
) -> None:
    url = site.numbered_feed("/feed", 2)
    site.page("/clip1.mp4", answers(403))
    channel(url)
    drain(queue)

    again = channel(url)

    assert counts(again) == (2, 0, 2)
    assert again.result["skipped_because"] == {"downloaded before": 1, "failed for good before": 1}
    assert counts(channel(url, format="worst")) == (2, 1, 1)  # asked for in another way
    queue.cancel(queue.find(status="pending")[0].id)
    queue.prune()
    assert counts(channel(url)) == (2, 1, 1)


def test_what_ran_out_of_retries_is_offered_again(
    channel: Channel, site: Site, queue: JobQueue
) -> None:
    url = site.numbered_feed("/feed", 1)
    site.page("/clip1.mp4", answers(500))
    (child,) = channel(url).added
    queue.cancel(child.id)
    queue.add("video_download", child.args, unique=child.unique_key, max_retries=0)
    assert drain(queue)[0].status is JobStatus.FAILED

    assert counts(channel(url)) == (1, 1, 0)


def test_metadata_follows_each_download(
    channel: Channel, site: Site, queue: JobQueue, out: Path
) -> None:
    done = channel(site.numbered_feed("/feed", 2), metadata=True)

    assert counts(done) == (2, 2, 0)
    first, follower, second, _ = done.added
    assert (first.type, follower.type) == ("video_download", "metadata_extraction")
    assert [parent.id for parent in follower.parents] == [first.id]
    assert (follower.status, second.status) == (JobStatus.BLOCKED, JobStatus.PENDING)
    assert (follower.queue, follower.name) == ("default", "metadata: Clip 1")

    drain(queue)

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
    drain(queue)

    gone, of_gone, old, of_old = queue.get_many([job.id for job in done.added])
    assert (gone.status, of_gone.status) == (JobStatus.FAILED, JobStatus.CANCELLED)
    assert (old.result["path"], of_old.result) == (None, {"path": None})


def test_a_download_that_waits_gets_its_metadata_job_afterwards(
    channel: Channel, site: Site
) -> None:
    url = site.numbered_feed("/feed", 1)
    (download,) = channel(url).added

    done = channel(url, metadata=True)

    assert counts(done) == (1, 0, 1)
    (follower,) = done.added
    assert [parent.id for parent in follower.parents] == [download.id]
    assert channel(url, metadata=True).added == []


def test_thousands_are_added_in_bulk(
    channel: Channel, site: Site, queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    insert = queue.backend.insert

    def counting(jobs: Sequence[NewJob], now: datetime) -> Sequence[Inserted]:
        batches.append(len(jobs))
        return insert(jobs, now)

    monkeypatch.setattr(queue.backend, "insert", counting)
    items = [Entry(f"Item {n}", site.url(f"/{n}.mp4"), guid=f"item {n}") for n in range(2000)]
    url = site.feed("/feed", items)

    done = channel(url, metadata=True)

    assert counts(done) == (2000, 2000, 0)
    assert sum(batches) == 4000
    assert len(batches) <= 4
    assert counts(channel(url)) == (2000, 0, 2000)


# -- which items -------------------------------------------------------------------------------


def test_limit_is_how_much_of_the_list_is_looked_at(
    channel: Channel, site: Site, queue: JobQueue
) -> None:
    url = site.numbered_feed("/feed", 5)

    assert counts(channel(url, limit=2)) == (2, 2, 0)
    drain(queue)
    assert counts(channel(url, limit=2)) == (2, 0, 2)
    assert counts(channel(url, limit=3)) == (3, 1, 2)


def test_since_goes_by_the_dates_in_the_list(channel: Channel, site: Site) -> None:
    items = [
        Entry(f"{days} days", site.clip(f"/{days}.mp4"), date=days_ago(days)) for days in (1, 9, 30)
    ]
    url = site.feed("/feed", items)

    done = channel(url, since="10d")

    assert counts(done) == (3, 2, 1)
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
    drain(queue)
    again = channel(url, since="30d")

    assert queue.get(child.id).result["path"] is None
    assert counts(again) == (1, 0, 1)
    assert again.result["skipped_because"] == {"too old": 1}
    assert counts(channel(url, since="2020-01-01")) == (1, 1, 0)


def test_other_addresses_in_a_feed_are_refused(channel: Channel, site: Site) -> None:
    odd = [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "javascript:alert(1)",
        "data:video/mp4,x",
        "/relative.mp4",
        "http://127.0.0.1/\u202egnp",
        "ytsearch:cats",
    ]
    entries = [Entry(f"Odd {n}", url) for n, url in enumerate(odd)]
    url = site.feed("/feed", [*entries, Entry("Good", site.clip("/1.mp4"))])

    done = channel(url)

    assert counts(done) == (len(odd) + 1, 1, len(odd))
    assert done.result["skipped_because"] == {"refused": len(odd)}
    assert "WARNING refused file:///etc/passwd: only http and https are fetched" in done.log
    assert [job.name for job in done.added] == ["Good"]


def test_an_item_that_is_listed_twice_is_added_once(channel: Channel, site: Site) -> None:
    item = Entry("One", site.clip("/1.mp4"))

    done = channel(site.feed("/feed", [item, item]))

    assert counts(done) == (2, 1, 1)
    assert done.result["skipped_because"] == {"twice in the list": 1}


def test_ids_of_one_feed_are_not_those_of_another_host(
    channel: Channel, site: Site, queue: JobQueue
) -> None:
    first = site.feed("/feed", [Entry("One", site.clip("/1.mp4"), guid="1")])
    other = first.replace("127.0.0.1", "localhost")

    assert counts(channel(first)) == (1, 1, 0)
    assert counts(channel(other)) == (1, 1, 0)


@pytest.mark.parametrize(
    "title", ["../../.bashrc", "$(id)", "x" * 300, "🎬" * 300, "-rf ~", "..", "", "a\u202eb\u0085c"]
)
def test_hostile_titles_in_a_feed(
    channel: Channel, site: Site, queue: JobQueue, out: Path, title: str
) -> None:
    done = channel(site.feed("/feed", [Entry(title, site.clip("/1.mp4"))]))
    assert counts(done) == (1, 1, 0)

    (job,) = drain(queue)

    assert job.status is JobStatus.COMPLETED
    assert Path(job.result["path"]).parent == out
    assert [path.name for path in out.parent.iterdir() if path.is_file()] == []
    assert job.name is None or job.name.isprintable()


def test_one_item_is_a_list_of_one(
    channel: Channel, site: Site, queue: JobQueue, out: Path
) -> None:
    assert counts(channel(site.clip("/talk.mp4"))) == (1, 1, 0)
    drain(queue)
    assert files(out) == ["talk.mp4"]


def test_a_page_with_several_players(
    channel: Channel, site: Site, queue: JobQueue, out: Path
) -> None:
    site.clip("/a.mp4")
    site.clip("/b.mp4")
    page = b'<html><title>Talks</title><video src="/a.mp4"></video><video src="/b.mp4"></video>'

    done = channel(site.page("/talks", sends(page, "text/html")))
    drain(queue)

    assert counts(done) == (2, 2, 0)
    assert files(out) == ["Talks (1).mp4", "Talks (2).mp4"]


def test_an_empty_feed(channel: Channel, site: Site) -> None:
    assert counts(channel(site.feed("/feed", []))) == (0, 0, 0)


def test_lists_within_lists_are_one_list(workers: dict[str, type[JobWorker]]) -> None:
    """As the tabs of a channel come."""
    package = workers["channel_download"].__module__.partition(".")[0]
    entries = import_module(f"{package}.downloads.ytdlp")._entries

    def tab(*ids: str) -> dict[str, Any]:
        return {"_type": "playlist", "entries": [{"_type": "url", "id": one} for one in ids]}

    nested = {"_type": "playlist", "entries": [tab("a", "b"), None, tab(), tab("c")]}
    assert [entry["id"] for entry in entries(None, nested)] == ["a", "b", "c"]


@pytest.mark.parametrize("status", [404, 410, 403])
def test_a_channel_that_is_gone(channel: Channel, site: Site, status: int) -> None:
    error = channel(site.page("/feed", answers(status))).error

    assert isinstance(error, Permanent)
    assert f"HTTP Error {status}" in str(error)


def test_a_channel_that_asks_for_patience(channel: Channel, site: Site) -> None:
    error = channel(site.page("/feed", answers(429, Retry_After="90"))).error

    assert isinstance(error, Snooze)
    assert error.seconds == 90


# -- playlists ---------------------------------------------------------------------------------


def test_a_playlist_is_numbered_and_in_order(
    channel: Channel, site: Site, queue: JobQueue, out: Path
) -> None:
    titles = ["Zebra", "Ape", "Mole"]
    entries = [Entry(title, site.clip(f"/{title}.mp4")) for title in titles]
    url = site.feed("/list", entries)

    done = channel(url, job_type="playlist_download")
    finished = drain(queue)

    assert counts(done) == (3, 3, 0)
    assert [job.name for job in finished] == titles
    assert files(out) == ["001 - Zebra.mp4", "002 - Ape.mp4", "003 - Mole.mp4"]


def test_a_playlist_that_grows_keeps_counting(
    channel: Channel, site: Site, queue: JobQueue, out: Path
) -> None:
    for count in (2, 3):
        channel(site.numbered_feed("/list", count), job_type="playlist_download")
        drain(queue)

    assert files(out) == ["001 - Clip 1.mp4", "002 - Clip 2.mp4", "003 - Clip 3.mp4"]


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
def test_names_of_queues(
    workers: dict[str, type[JobWorker]], queue: JobQueue, host: str, name: str
) -> None:
    package = workers["channel_download"].__module__.partition(".")[0]
    queue_of = import_module(f"{package}.downloads.listing").queue_of

    assert queue_of(host) == name
    queue.create_queue(name)
    long = {queue_of(f"{host}{'a' * 200}{n}.example.org") for n in range(2)}
    assert len(long) == 2
    for one in long:
        queue.create_queue(one)


# -- where things are kept ---------------------------------------------------------------------


def test_files_go_beside_the_configuration_by_default(
    workers: dict[str, type[JobWorker]], site: Site, queue: JobQueue, project: Path
) -> None:
    queue.add("channel_download", {"url": site.numbered_feed("/feed", 1)})

    drain(queue)

    assert files(project / "downloads") == ["Clip 1.mp4"]


def test_without_a_configuration_a_directory_is_asked_for(
    workers: dict[str, type[JobWorker]], site: Site
) -> None:
    error = run(workers["channel_download"], {"url": site.numbered_feed("/feed", 1)}).error

    assert isinstance(error, Permanent)
    assert "give output_dir" in str(error)


def record_of(queue: JobQueue) -> Path:
    return queue.settings.database.with_name("jobq.downloads.jsonl")


def test_the_record_is_private_lines_of_json(
    channel: Channel, site: Site, queue: JobQueue, out: Path
) -> None:
    channel(site.numbered_feed("/feed", 2))
    done: list[Job] = drain(queue)

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
    drain(queue)
    _, second = record_of(queue).read_text().splitlines(keepends=True)
    record_of(queue).write_text(second)

    assert counts(channel(url)) == (2, 1, 1)


def test_what_was_downloaded_stays_so_when_it_is_found_too_old(
    channel: Channel, site: Site, queue: JobQueue
) -> None:
    url = site.numbered_feed("/feed", 1)
    old = sends(clip(), Last_Modified="Wed, 01 Jul 2020 10:00:00 GMT")
    site.page("/clip1.mp4", old)
    (child,) = channel(url).added
    queue.add("video_download", {**child.args, "since": "2021-01-01"})
    drain(queue)

    again = channel(url)

    assert len(record_of(queue).read_text().splitlines()) == 2
    assert again.result["skipped_because"] == {"downloaded before": 1}


def test_a_record_that_a_power_cut_tore_is_gone_on_with(
    channel: Channel, site: Site, queue: JobQueue
) -> None:
    url = site.numbered_feed("/feed", 1)
    channel(url)
    drain(queue)
    whole = record_of(queue).read_bytes()
    record_of(queue).write_bytes(
        b'\xff\xfe{"item"\n[]\n{"item": 1}\n' + whole + whole[: len(whole) // 2]
    )

    assert counts(channel(url)) == (1, 0, 1)
    channel(site.numbered_feed("/feed", 2))
    drain(queue)
    assert counts(channel(url)) == (2, 0, 2)


@pytest.mark.parametrize(
    "wrong", [{"limit": 0}, {"per_host": 0}, {"metadata": "maybe"}, {"download_queue": "a b"}]
)
def test_arguments_are_checked(queue: JobQueue, wrong: dict[str, Any]) -> None:
    with pytest.raises(ArgsError, match=next(iter(wrong))):
        queue.add_many(
            [JobSpec(type="channel_download", args={"url": "http://example.org/", **wrong})]
        )


@pytest.mark.parametrize("name", ["channel_download", "playlist_download", "video_download"])
def test_every_argument_is_documented(workers: dict[str, type[JobWorker]], name: str) -> None:
    text = (DOCS / "downloads.md").read_text("utf-8")
    assert f"`{name}`" in text
    for argument in args_model(workers[name]).model_fields:
        assert f"`{argument}`" in text, argument


def test_every_reason_is_documented(workers: dict[str, type[JobWorker]]) -> None:
    text = (DOCS / "downloads.md").read_text("utf-8")
    package = workers["channel_download"].__module__.partition(".")[0]
    source = Path(str(import_module(f"{package}.downloads.listing").__file__)).read_text("utf-8")
    reasons = re.findall(r'\["([a-z ]+)"\] \+=|return "([a-z ]+)"|why = "([a-z ]+)"', source)
    assert len(reasons) == 7
    for reason in map("".join, reasons):
        assert f"| `{reason}` |" in text, reason
