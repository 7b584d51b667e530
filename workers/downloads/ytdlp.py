"""yt-dlp, held to what a job may do.

- It fetches http and https, whatever a redirect, a feed, a playlist or a manifest names.
- It reads no configuration files, plugins, netrc, cookies or cache. It runs no commands but FFmpeg,
  on files that are already here, and Deno, for the scripts of sites that ask for it.
- It writes into one directory, under names made by `names.file_stem`.
- Its errors become what `run` may raise: see `errors.translated`.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import yt_dlp.globals
from yt_dlp import YoutubeDL
from yt_dlp.downloader import get_suitable_downloader
from yt_dlp.downloader.external import ExternalFD
from yt_dlp.downloader.fragment import FragmentFD
from yt_dlp.downloader.hls import HlsFD
from yt_dlp.downloader.http import HttpFD
from yt_dlp.networking._urllib import UrllibRH
from yt_dlp.networking.exceptions import HTTPError
from yt_dlp.utils import unsmuggle_url
from yt_dlp.utils._utils import _UnsafeExtensionError

from jobq import JobContext, Permanent, RetryAfter, Snooze
from jobq.units import format_size

from .arguments import SCHEMES
from .errors import ONLY_FFMPEG, DownloadFailed, Seen, translated
from .locks import locked
from .names import file_stem, item_key, shown, sound

LIVE_DELAY = 1800.0
"""Seconds until a live stream is looked at again: what is kept is the recording."""

_WITHOUT_IDS = ("generic", "html5mediaembed")  # theirs is the last word of an address
_LISTS = ("playlist", "multi_video")
_LONGEST_TITLE = 1000
_DEEPEST_LIST = 3  # lists of lists, such as the tabs of a channel
_ALLOWED_SUFFIXES = _UnsafeExtensionError.ALLOWED_EXTENSIONS

_PARAMS: Mapping[str, Any] = {
    "quiet": True,
    "noprogress": True,
    "color": "never",
    "ignoreerrors": False,
    # Nothing of the one whom it runs for: no accounts, no settings, no commands.
    "usenetrc": False,
    "netrc_cmd": None,
    "cookiefile": None,
    "cookiesfrombrowser": None,
    "cachedir": False,
    "postprocessors": (),
    "external_downloader": "native",
    "enable_file_urls": False,
    "remote_components": (),
    # One try is one try: jobq retries, and its history shows it.
    "retries": 0,
    "extractor_retries": 1,
    "fragment_retries": 2,
    "skip_unavailable_fragments": False,
    "socket_timeout": 30,
    # A file that is there is left alone, one that is there in part is completed.
    "overwrites": False,
    "continuedl": True,
    "nopart": False,
    "updatetime": False,
    "allow_playlist_files": False,
}


# -- what is asked for, and what comes back ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a list."""

    key: str
    url: str
    title: str | None
    retitled: bool  # the item's own title is but the last word of its address
    date: datetime | None
    exact_date: bool
    live: bool  # on air, or to come


@dataclass(frozen=True, slots=True)
class Listing:
    title: str | None
    items: list[Item]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One item to download."""

    url: str
    directory: Path
    lock_file: Path
    format: str | None = None
    title: str | None = None  # instead of its own
    key: str | None = None  # likewise
    number: int | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of it."""

    key: str
    file: Path | None  # None: it is too old
    downloaded: bool  # False: the file was there
    date: datetime | None
    info: Mapping[str, Any]


def list_items(url: str, limit: int | None, job: JobContext) -> Listing:
    """What a channel, playlist or feed holds, the first ``limit`` of it. Nothing is downloaded."""
    options = {
        "extract_flat": "in_playlist",
        "playlist_items": limit and f"1:{limit}",
        "extractor_args": {"youtubetab": {"approximate_date": [""]}},
    }
    with _opened(url, job, options) as ydl:
        info = ydl.extract_info(url, download=False) or {}
        items: list[Item] = []
        for entry in _entries(ydl, info):
            items.append(_item(entry, url))
            if len(items) == limit:
                break
            job.progress(len(items), None, "items listed")
        return Listing(info.get("title"), items)


def describe(url: str, job: JobContext) -> dict[str, Any]:
    """Everything that yt-dlp knows of an address, as JSON can hold it. Nothing is downloaded."""
    options = {"extract_flat": "in_playlist", "ignore_no_formats_error": True, "noplaylist": True}
    with _opened(url, job, options) as ydl:
        info = ydl.extract_info(url, download=False) or {}
        entries = [_item(entry, url) for entry in _entries(ydl, info)] if _is_list(info) else []
        described: dict[str, Any] = _sound(ydl.sanitize_info(info, remove_private_keys=True))
        if _is_list(info):
            described["items"] = [{"url": item.url, "title": item.title} for item in entries]
        return described


def _sound(value: Any) -> Any:
    """JSON whose texts can be stored."""
    if isinstance(value, dict):
        return {sound(key): _sound(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_sound(below) for below in value]
    return sound(value) if isinstance(value, str) else value


def fetch(wanted: Wanted, job: JobContext) -> Fetched:
    """Download one item, going on from a partial file if there is one."""
    options = {
        "format": wanted.format,
        "noplaylist": True,
        "progress_hooks": [_Meter(job)],
    }
    with _opened(wanted.url, job, options, wanted) as ydl:
        info = ydl.extract_info(wanted.url)
        if not info:
            raise DownloadFailed(f"{shown(wanted.url)}: yt-dlp found nothing there")
        key = _key_of(info, wanted)
        done = (info.get("requested_downloads") or [None])[0]
        if done is None:
            return Fetched(key, None, False, date_of(info), info)
        path = Path(done["filepath"])
        return Fetched(key, path, bool(done.get("__real_download")), date_of(info), info)


# -- lists -------------------------------------------------------------------------------------


def _is_list(info: Mapping[str, Any]) -> bool:
    return info.get("_type") in _LISTS


def _entries(ydl: _Ydl, info: Mapping[str, Any], depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """The items of a list and of the lists in it; what is no list is one item."""
    if not _is_list(info):
        if info:
            yield info
        return
    for entry in info.get("entries") or ():
        if not entry:
            continue
        if not _is_list(entry) and depth < _DEEPEST_LIST and _leads_to_list(ydl, entry):
            entry = ydl.extract_info(entry["url"], download=False, ie_key=entry["ie_key"]) or {}  # noqa: PLW2901
        yield from _entries(ydl, entry, depth + 1)


def _leads_to_list(ydl: _Ydl, entry: Mapping[str, Any]) -> bool:
    if entry.get("_type") not in ("url", "url_transparent") or not entry.get("ie_key"):
        return False
    return ydl.get_info_extractor(entry["ie_key"]).is_single_video(entry["url"]) is False


def _item(entry: Mapping[str, Any], list_url: str) -> Item:
    extractor = entry.get("ie_key") or entry.get("extractor_key") or "generic"
    nameless = extractor.lower() in _WITHOUT_IDS
    url, smuggled = unsmuggle_url(sound(_address(entry, nameless=nameless)), {})
    item_id = entry.get("id")
    if nameless:
        item_id = _own_id(url, smuggled.get("force_videoid"), list_url)
    return Item(
        key=item_key(extractor, sound(item_id or url)),
        url=url,
        title=sound(entry["title"])[:_LONGEST_TITLE] if entry.get("title") else None,
        retitled=nameless,
        date=date_of(entry),
        exact_date=extractor.lower() != "youtube",  # its lists say "3 weeks ago"
        live=_is_live(entry),
    )


def _address(entry: Mapping[str, Any], *, nameless: bool) -> str:
    """Where an item is; one of several on a page is where its file is."""
    places = ("url", "webpage_url")
    if entry.get("_type", "video") == "video" and not nameless:
        places = ("webpage_url", "url")
    return next((entry[place] for place in places if entry.get(place)), "")


def _own_id(url: str, guid: str | None, list_url: str) -> str:
    """An id for what has none."""
    if guid is None:
        return url
    return f"{urllib.parse.urlsplit(list_url).hostname}/{guid}"


def _is_live(info: Mapping[str, Any]) -> bool:
    return bool(info.get("is_live")) or info.get("live_status") in ("is_live", "is_upcoming")


def date_of(info: Mapping[str, Any]) -> datetime | None:
    """When an item appeared; if only the day is known, the end of it."""
    seconds = info.get("timestamp") or info.get("release_timestamp")
    try:
        if seconds is not None:
            return datetime.fromtimestamp(seconds, UTC)
        day = datetime.strptime(info.get("upload_date") or "", "%Y%m%d")  # noqa: DTZ007 - a day
    except (ValueError, TypeError, OverflowError, OSError):
        return None
    return datetime.combine(day, time.max, UTC)


# -- one item ----------------------------------------------------------------------------------


def _key_of(info: Mapping[str, Any], wanted: Wanted) -> str:
    if wanted.key is not None:
        return wanted.key
    extractor = info.get("extractor_key") or "generic"
    item_id = wanted.url if extractor.lower() in _WITHOUT_IDS else info.get("id")
    return item_key(extractor, str(item_id))


def _file_of(info: Mapping[str, Any], wanted: Wanted) -> Path:
    """Where an item goes: directly into its directory, and through no symbolic link there."""
    suffix = str(info.get("ext") or "unknown_video").lower()
    if suffix not in _ALLOWED_SUFFIXES:
        raise Permanent(f"{shown(wanted.url)}: files of type {shown(suffix)} are not saved")
    stem = file_stem(
        wanted.title or str(info.get("title") or ""), _key_of(info, wanted), wanted.number
    )
    path = wanted.directory / f"{stem}.{suffix}"
    for place in (path, path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.ytdl")):
        if place.is_symlink():
            raise Permanent(f"{place}: a symbolic link is not written through")
    return path


class _Meter:
    """Tells the job how far its transfers are; picture and sound may be two."""

    def __init__(self, job: JobContext) -> None:
        self._job = job
        self._finished: dict[str, float] = {}

    def __call__(self, status: Mapping[str, Any]) -> None:
        name = status.get("filename") or ""
        done = status.get("downloaded_bytes") or 0
        total = status.get("total_bytes") or status.get("total_bytes_estimate")
        if status.get("status") == "finished":
            done = total = total or done
        before = sum(size for file, size in self._finished.items() if file != name)
        if status.get("status") == "finished":
            self._finished[name] = done
        speed = status.get("speed")
        self._job.progress(
            before + done, total and before + total, f"{format_size(speed)}/s" if speed else None
        )


# -- yt-dlp itself -----------------------------------------------------------------------------


class _SchemeGuard(urllib.request.BaseHandler):
    """Ends a redirect that leads to something other than http and https."""

    handler_order = 400  # before the one that follows redirects

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> None:
        target = urllib.parse.urljoin(req.full_url, headers.get("location") or "")
        if urllib.parse.urlsplit(target).scheme not in SCHEMES:
            raise urllib.error.HTTPError(req.full_url, code, msg, headers, fp)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class _HttpOnlyRH(UrllibRH):
    """The one way into the network; yt-dlp's others are not used, so that none need be trusted."""

    _SUPPORTED_URL_SCHEMES = SCHEMES

    def _create_instance(self, *args: Any, **kwargs: Any) -> Any:
        opener = super()._create_instance(*args, **kwargs)
        opener.add_handler(_SchemeGuard())
        for scheme in set(opener.handle_open) - {*SCHEMES, "unknown"}:
            del opener.handle_open[scheme]
        return opener


@dataclass(slots=True)
class _Log:
    """Takes what yt-dlp says to the job's log."""

    job: JobContext

    def debug(self, message: str) -> None:
        if not message.startswith("[download] Downloading item "):
            self.job.log.debug("%s", shown(message))

    def warning(self, message: str) -> None:
        self.job.log.warning("%s", shown(message))

    def error(self, message: str) -> None:
        self.job.log.error("%s", shown(message))


class _Ydl(YoutubeDL):
    def __init__(self, params: dict[str, Any], wanted: Wanted | None) -> None:
        self.seen = Seen()
        self.wanted = wanted
        self.lock: int | None = None
        super().__init__(params)

    def add_info_extractor(self, ie: Any) -> None:
        if ie.__module__.startswith("yt_dlp."):  # another worker may have loaded plugins
            super().add_info_extractor(ie)

    def build_request_director(self, handlers: Any, preferences: Any = None) -> Any:
        del handlers
        return super().build_request_director([_HttpOnlyRH], preferences)

    def urlopen(self, req: Any) -> Any:
        try:
            response = super().urlopen(req)
        except HTTPError as error:
            self.seen.http_error = error
            raise
        self.seen.responses.add(response)
        return response

    def process_ie_result(self, ie_result: Any, *args: Any, **kwargs: Any) -> Any:
        if self.wanted is not None and _is_list(ie_result):
            what = shown(self.wanted.url)
            raise Permanent(f"{what}: a list, not one item: playlist_download takes it")
        return super().process_ie_result(ie_result, *args, **kwargs)

    def process_info(self, info_dict: Any) -> Any:
        if _is_live(info_dict):
            raise RetryAfter(LIVE_DELAY, "on air, or to come: the recording is downloaded")
        if self.wanted is not None and self.lock is None:
            name = str(_file_of(info_dict, self.wanted).with_suffix(""))
            self.lock = locked(self.wanted.lock_file, name)
        return super().process_info(info_dict)

    def prepare_filename(self, info_dict: Any, *args: Any, **kwargs: Any) -> Any:
        if self.wanted is None:
            return super().prepare_filename(info_dict, *args, **kwargs)
        return str(_file_of(info_dict, self.wanted))

    def dl(self, name: Any, info: Any, *args: Any, **kwargs: Any) -> Any:
        downloader = get_suitable_downloader(dict(info), self.params)
        if downloader is None or issubclass(downloader, ExternalFD):
            raise Permanent(ONLY_FFMPEG)
        if not issubclass(downloader, HttpFD | FragmentFD):
            how = downloader.FD_NAME
            raise Permanent(f"a stream that is not fetched over http or https ({how})")
        if issubclass(downloader, HlsFD):  # no parameter; but with one, it is not left to FFmpeg
            info = {"extra_param_to_key_url": "&", **info}
        self.seen.transferring = True
        # What is left to FFmpeg all the same would fetch whatever it names: FFmpeg is not there.
        found, self.params["ffmpeg_location"] = self.params.get("ffmpeg_location"), os.devnull
        try:
            return super().dl(name, info, *args, **kwargs)
        finally:
            self.params["ffmpeg_location"] = found

    def close(self) -> None:
        for response in list(self.seen.responses):
            response.close()
        if self.seen.http_error is not None:
            self.seen.http_error.close()
        if self.lock is not None:
            os.close(self.lock)
        super().close()


@contextmanager
def _opened(
    url: str, job: JobContext, options: Mapping[str, Any], wanted: Wanted | None = None
) -> Iterator[_Ydl]:
    """yt-dlp, ready for one address; its errors become those of a job."""
    yt_dlp.globals.plugin_dirs.value = []
    yt_dlp.globals.all_plugins_loaded.value = True  # there are none to load
    params = {**_PARAMS, "logger": _Log(job), "match_filter": _filter(wanted), **options}
    try:
        ydl = _Ydl(params, wanted)
    except SyntaxError as error:
        raise Permanent(f"format {wanted and wanted.format!r}: {shown(error.msg)}") from None
    try:
        yield ydl
    except Exception as error:
        told = translated(error, ydl.seen, url, job.attempt)
        if told is error:
            raise
        raise told from (None if isinstance(told, Permanent | Snooze) else error)
    finally:
        ydl.close()


def _filter(wanted: Wanted | None) -> Callable[..., str | None]:
    since = None if wanted is None else wanted.since

    def too_old(info: Mapping[str, Any], *, incomplete: Any = False) -> str | None:
        del incomplete
        date = date_of(info)
        if since is not None and date is not None and date < since:
            return f"from {date:%Y-%m-%d}, which is too old"
        return None

    return too_old
