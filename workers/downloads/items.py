"""Items of channels, playlists and feeds, as yt-dlp describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Any
from urllib.parse import urlsplit

from yt_dlp.utils import unsmuggle_url

from .addresses import absolute_url
from .arguments import is_url
from .names import item_key, storable

WITHOUT_IDS = ("generic", "html5mediaembed")
"""Extractors whose ids are the last part of the URL."""

_LIST_TYPES = ("playlist", "multi_video")
_MAX_TITLE_LENGTH = 1000


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a list."""

    key: str
    url: str
    title: str | None
    retitled: bool  # the list has a title; the item's own is only the last part of its URL
    date: datetime | None
    exact_date: bool
    live: bool  # on air or upcoming


@dataclass(frozen=True, slots=True)
class Listing:
    title: str | None
    items: list[Item]


def is_list(info: Mapping[str, Any]) -> bool:
    return info.get("_type") in _LIST_TYPES


def item_of(entry: Mapping[str, Any], list_url: str, base: str) -> Item:
    """Return an item of a list; `base` is where the list came from after redirects."""
    extractor = entry.get("ie_key") or entry.get("extractor_key") or "generic"
    nameless = extractor.lower() in WITHOUT_IDS
    given, smuggled = unsmuggle_url(storable(_url_of(entry, nameless=nameless)), {})
    url = absolute_url(given, base)
    item_id = entry.get("id")
    if nameless:  # what was a URL as it is stays the id of its item
        item_id = _own_id(given if is_url(given) else url, smuggled.get("force_videoid"), list_url)
    return Item(
        key=item_key(extractor, storable(item_id or url)),
        url=url,
        title=storable(entry["title"])[:_MAX_TITLE_LENGTH] if entry.get("title") else None,
        retitled=nameless,
        date=date_of(entry),
        exact_date=extractor.lower() != "youtube",  # its lists say "3 weeks ago"
        live=is_live(entry),
    )


def _url_of(entry: Mapping[str, Any], *, nameless: bool) -> str:
    """Return an item's page, or its file where one page holds several items."""
    fields = ("url", "webpage_url")
    if entry.get("_type", "video") == "video" and not nameless:
        fields = ("webpage_url", "url")
    return next((entry[field] for field in fields if entry.get(field)), "")


def _own_id(url: str, guid: str | None, list_url: str) -> str:
    """Return an id for an item without one."""
    if guid is None:
        return url
    return f"{urlsplit(list_url).hostname}/{guid}"


def is_live(info: Mapping[str, Any]) -> bool:
    return bool(info.get("is_live")) or info.get("live_status") in ("is_live", "is_upcoming")


def date_of(info: Mapping[str, Any]) -> datetime | None:
    """Return the date of an item; the end of the day if only the day is known."""
    seconds = info.get("timestamp") or info.get("release_timestamp")
    try:
        if seconds is not None:
            return datetime.fromtimestamp(seconds, UTC)
        day = datetime.strptime(info.get("upload_date") or "", "%Y%m%d")  # noqa: DTZ007 - a day
    except (ValueError, TypeError, OverflowError, OSError):
        return None
    return datetime.combine(day, time.max, UTC)
