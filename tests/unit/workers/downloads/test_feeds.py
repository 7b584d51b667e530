"""Feeds of every form, as they become RSS 2.0."""

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from time import process_time
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from jobq import Permanent
from tests.support.local_site import Site, sends
from tests.support.workers import Channel, listed

ITEM = "<item><title>{title}</title><enclosure url='/1.mp3' type='audio/mpeg'/></item>"


BASE = "http://h.example/feed"


def rss(title: str) -> str:
    return f'<rss version="2.0"><channel><title>A</title>{ITEM.format(title=title)}</channel></rss>'


Read = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def read(package: str) -> Read:
    """Read a feed as yt-dlp does: the texts and the file of each item."""
    as_rss = import_module(f"{package}.downloads.feeds").as_rss

    def call(body: bytes | str, charset: str | None = None) -> list[dict[str, Any]]:
        text = as_rss(body.encode() if isinstance(body, str) else body, charset, BASE)
        assert text is not None
        return [
            {
                **{name: item.findtext(name) for name in ("title", "guid", "pubDate")},
                "url": next((e.get("url") for e in item.iter("enclosure")), item.findtext("link")),
            }
            for item in ET.fromstring(text).iterfind("./channel/item")
        ]

    return call


# -- encodings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "declared", "header"),
    [
        ("latin-1", "ISO-8859-1", None),
        ("latin-1", "iso-8859-1", "utf-8"),
        ("latin-1", None, "iso-8859-1"),
        ("latin-1", "utf-8", "iso-8859-1"),
        ("latin-1", None, None),
        ("latin-1", "no-such-encoding", None),
        ("cp1252", "windows-1252", None),
        ("utf-8", "UTF-8", None),
        ("utf-8", None, None),
        ("utf-8", None, "iso-8859-1"),
        ("utf-8", "iso-8859-1", None),
        ("utf-8-sig", "UTF-8", None),
        ("utf-16", "UTF-16", None),
        ("utf-16-le", "UTF-16", None),
        ("utf-16-be", "UTF-16", None),
        ("utf-16-le", None, "utf-16le"),
        ("utf-32", "UTF-32", None),
    ],
)
def test_text_in_any_encoding(
    read: Read, encoding: str, declared: str | None, header: str | None
) -> None:
    declaration = f'<?xml version="1.0" encoding="{declared}"?>\n' if declared else ""

    (item,) = read((declaration + rss("Café")).encode(encoding), header)

    assert item["title"] == "Café"


@pytest.mark.parametrize(
    ("encoding", "title"),
    [("windows-1251", "Привет"), ("shift_jis", "日本"), ("iso-2022-jp", "日本"), ("koi8-r", "Да")],
)
@pytest.mark.parametrize("by_header", [True, False])
def test_encodings_of_other_scripts(read: Read, encoding: str, title: str, by_header: bool) -> None:
    declaration = "" if by_header else f"<?xml version='1.0' encoding='{encoding}'?>"

    (item,) = read((declaration + rss(title)).encode(encoding), encoding if by_header else None)

    assert item["title"] == title


def test_latin_1_has_the_quotes_of_windows(read: Read) -> None:
    text = '<?xml version="1.0" encoding="ISO-8859-1"?>' + rss("“Hi”")

    (item,) = read(text.encode("cp1252"))

    assert item["title"] == "“Hi”"


# -- slightly broken ---------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["\n", "\r\n  \n", "\ufeff\n", "<!-- made by hand -->\n"])
def test_what_comes_before_the_declaration(read: Read, before: str) -> None:
    (item,) = read(before + '<?xml version="1.0"?>\n' + rss("One"))

    assert item["title"] == "One"


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("Q&A", "Q&A"),
        ("R & B", "R & B"),
        ("a&b;c", "a&b;c"),
        ("caf&eacute; &nbsp;&ndash; &amp;", "café \xa0\u2013 &"),
        ("<![CDATA[Q&A &eacute; <b>]]> & more", "Q&A &eacute; <b> & more"),
        ("bell \x07 tab \x0b", "bell  tab "),
        ("&#11;&#x1F;fine&#233;", "fineé"),
    ],
)
def test_what_is_often_wrong_is_repaired(read: Read, written: str, title: str) -> None:
    (item,) = read(rss(written))

    assert item["title"] == title


def test_a_bare_ampersand_in_an_address(read: Read) -> None:
    (item,) = read(rss("One").replace("/1.mp3", "/get?a=1&b=2"))

    assert item["url"] == "http://h.example/get?a=1&b=2"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<rss>\n<channel>\n<item></channel></rss>", "mismatched tag: line 3, column 8"),
        ('<?xml version="1.0"?>\n' + rss("One")[:-20], "line 2"),
        ("<feed xmlns='http://www.w3.org/2005/Atom'><entry>", "no element found: line 1"),
        ("<rss><channel><itunes:title/></channel></rss>", "unbound prefix: line 1"),
    ],
)
def test_xml_that_is_broken_is_said_to_be(
    channel: Channel, site: Site, text: str, why: str
) -> None:
    url = site.page("/feed", sends(text.encode(), "application/rss+xml"))

    error = channel(url).error

    assert isinstance(error, Permanent)
    assert str(error).startswith(f"{url}: ")
    assert "the feed is not well-formed XML" in str(error)
    assert why in str(error)
    assert "Unsupported URL" not in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "<!-- -->" * 20_000 + "<rss",
        "<?xml ?>" * 20_000,
        "<rss>" + "<![CDATA[" * 20_000,
        "<rss>" + "<!--" * 20_000,
        "<!DOCTYPE [" * 20_000,
        "<rss>" + "&" * 20_000,
    ],
)
def test_a_hostile_feed_takes_no_time(package: str, text: str) -> None:
    feeds = import_module(f"{package}.downloads.feeds")
    began = process_time()

    with suppress(feeds.FeedError):
        feeds.as_rss(text.encode(), None, BASE)

    assert process_time() - began < 2  # seconds; it was hours


@pytest.mark.parametrize(
    "text", ["<html><title>rss</title></html>", "", "{}", "<?xml version='1.0'?><smil/>", "<rsss/>"]
)
def test_what_is_no_feed_is_left_to_yt_dlp(package: str, text: str) -> None:
    assert import_module(f"{package}.downloads.feeds").as_rss(text.encode(), None, BASE) is None


# -- forms -------------------------------------------------------------------------------------


ATOM = """<?xml version="1.0"?>
<feed xmlns="http://www.w3.org/2005/Atom" xml:base="http://example.org/casts/">
  <title>A feed</title>
  <entry>
    <title type="html">One</title>
    <id>tag:example.org,2026:1</id>
    <updated>2026-07-02T10:00+02:00</updated>
    <published>2026-07-01T10:00:00Z</published>
    <link href="http://example.org/1.html"/>
    <link rel="enclosure" type="image/png" href="/1.png"/>
    <link rel="enclosure" type="audio/mpeg" href="1.mp3"/>
    <content type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml">Text</div></content>
  </entry>
  <entry>
    <title>Two</title>
    <link rel="self" href="http://example.org/self"/>
    <link rel="alternate" href="http://example.org/2.html"/>
    <updated>2026-07-02T10:00:00+02:00</updated>
  </entry>
  <entry><title>None</title></entry>
</feed>"""

RDF = """<?xml version="1.0"?>
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/"
  xmlns:enc="http://purl.oclc.org/net/rss_2.0/enc#" xmlns:dc="http://purl.org/dc/elements/1.1/">
  <channel rdf:about="http://example.org/"><title>A feed</title></channel>
  <item rdf:about="urn:1">
    <title>One</title><link>http://example.org/1.html</link><dc:date>2026-07-01T10:00:00Z</dc:date>
    <enc:enclosure rdf:resource="http://example.org/1.mp3" enc:type="audio/mpeg"/>
  </item>
  <item rdf:about="urn:2"><title>Two</title><link>http://example.org/2.mp3</link></item>
</rdf:RDF>"""


def test_atom(read: Read) -> None:
    assert read(ATOM) == [
        {
            "title": "One",
            "guid": "tag:example.org,2026:1",
            "pubDate": "Wed, 01 Jul 2026 10:00:00 +0000",
            "url": "http://example.org/casts/1.mp3",
        },
        {
            "title": "Two",
            "guid": None,
            "pubDate": "Thu, 02 Jul 2026 10:00:00 +0200",
            "url": "http://example.org/2.html",
        },
        {"title": "None", "guid": None, "pubDate": None, "url": None},
    ]


def test_rss_1(read: Read) -> None:
    assert read(RDF) == [
        {
            "title": "One",
            "guid": "urn:1",
            "pubDate": "Wed, 01 Jul 2026 10:00:00 +0000",
            "url": "http://example.org/1.mp3",
        },
        {"title": "Two", "guid": "urn:2", "pubDate": None, "url": "http://example.org/2.mp3"},
    ]


MEDIA = '<media:content url="/a.mp4"/><media:content url="/b.mp4" isDefault="true"/>'


@pytest.mark.parametrize(
    ("files", "url"),
    [
        ('<enclosure url="/a"/><enclosure url="/b"/>', "/a"),
        ('<enclosure url="/a.jpg" type="image/jpeg"/><enclosure url="/b" type="audio/x"/>', "/b"),
        ('<enclosure url=" "/><link>/page</link>', "/page"),
        ('<link>/page</link><media:content url="/a.mp4"/>', "/a.mp4"),
        ('<link>/page</link><media:content url="/a.jpg"/>', "/page"),
        ('<link>/page</link><media:content url="/a" medium="image"/>', "/page"),
        ('<link>/page</link><media:content url="/a" medium="video"/>', "/a"),
        ('<link>/page</link><media:content url="/a" type="application/x-flash"/>', "/page"),
        (f"<media:group>{MEDIA}</media:group>", "/b.mp4"),
        ('<media:content url="/a.mp4"/><enclosure url="/b.mp4" type="video/mp4"/>', "/b.mp4"),
        ("<itunes:title>/x</itunes:title><link>/page</link>", "/page"),
    ],
)
def test_the_file_of_an_item(read: Read, files: str, url: str) -> None:
    spaces = (
        'xmlns:media="http://search.yahoo.com/mrss/" '
        'xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"'
    )
    (item,) = read(f"<rss {spaces}><channel><item>{files}</item></channel></rss>")

    assert item["url"] == f"http://h.example{url}"


def test_rss_with_a_namespace_of_its_own(read: Read) -> None:
    (item,) = read(rss("One").replace("<rss", '<rss xmlns="http://backend.userland.com/rss2"'))

    assert (item["title"], item["url"]) == ("One", "http://h.example/1.mp3")


@pytest.mark.parametrize("text", [ATOM, RDF, rss("One")], ids=["Atom", "RSS 1.0", "RSS 2.0"])
@pytest.mark.parametrize("kind", ["application/xml", "text/xml; charset=utf-8", "text/html"])
def test_a_channel_of_any_form(channel: Channel, site: Site, text: str, kind: str) -> None:
    body = text.replace("http://example.org", site.url("")).encode()

    done = channel(site.page("/feed", sends(body, kind)))

    assert done.error is None
    first = done.added[0]
    path = "/casts/1.mp3" if text is ATOM else "/1.mp3"
    assert (first.name, first.args["url"]) == ("One", site.url(path))
    assert len(site.requests) == 1


def test_dates_of_atom_count(channel: Channel, site: Site) -> None:
    url = site.page("/feed", sends(ATOM.encode(), "application/atom+xml"))

    done = channel(url, since="2026-07-02")

    assert listed(done) == (2, 1, 1)
    assert done.result["skipped_because"] == {"too old": 1}


def test_accents_of_a_channel(channel: Channel, site: Site) -> None:
    body = ('<?xml version="1.0" encoding="ISO-8859-1"?>' + rss("Café")).encode("latin-1")

    done = channel(site.page("/feed", sends(body, "text/xml; charset=utf-8")))

    assert [job.name for job in done.added] == ["Café"]
