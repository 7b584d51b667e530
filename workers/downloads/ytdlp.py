"""yt-dlp, restricted to what a job may do.

- It fetches http and https only, whatever a redirect, feed, playlist or manifest names.
- It reads no configuration files, plugins, netrc, cookies or cache. It runs no commands except
  FFmpeg, on local files, and Deno, for scripts of sites that need it.
- It writes into one directory, under names made by `names.file_stem`.
- Its errors become exceptions that `run` may raise: see `errors.translated`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yt_dlp.globals
from yt_dlp import YoutubeDL
from yt_dlp.downloader import get_suitable_downloader
from yt_dlp.downloader.external import ExternalFD
from yt_dlp.downloader.fragment import FragmentFD
from yt_dlp.downloader.hls import HlsFD
from yt_dlp.downloader.http import HttpFD
from yt_dlp.extractor.generic import GenericIE as _GenericIE
from yt_dlp.networking import Request as HttpRequest
from yt_dlp.networking.exceptions import HTTPError, TransportError
from yt_dlp.utils import ExtractorError

from jobq import JobContext, Permanent, RetryAfter, Snooze, format_size

from .addresses import without_query
from .arguments import SCHEMES, VIA_TAG
from .content import ALLOWED_SUFFIXES, is_unclear, suffix_of
from .errors import ONLY_FFMPEG, DownloadFailed, NetworkState, plain, translated
from .feeds import FeedError, as_rss
from .items import WITHOUT_IDS, Item, Listing, date_of, is_list, is_live, item_of
from .locks import locked
from .names import digest, file_stem, item_key, shown, storable
from .networking import HttpOnlyRH, PublicOnlyRH
from .partial import ORIGIN_SUFFIX, Transfer, confirm

LIVE_RETRY_DELAY_S = 1800.0
"""Time until a live stream is checked again: only its recording is downloaded."""

_FRAGMENT_LINE = re.compile(r"\s*(?:[^#\s]|#EXT-X-(?:BYTERANGE|MAP)\b)")
_MAX_LIST_DEPTH = 3  # lists of lists, such as the tabs of a channel

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
            items.append(item_of(entry, url, info.get("webpage_url") or url))
            if len(items) == limit:
                break
            job.progress(len(items), None, "items listed")
        return Listing(info.get("title"), items)


def describe(url: str, job: JobContext) -> dict[str, Any]:
    """Return everything that yt-dlp knows about a URL, as JSON, without downloading."""
    options = {"extract_flat": "in_playlist", "ignore_no_formats_error": True, "noplaylist": True}
    with _opened(url, job, options) as ydl:
        info = ydl.extract_info(url, download=False) or {}
        base = info.get("webpage_url") or url
        entries = [item_of(one, url, base) for one in _entries(ydl, info)] if is_list(info) else []
        described: dict[str, Any] = _storable(ydl.sanitize_info(info, remove_private_keys=True))
        if is_list(info):
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


def _entries(ydl: _Ydl, info: Mapping[str, Any], depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Yield the items of a list and of its nested lists; anything else is one item."""
    if not is_list(info):
        if info:
            yield info
        return
    for entry in info.get("entries") or ():
        if not entry:
            continue
        if not is_list(entry) and depth < _MAX_LIST_DEPTH and _leads_to_list(ydl, entry):
            entry = ydl.extract_info(entry["url"], download=False, ie_key=entry["ie_key"]) or {}  # noqa: PLW2901
        yield from _entries(ydl, entry, depth + 1)


def _leads_to_list(ydl: _Ydl, entry: Mapping[str, Any]) -> bool:
    if entry.get("_type") not in ("url", "url_transparent") or not entry.get("ie_key"):
        return False
    return ydl.get_info_extractor(entry["ie_key"]).is_single_video(entry["url"]) is False


# -- one item ----------------------------------------------------------------------------------


def _key_of(info: Mapping[str, Any], request: Request) -> str:
    if request.key is not None:
        return request.key
    extractor = info.get("extractor_key") or "generic"
    item_id = request.url if extractor.lower() in WITHOUT_IDS else info.get("id")
    return item_key(extractor, str(item_id))


def _file_of(info: Mapping[str, Any], request: Request) -> Path:
    """Return the path for an item's file, directly in its directory.

    Raises:
        Permanent: files of its type are not saved, or a symbolic link is in the way.
    """
    suffix = str(info.get("ext") or "unknown_video").lower()
    if suffix not in ALLOWED_SUFFIXES:
        raise Permanent(f"{shown(request.url)}: files of type {shown(suffix)} are not saved")
    stem = file_stem(
        request.title or str(info.get("title") or ""), _key_of(info, request), request.number
    )
    path = request.directory / f"{stem}.{suffix}"
    for beside in ("", ".part", ".ytdl", ORIGIN_SUFFIX):
        place = path.with_name(path.name + beside)
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


@dataclass(slots=True)
class _Log:
    """Writes yt-dlp's messages to the job's log."""

    job: JobContext

    def debug(self, message: str) -> None:
        if not message.startswith("[download] Downloading item "):
            self.job.log.debug("%s", shown(message))

    def warning(self, message: str) -> None:
        self.job.log.warning("%s", plain(message))

    def error(self, message: str) -> None:
        self.job.log.error("%s", plain(message))


class GenericIE(_GenericIE):
    """yt-dlp's reader of unknown pages, to which every feed is one of those that it can read."""

    def _webpage_read_content(
        self, urlh: Any, *args: Any, prefix: bytes | None = None, **kwargs: Any
    ) -> Any:
        if prefix is not None:  # the page itself
            try:
                prefix += urlh.read()
                rss = as_rss(prefix, urlh.headers.get_content_charset(), urlh.url)
            except TransportError as error:
                raise ExtractorError(f"the page broke off: {error}", cause=error) from None
            except FeedError as error:
                raise ExtractorError(str(error), expected=True) from None
            if rss is not None:
                return rss
        return super()._webpage_read_content(urlh, *args, prefix=prefix, **kwargs)


class _Ydl(YoutubeDL):
    def __init__(
        self, params: dict[str, Any], request: Request | None, *, public_only: bool
    ) -> None:
        self.public_only = public_only  # connect to no host of a local network
        self.network = NetworkState()
        self.request = request
        self.lock: int | None = None
        self.file: Path | None = None  # the one to download, joined of halves or not
        self.transfer: Transfer | None = None  # the one under way
        super().__init__(params)

    def add_info_extractor(self, ie: Any) -> None:
        if ie.ie_key() == GenericIE.ie_key():
            ie = GenericIE()
        elif not ie.__module__.startswith("yt_dlp."):  # another worker may have loaded plugins
            return
        super().add_info_extractor(ie)

    def build_request_director(self, handlers: Any, preferences: Any = None) -> Any:
        del handlers
        handler = PublicOnlyRH if self.public_only else HttpOnlyRH
        return super().build_request_director([handler], preferences)

    def urlopen(self, req: Any) -> Any:
        if self.transfer is None:
            return self._send(req)
        return self.transfer.open(HttpRequest(req) if isinstance(req, str) else req, self._send)

    def _send(self, req: Any) -> Any:
        try:
            response = super().urlopen(req)
        except HTTPError as error:
            self.network.http_error = error
            raise
        self.network.responses.add(response)
        return response

    def process_ie_result(self, ie_result: Any, *args: Any, **kwargs: Any) -> Any:
        if self.request is not None and is_list(ie_result):
            what = shown(self.request.url)
            raise Permanent(f"{what}: a list, not one item: use playlist_download")
        return super().process_ie_result(ie_result, *args, **kwargs)

    def process_info(self, info_dict: Any) -> Any:
        if is_live(info_dict):
            raise RetryAfter(
                LIVE_RETRY_DELAY_S, "on air or upcoming: only the recording is downloaded"
            )
        if self.request is None:
            return super().process_info(info_dict)
        if is_unclear(str(info_dict.get("ext"))):
            self._find_suffix(info_dict)
        if self.lock is None:
            self.file = _file_of(info_dict, self.request)
            self.lock = locked(self.request.lock_file, str(self.file.with_suffix("")))
        super().process_info(info_dict)
        if info_dict.get("filepath"):
            confirm(Path(info_dict["filepath"]))
        return None

    def _find_suffix(self, info: Any) -> None:
        """Ask the host for the type of a file whose URL doesn't say it, such as that of a script."""
        request = HttpRequest(info.get("url") or "", headers=info.get("http_headers") or {})
        if info.get("protocol") in SCHEMES:
            with self._send(request) as response:
                info["ext"] = suffix_of(response.headers) or info["ext"]

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
        self.network.transferring = True
        fragments = None
        if issubclass(downloader, HlsFD):  # with this no-op parameter, yt-dlp does not use FFmpeg
            info = self._with_manifest({"extra_param_to_key_url": "&", **info})
            fragments = _digest_of_manifest(info["hls_media_playlist_data"])
        elif issubclass(downloader, FragmentFD):
            fragments = _digest_of_fragments(info.get("fragments"))
        transfer = Transfer(Path(name), info, fragments)
        transfer.prepare(self._send, half=Path(name) != self.file)
        # FFmpeg would fetch any URL that a stream names, so it is hidden during the transfer.
        found, self.params["ffmpeg_location"] = self.params.get("ffmpeg_location"), os.devnull
        self.transfer = transfer
        try:
            done = super().dl(name, info, *args, **kwargs)
            if done[0]:
                transfer.finish()
            return done
        finally:
            self.transfer = None
            self.params["ffmpeg_location"] = found

    def _with_manifest(self, info: dict[str, Any]) -> dict[str, Any]:
        """Add its manifest to a stream, to recognise it by what it lists."""
        if info.get("hls_media_playlist_data"):
            return info
        request = HttpRequest(info["url"], headers=info.get("http_headers") or {})
        with self._send(request) as response:
            text = response.read().decode(errors="ignore")
        return {**info, "url": response.url, "hls_media_playlist_data": text}

    def close(self) -> None:
        for response in list(self.network.responses):
            response.close()
        if self.network.http_error is not None:
            self.network.http_error.close()
        if self.lock is not None:
            os.close(self.lock)
        super().close()


def _digest_of_manifest(text: str) -> str:
    """Return a digest of what an HLS manifest lists, without the signatures in queries."""
    kept = [without_query(line.strip()) for line in text.splitlines() if _FRAGMENT_LINE.match(line)]
    return digest("\n".join(kept))


def _digest_of_fragments(fragments: Any) -> str:
    """Return a digest of fragments; empty if they are not listed in advance."""
    if not isinstance(fragments, list):
        return ""
    named = [without_query(str(one.get("path") or one.get("url"))) for one in fragments]
    return digest("\n".join(named))


@contextmanager
def _opened(
    url: str, job: JobContext, options: Mapping[str, Any], request: Request | None = None
) -> Iterator[_Ydl]:
    """Open yt-dlp for one URL; translate its errors into those of a job."""
    yt_dlp.globals.plugin_dirs.value = []
    yt_dlp.globals.all_plugins_loaded.value = True  # there are none to load
    params = {**_PARAMS, "logger": _Log(job), "match_filter": _filter(request), **options}
    try:
        ydl = _Ydl(params, request, public_only=VIA_TAG in job.tags)
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
