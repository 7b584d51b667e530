"""Names of files and of items, made of what a stranger wrote. Pure."""

from __future__ import annotations

import hashlib
import re
import unicodedata

LONGEST_TITLE = 120
"""Bytes of a title in a file name. A name may have 255, and yt-dlp adds to it while it works
(``.f137-drm.mp4.part-Frag1000.part``)."""

_JOINERS = "\u200c\u200d"  # they make one emoji of several, and words of some scripts
_ODD = set('/\\:*?"<>|')  # separators here, or refused by other file systems
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")
_LONGEST_KEY = 300


def file_stem(title: str, key: str, number: int | None = None) -> str:
    """The name of an item's file without its suffix: ``007 - A title [its id]``.

    It is no path, does not start with a dot, a dash or a tilde, holds no control characters, and is short
    enough, whatever the title is. The id keeps items of one title apart.
    """
    clean = _cut(_cleaned(title), LONGEST_TITLE).lstrip(".-_~ ").rstrip(". ") or "untitled"
    prefix = "" if number is None else f"{number:03} - "
    return f"{prefix}{clean} [{file_id(key)}]"


def _cleaned(title: str) -> str:
    kept = (
        " " if char.isspace() else "_" if char in _ODD else char
        for char in unicodedata.normalize("NFC", title)
        if char.isspace() or char in _JOINERS or not unicodedata.category(char).startswith("C")
    )
    return " ".join("".join(kept).split())


def _cut(text: str, size: int) -> str:
    """The text in so many bytes of UTF-8 at most."""
    return text.encode()[:size].decode(errors="ignore")


def file_id(key: str) -> str:
    """What tells an item's file from others: its id if that is plain, else a digest."""
    plain = key.partition(":")[2]
    return plain if _PLAIN_ID.fullmatch(plain) else digest(key)


def item_key(extractor: str, item_id: str) -> str:
    """What an item is called in the record and in unique keys: ``youtube:dQw4w9WgXcQ``."""
    key = f"{extractor.lower()}:{item_id}"
    if len(key) > _LONGEST_KEY or not key.isprintable():
        key = f"{extractor.lower()}:sha256-{digest(key)}"
    return key


def digest(text: str) -> str:
    """A short text that stands for a long one."""
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16]


def sound(text: object) -> str:
    """Text that can be stored as UTF-8."""
    return str(text).encode(errors="replace").decode()


def shown(text: object, longest: int = 300) -> str:
    """A stranger's words on one line, without what could confuse a terminal."""
    clean = "".join(
        " " if char.isspace() else char
        for char in str(text)
        if char.isspace() or not unicodedata.category(char).startswith("C")
    )
    return " ".join(clean.split())[:longest]
