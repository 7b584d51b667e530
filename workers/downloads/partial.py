"""Partial files: what a download goes on with, and what it begins again.

Beside a partial file lies its origin, `<name>.part.ytdl`: format, address and version of its bytes.
A download goes on only with bytes of the same origin. The origin stays until the file is complete
and on disk: a file that still has one may have been cut short by a power failure.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from glob import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from yt_dlp.networking import Request
from yt_dlp.networking.exceptions import HTTPError, TransportError
from yt_dlp.utils import parse_http_range

from .content import words_in
from .errors import DownloadFailed
from .names import digest, shown

ORIGIN_SUFFIX = ".part.ytdl"


@dataclass(frozen=True, slots=True)
class Origin:
    """The format, address and version of a file's bytes. Addresses may hold credentials: digests."""

    format: str
    url: str
    path: str  # of the URL; hosts and signatures change from request to request
    fragments: str | None = None  # the list of them
    etag: str | None = None
    modified: str | None = None
    length: int | None = None

    @property
    def validator(self) -> str | None:
        """The value for `If-Range`, where a weak ETag is not allowed."""
        return self.modified if self.etag is None or self.etag.startswith("W/") else self.etag

    @property
    def is_recognisable(self) -> bool:
        """True if the host gave enough to recognise the same bytes."""
        strong = self.etag is not None and self.etag == self.validator
        return strong or self.length is not None

    def is_of(self, wanted: Origin) -> bool:
        """Return true if both have the same format and address.

        Without an ETag or a date, the query belongs to the address: `get.php?id=1` is not `?id=2`.
        """
        versioned = self.fragments is not None or self.validator is not None
        same = self.path == wanted.path if versioned else self.url == wanted.url
        return same and (self.format, self.fragments) == (wanted.format, wanted.fragments)

    def at_version_of(self, response: Any) -> Origin:
        """Return this origin with the version of a response that begins with the first byte."""
        headers = response.headers
        length = parse_http_range(headers.get("Content-Range"))[2]
        if response.status != 206:
            given = headers.get("Content-Length") or ""
            length = int(given) if given.isdecimal() else None
        if _is_encoded(headers):
            length = None
        return replace(
            self, etag=headers.get("ETag"), modified=headers.get("Last-Modified"), length=length
        )

    def is_version_of(self, part: Any) -> bool:
        """Return true if a part is of this version; it need not repeat what it was asked by."""
        headers = part.headers
        return (
            headers.get("ETag") in (None, self.etag)
            and headers.get("Last-Modified") in (None, self.modified)
            and self.length in (None, parse_http_range(headers.get("Content-Range"))[2])
        )


Send = Callable[[Request], Any]


class Transfer:
    """The transfer of one file, by requests for its bytes or for a list of fragments."""

    def __init__(self, file: Path, info: Mapping[str, Any], fragments: str | None) -> None:
        """`fragments` is a digest of the list of fragments, empty if there is none to compare."""
        url = str(info.get("url") or "")
        path = digest(urlsplit(url).path)
        self._origin_file = _beside(file, ORIGIN_SUFFIX)
        self._file = file
        self._part = _beside(file, ".part")
        self._info = info
        self._url = url
        self._fragmented = fragments is not None
        self._wanted = Origin(str(info.get("format_id")), digest(url), path, fragments)
        self._origin: Origin | None = None  # of the partial file

    # -- before it -----------------------------------------------------------------------------

    def prepare(self, send: Send, *, half: bool) -> None:
        """Delete what is not to be gone on with. A half is joined with another one afterwards."""
        known = _read(self._origin_file)
        size = _size_of(self._file)
        if size is not None:
            whole = self._is_current(known, size, send) if half else _is_whole(known, size)
            if whole:
                return
            self._file.unlink()
        done = _size_of(self._part) or 0
        whole_size = done + 1 if known is None or known.length is None else known.length
        if size is None and known is not None and known.is_of(self._wanted) and done < whole_size:
            self._origin = known
            self._delete_fragments()  # the one under way may be of any version
        else:
            self._discard()
            if self._wanted.fragments:
                self._keep(self._wanted)

    def _is_current(self, known: Origin | None, size: int, send: Send) -> bool:
        """Return true if a complete half has the bytes that this transfer would fetch."""
        if known is None or not known.is_of(self._wanted) or known.length not in (None, size):
            return False
        if self._fragmented:
            return True
        headers = self._info.get("http_headers") or {}
        with send(Request(self._url, headers={**headers, "Accept-Encoding": "identity"})) as now:
            return known.at_version_of(now) == known

    def _discard(self) -> None:
        """Delete the partial file and all about it."""
        self._origin = None
        for path in (self._part, _beside(self._file, ".ytdl"), self._origin_file):
            path.unlink(missing_ok=True)
        self._delete_fragments()

    def _delete_fragments(self) -> None:
        for path in self._file.parent.glob(f"{escape(self._part.name)}-Frag*"):
            path.unlink(missing_ok=True)

    def _keep(self, origin: Origin) -> None:
        """Note the origin of the partial file, before its first byte is written."""
        self._origin = origin
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC  # nothing is followed
        with open(os.open(self._origin_file, flags, 0o600), "w", encoding="utf-8") as file:
            json.dump(asdict(origin), file)

    # -- its requests --------------------------------------------------------------------------

    def open(self, request: Request, send: Send) -> Any:
        """Send a request of this transfer.

        Raises:
            DownloadFailed: the answer is an error in words, or not the bytes asked for.
        """
        start, end, _ = parse_http_range(request.headers.get("Range"))
        if self._fragmented or "Range" in (self._info.get("http_headers") or {}):
            return self._open_range(send(request), start, end)
        if start and self._origin is not None:
            response = self._rest(self._origin, request, send)
            if response.status == 206:
                return response
            start = end = None
        else:
            response = send(request)
        self._begin(response, start or 0, end)
        return response

    def _begin(self, response: Any, start: int, end: int | None) -> None:
        """Begin a file with the response that has its first bytes, if they are media."""
        self._refuse_words(response)
        if response.status == 206 and not _holds(response, start, end):
            raise DownloadFailed(f"{shown(self._url)}: the host sent only a part of the file")
        self._discard()
        origin = self._wanted.at_version_of(response)
        if origin.is_recognisable and not _is_encoded(response.headers):
            self._keep(origin)

    def _open_range(self, response: Any, start: int | None, end: int | None) -> Any:
        """Return the response to a request for a fragment, or for a range that a page names."""
        first, last, total = parse_http_range(response.headers.get("Content-Range"))
        whole = last is not None and (last == end or end is None or total == last + 1)
        if start is not None and not (first == start and whole):
            raise DownloadFailed(f"{shown(self._url)}: the host did not send the range asked for")
        self._refuse_words(response)
        return response

    def _rest(self, origin: Origin, request: Request, send: Send) -> Any:
        """Return a response with the rest of the file, or with all of it if it is another one."""
        start, end, _ = parse_http_range(request.headers["Range"])
        if origin.validator is not None:
            request.headers["If-Range"] = origin.validator
        response = None
        try:
            response = send(request)
        except HTTPError as error:
            if error.status != 416:
                raise
            error.response.close()
        except TransportError as error:
            if not isinstance(error.cause, zlib.error):
                raise  # else a part was compressed, or the rest of what was
        if response is not None:
            same = _holds(response, start, end) and origin.is_version_of(response)
            if same or response.status == 200:
                return response
            response.close()
        for name in {"Range", "If-Range"} & set(request.headers):
            del request.headers[name]
        response = send(request)
        if response.status != 200:
            raise DownloadFailed(f"{shown(self._url)}: the host sent only a part of the file")
        return response

    def _refuse_words(self, response: Any) -> None:
        words = words_in(response, str(self._info.get("ext")), fragment=self._fragmented)
        if words is not None:
            raise DownloadFailed(f"{shown(self._url)}: the host sent {words}, not media")

    def finish(self) -> None:
        """Note the size of a stream, which is known only now, in its origin."""
        size = _size_of(self._file)
        if self._fragmented and self._origin is not None and size is not None:
            self._origin_file.unlink(missing_ok=True)
            self._keep(replace(self._origin, length=size))


def confirm(file: Path) -> None:
    """Flush a complete file to disk; then forget the origins of it and of its halves."""
    for path in (file, file.parent):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    halves = file.parent.glob(f"{escape(file.stem)}.f*{ORIGIN_SUFFIX}")
    for origin_file in (_beside(file, ORIGIN_SUFFIX), *halves):
        origin_file.unlink(missing_ok=True)


def _is_whole(known: Origin | None, size: int) -> bool:
    """Return true if a file was there before, or was not cut short by a power failure."""
    return known is None or known.length == size


def _holds(response: Any, start: int | None, end: int | None) -> bool:
    """Return true if a response holds these bytes, as sent; `end` is None for all the rest."""
    first, last, total = parse_http_range(response.headers.get("Content-Range"))
    if response.status != 206 or first != start or total is None or _is_encoded(response.headers):
        return False
    wanted = total - 1 if end is None else min(end, total - 1)
    given = response.headers.get("Content-Length") or ""
    return last == wanted and given.isdecimal() and int(given) == wanted + 1 - first


def _is_encoded(headers: Any) -> bool:
    return (headers.get("Content-Encoding") or "identity").strip().lower() != "identity"


def _beside(file: Path, suffix: str) -> Path:
    return file.with_name(file.name + suffix)


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _read(origin_file: Path) -> Origin | None:
    """Read an origin; None if there is none, or none that can be read."""
    try:
        return Origin(**json.loads(origin_file.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
