"""Names of files and items, made safe from untrusted titles and ids. Pure."""

from __future__ import annotations

import hashlib
import re
import unicodedata

MAX_TITLE_BYTES = 120
"""Longest title in a file name. A name may have 255 bytes, and yt-dlp appends to it while it works
(``.f137-drm.mp4.part-Frag1000.part``)."""

_JOINERS = "\u200c\u200d"  # part of combined emoji, and of words in some scripts
_UNSAFE_CHARS = set('/\\:*?"<>|')  # path separators, or refused by some file systems
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")
_MAX_KEY_LENGTH = 300


def file_stem(title: str, key: str, number: int | None = None) -> str:
    """Return the name of an item's file without its suffix: ``007 - A title [its id]``.

    Whatever the title, the name is not a path, does not start with a dot, dash or tilde, holds no
    control characters, and is short enough. The id keeps items with the same title apart.
    """
    clean = _cut(_cleaned(title), MAX_TITLE_BYTES).lstrip(".-_~ ").rstrip(". ") or "untitled"
    prefix = "" if number is None else f"{number:03} - "
    return f"{prefix}{clean} [{file_id(key)}]"


def _cleaned(title: str) -> str:
    kept = (
        " " if char.isspace() else "_" if char in _UNSAFE_CHARS else char
        for char in unicodedata.normalize("NFC", title)
        if char.isspace() or char in _JOINERS or not unicodedata.category(char).startswith("C")
    )
    return " ".join("".join(kept).split())


def _cut(text: str, size: int) -> str:
    """Cut a text to at most ``size`` bytes of UTF-8."""
    return text.encode()[:size].decode(errors="ignore")


def file_id(key: str) -> str:
    """Return the id in an item's file name: its own if that is plain, else a digest."""
    plain = key.partition(":")[2]
    return plain if _PLAIN_ID.fullmatch(plain) else digest(key)


def item_key(extractor: str, item_id: str) -> str:
    """Return an item's key in the record and in unique keys: ``youtube:dQw4w9WgXcQ``."""
    key = f"{extractor.lower()}:{item_id}"
    if len(key) > _MAX_KEY_LENGTH or not key.isprintable():
        key = f"{extractor.lower()}:sha256-{digest(key)}"
    return key


def digest(text: str) -> str:
    """Return a short digest of a text: 16 hexadecimal digits."""
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16]


def storable(text: object) -> str:
    """Replace what can't be stored as UTF-8."""
    return str(text).encode(errors="replace").decode()


def shown(text: object, max_length: int = 300) -> str:
    """Return an untrusted text as one line that is safe to print on a terminal."""
    clean = "".join(
        " " if char.isspace() else char
        for char in str(text)
        if char.isspace() or not unicodedata.category(char).startswith("C")
    )
    return " ".join(clean.split())[:max_length]
