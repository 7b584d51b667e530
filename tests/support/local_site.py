"""A web site on 127.0.0.1 that tests download from: clips, feeds, and everything that goes wrong.

(Not ``site.py``: that is a module of Python's own.)
"""

from __future__ import annotations

import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from tests.support.media import make_clip

SIZE = 200_000
"""Bytes of a clip."""


@cache
def clip(suffix: str = "mp4") -> bytes:
    """A real clip of one second, padded to `SIZE`."""
    with tempfile.TemporaryDirectory() as folder:
        body = make_clip(Path(folder) / f"clip.{suffix}").read_bytes()
    padding = SIZE - len(body) - 8
    return body + (padding + 8).to_bytes(4, "big") + b"free" + bytes(padding)


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as the site saw it."""

    path: str
    headers: Mapping[str, str]

    @property
    def first_byte(self) -> int | None:
        """The offset from which the client wants the file; None if it wants all."""
        found = re.fullmatch(r"bytes=(\d+)-.*", self.headers.get("range", ""))
        return int(found[1]) if found else None


Respond = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """One request."""

    site: Site

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.seen = Seen(self.path, headers)
        with self.site.lock:
            self.site.requests.append(self.seen)
        self.site.pages.get(self.path.partition("?")[0], answers(404))(self)

    def begin(self, status: int, kind: str, length: int, **headers: str) -> None:
        """Send everything that comes before the body."""
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(length), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def body(self, data: bytes, kind: str, **headers: str) -> None:
        """Send a body, or the rest of it that is asked for."""
        start = self.seen.first_byte
        if start is None:
            self.begin(200, kind, len(data), Accept_Ranges="bytes", **headers)
        else:
            where = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.begin(206, kind, len(data) - start, Content_Range=where, **headers)
        self.wfile.write(data[start or 0 :])

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Ignore a client that has gone away, as some tests make it do."""


@dataclass
class Gate:
    """Holds up the second half of a file until it is opened."""

    opened: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    inside: int = 0
    most: int = 0  # that were inside at once

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Wait here."""
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            self.opened.wait(60)
            yield
        finally:
            with self.lock:
                self.inside -= 1


@dataclass(frozen=True, slots=True)
class Entry:
    """An item of a feed."""

    title: str
    url: str
    guid: str | None = None
    date: datetime | None = None


class Site:
    """The site, in threads of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.requests: list[Seen] = []
        self.pages: dict[str, Respond] = {}
        handler = type("OwnHandler", (Handler,), {"site": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.port = self._server.server_address[1]
        # A short beat: shutting down waits for one.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def url(self, path: str) -> str:
        """Return the address of a page."""
        return f"http://127.0.0.1:{self.port}{path}"

    def asked_for(self, path: str) -> list[Seen]:
        """Return the requests for a page so far."""
        with self.lock:
            return [seen for seen in self.requests if seen.path.partition("?")[0] == path]

    # -- pages -----------------------------------------------------------------------------

    def page(self, path: str, *responds: Respond) -> str:
        """Serve answers in turn, the last one over and over; return the address."""
        left = list(responds)

        def respond(handler: Handler) -> None:
            with self.lock:
                chosen = left.pop(0) if len(left) > 1 else left[0]
            chosen(handler)

        self.pages[path] = respond
        return self.url(path)

    def clip(self, path: str) -> str:
        """Serve a clip."""
        return self.page(path, sends(clip()))

    def feed(self, path: str, entries: Sequence[Entry], title: str = "A channel") -> str:
        """Serve an RSS feed. Serve it again under the same path to let it grow."""
        text = "".join(map(_rss_item, entries))
        rss = f'<rss version="2.0"><channel><title>{escape(title)}</title>{text}</channel></rss>'
        return self.page(path, sends(rss.encode(), "application/rss+xml"))

    def numbered_feed(self, path: str, count: int) -> str:
        """Serve a feed of clips: "Clip 1" is /clip1.mp4, and so on."""
        clips = [self.clip(f"/clip{n}.mp4") for n in range(1, count + 1)]
        return self.feed(path, [Entry(f"Clip {n}", url) for n, url in enumerate(clips, 1)])


# -- answers -----------------------------------------------------------------------------------


def sends(data: bytes, kind: str = "video/mp4", **headers: str) -> Respond:
    """Serve a clip, or the rest of it that is asked for."""
    return lambda handler: handler.body(data, kind, **headers)


def answers(code: int, **headers: str) -> Respond:
    """Serve a status, and nothing else."""
    return lambda handler: handler.begin(code, "text/plain", 0, **headers)


def breaks_off(after: int = SIZE // 2) -> Respond:
    """Serve a clip that breaks off, unless the rest of it is asked for."""

    def respond(handler: Handler) -> None:
        if handler.seen.first_byte is not None:
            handler.body(clip(), "video/mp4")
            return
        handler.begin(200, "video/mp4", SIZE, Accept_Ranges="bytes")
        handler.wfile.write(clip()[:after])

    return respond


def serves(data: bytes, cut: int | None = None, /, **headers: str) -> Respond:
    """A clip as careful hosts send it: by ranges, `If-Range` and 416; cut off after some bytes."""
    kind = "video/mp4"

    def respond(handler: Handler) -> None:
        start = handler.seen.first_byte
        validator = handler.seen.headers.get("if-range")
        if validator not in (None, headers.get("ETag"), headers.get("Last_Modified")):
            start = None
        if start is not None and start >= len(data):
            handler.begin(416, kind, 0, Content_Range=f"bytes */{len(data)}")
            return
        if start is None:
            handler.begin(200, kind, len(data), Accept_Ranges="bytes", **headers)
        else:
            where = f"bytes {start}-{len(data) - 1}/{len(data)}"
            handler.begin(206, kind, len(data) - start, Content_Range=where, **headers)
        handler.wfile.write(data[start or 0 : cut])

    return respond


def waits_at(gate: Gate) -> Respond:
    """Serve a clip whose second half waits for a gate."""

    def respond(handler: Handler) -> None:
        handler.begin(200, "video/mp4", SIZE)
        handler.wfile.write(clip()[: SIZE // 2])
        handler.wfile.flush()
        with gate.passing():
            handler.wfile.write(clip()[SIZE // 2 :])

    return respond


def drips(blocks: int = 10, pause: float = 0.01) -> Respond:
    """Serve a clip slowly."""

    def respond(handler: Handler) -> None:
        handler.begin(200, "video/mp4", SIZE)
        size = SIZE // blocks
        for start in range(0, SIZE, size):
            handler.wfile.write(clip()[start : start + size])
            handler.wfile.flush()
            time.sleep(pause)

    return respond


def _rss_item(entry: Entry) -> str:
    guid = "" if entry.guid is None else f"<guid>{escape(entry.guid)}</guid>"
    date = "" if entry.date is None else f"<pubDate>{format_datetime(entry.date)}</pubDate>"
    enclosure = f'<enclosure url={quoteattr(entry.url)} type="video/mp4"/>'
    return f"<item><title>{escape(entry.title)}</title>{enclosure}{guid}{date}</item>"


@contextmanager
def serving() -> Iterator[Site]:
    """Run a site as long as the block lasts."""
    site = Site()
    try:
        yield site
    finally:
        site.close()
