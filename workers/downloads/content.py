"""The content of a response, by its headers and first bytes: media, or an error in words."""

from __future__ import annotations

import re
from io import BytesIO
from typing import Any

from yt_dlp.utils import MEDIA_EXTENSIONS, determine_ext, mimetype2ext
from yt_dlp.utils._utils import _UnsafeExtensionError, disposition_filename

from .names import shown

ALLOWED_SUFFIXES = _UnsafeExtensionError.ALLOWED_EXTENSIONS
"""The types of files that are saved."""

PROGRAM_SUFFIXES = frozenset(
    [
        "app",
        "bat",
        "cmd",
        "com",
        "deb",
        "desktop",
        "dmg",
        "exe",
        "htm",
        "html",
        "jar",
        "js",
        "lnk",
        "msi",
        "pkg",
        "ps1",
        "py",
        "rpm",
        "scr",
        "sh",
        "vbs",
    ]
)
"""Types of files that are refused, whatever the host says that they hold."""

MEDIA_SUFFIXES = frozenset(
    {*MEDIA_EXTENSIONS.video, *MEDIA_EXTENSIONS.audio, "m2ts", "mp2", "mpeg", "mpga", "ra", "ts"}
)

_WORKING_SUFFIXES = frozenset(
    ["description", "json", "meta", "orig", "part", "temp", "uncut", "unknown_video", "xml", "ytdl"]
)
"""Suffixes that yt-dlp allows for files of its own, and for media of an unknown type."""

_TEXT_SUFFIXES = frozenset(
    [
        "ass",
        "dfxp",
        "json",
        "json3",
        "lrc",
        "sami",
        "sbv",
        "scc",
        "smil",
        "srt",
        "srv1",
        "srv2",
        "srv3",
        "ssa",
        "svg",
        "tt",
        "ttml",
        "vtt",
        "xml",
    ]
)

_OTHER_FILES = {
    b"GIF8": "a picture",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
}
"""The first bytes of files that no film and no sound begins with."""

_SAMPLE_BYTES = 512
_KEY_BYTES = 16  # a key of encrypted fragments; some are text
_BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")  # WHATWG's MIME sniffing standard
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_MAX_QUOTED_LENGTH = 100


def names_media(url: str) -> bool:
    """Return true if a URL ends like that of a media file."""
    return str(determine_ext(url)).lower() in MEDIA_SUFFIXES


def is_unclear(suffix: str) -> bool:
    """Return true if a suffix does not say which type of media a file holds: that of a script."""
    suffix = suffix.lower()
    known = suffix in ALLOWED_SUFFIXES and suffix not in _WORKING_SUFFIXES
    return not known and suffix not in PROGRAM_SUFFIXES


def suffix_of(headers: Any) -> str | None:
    """Return the suffix for a response, by its file name or its type; None if neither says it."""
    kind = str(headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    named = determine_ext(disposition_filename(headers), default_ext=None)
    for suffix in (named, mimetype2ext(kind), mimetype2ext(kind.replace("/x-", "/"))):
        if suffix and not is_unclear(suffix) and suffix.lower() not in PROGRAM_SUFFIXES:
            return str(suffix).lower()
    return None


def words_in(response: Any, suffix: str, *, fragment: bool) -> str | None:
    """Return what a host sent in place of media, such as words, with its type; None for media.

    Nobody makes media that look like text, but hosts call media text. A fragment is text only if
    its type says so too. What is read of the response stays in it.
    """
    sample = _sample(response)
    kind = str(response.headers.get("Content-Type") or "no type").partition(";")[0].strip().lower()
    if not fragment and (suffix.lower() in MEDIA_SUFFIXES or is_unclear(suffix)):
        for signature, other in _OTHER_FILES.items():
            if sample.startswith(signature):
                return f"{other} ({shown(kind, 50)})"
    if suffix.lower() in _TEXT_SUFFIXES or not _is_text(sample, kind):
        return None
    if fragment and (len(sample) == _KEY_BYTES or not _is_text_type(kind)):
        return None
    quoted = shown(_decoded(sample), _MAX_QUOTED_LENGTH)
    return f'text ({shown(kind, 50)}), which begins "{quoted}"'


def _is_text_type(kind: str) -> bool:
    return kind.startswith("text/") or kind.endswith(("json", "xml", "html"))


def _is_text(sample: bytes, kind: str) -> bool:
    if _is_text_type(kind) and sample.lstrip().startswith((b"{", b"[", b"<")):
        return True  # with a NUL, or in UTF-16 without a mark
    if sample.startswith(_UTF_16_MARKS):
        return _decoded(sample).replace("\n", "").replace("\r", "").isprintable()
    return bool(sample) and not _BINARY.search(sample)


def _decoded(sample: bytes) -> str:
    if sample.startswith(_UTF_16_MARKS):
        return sample[: len(sample) // 2 * 2].decode("utf-16", "replace").lstrip("\ufeff")
    return sample.decode(errors="replace")


def _sample(response: Any) -> bytes:
    """Return the first bytes of a response, which it then sends again."""
    read_on = response.read
    sample: bytes = read_on(_SAMPLE_BYTES)
    again = BytesIO(sample)

    def read(amount: int | None = None) -> bytes:
        first = again.read(amount)
        if amount is None:
            return bytes(first + read_on())
        return bytes(first or read_on(amount))

    response.read = read
    return sample
