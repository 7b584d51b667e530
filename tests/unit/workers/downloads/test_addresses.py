"""Addresses in feeds, read as a browser reads them."""

from importlib import import_module

import pytest

from jobq import JobQueue, JobStatus
from jobq.testing import drain
from tests.support.local_site import Entry, Site, answers, clip, sends
from tests.support.workers import Channel, listed

BASE = "https://h.example/feeds/f.xml?x=1"


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("http://h/a b.mp3", "http://h/a%20b.mp3"),
        ("\n  http://h/a.mp3\t ", "http://h/a.mp3"),
        ("\xa0http://h/a.mp3\x00", "http://h/a.mp3"),
        ("http://h/a\n\tb.mp3", "http://h/ab.mp3"),
        ("http://h/a?q=b c#d e", "http://h/a?q=b%20c#d%20e"),
        ("http://h/a%20b%2F%zz.mp3", "http://h/a%20b%2F%zz.mp3"),
        ("http://h/100%.mp3", "http://h/100%.mp3"),
        ("http://h/a+b.mp3", "http://h/a+b.mp3"),
        ("http://h/é.mp3", "http://h/é.mp3"),
        ("http://h/م\u200cخ.mp3", "http://h/م%E2%80%8Cخ.mp3"),
        ("http://h/a?x=1&amp;y=2&amp;amp;z=3", "http://h/a?x=1&y=2&z=3"),
        ("HTTP://H/a.mp3", "http://H/a.mp3"),
        ("//cdn/a.mp3", "https://cdn/a.mp3"),
        ("/a.mp3", "https://h.example/a.mp3"),
        ("a.mp3", "https://h.example/feeds/a.mp3"),
        ("../a.mp3", "https://h.example/a.mp3"),
        ("?file=1", "https://h.example/feeds/f.xml?file=1"),
        ("http://h\\a\\b.mp3?c=\\d", "http://h/a/b.mp3?c=\\d"),
        ("javascript:alert(1)", "javascript:alert(1)"),
        ("http://", "http://"),
        ("http://[::1/", "http://[::1/"),
        (" ", ""),
    ],
)
def test_an_address_is_read_as_a_browser_reads_it(package: str, written: str, url: str) -> None:
    assert import_module(f"{package}.downloads.addresses").absolute_url(written, BASE) == url


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("{site}/a b.mp4", "/a%20b.mp4"),
        (" {site}/ab.mp4\n", "/ab.mp4"),
        ("{site}/Grüße.mp4", "/Gr%C3%BC%C3%9Fe.mp4"),
        ("{site}/a%20b.mp4", "/a%20b.mp4"),
        ("//{host}/ab.mp4", "/ab.mp4"),
        ("/ab.mp4", "/ab.mp4"),
        ("ab.mp4", "/feeds/ab.mp4"),
        ("{site}/get.mp4?a=1&amp;b=2", "/get.mp4?a=1&b=2"),
    ],
)
def test_an_item_is_fetched_from_there(
    channel: Channel, site: Site, queue: JobQueue, written: str, path: str
) -> None:
    site.clip(path.partition("?")[0])
    address = written.format(site=site.url(""), host=f"127.0.0.1:{site.port}")

    done = channel(site.feed("/feeds/f.xml", [Entry("One", address)]))
    (job,) = drain(queue, real=True)

    assert listed(done) == (1, 1, 0)
    assert job.status is JobStatus.COMPLETED, job.error
    assert {seen.path for seen in site.requests} == {"/feeds/f.xml", path}
    assert listed(channel(site.url("/feeds/f.xml"))) == (1, 0, 1)


def test_a_scheme_in_capitals(channel: Channel, site: Site, queue: JobQueue) -> None:
    address = site.clip("/1.mp4").replace("http:", "HTTP:")

    channel(site.feed("/feed", [Entry("One", address)]))

    assert drain(queue, real=True)[0].status is JobStatus.COMPLETED


def test_addresses_are_relative_to_where_the_feed_is(
    channel: Channel, site: Site, queue: JobQueue
) -> None:
    site.page("/casts/1.mp4", sends(clip()))
    site.feed("/casts/f.xml", [Entry("One", "1.mp4")])

    channel(site.page("/feed", answers(301, Location="/casts/f.xml")))

    assert drain(queue, real=True)[0].status is JobStatus.COMPLETED
