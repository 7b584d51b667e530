"""Feeds of every form as plain RSS 2.0, the only one that yt-dlp reads. Pure.

RSS 0.9 to 2.0 and Atom, in any encoding; with Media RSS, where an item has no enclosure.
"""

from __future__ import annotations

import codecs
import mimetypes
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from email.utils import format_datetime
from html import unescape
from html.entities import html5
from urllib.parse import urljoin
from xml.etree import ElementTree as ET

from .addresses import absolute_url, without_query
from .arguments import is_url

_ATOM = ("http://www.w3.org/2005/Atom", "http://purl.org/atom/ns#")
_RSS_1 = ("http://purl.org/rss/1.0/", "http://my.netscape.com/rdf/simple/0.9/")
_RSS_2 = ("http://backend.userland.com/rss2", "http://blogs.law.harvard.edu/tech/rss")
_OWN_NAMESPACES = frozenset({"", *_ATOM, *_RSS_1, *_RSS_2})
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_ENCLOSURE = "{http://purl.oclc.org/net/rss_2.0/enc#}"
_MEDIA = "{http://search.yahoo.com/mrss/}"
_DATE = "{http://purl.org/dc/elements/1.1/}date"
_XML_BASE = "{http://www.w3.org/XML/1998/namespace}base"

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
_WINDOWS_NAMES = frozenset({"iso8859-1", "ascii"})  # as browsers do: they are Windows-1252
_DECLARED = re.compile(rb"""\s*<\?xml[^>]*?\bencoding\s*=\s*["']([A-Za-z0-9._:-]+)["']""")
_PROLOGUE = re.compile(
    r"\s*(?:<\?.*?\?>\s*|<!--.*?-->\s*|<!DOCTYPE[^>\[]*(?:\[.*?\]\s*)?>\s*)*", re.DOTALL
)
_ROOT = re.compile(r"<(?:[A-Za-z_][\w.-]*:)?(rss|feed|RDF)[\s>/]")
_DECLARATION = re.compile(r"\A(?>\s|<!--.*?-->)*+<\?xml\b.*?\?>", re.DOTALL)
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LITERAL_OR_AMPERSAND = re.compile(
    r"<!\[CDATA\[.*?(?:\]\]>|\Z)|<!--.*?(?:-->|\Z)|&(?:#(\d+|x[0-9A-Fa-f]+);|([A-Za-z]\w*);)?",
    re.DOTALL,
)
_XML_ENTITIES = frozenset({"amp", "lt", "gt", "quot", "apos"})


class FeedError(Exception):
    """A feed that is not well-formed XML; the message says where and why."""


def as_rss(body: bytes, charset: str | None, url: str) -> str | None:
    """Return a feed as RSS 2.0 with absolute addresses, or None if the body is no feed.

    `charset` is the one of the HTTP header, if it names one; `url` is where the feed is.

    Raises:
        FeedError: the feed is not XML, even after repair of what is often wrong.
    """
    text = _decoded(body, charset)
    found = _ROOT.match(text, _PROLOGUE.match(text).end())  # type: ignore[union-attr]
    if found is None:
        return None
    root = _parsed(_DECLARATION.sub(lambda found: "\n" * found[0].count("\n"), text))
    read = {"rss": _of_rss, "feed": _of_atom, "RDF": _of_rdf}[found[1]]
    return ET.tostring(read(root, url), encoding="unicode")


# -- text and XML ------------------------------------------------------------------------------


def _decoded(body: bytes, charset: str | None) -> str:
    """Decode a document: by its byte order mark, as UTF-8 if it is that, or as it is declared.

    What is valid UTF-8 beyond ASCII is UTF-8, whatever a server's default says. The HTTP header
    comes before the XML declaration, as RFC 7303 has it, unless the bytes don't fit.
    """
    for mark, encoding in _BOMS:
        if body.startswith(mark):
            return body.decode(encoding, "replace").removeprefix("\ufeff")
    declared = _DECLARED.match(body)
    names = [charset or "", declared[1].decode() if declared else "", "utf-8", "cp1252"]
    if not body.isascii():
        names.insert(0, "utf-8")
    for name in names:
        with suppress(LookupError, ValueError):
            codec = codecs.lookup(name).name
            return body.decode("cp1252" if codec in _WINDOWS_NAMES else codec)
    return body.decode("cp1252", "replace")


def _parsed(text: str) -> ET.Element:
    """Parse XML; without what XML can't hold, and with bare `&` and HTML's entities repaired.

    Expat fetches nothing, and limits what entities expand to.
    """
    with suppress(ET.ParseError):
        return ET.fromstring(text)  # noqa: S314
    clean = _LITERAL_OR_AMPERSAND.sub(_repaired, _NOT_IN_XML.sub("", text))
    try:
        return ET.fromstring(clean)  # noqa: S314
    except ET.ParseError as error:
        raise FeedError(f"the feed is not well-formed XML: {error}") from None


def _repaired(found: re.Match[str]) -> str:
    whole, number, name = found[0], found[1], found[2]
    if number:
        return _NOT_IN_XML.sub("", unescape(whole)) and whole
    if whole == "&" or (name and name not in _XML_ENTITIES and f"{name};" not in html5):
        return "&amp;" + whole[1:]
    if name and name not in _XML_ENTITIES:
        return "".join(f"&#{ord(char)};" for char in html5[f"{name};"])
    return whole


def _namespace_and_name(tag: str) -> tuple[str, str]:
    namespace, _, name = tag.rpartition("}")
    return namespace.removeprefix("{"), name


def _own(element: ET.Element, *names: str) -> Iterator[ET.Element]:
    """Yield the children of these names that are the feed's own, not those of an extension."""
    for name in names:
        for child in element:
            if isinstance(child.tag, str):
                namespace, found = _namespace_and_name(child.tag)
                if found == name and namespace in _OWN_NAMESPACES:
                    yield child


def _text(element: ET.Element, *names: str) -> str | None:
    """Return the text of the first child that has some."""
    texts = ("".join(child.itertext()).strip() for child in _own(element, *names))
    return next(filter(None, texts), None)


# -- the forms ---------------------------------------------------------------------------------


def _of_rss(root: ET.Element, base: str) -> ET.Element:
    """Return RSS 0.91 to 2.0 without namespaces of its own, each item with its file first."""
    for element in root.iter():
        if isinstance(element.tag, str):
            namespace, name = _namespace_and_name(element.tag)
            element.tag = name if namespace in _OWN_NAMESPACES else element.tag
    for item in root.iterfind("./channel/item"):
        if url := _file_of(item) or _text(item, "link"):
            item.insert(0, ET.Element("enclosure", url=_absolute(url, base)))
    return root


def _of_rdf(root: ET.Element, base: str) -> ET.Element:
    channel = next(_own(root, "channel"), root)
    rss, items = _rss(_text(channel, "title"), _text(channel, "description"))
    for source in _own(root, "item"):
        date = source.findtext(_DATE)
        url = _file_of(source) or _text(source, "link")
        url = url and _absolute(url, base)
        _add(items, source, url, source.get(f"{_RDF}about"), date)
    return rss


def _of_atom(root: ET.Element, base: str) -> ET.Element:
    rss, items = _rss(_text(root, "title"), _text(root, "subtitle", "tagline"))
    base = urljoin(base, root.get(_XML_BASE, ""))
    for source in _own(root, "entry"):
        date = _text(source, "published", "issued", "updated", "modified")
        url = _file_of(source) or _page_of(source)
        url = url and _absolute(url, urljoin(base, source.get(_XML_BASE, "")))
        _add(items, source, url, _text(source, "id"), date)
    return rss


def _rss(title: str | None, description: str | None) -> tuple[ET.Element, ET.Element]:
    root = ET.Element("rss", version="2.0")
    channel = ET.SubElement(root, "channel")
    _append(channel, {"title": title, "description": description})
    return root, channel


def _add(
    channel: ET.Element, source: ET.Element, url: str | None, guid: str | None, date: str | None
) -> None:
    """Add an item; the children that belong to extensions are kept."""
    item = ET.SubElement(channel, "item")
    if url:
        ET.SubElement(item, "enclosure", url=url)
    description = _text(source, "description", "summary", "content")
    texts = {"title": _text(source, "title"), "guid": guid, "description": description}
    _append(item, {**texts, "pubDate": date and _mail_date(date)})
    item.extend(
        child
        for child in source
        if isinstance(child.tag, str) and _namespace_and_name(child.tag)[0] not in _OWN_NAMESPACES
    )


def _append(parent: ET.Element, texts: dict[str, str | None]) -> None:
    for name, text in texts.items():
        if text is not None:
            ET.SubElement(parent, name).text = text


def _mail_date(text: str) -> str:
    """Return an ISO 8601 date as RSS writes it; any other text as it is."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return text
    return format_datetime(moment)


def _absolute(url: str, base: str) -> str:
    """Return a URL as it is, or what a relative or odd address stands for."""
    return url if is_url(url) else absolute_url(url, base)


# -- the file of an item -----------------------------------------------------------------------


def _file_of(item: ET.Element) -> str | None:
    """Return the address of an item's file: the first that says it is media, or else the first."""
    files = [(url, kind) for url, kind in _files(item) if url and url.strip()]
    media = (url for url, kind in files if kind.startswith(("audio", "video")))
    others = (url for url, kind in files if not kind.startswith(("image", "document")))
    return next(media, None) or next(others, None)


def _files(item: ET.Element) -> Iterator[tuple[str | None, str]]:
    """Yield addresses and types: of enclosures, then of the media extension."""
    for enclosure in (*_own(item, "enclosure"), *item.iterfind(f"{_ENCLOSURE}enclosure")):
        url = enclosure.get("url") or enclosure.get(f"{_RDF}resource")
        kind = enclosure.get("type") or enclosure.get(f"{_ENCLOSURE}type") or ""
        yield url or enclosure.get(f"{_ENCLOSURE}url"), kind.lower()
    for link in _own(item, "link"):
        if link.get("rel", "").lower() == "enclosure":
            yield _based(link), link.get("type", "").lower()
    contents = [
        *item.iterfind(f"{_MEDIA}content"),
        *item.iterfind(f"{_MEDIA}group/{_MEDIA}content"),
    ]
    for content in sorted(contents, key=lambda content: content.get("isDefault") != "true"):
        url = content.get("url") or ""
        guessed = mimetypes.guess_type(without_query(url))[0]
        kind = content.get("type") or content.get("medium") or guessed or "video"
        if kind.lower().startswith(("audio", "video")):
            yield url, kind.lower()


def _page_of(entry: ET.Element) -> str | None:
    """Return the address of an Atom entry's page."""
    links = [link for link in _own(entry, "link") if link.get("href")]
    pages = (_based(link) for link in links if link.get("rel", "alternate") == "alternate")
    return next(pages, None)


def _based(link: ET.Element) -> str | None:
    href = link.get("href")
    return href and urljoin(link.get(_XML_BASE, ""), href)
