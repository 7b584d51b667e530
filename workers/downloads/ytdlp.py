"""yt-dlp, restricted to what a job may do.

- It fetches http and https only, whatever a redirect, feed, playlist or manifest names.
- It reads no configuration files, plugins, netrc, cookies or cache. It runs no commands except
  FFmpeg, on local files, and Deno, for scripts of sites that need it.
- It writes into one directory, under names made by `names.file_stem`.
- Its errors become exceptions that `run` may raise: see `errors.translated`.
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

from jobq import JobContext, Permanent, RetryAfter, Snooze, format_size

from .arguments import SCHEMES
from .errors import ONLY_FFMPEG, DownloadFailed, NetworkState, translated
from .locks import locked
from .names import file_stem, item_key, shown, storable

LIVE_RETRY_DELAY_S = 1800.0
"""Time until a live stream is checked again: only its recording is downloaded."""

_WITHOUT_IDS = ("generic", "html5mediaembed")  # their ids are the last part of the URL
_LIST_TYPES = ("playlist", "multi_video")
_MAX_TITLE_LENGTH = 1000
_MAX_LIST_DEPTH = 3  # lists of lists, such as the tabs of a channel
_ALLOWED_SUFFIXES = _UnsafeExtensionError.ALLOWED_EXTENSIONS

_PARAMS: Mapping[str, Any] = {
    "quiet": True,
    "noprogress": True,
    "color": "never",
    "ignoreerrors": False,
    # Nothing from the user's own yt-dlp setup: no accounts, no settings, no commands.
    "usenetrc": False,
    "netrc_cmd": None,
    "cookiefile": None,
    "cookiesfrombrowser": None,
    "cachedir": False,
    "postprocessors": (),
    "external_downloader": "native",
    "enable_file_urls": False,
    "remote_components": (),
    # One request per attempt: jobq retries, and its history shows it.
    "retries": 0,
    "extractor_retries": 1,
    "fragment_retries": 2,
    "skip_unavailable_fragments": False,
    "socket_timeout": 30,
    # Leave a complete file alone, and complete a partial one.
    "overwrites": False,
    "continuedl": True,
    "nopart": False,
    "updatetime": False,
    "allow_playlist_files": False,
}


# -- requests and results ----------------------------------------------------------------------


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One item to download."""

    url: str
    directory: Path
    lock_file: Path
    format: str | None = None
    title: str | None = None  # overrides the item's own
    key: str | None = None  # overrides the item's own
    number: int | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """The outcome of a request."""

    key: str
    file: Path | None  # None: the item is too old
    downloaded: bool  # False: the file existed already
    date: datetime | None
    info: Mapping[str, Any]


def list_items(url: str, limit: int | None, job: JobContext) -> Listing:
    """List the first ``limit`` items of a channel, playlist or feed, without downloading them."""
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
    """Return everything that yt-dlp knows about a URL, as JSON, without downloading."""
    options = {"extract_flat": "in_playlist", "ignore_no_formats_error": True, "noplaylist": True}
    with _opened(url, job, options) as ydl:
        info = ydl.extract_info(url, download=False) or {}
        entries = [_item(entry, url) for entry in _entries(ydl, info)] if _is_list(info) else []
        described: dict[str, Any] = _storable(ydl.sanitize_info(info, remove_private_keys=True))
        if _is_list(info):
            described["items"] = [{"url": item.url, "title": item.title} for item in entries]
        return described


def _storable(value: Any) -> Any:
    """Make all texts of a JSON value storable."""
    if isinstance(value, dict):
        return {storable(key): _storable(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_storable(below) for below in value]
    return storable(value) if isinstance(value, str) else value


def fetch(request: Request, job: JobContext) -> Fetched:
    """Download one item, resuming a partial file if there is one."""
    options = {
        "format": request.format,
        "noplaylist": True,
        "progress_hooks": [_ProgressHook(job)],
    }
    with _opened(request.url, job, options, request) as ydl:
        info = ydl.extract_info(request.url)
        if not info:
            raise DownloadFailed(f"{shown(request.url)}: yt-dlp found nothing to download")
        key = _key_of(info, request)
        done = (info.get("requested_downloads") or [None])[0]
        if done is None:
            return Fetched(key, None, False, date_of(info), info)
        path = Path(done["filepath"])
        return Fetched(key, path, bool(done.get("__real_download")), date_of(info), info)


# -- lists -------------------------------------------------------------------------------------


def _is_list(info: Mapping[str, Any]) -> bool:
    return info.get("_type") in _LIST_TYPES


def _entries(ydl: _Ydl, info: Mapping[str, Any], depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Yield the items of a list and of its nested lists; anything else is one item."""
    if not _is_list(info):
        if info:
            yield info
        return
    for entry in info.get("entries") or ():
        if not entry:
            continue
        if not _is_list(entry) and depth < _MAX_LIST_DEPTH and _leads_to_list(ydl, entry):
            entry = ydl.extract_info(entry["url"], download=False, ie_key=entry["ie_key"]) or {}  # noqa: PLW2901
        yield from _entries(ydl, entry, depth + 1)


def _leads_to_list(ydl: _Ydl, entry: Mapping[str, Any]) -> bool:
    if entry.get("_type") not in ("url", "url_transparent") or not entry.get("ie_key"):
        return False
    return ydl.get_info_extractor(entry["ie_key"]).is_single_video(entry["url"]) is False


def _item(entry: Mapping[str, Any], list_url: str) -> Item:
    extractor = entry.get("ie_key") or entry.get("extractor_key") or "generic"
    nameless = extractor.lower() in _WITHOUT_IDS
    url, smuggled = unsmuggle_url(storable(_url_of(entry, nameless=nameless)), {})
    item_id = entry.get("id")
    if nameless:
        item_id = _own_id(url, smuggled.get("force_videoid"), list_url)
    return Item(
        key=item_key(extractor, storable(item_id or url)),
        url=url,
        title=storable(entry["title"])[:_MAX_TITLE_LENGTH] if entry.get("title") else None,
        retitled=nameless,
        date=date_of(entry),
        exact_date=extractor.lower() != "youtube",  # its lists say "3 weeks ago"
        live=_is_live(entry),
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
    return f"{urllib.parse.urlsplit(list_url).hostname}/{guid}"


def _is_live(info: Mapping[str, Any]) -> bool:
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


# -- one item ----------------------------------------------------------------------------------


def _key_of(info: Mapping[str, Any], request: Request) -> str:
    if request.key is not None:
        return request.key
    extractor = info.get("extractor_key") or "generic"
    item_id = request.url if extractor.lower() in _WITHOUT_IDS else info.get("id")
    return item_key(extractor, str(item_id))


def _file_of(info: Mapping[str, Any], request: Request) -> Path:
    """Return the path for an item's file, directly in its directory.

    Raises:
        Permanent: files of its type are not saved, or a symbolic link is in the way.
    """
    suffix = str(info.get("ext") or "unknown_video").lower()
    if suffix not in _ALLOWED_SUFFIXES:
        raise Permanent(f"{shown(request.url)}: files of type {shown(suffix)} are not saved")
    stem = file_stem(
        request.title or str(info.get("title") or ""), _key_of(info, request), request.number
    )
    path = request.directory / f"{stem}.{suffix}"
    for place in (path, path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.ytdl")):
        if place.is_symlink():
            raise Permanent(f"{place}: is a symbolic link, which is not followed: delete it")
    return path


class _ProgressHook:
    """Reports the progress of all transfers to the job; video and audio may be separate files."""

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
    """Refuses redirects to URLs that are neither http nor https."""

    handler_order = 400  # before the handler that follows redirects

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> None:
        target = urllib.parse.urljoin(req.full_url, headers.get("location") or "")
        if urllib.parse.urlsplit(target).scheme not in SCHEMES:
            raise urllib.error.HTTPError(req.full_url, code, msg, headers, fp)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class _HttpOnlyRH(UrllibRH):
    """The only way into the network: yt-dlp's other handlers are not used."""

    _SUPPORTED_URL_SCHEMES = SCHEMES

    def _create_instance(self, *args: Any, **kwargs: Any) -> Any:
        opener = super()._create_instance(*args, **kwargs)
        opener.add_handler(_SchemeGuard())
        for scheme in set(opener.handle_open) - {*SCHEMES, "unknown"}:
            del opener.handle_open[scheme]
        return opener


@dataclass(slots=True)
class _Log:
    """Writes yt-dlp's messages to the job's log."""

    job: JobContext

    def debug(self, message: str) -> None:
        if not message.startswith("[download] Downloading item "):
            self.job.log.debug("%s", shown(message))

    def warning(self, message: str) -> None:
        self.job.log.warning("%s", shown(message))

    def error(self, message: str) -> None:
        self.job.log.error("%s", shown(message))


class _Ydl(YoutubeDL):
    def __init__(self, params: dict[str, Any], request: Request | None) -> None:
        self.network = NetworkState()
        self.request = request
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
            self.network.http_error = error
            raise
        self.network.responses.add(response)
        return response

    def process_ie_result(self, ie_result: Any, *args: Any, **kwargs: Any) -> Any:
        if self.request is not None and _is_list(ie_result):
            what = shown(self.request.url)
            raise Permanent(f"{what}: a list, not one item: use playlist_download")
        return super().process_ie_result(ie_result, *args, **kwargs)

    def process_info(self, info_dict: Any) -> Any:
        if _is_live(info_dict):
            raise RetryAfter(
                LIVE_RETRY_DELAY_S, "on air or upcoming: only the recording is downloaded"
            )
        if self.request is not None and self.lock is None:
            name = str(_file_of(info_dict, self.request).with_suffix(""))
            self.lock = locked(self.request.lock_file, name)
        return super().process_info(info_dict)

    def prepare_filename(self, info_dict: Any, *args: Any, **kwargs: Any) -> Any:
        if self.request is None:
            return super().prepare_filename(info_dict, *args, **kwargs)
        return str(_file_of(info_dict, self.request))

    def dl(self, name: Any, info: Any, *args: Any, **kwargs: Any) -> Any:
        downloader = get_suitable_downloader(dict(info), self.params)
        if downloader is None or issubclass(downloader, ExternalFD):
            raise Permanent(ONLY_FFMPEG)
        if not issubclass(downloader, HttpFD | FragmentFD):
            how = downloader.FD_NAME
            raise Permanent(f"this stream is not fetched over http or https ({how})")
        if issubclass(downloader, HlsFD):  # with this no-op parameter, yt-dlp does not use FFmpeg
            info = {"extra_param_to_key_url": "&", **info}
        self.network.transferring = True
        # FFmpeg would fetch any URL that a stream names, so it is hidden during the transfer.
        found, self.params["ffmpeg_location"] = self.params.get("ffmpeg_location"), os.devnull
        try:
            return super().dl(name, info, *args, **kwargs)
        finally:
            self.params["ffmpeg_location"] = found

    def close(self) -> None:
        for response in list(self.network.responses):
            response.close()
        if self.network.http_error is not None:
            self.network.http_error.close()
        if self.lock is not None:
            os.close(self.lock)
        super().close()


@contextmanager
def _opened(
    url: str, job: JobContext, options: Mapping[str, Any], request: Request | None = None
) -> Iterator[_Ydl]:
    """Open yt-dlp for one URL; translate its errors into those of a job."""
    yt_dlp.globals.plugin_dirs.value = []
    yt_dlp.globals.all_plugins_loaded.value = True  # there are none to load
    params = {**_PARAMS, "logger": _Log(job), "match_filter": _filter(request), **options}
    try:
        ydl = _Ydl(params, request)
    except SyntaxError as error:
        raise Permanent(f"format {request and request.format!r}: {shown(error.msg)}") from None
    try:
        yield ydl
    except Exception as error:
        raised = translated(error, ydl.network, url, job.attempt)
        if raised is error:
            raise
        raise raised from (None if isinstance(raised, Permanent | Snooze) else error)
    finally:
        ydl.close()


def _filter(request: Request | None) -> Callable[..., str | None]:
    since = None if request is None else request.since

    def too_old(info: Mapping[str, Any], *, incomplete: Any = False) -> str | None:
        del incomplete
        date = date_of(info)
        if since is not None and date is not None and date < since:
            return f"dated {date:%Y-%m-%d}, which is too old"
        return None

    return too_old
