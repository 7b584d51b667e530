"""Files of downloads that are not finished, told by their names. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection

SUFFIXES = (".part", ".ytdl", ".tmp", ".crdownload")
"""File name endings of unfinished downloads."""

_ENDINGS = re.compile(r"(?<=.)(?:\.part-Frag\d+|\.part|\.ytdl|\.tmp|\.crdownload)+\Z", re.DOTALL)
_HALF = re.compile(r"(.+)\.(?:f[^.]+|temp)\.[^.]+", re.DOTALL)
"""Picture or sound of a download, or both while FFmpeg joins them: talk.f137.mp4, talk.temp.mp4."""
_WHOLE = re.compile(r"(.+)\.[^.]+", re.DOTALL)


def is_unfinished(name: str) -> bool:
    """Return true for a file that is of no use by itself."""
    return name.endswith(SUFFIXES) or _ENDINGS.search(name) is not None


def is_at_work(name: str) -> bool:
    """Return true for a name that files have while a download runs."""
    return is_unfinished(name) or _HALF.fullmatch(name) is not None


def finished(name: str) -> str:
    """Return the name without what unfinished downloads append to it."""
    return _ENDINGS.sub("", name)


def download_of(name: str) -> str:
    """Return the part of a name that all files of a download share."""
    name = finished(name)
    match = _HALF.fullmatch(name) or _WHOLE.fullmatch(name)
    return match[1] if match else name


def belongs_to(name: str, downloads: Collection[str]) -> bool:
    """Return true if a file is one of these downloads."""
    return bool(downloads) and (
        name in downloads
        or any(char == "." and name[:place] in downloads for place, char in enumerate(name))
    )
